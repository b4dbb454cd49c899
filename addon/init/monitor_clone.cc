// SPDX-License-Identifier: Apache-2.0
// The monitor's clones.
#include "monitor_clone.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "calls.h"
#include "sys/clone.h"
#include "text.h"

namespace init {

using sys::monitor::Answer;
using sys::monitor::Kind;
using sys::monitor::Request;

namespace {

// What the new process needs; it shares our memory until its execve.
struct Birth {
  int* sources;
  int targets;
  int init;
  char* const* argv;
  bool keeps_capabilities;
  const char* failed;
  int error;
};

int fail(Birth& birth, const char* what) {
  birth.error = errno;
  birth.failed = what;
  return 127;
}

// Born in a new user namespace: as keep_capabilities of addon/binding/launch.cc, whose comment says why.
int keep_capabilities(Birth& birth) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2] = {};
  if (call(SYS_capget, &header, sets) < 0) return fail(birth, "capget");
  for (__user_cap_data_struct& set : sets) set.inheritable = set.permitted;
  if (call(SYS_capset, &header, sets) < 0) return fail(birth, "capset");
  for (unsigned capability = 0; capability < 64; capability++) {
    if ((sets[capability / 32].permitted >> capability % 32 & 1) == 0) continue;
    if (call(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
      return fail(birth, "prctl(PR_CAP_AMBIENT_RAISE)");
  }
  return 0;
}

// As child_main of addon/binding/launch.cc, whose comments say why.
int be_born(void* argument) {
  Birth& birth = *static_cast<Birth*>(argument);
  for (int target = 0; target < birth.targets; target++) {
    if (birth.sources[target] >= birth.targets) continue;
    const long moved = call(SYS_fcntl, birth.sources[target], F_DUPFD_CLOEXEC, birth.targets);
    if (moved < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)");
    birth.sources[target] = static_cast<int>(moved);
  }
  if (birth.init < birth.targets) {
    birth.init = static_cast<int>(call(SYS_fcntl, birth.init, F_DUPFD_CLOEXEC, birth.targets));
    if (birth.init < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)");
  }
  for (int target = 0; target < birth.targets; target++)
    if (call(SYS_dup3, birth.sources[target], target, 0) < 0) return fail(birth, "dup3");
  if (!mark_close_on_exec(static_cast<unsigned>(birth.targets))) return fail(birth, "close_range");
  if (birth.keeps_capabilities && keep_capabilities(birth) != 0) return 127;
  const uint64_t none = 0;
  call(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  char* const envp[] = {nullptr};
  call(SYS_execveat, birth.init, "", birth.argv, envp, AT_EMPTY_PATH);
  return fail(birth, "execveat");
}

// Namespaces that children are born in; those of the monitor's own are kept to return to.
class Entered {
 public:
  // False: errno says why.
  bool enter(int type, int fd) {
    const char* path = type == CLONE_NEWNET   ? "/proc/self/ns/net"
                       : type == CLONE_NEWIPC ? "/proc/self/ns/ipc"
                       : type == CLONE_NEWUTS ? "/proc/self/ns/uts"
                                              : "/proc/self/ns/cgroup";
    Fd own(call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
    if (!own || call(SYS_setns, fd, type) < 0) return false;
    types_[count_] = type;
    own_[count_++] = static_cast<Fd&&>(own);
    return true;
  }
  bool leave() {
    bool back = true;
    while (count_ > 0) {
      count_--;
      back = call(SYS_setns, own_[count_].get(), types_[count_]) == 0 && back;
      own_[count_].reset();
    }
    return back;
  }

 private:
  uint32_t count_ = 0;
  int types_[sys::monitor::most_entered] = {};
  Fd own_[sys::monitor::most_entered];
};

// setns(CLONE_NEWPID) is for children only: pid_namespaces(7).
bool enter(Cloner& cloner, int fd) {
  if (cloner.own_pid_namespace < 0)
    cloner.own_pid_namespace =
        static_cast<int>(call(SYS_openat, AT_FDCWD, "/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
  return cloner.own_pid_namespace >= 0 && call(SYS_setns, fd, CLONE_NEWPID) == 0;
}

}  // namespace

pid_t clone_child(Cloner& cloner, const Request& request, const int* fds, Answer& answer, int& pidfd) {
  const auto failed = [&](const char* what, int error) {
    answer.kind = Kind::failed;
    answer.value = error;
    strncpy(answer.call, what, sizeof answer.call - 1);
    return -1;
  };
  uint32_t next = 1;
  const int executable = fds[next++];
  const int cgroup = request.has_cgroup != 0 ? fds[next++] : -1;
  const int pid_namespace = request.has_pid_namespace != 0 ? fds[next++] : -1;
  if (cloner.stranded || request.entered > sys::monitor::most_entered) return failed("setns", EXDEV);
  Entered entered;
  for (uint32_t at = 0; at < request.entered; at++) {
    if (entered.enter(request.entered_types[at], fds[next++])) continue;
    const int error = errno;
    cloner.stranded = !entered.leave();
    answer.code = static_cast<int>(at + 1);  // which one
    return failed("setns", error);
  }
  if (pid_namespace >= 0 && !enter(cloner, pid_namespace)) {
    const int error = errno;
    cloner.stranded = !entered.leave();
    return failed("setns", error);
  }
  Text<12> numbers[3];
  for (uint32_t at = 0; at < 3; at++) numbers[at].number(request.pipe + at);
  char name[] = "init";
  char* const argv[] = {name, const_cast<char*>(numbers[0].c_str()), const_cast<char*>(numbers[1].c_str()),
                        const_cast<char*>(numbers[2].c_str()), nullptr};
  // A copy: the child, which shares our memory, writes its own numbers there.
  static int sources[sys::monitor::most_fds];
  memcpy(sources, fds + next, request.targets * sizeof(int));
  Birth birth = {sources, static_cast<int>(request.targets),          executable,
                 argv,    (request.clone_flags & CLONE_NEWUSER) != 0, nullptr,
                 0};
  clone_args arguments = {};
  arguments.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | request.clone_flags;
  arguments.exit_signal = SIGCHLD;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  arguments.stack = reinterpret_cast<uint64_t>(cloner.stack);
  arguments.stack_size = Cloner::stack_size;
  if (cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<uint64_t>(cgroup);
  }
  pid_t pid = sys::clone3(arguments, be_born, &birth);
  if (pid < 0 && (errno == ENOSYS || errno == EPERM) && cgroup < 0)
    pid = sys::clone_classic(arguments, be_born, &birth);
  const int error = errno;
  if (pid_namespace >= 0 && call(SYS_setns, cloner.own_pid_namespace, CLONE_NEWPID) < 0)
    cloner.stranded = true;
  if (!entered.leave()) cloner.stranded = true;
  if (pid < 0) return failed("clone3", error);
  if (birth.failed == nullptr && !cloner.stranded) return pid;
  call(SYS_kill, pid, SIGKILL);
  siginfo_t info = {};
  call(SYS_waitid, P_PID, pid, &info, WEXITED | __WALL, nullptr);
  call(SYS_close, pidfd);
  return birth.failed != nullptr ? failed(birth.failed, birth.error) : failed("setns", EXDEV);
}

}  // namespace init
