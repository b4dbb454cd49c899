// SPDX-License-Identifier: Apache-2.0
#include <napi.h>

#include "binding/exports.h"
namespace binding {
void export_seccomp(Napi::Env, Napi::Object&) {}
}  // namespace binding
