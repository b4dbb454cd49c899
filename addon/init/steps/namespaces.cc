// SPDX-License-Identifier: Apache-2.0
// setns, unshare, forkInto, sessionKeyring, loopback, joinCgroup, oomScoreAdj: into cgroups and namespaces.
#include <linux/keyctl.h>
#include <linux/nsfs.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../faults.h"
#include "../frames.h"
#include "../procfs.h"
#include "../views.h"
#include "steps.h"

namespace init {

// A process moves itself by writing 0: a parent that writes a foreign pid waits for an RCU grace period
// (cgroups(7)).
Result steps::join_cgroup(Init& init, const Message& message) {
  const char* file = init.text(message, 1);
  // In a user namespace the file is the host's: the parent has opened it, and the kernel looks at its rights
  // (cgroups(7), since the fix of CVE-2021-4197).
  const Fd fd(message.has(2) ? init.first_slot + static_cast<int>(message.u32(2))
                             : call(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CLOEXEC));
  if (!fd) return init.failed("open", file, Raw{"O_WRONLY"});
  if (call(SYS_write, fd.get(), "0", 1) < 0) return init.failed("write", file, "0");
  return Result::ok;
}

Result steps::oom_score_adj(Init& init, const Message& message) {
  Text<16> value;
  value.integer(message.sint32(1));
  return write_proc(init, "self/oom_score_adj", value.c_str());
}

Result steps::setns(Init& init, const Message& message) {
  const uint64_t type = message.number(1);
  Fd opened;
  int fd = -1;
  Text<4200> name;
  if (message.has(3)) {
    fd = init.first_slot + static_cast<int>(message.u32(3));
    name.add("slot ").number(message.u32(3));
  } else {
    const char* path = init.text(message, 2);
    name.add(path);
    opened = Fd(call(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC));
    if (!opened) return init.failed("open", path, Raw{"O_RDONLY"});
    fd = opened.get();
    const long kind = call(SYS_ioctl, fd, NS_GET_NSTYPE);
    if (kind < 0 || static_cast<uint64_t>(kind) != type) {
      if (kind >= 0) errno = EINVAL;
      (void)init.failed("ioctl", path, Raw{"NS_GET_NSTYPE"});
      return init.because("ERR_NAMESPACE_KIND", path);
    }
  }
  // While the host's procfs is whole and the right to make one is there; the container's own may be covered.
  if (init.needs_procfs && open_procfs(init) != Result::ok) return Result::failed;
  if (call(SYS_setns, fd, type) < 0) return init.failed("setns", name.c_str(), Hex{type});
  init.clock_moved = (type & CLONE_NEWTIME) != 0;
  if ((type & CLONE_NEWNS) != 0) {
    // The root and everything found in it belonged to the namespace that was left.
    init.root.reset();
    init.parent.reset();
    init.host_slave = false;
  }
  return (type & CLONE_NEWUSER) != 0 ? become_root(init) : Result::ok;
}

Result steps::unshare(Init& init, const Message& message) {
  const uint64_t flags = message.number(1);
  return call(SYS_unshare, flags) < 0 ? init.failed("unshare", Hex{flags}) : Result::ok;
}

// The SELinux label of keys that are made from here on; an empty one takes it back.
static Result label_keys(Init& init, const char* label) {
  return write_proc(init, "self/attr/keycreate", label) == Result::ok ? Result::ok
                                                                      : init.because("ERR_LABEL", "");
}

// Nothing that the container may not have goes over: the pipe is the one descriptor beside stdio and what is
// preserved. A procfs that was opened before shows the processes of the host.
static Result close_all(Init& init) {
  Fd* const opened[] = {&init.root,        &init.procfs, &init.own_fds, &init.parent,
                        &init.made_parent, &init.null,   &init.mask};
  for (Fd* fd : opened) fd->reset();
  const int first = init.pipe + 1;
  if (call(SYS_close_range, first, ~0u, 0) == 0) return Result::ok;
  if (errno != ENOSYS && errno != EPERM) return init.failed("close_range", first, Hex{~0u}, 0);
  // As mark_close_on_exec.
  for (int fd = first; fd < first + 65536; fd++) call(SYS_close, fd);
  return Result::ok;
}

// clone3 without a stack: memory is copied. CLONE_PARENT: the exit status is for whom our own is for.
static long clone_sibling(int& pidfd) {
  static constexpr uint64_t flags = CLONE_PARENT | CLONE_PIDFD;
  clone_args arguments = {};
  arguments.flags = flags;
  arguments.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  const long pid = call(SYS_clone3, &arguments, sizeof arguments);
  if (pid >= 0 || (errno != ENOSYS && errno != EPERM)) return pid;
  // Sandboxes; the exit signal is that of this process, clone(2).
  return call(SYS_clone, flags, nullptr, &pidfd, nullptr, nullptr);
}

static bool tell_birth(Init& init, long pid, int pidfd) {
  Frame<64> frame('P');
  frame.number(1, static_cast<uint64_t>(pid));
  return send_frame(init, frame.data(), frame.size(), pidfd);
}

// What is born here is visible to the container from its first instruction on, and with CAP_SYS_PTRACE it can
// be controlled by it (a process that is not dumpable is out of reach for those of other user namespaces
// only, ptrace(2)). So it has nothing then but what is the container's. Memory is copied, not shared
// (CLONE_VM): whoever writes to the second stage would have the first one, which is outside. CLONE_PARENT:
// the exit status is the spawner's to learn.
Result steps::fork_into(Init& init, const Message&) {
  if (close_all(init) != Result::ok) return Result::failed;
  int pidfd = -1;
  const long pid = clone_sibling(pidfd);
  if (pid < 0) return init.failed("clone3", Raw{"CLONE_PARENT|CLONE_PIDFD"});
  if (pid > 0) {
    if (init.faults->before(init, "born") != Result::ok) leave(1);
    leave(tell_birth(init, pid, pidfd) ? 0 : 1);
  }
  init.forks = false;
  init.visible = true;
  // Until the spawner knows this process, it is found by the process group that it still is in.
  if (wait_frame(init, 'G') != Result::ok) return Result::failed;
  call(SYS_setsid);
  if (init.terminal && call(SYS_ioctl, 0, TIOCSCTTY, 0) < 0)
    return init.failed("ioctl", 0, Raw{"TIOCSCTTY"}, 0);
  return Result::ok;
}

// unshare(CLONE_NEWPID) has made a pid namespace for children: the container's first process is ours. Both
// are out of reach for those of the user namespace that was joined: their memory belongs to the host's (it
// did when init was executed) and is not dumpable, ptrace(2). The monitor ends this one when it knows the
// other; if the daemon dies before, the end of the pipe does.
Result steps::first_inside(Init& init, const Message&) {
  int pidfd = -1;
  const long pid = clone_sibling(pidfd);
  if (pid < 0) return init.failed("clone3", Raw{"CLONE_PARENT|CLONE_PIDFD"});
  if (pid > 0) {
    if (init.faults->before(init, "born") != Result::ok || !tell_birth(init, pid, pidfd)) leave(1);
    pollfd closed = {init.pipe, 0, 0};
    while (call(SYS_ppoll, &closed, 1, nullptr, nullptr, 8) < 0 && errno == EINTR) {
    }
    leave(1);
  }
  if (wait_frame(init, 'G') != Result::ok) return Result::failed;
  call(SYS_setsid);
  return Result::ok;
}

Result steps::session_keyring(Init& init, const Message& message) {
  const char* name = init.text(message, 1);
  const bool labelled = message.has(2);
  if (labelled && label_keys(init, init.text(message, 2)) != Result::ok) return Result::failed;
  const long ring = call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name);
  const int error = errno;
  if (labelled && label_keys(init, "") != Result::ok) return Result::failed;
  errno = error;
  if (ring < 0) {
    // A kernel without keys has no session keyring that could leak.
    if (errno == ENOSYS) return Result::ok;
    return init.failed("keyctl", Raw{"KEYCTL_JOIN_SESSION_KEYRING"}, name);
  }
  // What a new session keyring has (keyrings(7)) and search for its user, else its keys cannot be found by
  // others of the same user, or, in a user namespace, for everybody; as runc does.
  const uint32_t permissions = 0x3f130000 | (message.flag(3) ? 0x00000008 : 0x00080000);
  if (call(SYS_keyctl, KEYCTL_SETPERM, ring, permissions) < 0)
    return init.failed("keyctl", Raw{"KEYCTL_SETPERM"}, ring, Hex{permissions});
  return Result::ok;
}

// A new time namespace is for children only, and its offsets may be written until the first process is in it
// (time_namespaces(7)); this process is the first, by setns: before Linux 6.3 an exec does not enter it.
Result steps::time_namespace(Init& init, const Message& message) {
  if (open_procfs(init) != Result::ok) return Result::failed;
  if (call(SYS_unshare, CLONE_NEWTIME) < 0) return init.failed("unshare", Raw{"CLONE_NEWTIME"});
  // In the host's procfs, the fallback, self is this process too: a pid namespace has its own view of it.
  const char* offsets = init.text(message, 1);
  if (offsets[0] != 0 && write_proc(init, "self/timens_offsets", offsets) != Result::ok)
    return Result::failed;
  const Fd own(open_own_namespace(init, "time_for_children"));
  if (!own) return init.failed("openat", Raw{"procfs"}, "self/ns/time_for_children");
  if (call(SYS_setns, own.get(), CLONE_NEWTIME) < 0)
    return init.failed("setns", "self/ns/time_for_children", Raw{"CLONE_NEWTIME"});
  init.clock_moved = true;
  return Result::ok;
}

Result steps::loopback(Init& init, const Message&) {
  const Fd fd(call(SYS_socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return init.failed("socket", Raw{"AF_INET"}, Raw{"SOCK_DGRAM"});
  ifreq request = {};
  strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  return call(SYS_ioctl, fd.get(), SIOCSIFFLAGS, &request) < 0
             ? init.failed("ioctl", Raw{"SIOCSIFFLAGS"}, "lo")
             : Result::ok;
}

}  // namespace init
