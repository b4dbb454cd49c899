// SPDX-License-Identifier: Apache-2.0
// Each file adds its functions to the addon's exports; together they are the interface Binding of
// lib/native/binding.ts.
#pragma once

#include <napi.h>

namespace binding {

void export_spawn(Napi::Env env, Napi::Object& exports);
void export_net_devices(Napi::Env env, Napi::Object& exports);
void export_process(Napi::Env env, Napi::Object& exports);
void export_descriptors(Napi::Env env, Napi::Object& exports);
void export_watch(Napi::Env env, Napi::Object& exports);
void export_datagram(Napi::Env env, Napi::Object& exports);
void export_packets(Napi::Env env, Napi::Object& exports);
void export_seccomp(Napi::Env env, Napi::Object& exports);
void export_seccomp_notify(Napi::Env env, Napi::Object& exports);
void export_kernel_calls(Napi::Env env, Napi::Object& exports);
void export_tree(Napi::Env env, Napi::Object& exports);

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void add(Napi::Env env, Napi::Object& exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(env, name));
}

}  // namespace binding
