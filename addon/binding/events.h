// SPDX-License-Identifier: Apache-2.0
// JobEvent of lib/native/binding.ts.
#pragma once

#include <napi.h>

#include "binding/job.h"

namespace binding {

// Takes a descriptor out of the event: it is JavaScript's afterwards.
Napi::Object event_object(Napi::Env env, Event& event);

}  // namespace binding
