// SPDX-License-Identifier: Apache-2.0
// hooks: createContainer and startContainer hooks run in init, in the container's namespaces. The OCI state
// goes to their stdin, their output into the error, and their process group dies at the deadline.
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "../frames.h"
#include "steps.h"

namespace init {

namespace {

struct Hook {
  const char* path;
  char** args;
  char** env;
  uint32_t timeout_ms;
};

struct Running {
  long pid;
  Fd pidfd, input, output;
  size_t written = 0;
  Text<4097> said;
};

char** strings(Init& init, const Message& message, uint32_t field) {
  size_t count = 0;
  message.each_bytes(field, [&](Bytes) { count++; });
  char** list = static_cast<char**>(init.arena.take((count + 1) * sizeof(char*)));
  size_t at = 0;
  message.each_bytes(field, [&](Bytes bytes) { list[at++] = init.arena.text(bytes); });
  list[at] = nullptr;
  return list;
}

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

// In the child: only what a hook is given. Its exit status 127 with errno on the output pipe tells of a
// failed execve.
[[noreturn]] void become(const Init& init, const Hook& hook, int input, int output) {
  call(SYS_setpgid, 0, 0);
  // A hook of the host must not stand in the rootfs, where a relative path of its own would find the image's
  // files (CVE-2025-23266).
  if (!init.pivoted && call(SYS_chdir, "/") < 0) leave(126);
  if (!init.pivoted) call(SYS_umask, 022);
  if (call(SYS_dup3, input, 0, 0) < 0 || call(SYS_dup3, output, 1, 0) < 0 || call(SYS_dup3, output, 2, 0) < 0)
    leave(126);
  if (!mark_close_on_exec(3)) leave(126);
  call(SYS_execve, hook.path, hook.args, hook.env);
  Text<64> words;
  words.add("execve: errno ").integer(errno);
  call(SYS_write, 2, words.c_str(), words.size());
  leave(127);
}

Result launch(Init& init, const Hook& hook, Running& running) {
  int in[2], out[2];
  if (call(SYS_pipe2, in, O_CLOEXEC) < 0) return init.failed("pipe2");
  Fd hook_input(in[0]);
  running.input = Fd(in[1]);
  if (call(SYS_pipe2, out, O_CLOEXEC) < 0) return init.failed("pipe2");
  running.output = Fd(out[0]);
  Fd hook_output(out[1]);
  // A hook that does not read must not hold init, nor one that writes without end.
  call(SYS_fcntl, in[1], F_SETFL, O_NONBLOCK);
  call(SYS_fcntl, out[0], F_SETFL, O_NONBLOCK);
  int pidfd = -1;
  clone_args arguments = {};
  arguments.flags = CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  running.pid = call(SYS_clone3, &arguments, sizeof arguments);
  // Sandboxes whose filter cannot look into a structure answer ENOSYS. clone(2): the pidfd comes in the place
  // of the parent's tid.
  if (running.pid < 0 && (errno == ENOSYS || errno == EPERM))
    running.pid = call(SYS_clone, CLONE_PIDFD | SIGCHLD, nullptr, &pidfd, nullptr, nullptr);
  if (running.pid == 0) become(init, hook, in[0], out[1]);
  if (running.pid < 0) return init.failed("clone3");
  running.pidfd = Fd(pidfd);
  // Both sides set it, so the group exists whoever is first.
  call(SYS_setpgid, running.pid, running.pid);
  return Result::ok;
}

void feed(Init& init, Running& running) {
  while (running.written < init.state.size) {
    const long put = call(SYS_write, running.input.get(), init.state.data + running.written,
                          init.state.size - running.written);
    if (put < 0 && errno == EAGAIN) return;
    // EPIPE: a hook need not read its input.
    if (put < 0) break;
    running.written += static_cast<size_t>(put);
  }
  running.input.reset();
}

// False: nothing more to come now.
bool listen(Running& running) {
  char buffer[4096];
  const long got = call(SYS_read, running.output.get(), buffer, sizeof buffer);
  if (got > 0) running.said.add(buffer, static_cast<size_t>(got));
  if (got == 0) running.output.reset();
  return got > 0;
}

// Waits for the end of the hook; false: the deadline came first.
bool attend(Init& init, const Hook& hook, Running& running) {
  const int64_t deadline = hook.timeout_ms == 0 ? 0 : now_ms() + hook.timeout_ms;
  for (;;) {
    pollfd fds[3] = {{running.pidfd.get(), POLLIN, 0},
                     {running.output.get(), POLLIN, 0},
                     {running.input.get(), POLLOUT, 0}};
    int64_t left = -1;
    if (deadline != 0) {
      left = deadline - now_ms();
      if (left <= 0) return false;
    }
    timespec wait = {static_cast<time_t>(left / 1000), static_cast<long>(left % 1000) * 1000000};
    call(SYS_ppoll, fds, 3, left < 0 ? nullptr : &wait, nullptr, 8);
    if ((fds[2].revents & (POLLOUT | POLLERR)) != 0) feed(init, running);
    if (fds[1].revents != 0) listen(running);
    if (fds[0].revents != 0) return true;
  }
}

Result fail(Init& init, const Message& message, unsigned index, const Hook& hook, const char* reason,
            int error, const char* how, int value, const Running& running) {
  errno = error;
  (void)init.failed("", hook.path);
  (void)init.because(reason, "");
  init.failure.detail.add(init.text(message, 1))
      .add(" hook #")
      .number(index)
      .add(' ')
      .add(hook.path)
      .add(how);
  if (value >= 0) init.failure.detail.integer(value);
  if (running.said.size() > 0)
    init.failure.detail.add(", output: ").add(running.said.c_str(), running.said.size());
  return Result::failed;
}

Result run(Init& init, const Message& message, unsigned index, const Hook& hook) {
  static Running running;
  running.said.clear();
  running.written = 0;
  if (launch(init, hook, running) != Result::ok) return Result::failed;
  feed(init, running);
  const bool ended = attend(init, hook, running);
  // The whole group: a shell that was killed would leave its children behind, who hold the output open.
  if (!ended) call(SYS_kill, -running.pid, SIGKILL);
  siginfo_t info = {};
  call(SYS_waitid, P_PID, running.pid, &info, WEXITED, nullptr);
  // What is in the pipe by now, and not one byte more: a child of the hook may keep it open for ever.
  for (unsigned i = 0; i < 16 && running.output && listen(running); i++) {
  }
  running.input.reset();
  running.output.reset();
  running.pidfd.reset();
  if (!ended)
    return fail(init, message, index, hook, "ERR_HOOK_TIMEOUT", ETIMEDOUT,
                ": no end after ms: ", static_cast<int>(hook.timeout_ms), running);
  if (info.si_code != CLD_EXITED)
    return fail(init, message, index, hook, "ERR_HOOK", 0, ": killed by signal ", info.si_status, running);
  if (info.si_status != 0)
    return fail(init, message, index, hook, "ERR_HOOK", 0, ": exit status ", info.si_status, running);
  return Result::ok;
}

bool hook_valid(const Message& hook) {
  bool valid = hook.valid();
  hook.each([&](const Field& field) {
    if (field.type == Wire::bytes) valid &= memchr(field.bytes.data, 0, field.bytes.size) == nullptr;
  });
  return valid;
}

}  // namespace

Result steps::hooks(Init& init, const Message& message) {
  Result result = Result::ok;
  unsigned index = 0;
  message.each_bytes(2, [&](Bytes bytes) {
    if (result != Result::ok) return;
    const Message hook(bytes);
    if (!hook_valid(hook)) {
      result = init.refused(EBADMSG, "", "a hook of the plan is malformed");
      return;
    }
    const Hook command = {init.text(hook, 1), strings(init, hook, 2),
                          hook.flag(4) ? strings(init, init.exec, 2) : strings(init, hook, 3), hook.u32(5)};
    result = run(init, message, index++, command);
  });
  return result;
}

}  // namespace init
