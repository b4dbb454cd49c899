// SPDX-License-Identifier: Apache-2.0
#include "binding/launch.h"

#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>

#include "sys/calls.h"
#include "sys/clone.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2U)
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr size_t stack_size = 64U * 1024U;
constexpr size_t guard_size = 64U * 1024U;  // a whole page on every page size of arm64
constexpr int signal_count = 64;
// sigset_t of the kernel, not of libc: libc's functions leave out the signals that it keeps for itself.
using KernelSignalSet = uint64_t;

// All that the child needs. It shares our memory and must not allocate, lock or touch anything else.
struct ChildPlan {
  int* sources;  // by target number
  int targets;
  int init;
  char* const* argv;
  char* const* envp;
  const char* failed_call;
  int error;
  bool handlers_kept;
  bool keeps_capabilities;
};

int fail(ChildPlan& plan, const char* call) {
  plan.error = errno;
  plan.failed_call = call;
  return 127;
}

// Without CLONE_CLEAR_SIGHAND: a signal after the mask is lifted would run the host's handler on shared
// memory. (Ignored signals stay ignored over execve either way: init resets those.)
void reset_dispositions() {
  struct {
    void* handler;
    unsigned long flags;
    void* restorer;
    KernelSignalSet mask;
  } action{};
  for (int number = 1; number <= signal_count; number++)
    if (number != SIGKILL && number != SIGSTOP)
      ::syscall(SYS_rt_sigaction, number, &action, nullptr, sizeof(KernelSignalSet));
}

// close_range without close_range: what /proc lists. Nothing is closed meanwhile, so the listing is whole.
bool mark_listed(int first) {
  struct Entry {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
  };
  const int directory = static_cast<int>(
      ::syscall(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
  if (directory < 0) return false;
  alignas(Entry) char buffer[4096];
  for (;;) {
    const long size = ::syscall(SYS_getdents64, directory, buffer, sizeof buffer);
    if (size <= 0) return size == 0;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->size;
      int fd = 0;
      for (const char* digit = entry->name; *digit >= '0' && *digit <= '9'; digit++)
        fd = fd * 10 + (*digit - '0');
      if (entry->name[0] != '.' && fd >= first && ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return false;
    }
  }
}

// Born in a new user namespace the child has all capabilities there, but no id yet: an execve would take them
// (user_namespaces(7)), the ambient ones excepted. Init drops them with the rest.
int keep_capabilities(ChildPlan& plan) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) != 0) return fail(plan, "capget");
  for (__user_cap_data_struct& set : sets) set.inheritable = set.permitted;
  if (::syscall(SYS_capset, &header, sets) != 0) return fail(plan, "capset");
  for (unsigned capability = 0; capability < 64; capability++) {
    if ((sets[capability / 32].permitted >> capability % 32 & 1U) == 0) continue;
    if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) != 0)
      return fail(plan, "prctl(PR_CAP_AMBIENT_RAISE)");
  }
  return 0;
}

// Runs in the child: memory is shared, the parent's thread waits; the descriptor table is the child's own.
int child_main(void* argument) {
  ChildPlan& plan = *static_cast<ChildPlan*>(argument);
  // First out of the way of the final layout, then into it: no dup2 overwrites what a later one still needs.
  for (int target = 0; target < plan.targets; target++) {
    if (plan.sources[target] >= plan.targets) continue;
    const int moved = ::fcntl(plan.sources[target], F_DUPFD_CLOEXEC, plan.targets);
    if (moved < 0) return fail(plan, "fcntl(F_DUPFD_CLOEXEC)");
    plan.sources[target] = moved;
  }
  if (plan.init < plan.targets) {
    plan.init = ::fcntl(plan.init, F_DUPFD_CLOEXEC, plan.targets);
    if (plan.init < 0) return fail(plan, "fcntl(F_DUPFD_CLOEXEC)");
  }
  // dup2 clears CLOEXEC, here and nowhere else: in the parent's table a sibling's exec could inherit the
  // number.
  for (int target = 0; target < plan.targets; target++)
    if (::dup2(plan.sources[target], target) < 0) return fail(plan, "dup2");
  // What the host process opened without CLOEXEC must not get into the container (CVE-2024-21626).
  if (::syscall(SYS_close_range, plan.targets, ~0U, CLOSE_RANGE_CLOEXEC) != 0 &&
      ((errno != ENOSYS && errno != EPERM) || !mark_listed(plan.targets)))
    return fail(plan, "close_range");
  if (plan.keeps_capabilities)
    if (const int failed = keep_capabilities(plan)) return failed;
  if (plan.handlers_kept) reset_dispositions();
  const KernelSignalSet none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none);
  ::syscall(SYS_execveat, plan.init, "", plan.argv, plan.envp, AT_EMPTY_PATH);
  return fail(plan, "execveat");
}

// "CLONE_NEWPID|CLONE_NEWNET"
std::string flag_names(uint64_t flags) {
  static constexpr struct {
    uint64_t flag;
    const char* name;
  } names[] = {{CLONE_NEWTIME, "CLONE_NEWTIME"},        {CLONE_NEWNS, "CLONE_NEWNS"},
               {CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},    {CLONE_NEWUTS, "CLONE_NEWUTS"},
               {CLONE_NEWIPC, "CLONE_NEWIPC"},          {CLONE_NEWUSER, "CLONE_NEWUSER"},
               {CLONE_NEWPID, "CLONE_NEWPID"},          {CLONE_NEWNET, "CLONE_NEWNET"},
               {CLONE_INTO_CGROUP, "CLONE_INTO_CGROUP"}};
  std::string out;
  for (const auto& row : names)
    if ((flags & row.flag) != 0) out += (out.empty() ? "" : "|") + std::string(row.name);
  return out;
}

// Causes for which the caller may place the process in its cgroup in another way (init joins by itself).
bool cgroup_refused(int error) {
  return error == ENOSYS || error == E2BIG || error == EINVAL || error == EBADF || error == EOPNOTSUPP ||
         error == EACCES || error == EPERM;
}

}  // namespace

Launcher::~Launcher() {
  if (stack_ != nullptr) ::munmap(stack_, stack_size + guard_size);
}

void Launcher::configure(std::string init, std::string init_faults) {
  if (init != init_.path) init_ = {std::move(init), {}};
  if (init_faults != init_faults_.path) init_faults_ = {std::move(init_faults), {}};
}

sys::Status Launcher::prepare_init(bool faults, int& out) {
  Executable& executable = faults ? init_faults_ : init_;
  if (executable.path.empty()) {
    errno = ENOENT;
    return sys::failure("open", faults ? "init-faults" : "init");
  }
  if (!executable.memfd) {
    std::string content;
    if (auto failed = sys::read_file(content, executable.path)) return failed;
    if (auto failed = sys::sealed_memfd(executable.memfd, "libcontainer-init", content, true)) return failed;
  }
  out = executable.memfd.get();
  return {};
}

sys::Status Launcher::prepare_stack() {
  if (stack_ != nullptr) return {};
  void* memory =
      ::mmap(nullptr, stack_size + guard_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return sys::failure("mmap", "stack of the child");
  if (::mprotect(memory, guard_size, PROT_NONE) != 0) {
    const sys::Failure failed = sys::failure("mprotect", "stack of the child");
    ::munmap(memory, stack_size + guard_size);
    return failed;
  }
  stack_ = memory;
  return {};
}

// setns(CLONE_NEWPID) only says where the children of this one thread are born: pid_namespaces(7).
sys::Status Launcher::enter_pid_namespace(const JobRequest& request, bool& entered) {
  if (request.pid_namespace_path.empty() && !request.pid_namespace) return {};
  if (!own_pid_namespace_)
    if (auto failed = sys::open_file(own_pid_namespace_, "/proc/thread-self/ns/pid", O_RDONLY)) return failed;
  sys::Fd opened;
  int fd = request.pid_namespace.get();
  if (!request.pid_namespace_path.empty()) {
    if (auto failed = sys::open_file(opened, request.pid_namespace_path, O_RDONLY)) return failed;
    fd = opened.get();
  }
  if (::setns(fd, CLONE_NEWPID) != 0)
    return sys::failure(
        "setns",
        (request.pid_namespace_path.empty() ? "pidfd" : sys::quoted(request.pid_namespace_path)) +
            ", CLONE_NEWPID",
        request.pid_namespace_path);
  entered = true;
  return {};
}

sys::Status Launcher::leave_pid_namespace() {
  if (::setns(own_pid_namespace_.get(), CLONE_NEWPID) == 0) return {};
  lost_ = true;
  return sys::failure("setns", "own pid namespace, CLONE_NEWPID");
}

const char* name_of_namespace(int type) {
  return type == CLONE_NEWNET      ? "net"
         : type == CLONE_NEWIPC    ? "ipc"
         : type == CLONE_NEWUTS    ? "uts"
         : type == CLONE_NEWCGROUP ? "cgroup"
                                   : nullptr;
}

// For a child that gets a user namespace of its own: from within it the host's namespaces could not be joined
// (setns(2): CAP_SYS_ADMIN in the namespace that owns them). Only kinds that a single thread may change and
// that nothing of this process's memory depends on.
sys::Status Launcher::enter_namespaces(const JobRequest& request) {
  for (const EnteredNamespace& entered : request.entered) {
    const char* name = name_of_namespace(entered.type);
    if (name == nullptr) {
      errno = EINVAL;
      return sys::failure("setns", sys::quoted(entered.path), entered.path);
    }
    sys::Fd own;
    sys::Fd target;
    if (auto failed = sys::open_file(own, std::string("/proc/thread-self/ns/") + name, O_RDONLY))
      return failed;
    if (auto failed = sys::open_file(target, entered.path, O_RDONLY)) return failed;
    if (::setns(target.get(), entered.type) != 0)
      return sys::failure("setns",
                          sys::quoted(entered.path) + ", " + flag_names(static_cast<uint64_t>(entered.type)),
                          entered.path);
    left_.push_back({entered.type, std::move(own)});
  }
  return {};
}

sys::Status Launcher::leave_namespaces() {
  sys::Status failed;
  for (auto left = left_.rbegin(); left != left_.rend(); ++left) {
    if (::setns(left->own.get(), left->type) == 0) continue;
    lost_ = true;
    failed = sys::failure("setns", std::string("own namespace, ") + name_of_namespace(left->type));
  }
  left_.clear();
  return failed;
}

sys::Status Launcher::launch(Job& job) {
  JobRequest& request = job.request;
  if (lost_) {
    errno = EXDEV;
    return sys::failure("setns", "own pid namespace, CLONE_NEWPID");
  }
  ChildPlan plan{};
  if (auto failed = prepare_stack()) return failed;
  if (auto failed = prepare_init(request.faults, plan.init)) return failed;

  sys::Fd plan_memfd;
  if (auto failed = sys::sealed_memfd(plan_memfd, "libcontainer-plan", request.plan, false)) return failed;
  for (Slot& slot : request.slots) {
    if (slot.fd) continue;
    auto failed =
        slot.tree ? make_mapped_tree(*slot.tree, static_cast<char*>(stack_) + guard_size, stack_size, slot.fd)
                  : sys::open_file(slot.fd, slot.path, slot.flags);
    if (failed) return failed;
  }
  sys::Fd cgroup;
  if (!request.cgroup.empty())
    if (auto failed = sys::open_file(cgroup, request.cgroup, O_PATH | O_DIRECTORY)) return failed;
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return sys::failure("socketpair", "AF_UNIX, SOCK_SEQPACKET");
  sys::Fd ours(pair[0]);
  sys::Fd theirs(pair[1]);

  std::vector<int> sources;
  for (const sys::Fd& fd : request.stdio) sources.push_back(fd.get());
  for (const sys::Fd& fd : request.preserved) sources.push_back(fd.get());
  const int pipe_number = static_cast<int>(sources.size());
  sources.push_back(theirs.get());
  sources.push_back(plan_memfd.get());
  for (const Slot& slot : request.slots) sources.push_back(slot.fd.get());
  char numbers[3][12];
  for (int i = 0; i < 3; i++) std::snprintf(numbers[i], sizeof numbers[i], "%d", pipe_number + i);
  char name[] = "init";
  char* const argv[] = {name, numbers[0], numbers[1], numbers[2], nullptr};
  // Nothing of the host's environment gets near the container.
  char* const envp[] = {nullptr};
  plan.sources = sources.data();
  plan.targets = static_cast<int>(sources.size());
  plan.argv = argv;
  plan.envp = envp;

  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | request.clone_flags;
  args.exit_signal = SIGCHLD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.stack = reinterpret_cast<uint64_t>(stack_) + guard_size;
  args.stack_size = stack_size;
  if (cgroup) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup.get());
  }

  plan.keeps_capabilities = (request.clone_flags & CLONE_NEWUSER) != 0;
  if (auto failed = enter_namespaces(request)) {
    (void)leave_namespaces();
    return failed;
  }
  bool entered = false;
  if (auto failed = enter_pid_namespace(request, entered)) {
    (void)leave_namespaces();
    return failed;
  }
  // A handler of the host process must not run in the child, on shared memory.
  const KernelSignalSet all = ~KernelSignalSet{0};
  KernelSignalSet former = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &former, sizeof all);
  pid_t pid = sys::clone3(args, child_main, &plan);
  // EPERM too: some sandboxes answer with it. Where it was meant, clone(2) says the same.
  if (pid < 0 && (errno == ENOSYS || errno == EPERM) && !cgroup) {
    plan.handlers_kept = true;
    pid = sys::clone_classic(args, child_main, &plan);
  }
  sys::Status failed;
  if (pid < 0) {
    failed = sys::failure("clone3", flag_names(args.flags), request.cgroup);
    if (cgroup && cgroup_refused(failed->error)) failed->reason = "CLONE_INTO_CGROUP";
  }
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
  if (entered)
    if (auto stranded = leave_pid_namespace(); stranded && !failed) failed = stranded;

  if (!left_.empty())
    if (auto stranded = leave_namespaces(); stranded && !failed) failed = stranded;

  sys::Fd child(pidfd);
  if (pid > 0 && (plan.failed_call != nullptr || failed)) {
    if (plan.failed_call != nullptr) failed = sys::Failure{plan.failed_call, "", plan.error, "", ""};
    (void)sys::pidfd_send_signal(child.get(), SIGKILL);
    siginfo_t info{};
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(child.get()), &info,
                    WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
  }
  if (failed) return failed;
  job.pid = pid;
  const std::lock_guard<std::mutex> lock(job.mutex);
  job.pidfd = std::move(child);
  job.pipe = std::move(ours);
  return {};
}

}  // namespace binding
