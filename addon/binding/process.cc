// SPDX-License-Identifier: Apache-2.0
// Processes that are known by pid and start time, or by pidfd. pidfd_open(2), pidfd_send_signal(2).
#include <napi.h>
#include <sys/wait.h>

#include <cstdlib>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/throw.h"
#include "sys/calls.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr int64_t highest_pid = 0x7fffffff;

pid_t pid_argument(Arguments& arguments, const Napi::Value& value) {
  return static_cast<pid_t>(arguments.integer(value, "pid", 1, highest_pid));
}

Napi::Value pidfd_open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const pid_t pid = pid_argument(arguments, info[0]);
  const uint64_t start_time = arguments.bigint(info[1], "startTime");
  if (arguments.thrown()) return env.Undefined();
  sys::Fd pidfd;
  if (const auto failed = sys::pidfd_open(pidfd, pid)) {
    // EINVAL: the number is a thread's now, not a process's.
    if (failed->error == ESRCH || failed->error == EINVAL) return Napi::Number::New(env, -1);
    throw_failure(env, *failed);
    return env.Undefined();
  }
  // After the open: the number is pinned to whoever had it, and now it shows whether that is the one we mean.
  if (sys::start_time(pid, false) != start_time) return Napi::Number::New(env, -1);
  return Napi::Number::New(env, pidfd.take());
}

Napi::Value pidfd_send_signal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int pidfd = arguments.fd(info[0], "pidfd");
  const int signal = arguments.signal(info[1]);
  if (arguments.thrown()) return env.Undefined();
  if (sys::pidfd_send_signal(pidfd, signal) == 0) return Napi::Boolean::New(env, true);
  if (errno != ESRCH)
    throw_failure(env,
                  sys::failure("pidfd_send_signal", std::to_string(pidfd) + ", " + std::to_string(signal)));
  return Napi::Boolean::New(env, false);
}

Napi::Value ending(Napi::Env env, bool signaled, int status, bool core_dumped) {
  auto out = Napi::Object::New(env);
  out.Set("kind", signaled ? "signaled" : "exited");
  out.Set("status", Napi::Number::New(env, status));
  out.Set("coreDumped", Napi::Boolean::New(env, core_dumped));
  return out;
}

Napi::Value pidfd_exit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int pidfd = arguments.fd(info[0], "pidfd");
  int status = 0;
  if (arguments.thrown()) return env.Undefined();
  const sys::ExitKnown known = sys::exit_status(pidfd, status);
  if (known == sys::ExitKnown::not_yet) return env.Null();
  if (known == sys::ExitKnown::never) return env.Undefined();
  const bool signaled = WIFSIGNALED(status);
  return ending(env, signaled, signaled ? WTERMSIG(status) : WEXITSTATUS(status),
                signaled && WCOREDUMP(status));
}

// A child that another program made for us (CLONE_PARENT): no job of the spawner's waits for it.
Napi::Value pidfd_reap(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int pidfd = arguments.fd(info[0], "pidfd");
  if (arguments.thrown()) return env.Undefined();
  siginfo_t found{};
  int result = 0;
  do
    result = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &found,
                      WEXITED | WNOHANG | __WALL);
  while (result != 0 && errno == EINTR);
  if (result == 0 && found.si_pid == 0) return env.Null();
  if (result == 0)
    return ending(env, found.si_code != CLD_EXITED, found.si_status, found.si_code == CLD_DUMPED);
  if (errno != ECHILD) throw_failure(env, sys::failure("waitid", "P_PIDFD, " + std::to_string(pidfd)));
  return env.Undefined();
}

Napi::Value start_time(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const pid_t pid = pid_argument(arguments, info[0]);
  if (arguments.thrown()) return env.Undefined();
  const uint64_t ticks = sys::start_time(pid, false);
  if (ticks == 0) return env.Null();
  return Napi::BigInt::New(env, ticks);
}

Napi::Value last_capability(const Napi::CallbackInfo& info) {
  std::string text;
  if (const auto failed = sys::read_file(text, "/proc/sys/kernel/cap_last_cap")) {
    throw_failure(info.Env(), *failed);
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), std::atoi(text.c_str()));
}

}  // namespace

void export_process(Napi::Env env, Napi::Object& exports) {
  add<pidfd_open>(env, exports, "pidfdOpen");
  add<pidfd_send_signal>(env, exports, "pidfdSendSignal");
  add<pidfd_exit>(env, exports, "pidfdExit");
  add<pidfd_reap>(env, exports, "pidfdReap");
  add<start_time>(env, exports, "startTime");
  add<last_capability>(env, exports, "lastCapability");
}

}  // namespace binding
