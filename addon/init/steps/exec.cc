// SPDX-License-Identifier: Apache-2.0
// findExecutable and exec: the container's own program takes over.
#include <signal.h>
#include <sys/stat.h>

#include "../executable.h"
#include "../frames.h"
#include "../passwd.h"
#include "steps.h"

namespace init {

static bool executable(const char* path, int& error) {
  struct stat stat;
  if (fstatat(AT_FDCWD, path, &stat, 0) < 0) {
    error = errno;
    return false;
  }
  if (!S_ISREG(stat.st_mode)) {
    error = EACCES;
    return false;
  }
  // faccessat2 with the effective ids is Linux 5.8; what it refuses is refused by execve, too.
  if (call(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) == 0) return true;
  error = errno;
  // A seccomp profile older than this system call must not hide the file; execve has the last word.
  return (error == ENOSYS || error == EPERM) && (stat.st_mode & 0111) != 0;
}

static Result not_found(Init& init, const char* name, const char* denied) {
  errno = denied == nullptr ? ENOENT : EACCES;
  (void)init.failed("", name);
  if (denied == nullptr) return init.because("ERR_EXEC_NOT_FOUND", name);
  return init.because("ERR_EXEC_PERMISSION", denied);
}

// Looks a name up as execvp(3) would, in the container's PATH and its root.
static Result search(Init& init, const char* name, const char* path) {
  char* denied = nullptr;
  for (;;) {
    const size_t length = strcspn(path, ":");
    const size_t room = sizeof init.executable;
    if (length + strlen(name) + 2 <= room) {
      // An empty entry is the working directory.
      memcpy(init.executable, path, length);
      strcpy(init.executable + length, length == 0 ? "./" : "/");
      strcat(init.executable, name);
      int error = 0;
      if (executable(init.executable, error)) return Result::ok;
      if (error == EACCES && denied == nullptr)
        denied =
            init.arena.text({reinterpret_cast<const uint8_t*>(init.executable), strlen(init.executable)});
    }
    if (path[length] == 0) return not_found(init, name, denied);
    path += length + 1;
  }
}

Result steps::find_executable(Init& init, const Message& step) {
  const Message message = step.flag(3) ? Message(Message(init.command).bytes(1)) : step;
  const char* name = init.text(message, 1);
  if (strlen(name) + 2 > sizeof init.executable / 2) {
    errno = ENAMETOOLONG;
    (void)init.failed("execve", name);
    return init.because("ERR_EXEC_NO_FILE", "");
  }
  if (strchr(name, '/') == nullptr) {
    if (search(init, name, init.text(message, 2)) != Result::ok) return Result::failed;
  } else {
    strcpy(init.executable, name);
    int error = 0;
    if (!executable(name, error))
      return diagnose(init, name, error) == Result::ok ? init.failed("execve", name) : Result::failed;
  }
  // Of a container that will wait for its start, the error should come now: nobody may listen later.
  return init.waits ? diagnose(init, init.executable, 0) : Result::ok;
}

static size_t count(const Message& message, uint32_t field) {
  size_t number = 0;
  message.each_bytes(field, [&](Bytes) { number++; });
  return number;
}

static char** strings(Init& init, const Message& message, uint32_t field, size_t extra) {
  char** list = static_cast<char**>(init.arena.take((count(message, field) + extra + 1) * sizeof(char*)));
  size_t at = 0;
  message.each_bytes(field, [&](Bytes bytes) { list[at++] = init.arena.text(bytes); });
  list[at] = nullptr;
  return list;
}

static char** environment(Init& init, const Message& message) {
  char** env = strings(init, message, 2, 1);
  if (!message.flag(3)) return env;
  // An empty HOME counts as none.
  size_t kept = 0;
  for (char** entry = env; *entry != nullptr; entry++)
    if (strncmp(*entry, "HOME=", 5) != 0) env[kept++] = *entry;
  find_home(init, static_cast<uint32_t>(call(SYS_geteuid)));
  Text<4200> home;
  home.add("HOME=").add(init.home);
  env[kept++] = init.arena.text({reinterpret_cast<const uint8_t*>(home.c_str()), home.size()});
  env[kept] = nullptr;
  return env;
}

Result steps::exec(Init& init, const Message& step) {
  const Message message = step.flag(6) ? Message(Message(init.command).bytes(2)) : step;
  char** args = strings(init, message, 1, 0);
  char** env = environment(init, message);
  if (args[0] == nullptr || init.executable[0] == 0)
    return init.refused(EINVAL, "", "the plan names no executable");
  // Again, and only now: whatever an earlier step left open is closed by the exec (CVE-2024-21626).
  // Behind a seccomp filter it has been done just before it, and the profile need not allow it.
  const uint32_t first = 3 + step.u32(4);
  if (!init.filtered && !mark_close_on_exec(first))
    return init.failed("close_range", first, Hex{~0u}, Raw{"CLOSE_RANGE_CLOEXEC"});
  static Frame<16384> frame('X');
  frame.packed(1, init.durations, init.duration_count);
  // After the answer to ready nobody need be there any more.
  if (send_or_exit(init, frame.data(), frame.size()) != Result::ok) return Result::failed;
  call(SYS_execve, init.executable, args, env);
  const int error = errno;
  (void)init.failed("execve", init.executable);
  if (diagnose(init, init.executable, error) == Result::ok) {
    errno = error;
    return init.failed("execve", init.executable);
  }
  init.failure.error = error;
  return Result::failed;
}

// Process 1 of a container without a program. What its parent left in it must go before the container has
// other processes: nothing closes it by an exec (CVE-2024-21626).
Result steps::idle(Init& init, const Message&) {
  // Who is left to process 1 is reaped by the kernel (wait(2), NOTES).
  struct sigaction action = {};
  action.sa_handler = SIG_IGN;
  if (sigaction(SIGCHLD, &action, nullptr) < 0) return init.failed("rt_sigaction", Raw{"SIGCHLD"});
  const uint32_t pipe = static_cast<uint32_t>(init.pipe);
  if ((pipe > 3 && call(SYS_close_range, 3, pipe - 1, 0) < 0) || call(SYS_close_range, pipe + 1, ~0u, 0) < 0)
    return init.failed("close_range", 3, Hex{~0u}, 0);
  static Frame<16384> frame('X');
  frame.packed(1, init.durations, init.duration_count);
  if (send_or_exit(init, frame.data(), frame.size()) != Result::ok) return Result::failed;
  call(SYS_close, init.pipe);
  // Only signals of the parent's namespace end it, and SIGKILL of them (pid_namespaces(7)).
  for (;;)
    if (call(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0) < 0 && errno != EINTR) leave(1);
}

// The end of a plan that only had something to do: no program follows.
Result steps::finish(Init& init, const Message&) {
  Frame<16> frame('X');
  if (send_or_exit(init, frame.data(), frame.size()) != Result::ok) return Result::failed;
  leave(0);
}

}  // namespace init
