// SPDX-License-Identifier: Apache-2.0
// The edge between our failures and JavaScript's errors: errno (negative), code, syscall, path as Node's own
// errors have them.
#pragma once

#include <napi.h>

#include "sys/error.h"

namespace binding {

Napi::Error error_object(Napi::Env env, const sys::Failure& failure);
void throw_failure(Napi::Env env, const sys::Failure& failure);

}  // namespace binding
