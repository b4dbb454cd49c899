// SPDX-License-Identifier: Apache-2.0
// The addon's entry: once per environment. No state outside the instance data, so that Workers do not share
// any.
#include <napi.h>

#include "binding/exports.h"
#include "binding/instance.h"

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new binding::Instance(env));
  binding::export_spawn(env, exports);
  binding::export_net_devices(env, exports);
  binding::export_process(env, exports);
  binding::export_descriptors(env, exports);
  binding::export_watch(env, exports);
  binding::export_datagram(env, exports);
  binding::export_packets(env, exports);
  binding::export_seccomp(env, exports);
  binding::export_seccomp_notify(env, exports);
  binding::export_kernel_calls(env, exports);
  binding::export_tree(env, exports);
  return exports;
}

NODE_API_MODULE(libcontainer, initialize)
