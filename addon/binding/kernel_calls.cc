// SPDX-License-Identifier: Apache-2.0
// kernelCalls: which of the newer system calls this process can make, by making them with arguments that do
// nothing.
#include <napi.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "binding/exports.h"

#ifndef SYS_statmount
#define SYS_statmount 457
#endif

namespace binding {

namespace {

struct Call {
  const char* name;
  long number;
  long arguments[4];
};

// Each is refused by every kernel that has it: a bad descriptor, a size of 0, a range whose end lies before
// its start. ENOSYS: the kernel has it not; EPERM where it is not among the kernel's own answers: a filter of
// an outer container.
constexpr Call calls[] = {
    {"clone3", SYS_clone3, {0, 0, 0, 0}},
    {"close_range", SYS_close_range, {2, 1, 0, 0}},
    {"execveat", SYS_execveat, {-1, 0, 0, 0}},
    {"faccessat2", SYS_faccessat2, {-1, 0, 0, -1}},
    {"fsopen", SYS_fsopen, {0, -1, 0, 0}},
    {"mount_setattr", SYS_mount_setattr, {-1, 0, -1, 0}},
    {"move_mount", SYS_move_mount, {-1, 0, -1, 0}},
    {"open_tree", SYS_open_tree, {-1, 0, -1, 0}},
    {"openat2", SYS_openat2, {-1, 0, 0, 0}},
    {"pidfd_open", SYS_pidfd_open, {-1, 0, 0, 0}},
    {"pidfd_send_signal", SYS_pidfd_send_signal, {-1, 0, 0, 0}},
    {"statmount", SYS_statmount, {0, 0, 0, 0}},
};

Napi::Value kernel_calls(const Napi::CallbackInfo& info) {
  const auto found = Napi::Object::New(info.Env());
  for (const Call& call : calls) {
    errno = 0;
    const auto& [a, b, c, d] = call.arguments;
    const long result = ::syscall(call.number, a, b, c, d, 0L);
    found.Set(call.name, Napi::Number::New(info.Env(), result < 0 ? errno : 0));
  }
  return found;
}

}  // namespace

void export_kernel_calls(Napi::Env env, Napi::Object& exports) {
  add<kernel_calls>(env, exports, "kernelCalls");
}

}  // namespace binding
