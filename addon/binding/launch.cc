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
#include <cstdlib>
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

constexpr int signal_count = 64;
// sigset_t of the kernel, not of libc: libc's functions leave out the signals that it keeps for itself.
using KernelSignalSet = uint64_t;

// The child shares our memory, thread-local storage included, and our thread runs on: a libc function would
// write to its errno. Returns a negative errno.
long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
#if defined(__x86_64__)
  long result = number;
  register long fourth __asm__("r10") = d;
  register long fifth __asm__("r8") = e;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long result __asm__("x0") = a;
  register long second __asm__("x1") = b;
  register long third __asm__("x2") = c;
  register long fourth __asm__("x3") = d;
  register long fifth __asm__("x4") = e;
  register long call __asm__("x8") = number;
  __asm__ volatile("svc #0"
                   : "+r"(result)
                   : "r"(second), "r"(third), "r"(fourth), "r"(fifth), "r"(call)
                   : "memory");
  return result;
#else
#error "x86-64 and arm64 only"
#endif
}

long address(const volatile void* pointer) {
  return reinterpret_cast<long>(pointer);
}

int fail(Birth& birth, const char* call, long result) {
  birth.error = static_cast<int>(-result);
  birth.failed_call = call;
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
      raw(SYS_rt_sigaction, number, address(&action), 0, sizeof(KernelSignalSet));
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
  const long directory =
      raw(SYS_openat, AT_FDCWD, address("/proc/self/fd"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return false;
  alignas(Entry) char buffer[4096];
  for (;;) {
    const long size = raw(SYS_getdents64, directory, address(buffer), sizeof buffer);
    if (size <= 0) return size == 0;
    for (long at = 0; at < size;) {
      const auto* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->size;
      int fd = 0;
      for (const char* digit = entry->name; *digit >= '0' && *digit <= '9'; digit++)
        fd = fd * 10 + (*digit - '0');
      if (entry->name[0] != '.' && fd >= first && raw(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC) != 0) return false;
    }
  }
}

// Born in a new user namespace the child has all capabilities there, but no id yet: an execve would take them
// (user_namespaces(7)), the ambient ones excepted. Init drops them with the rest.
int keep_capabilities(Birth& birth) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (const long result = raw(SYS_capget, address(&header), address(sets)); result != 0)
    return fail(birth, "capget", result);
  for (__user_cap_data_struct& set : sets) set.inheritable = set.permitted;
  if (const long result = raw(SYS_capset, address(&header), address(sets)); result != 0)
    return fail(birth, "capset", result);
  for (unsigned capability = 0; capability < 64; capability++) {
    if ((sets[capability / 32].permitted >> capability % 32 & 1U) == 0) continue;
    const long result = raw(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, static_cast<long>(capability));
    if (result != 0) return fail(birth, "prctl(PR_CAP_AMBIENT_RAISE)", result);
  }
  return 0;
}

// Runs in the child: memory is shared, the descriptor table is the child's own. No libc, no allocation, no
// lock.
int child_main(void* argument) {
  Birth& birth = *static_cast<Birth*>(argument);
  int* const sources = birth.sources.data();
  const int targets = static_cast<int>(birth.sources.size());
  // First out of the way of the final layout, then into it: no dup3 overwrites what a later one still needs.
  for (int target = 0; target < targets; target++) {
    if (sources[target] >= targets) continue;
    const long moved = raw(SYS_fcntl, sources[target], F_DUPFD_CLOEXEC, targets);
    if (moved < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)", moved);
    sources[target] = static_cast<int>(moved);
  }
  if (birth.init < targets) {
    const long moved = raw(SYS_fcntl, birth.init, F_DUPFD_CLOEXEC, targets);
    if (moved < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)", moved);
    birth.init = static_cast<int>(moved);
  }
  // dup3 clears CLOEXEC, here and nowhere else: in the parent's table a sibling's exec could inherit the
  // number.
  for (int target = 0; target < targets; target++)
    if (const long result = raw(SYS_dup3, sources[target], target); result < 0)
      return fail(birth, "dup3", result);
  // What the host process opened without CLOEXEC must not get into the container (CVE-2024-21626).
  if (const long result = raw(SYS_close_range, targets, static_cast<long>(~0U), CLOSE_RANGE_CLOEXEC);
      result != 0 && ((result != -ENOSYS && result != -EPERM) || !mark_listed(targets)))
    return fail(birth, "close_range", result);
  if (birth.keeps_capabilities)
    if (const int failed = keep_capabilities(birth)) return failed;
  if (birth.handlers_kept) reset_dispositions();
  const KernelSignalSet none = 0;
  raw(SYS_rt_sigprocmask, SIG_SETMASK, address(&none), 0, sizeof none);
  return fail(
      birth, "execveat",
      raw(SYS_execveat, birth.init, address(""), address(birth.argv), address(birth.envp), AT_EMPTY_PATH));
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

sys::Status Launcher::prepare_birth(std::unique_ptr<Birth>& out) {
  if (!spare_.empty()) {
    out = std::move(spare_.back());
    spare_.pop_back();
    return {};
  }
  out = std::make_unique<Birth>();
  void* memory = ::mmap(nullptr, Birth::stack_size + Birth::guard_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return sys::failure("mmap", "stack of the child");
  out->stack = memory;
  if (::mprotect(memory, Birth::guard_size, PROT_NONE) != 0)
    return sys::failure("mprotect", "stack of the child");
  return {};
}

void Launcher::recycle(std::unique_ptr<Birth> birth) {
  constexpr size_t most_spares = 16;
  // Cannot be; memory that is written to by another process must not be reused.
  if (__atomic_load_n(&birth->child_tid, __ATOMIC_ACQUIRE) != 0 && birth->in_child) {
    (void)birth.release();
    return;
  }
  birth->in_child = false;
  birth->failed_call = nullptr;
  birth->handlers_kept = false;
  if (spare_.size() < most_spares) spare_.push_back(std::move(birth));
}

// setns(CLONE_NEWPID) only says where the children of this one thread are born: pid_namespaces(7).
sys::Status Launcher::enter_pid_namespace(const JobRequest& request, bool& entered) {
  const std::string& path = request.pid_namespace_path;
  if (path.empty()) return {};
  if (!own_pid_namespace_)
    if (auto failed = sys::open_file(own_pid_namespace_, "/proc/thread-self/ns/pid", O_RDONLY)) return failed;
  sys::Fd opened;
  if (auto failed = sys::open_file(opened, path, O_RDONLY)) return failed;
  if (::setns(opened.get(), CLONE_NEWPID) != 0)
    return sys::failure("setns", sys::quoted(path) + ", CLONE_NEWPID", path);
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

namespace {

sys::Status clone_by_monitor(Monitor& monitor, uint32_t token, const JobRequest& request,
                             MonitoredClone& order, pid_t& pid, sys::Fd& pidfd) {
  sys::Fd opened;
  if (!request.pid_namespace_path.empty()) {
    if (auto failed = sys::open_file(opened, request.pid_namespace_path, O_RDONLY)) return failed;
    order.pid_namespace = opened.get();
  }
  std::vector<sys::Fd> namespaces;
  for (const EnteredNamespace& entered : request.entered) {
    sys::Fd target;
    if (auto failed = sys::open_file(target, entered.path, O_RDONLY)) return failed;
    order.entered.push_back({entered.type, target.get()});
    namespaces.push_back(std::move(target));
  }
  order.exit_file = request.exit_file;
  order.orders = request.orders;
  order.clone_flags = request.clone_flags;
  auto failed = monitor.clone(order, token, pid, pidfd);
  if (failed && failed->syscall == "clone3") {
    failed->args = flag_names(request.clone_flags | (order.cgroup >= 0 ? CLONE_INTO_CGROUP : 0));
    failed->path = request.cgroup;
    if (order.cgroup >= 0 && cgroup_refused(failed->error)) failed->reason = "CLONE_INTO_CGROUP";
  }
  if (failed && failed->syscall == "setns") {
    // `args` is the index of the one that was refused: the pid namespace, or one of those that are entered.
    const size_t index = static_cast<size_t>(std::atoi(failed->args.c_str()));
    const bool is_entered = index > 0 && index <= request.entered.size();
    const int type = is_entered ? request.entered[index - 1].type : CLONE_NEWPID;
    failed->path = is_entered ? request.entered[index - 1].path : request.pid_namespace_path;
    failed->args = sys::quoted(failed->path) + ", " + flag_names(static_cast<uint64_t>(type));
  }
  return failed;
}

}  // namespace

sys::Status Launcher::launch(Job& job, Monitor* monitor, uint32_t token) {
  JobRequest& request = job.request;
  if (lost_) {
    errno = EXDEV;
    return sys::failure("setns", "own pid namespace, CLONE_NEWPID");
  }
  std::unique_ptr<Birth> birth;
  if (auto failed = prepare_birth(birth)) return failed;
  if (auto failed = prepare_init(request.faults, birth->init)) return failed;

  sys::Fd plan_memfd;
  if (auto failed = sys::sealed_memfd(plan_memfd, "libcontainer-plan", request.plan, false)) return failed;
  for (Slot& slot : request.slots) {
    if (slot.fd) continue;
    auto failed = slot.tree
                      ? make_mapped_tree(*slot.tree, static_cast<char*>(birth->stack) + Birth::guard_size,
                                         Birth::stack_size, slot.fd)
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

  // Frames of the first stage are told from those of others by the pid that the kernel adds (unix(7)).
  const int enabled = request.forks ? 1 : 0;
  if (request.forks && ::setsockopt(ours.get(), SOL_SOCKET, SO_PASSCRED, &enabled, sizeof enabled) != 0)
    return sys::failure("setsockopt", "init pipe, SO_PASSCRED");

  std::vector<int>& sources = birth->sources;
  sources.clear();
  for (const sys::Fd& fd : request.stdio) sources.push_back(fd.get());
  for (const sys::Fd& fd : request.preserved) sources.push_back(fd.get());
  const int pipe_number = static_cast<int>(sources.size());
  sources.push_back(theirs.get());
  sources.push_back(plan_memfd.get());
  for (const Slot& slot : request.slots) sources.push_back(slot.fd.get());
  if (monitor != nullptr) {
    MonitoredClone order;
    order.pipe = static_cast<uint32_t>(pipe_number);
    order.init = birth->init;
    order.cgroup = cgroup.get();
    order.targets = sources;
    recycle(std::move(birth));
    sys::Fd child;
    if (auto failed = clone_by_monitor(*monitor, token, request, order, job.pid, child)) return failed;
    const std::lock_guard<std::mutex> lock(job.mutex);
    job.pidfd = std::move(child);
    job.pipe = std::move(ours);
    return {};
  }
  birth->argv[0] = birth->name;
  for (int i = 0; i < 3; i++) {
    std::snprintf(birth->numbers[i], sizeof birth->numbers[i], "%d", pipe_number + i);
    birth->argv[i + 1] = birth->numbers[i];
  }
  birth->child_tid = 1;

  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_VM | CLONE_PIDFD | CLONE_CLEAR_SIGHAND | CLONE_CHILD_CLEARTID | request.clone_flags;
  args.exit_signal = SIGCHLD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.child_tid = reinterpret_cast<uint64_t>(&birth->child_tid);
  args.stack = reinterpret_cast<uint64_t>(birth->stack) + Birth::guard_size;
  args.stack_size = Birth::stack_size;
  if (cgroup) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(cgroup.get());
  }

  birth->keeps_capabilities = (request.clone_flags & CLONE_NEWUSER) != 0;
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
  pid_t pid = sys::clone3(args, child_main, birth.get());
  // EPERM too: some sandboxes answer with it. Where it was meant, clone(2) says the same.
  if (pid < 0 && (errno == ENOSYS || errno == EPERM) && !cgroup) {
    birth->handlers_kept = true;
    pid = sys::clone_classic(args, child_main, birth.get());
  }
  sys::Status failed;
  if (pid < 0) {
    failed = sys::failure("clone3", flag_names(args.flags), request.cgroup);
    if (cgroup && cgroup_refused(failed->error)) failed->reason = "CLONE_INTO_CGROUP";
    recycle(std::move(birth));
  }
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &former, nullptr, sizeof former);
  bool stranded = entered && leave_pid_namespace().has_value();
  if (!left_.empty()) stranded |= leave_namespaces().has_value();
  if (pid < 0) return failed;
  job.pid = pid;
  birth->in_child = true;
  job.birth = std::move(birth);
  const std::lock_guard<std::mutex> lock(job.mutex);
  job.pidfd = sys::Fd(pidfd);
  job.pipe = std::move(ours);
  // This one was born where it should be, but nothing can be started any more: better that somebody looks.
  if (stranded) (void)sys::pidfd_send_signal(pidfd, SIGKILL);
  return {};
}

}  // namespace binding
