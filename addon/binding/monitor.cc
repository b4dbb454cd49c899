// SPDX-License-Identifier: Apache-2.0
#include "binding/monitor.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
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

using sys::monitor::Answer;
using sys::monitor::Kind;
using sys::monitor::Request;

constexpr size_t stack_size = 32U * 1024U;
// A monitor that somebody has stopped must not hold the spawner thread for ever. A clone with a new network
// namespace may wait for a lock of the kernel's for seconds.
constexpr timeval patience{30, 0};
// A front is somebody's command line, which Ctrl-Z stops: nobody else's start may wait for it for long.
constexpr timeval front_patience{5, 0};
constexpr int first_free = sys::monitor::owner_fd + 1;

// As ChildPlan of launch.cc: shared memory, nothing that allocates.
struct Birth {
  int sources[first_free];
  int init;
  const char* failed_call;
  int error;
};

int fail(Birth& birth, const char* call) {
  birth.error = errno;
  birth.failed_call = call;
  return 127;
}

int monitor_main(void* argument) {
  Birth& birth = *static_cast<Birth*>(argument);
  for (int& source : birth.sources) {
    source = ::fcntl(source, F_DUPFD_CLOEXEC, first_free);
    if (source < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)");
  }
  birth.init = ::fcntl(birth.init, F_DUPFD_CLOEXEC, first_free);
  if (birth.init < 0) return fail(birth, "fcntl(F_DUPFD_CLOEXEC)");
  for (int target = 0; target < first_free; target++)
    if (::dup2(birth.sources[target], target) < 0) return fail(birth, "dup2");
  // Where this fails the monitor closes them itself.
  (void)::syscall(SYS_close_range, first_free, ~0U, CLOSE_RANGE_CLOEXEC);
  char name[sizeof sys::monitor::name];
  std::memcpy(name, sys::monitor::name, sizeof name);
  char* const argv[] = {name, nullptr};
  char* const envp[] = {nullptr};
  ::syscall(SYS_execveat, birth.init, "", argv, envp, AT_EMPTY_PATH);
  return fail(birth, "execveat");
}

void wait_for(int pidfd) {
  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd), &info, WEXITED | __WALL) != 0 &&
         errno == EINTR) {
  }
}

sys::Failure gone_failure(const char* call) {
  return {call, "monitor process", EPIPE, "", monitor_gone};
}

sys::Status start_process(Birth& birth, sys::Fd& pidfd) {
  void* stack =
      ::mmap(nullptr, stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return sys::failure("mmap", "stack of the monitor");
  int fd = -1;
  clone_args args{};
  // No exit signal: a host process that waits for any child of its own does not see this one.
  args.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND;
  args.pidfd = reinterpret_cast<uint64_t>(&fd);
  args.stack = reinterpret_cast<uint64_t>(stack);
  args.stack_size = stack_size;
  // Every signal is blocked on this thread, and stays so in the monitor until it has its own mask: no handler
  // of the host process runs on shared memory.
  pid_t pid = sys::clone3(args, monitor_main, &birth);
  if (pid < 0 && errno == ENOSYS) pid = sys::clone_classic(args, monitor_main, &birth);
  sys::Status failed;
  if (pid < 0) failed = sys::failure("clone3", "monitor process");
  ::munmap(stack, stack_size);
  pidfd = sys::Fd(fd);
  if (pid > 0 && birth.failed_call != nullptr) {
    wait_for(pidfd.get());
    failed = sys::Failure{birth.failed_call, "monitor process", birth.error, "", ""};
  }
  return failed;
}

}  // namespace

Monitor::Monitor(sys::Fd socket) : socket_(std::move(socket)) {
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &front_patience, sizeof front_patience);
  (void)::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &front_patience, sizeof front_patience);
}

Monitor::~Monitor() {
  socket_.reset();
  if (pidfd_) wait_for(pidfd_.get());
}

bool Monitor::fits() const {
  return uid_ == ::geteuid() && gid_ == ::getegid();
}

sys::Status Monitor::start(int init_memfd) {
  uid_ = ::geteuid();
  gid_ = ::getegid();
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return sys::failure("socketpair", "AF_UNIX, SOCK_SEQPACKET");
  sys::Fd ours(pair[0]);
  sys::Fd theirs(pair[1]);
  (void)::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  (void)::setsockopt(ours.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sys::Fd null;
  sys::Fd self;
  if (auto failed = sys::open_file(null, "/dev/null", O_RDWR)) return failed;
  if (auto failed = sys::pidfd_open(self, ::getpid())) return failed;
  Birth birth{{null.get(), null.get(), null.get(), theirs.get(), self.get()}, init_memfd, nullptr, 0};
  if (auto failed = start_process(birth, pidfd_)) return failed;
  socket_ = std::move(ours);
  return {};
}

sys::Status Monitor::clone(const MonitoredClone& order, uint32_t token, pid_t& pid, sys::Fd& pidfd) {
  sys::Fd exit_file;
  if (order.exit_file.empty()) {
    // A front: any descriptor in the place of the record.
    auto failed = ask(order, token, order.init);
    if (!failed) failed = hear(token, pid, pidfd);
    if (!failed && !pidfd) failed = sys::Failure{"recvmsg", "front, pidfd", EMFILE, "", ""};
    return failed;
  }
  if (auto failed =
          sys::open_file(exit_file, order.exit_file, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600))
    return failed;
  sys::Status failed;
  // Of the open file that the monitor is about to hold: gone when it has written the record, or has died.
  if (::flock(exit_file.get(), LOCK_EX | LOCK_NB) != 0)
    failed = sys::failure("flock", sys::quoted(order.exit_file), order.exit_file);
  if (!failed) failed = ask(order, token, exit_file.get());
  if (!failed) failed = hear(token, pid, pidfd);
  // The kernel leaves the descriptor out when our table is full.
  if (!failed && !pidfd) failed = sys::Failure{"recvmsg", "monitor process, pidfd", EMFILE, "", ""};
  if (failed) ::unlink(order.exit_file.c_str());
  return failed;
}

sys::Status Monitor::ask(const MonitoredClone& order, uint32_t token, int exit_file) {
  std::vector<int> fds{exit_file, order.init};
  if (order.cgroup >= 0) fds.push_back(order.cgroup);
  if (order.pid_namespace >= 0) fds.push_back(order.pid_namespace);
  Request request{};
  if (order.entered.size() > sys::monitor::most_entered) {
    errno = EINVAL;
    return sys::failure("setns", "monitor process, " + std::to_string(order.entered.size()) + " namespaces");
  }
  for (const auto& entered : order.entered) {
    request.entered_types[request.entered++] = entered.type;
    fds.push_back(entered.fd);
  }
  fds.insert(fds.end(), order.targets.begin(), order.targets.end());
  if (fds.size() > sys::monitor::most_fds || order.orders.size() > sys::monitor::largest_orders) {
    errno = E2BIG;
    return sys::failure("sendmsg", "monitor process, " + std::to_string(fds.size()) + " descriptors");
  }
  request.token = token;
  request.targets = static_cast<uint32_t>(order.targets.size());
  request.clone_flags = order.clone_flags;
  request.pipe = order.pipe;
  request.has_cgroup = order.cgroup >= 0;
  request.has_pid_namespace = order.pid_namespace >= 0;
  request.orders_size = static_cast<uint32_t>(order.orders.size());
  for (size_t from = 0; from < fds.size(); from += sys::monitor::fds_per_packet) {
    const size_t count = std::min<size_t>(fds.size() - from, sys::monitor::fds_per_packet);
    union {
      char bytes[CMSG_SPACE(sizeof(int) * sys::monitor::fds_per_packet)];
      cmsghdr align;
    } control{};
    char more = 0;
    iovec parts[2] = {{&request, sizeof request},
                      {const_cast<char*>(order.orders.data()), order.orders.size()}};
    if (from > 0) parts[0] = {&more, 1};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = from > 0 ? 1 : 2;
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    std::memcpy(CMSG_DATA(header), fds.data() + from, sizeof(int) * count);
    ssize_t sent = 0;
    do sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) continue;
    if (errno != EPIPE && errno != ECONNRESET && errno != EAGAIN)
      return sys::failure("sendmsg", "monitor process");
    gone_ = true;
    return gone_failure("sendmsg");
  }
  return {};
}

sys::Status Monitor::hear(uint32_t token, pid_t& pid, sys::Fd& pidfd) {
  for (;;) {
    Answer answer{};
    sys::Fd fd;
    const ssize_t got = receive(answer, fd, 0);
    if (got < 0 && errno == EMSGSIZE) continue;
    if (got <= 0) {
      // One that does not answer is as good as dead, and what it may still clone has lost its pipe.
      (void)sys::pidfd_send_signal(pidfd_.get(), SIGKILL);
      gone_ = true;
      return sys::Failure{"recvmsg", "monitor process", got == 0 ? EPIPE : ETIMEDOUT, "", ""};
    }
    if (answer.kind == Kind::ended) {
      early_.push_back({answer.token, answer.code, answer.value});
      continue;
    }
    if (answer.token != token) continue;
    if (answer.kind == Kind::failed) {
      // Which of several namespaces was refused.
      const std::string which = answer.code > 0 ? std::to_string(answer.code) : std::string();
      return sys::Failure{answer.call, which, answer.value, "", ""};
    }
    pid = answer.pid;
    pidfd = std::move(fd);
    return {};
  }
}

sys::Status Monitor::succeed(uint32_t token, pid_t successor) {
  Request request{};
  request.token = token;
  request.successor = successor;
  ssize_t sent = 0;
  do sent = ::send(socket_.get(), &request, sizeof request, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return sys::failure("send", "monitor process");
  pid_t pid = 0;
  sys::Fd none;
  return hear(token, pid, none);
}

ssize_t Monitor::receive(Answer& answer, sys::Fd& fd, int flags) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    cmsghdr align;
  } control{};
  iovec part{&answer, sizeof answer};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do got = ::recvmsg(socket_.get(), &message, flags | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return got;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    fd = sys::Fd(number);
  }
  if (got == static_cast<ssize_t>(sizeof answer)) return got;
  errno = EMSGSIZE;
  return -1;
}

std::vector<MonitoredExit> Monitor::take() {
  std::vector<MonitoredExit> exits;
  exits.swap(early_);
  while (!gone_) {
    Answer answer{};
    sys::Fd fd;
    const ssize_t got = receive(answer, fd, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) break;
    if (got == 0 || (got < 0 && errno != EMSGSIZE))
      gone_ = true;
    else if (got > 0 && answer.kind == Kind::ended)
      exits.push_back({answer.token, answer.code, answer.value});
  }
  return exits;
}

}  // namespace binding
