// SPDX-License-Identifier: Apache-2.0
#include "binding/mapped_tree.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/calls.h"
#include "sys/clone.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr unsigned at_recursive = 0x8000;
constexpr unsigned open_tree_clone = 1;

// Shares our memory, so it does nothing at all: it only keeps a user namespace alive while its maps are
// written. Every signal is blocked in it but SIGKILL.
int wait_for_kill(void* parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  if (::getppid() != *static_cast<const pid_t*>(parent)) return 0;
  for (;;) ::syscall(SYS_ppoll, nullptr, 0, nullptr, nullptr, 0);
}

class Holder {
 public:
  sys::Status start(void* stack, size_t size) {
    clone_args args{};
    int pidfd = -1;
    parent_ = ::getpid();
    args.flags = CLONE_VM | CLONE_PIDFD | CLONE_NEWUSER;
    args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
    args.stack = reinterpret_cast<uint64_t>(stack);
    args.stack_size = size;
    const uint64_t all = ~uint64_t{0};
    uint64_t former = 0;
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &former, sizeof all);
    pid_ = sys::clone3(args, wait_for_kill, &parent_);
    const sys::Status failed =
        pid_ < 0 ? sys::Status(sys::failure("clone3", "CLONE_NEWUSER")) : sys::Status();
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
    pidfd_ = sys::Fd(pidfd);
    return failed;
  }
  // Before its stack is used again.
  ~Holder() {
    if (pid_ <= 0) return;
    (void)sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
    siginfo_t info{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info,
                    WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
  }
  std::string file(const char* name) const { return "/proc/" + std::to_string(pid_) + "/" + name; }

 private:
  pid_t parent_ = 0;
  pid_t pid_ = -1;
  sys::Fd pidfd_;
};

sys::Status new_user_namespace(const TreeRequest& request, void* stack, size_t size, sys::Fd& out) {
  Holder holder;
  if (auto failed = holder.start(stack, size)) return failed;
  if (auto failed = sys::write_once(holder.file("uid_map"), request.uid_map)) return failed;
  if (auto failed = sys::write_once(holder.file("gid_map"), request.gid_map)) return failed;
  return sys::open_file(out, holder.file("ns/user"), O_RDONLY);
}

sys::Status joined_user_namespace(const std::string& path, sys::Fd& out) {
  if (auto failed = sys::open_file(out, path, O_RDONLY)) return failed;
  const int kind = ::ioctl(out.get(), NS_GET_NSTYPE);
  if (kind == CLONE_NEWUSER) return {};
  if (kind >= 0) errno = EINVAL;
  return sys::failure("ioctl", sys::quoted(path) + ", NS_GET_NSTYPE", path);
}

sys::Status make(const TreeRequest& request, void* stack, size_t stack_size, sys::Fd& out) {
  sys::Fd user_namespace;
  auto failed = request.user_namespace.empty()
                    ? new_user_namespace(request, stack, stack_size, user_namespace)
                    : joined_user_namespace(request.user_namespace, user_namespace);
  if (failed) return failed;
  const unsigned below = request.recursive ? at_recursive : 0;
  sys::Fd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, request.source.c_str(),
                                          open_tree_clone | static_cast<unsigned>(O_CLOEXEC) | below)));
  if (!tree)
    return sys::failure("open_tree", sys::quoted(request.source) + ", OPEN_TREE_CLONE", request.source);
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_IDMAP;
  attributes.userns_fd = static_cast<uint64_t>(user_namespace.get());
  const unsigned mapped = request.map_recursive ? at_recursive : 0;
  if (::syscall(SYS_mount_setattr, tree.get(), "", AT_EMPTY_PATH | mapped, &attributes, sizeof attributes) !=
      0)
    return sys::failure("mount_setattr", sys::quoted(request.source) + ", MOUNT_ATTR_IDMAP", request.source);
  out = std::move(tree);
  return {};
}

}  // namespace

sys::Status make_mapped_tree(const TreeRequest& request, void* stack, size_t stack_size, sys::Fd& out) {
  auto failed = make(request, stack, stack_size, out);
  if (failed) failed->reason = "ERR_IDMAP";
  return failed;
}

}  // namespace binding
