// SPDX-License-Identifier: Apache-2.0
// The monitor: one process per daemon, the parent of its containers' first processes. It clones them for the
// daemon, waits for them, writes down how each ended, and lives on after the daemon until the last has ended.
// It keeps one descriptor per container, that of its exit record, and opens by itself only what its orders
// name.
#include "monitor.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "calls.h"
#include "frames.h"
#include "monitor_clone.h"
#include "monitor_socket.h"
#include "sys/monitor_protocol.h"
#include "text.h"

namespace init {

namespace {

using sys::monitor::Answer;
using sys::monitor::Kind;
using sys::monitor::Request;

constexpr long page = 4096;
// While something that an owner has left cannot be removed yet: how often it is tried, and how long.
constexpr long retry_ns = 5000000;
constexpr int64_t give_up_s = 10;

enum class State : uint8_t {
  unused,
  running,
  untold,   // reaped; the owner's queue was full
  kept,     // reaped and told: orders remain until it is destroyed
  removing  // its owner is gone
};

struct Child {
  State state;
  uint8_t code;
  uint32_t token;
  pid_t pid;  // 0: reaped
  int value;
  int exit_file;
  Orders orders;
  int64_t deadline_s;
};

struct Monitor {
  bool has_owner = true;
  int signals = -1;
  Cloner cloner;
  Child* children = nullptr;
  uint32_t capacity = 0;
};

int64_t now_s() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

void* memory(size_t size) {
  void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return found == MAP_FAILED ? nullptr : found;
}

Child* unused_child(Monitor& monitor) {
  for (uint32_t at = 0; at < monitor.capacity; at++)
    if (monitor.children[at].state == State::unused) return &monitor.children[at];
  const uint32_t more = monitor.capacity == 0 ? page / sizeof(Child) : monitor.capacity * 2;
  Child* grown = static_cast<Child*>(memory(more * sizeof(Child)));
  if (grown == nullptr) return nullptr;
  if (monitor.children != nullptr) {
    memcpy(grown, monitor.children, monitor.capacity * sizeof(Child));
    munmap(monitor.children, monitor.capacity * sizeof(Child));
  }
  Child* fresh = grown + monitor.capacity;
  monitor.children = grown;
  monitor.capacity = more;
  return fresh;
}

void forget(Child& child) {
  if (child.orders.text != nullptr) munmap(const_cast<char*>(child.orders.text), child.orders.size);
  child = {};
}

void adopt(Monitor& monitor, const Request& request, const char* orders, Received& received) {
  Answer answer = {};
  answer.token = request.token;
  Child* child = unused_child(monitor);
  char* kept = nullptr;
  if (child != nullptr && request.orders_size > 0) {
    kept = static_cast<char*>(memory(request.orders_size));
    if (kept == nullptr) child = nullptr;
  }
  int pidfd = -1;
  if (child == nullptr) {
    answer.kind = Kind::failed;
    answer.value = ENOMEM;
    strncpy(answer.call, "mmap", sizeof answer.call - 1);
  } else if (const pid_t pid = clone_child(monitor.cloner, request, received.fds, answer, pidfd); pid < 0) {
    if (kept != nullptr) munmap(kept, request.orders_size);
  } else {
    answer.pid = pid;
    *child = {};
    child->state = State::running;
    child->token = request.token;
    child->pid = pid;
    child->exit_file = received.fds[0];
    received.fds[0] = -1;
    if (kept != nullptr) {
      memcpy(kept, orders, request.orders_size);
      child->orders = {kept, request.orders_size};
    }
  }
  // Waits: this answer is what the daemon's thread stands still for.
  (void)send(sys::monitor::socket_fd, answer, pidfd, 0);
  if (pidfd >= 0) call(SYS_close, pidfd);
}

// The former one waits for its end (steps::first_inside): what it has to say was said.
void succeed(Monitor& monitor, const Request& request) {
  Answer answer = {};
  answer.token = request.token;
  answer.kind = Kind::failed;
  answer.value = ESRCH;
  strncpy(answer.call, "waitid", sizeof answer.call - 1);
  for (uint32_t at = 0; at < monitor.capacity; at++) {
    Child& child = monitor.children[at];
    if (child.state != State::running || child.token != request.token || child.pid == 0) continue;
    // A child of ours, of which nobody else can have the number.
    siginfo_t info = {};
    if (call(SYS_waitid, P_PID, request.successor, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr) <
        0) {
      answer.value = errno;
      break;
    }
    call(SYS_kill, child.pid, SIGKILL);
    child.pid = request.successor;
    answer.kind = Kind::born;
    answer.pid = child.pid;
    break;
  }
  (void)send(sys::monitor::socket_fd, answer, -1, 0);
}

// Orders of containers that their owner has destroyed meanwhile.
void sweep(Monitor& monitor) {
  for (uint32_t at = 0; at < monitor.capacity; at++)
    if (monitor.children[at].state == State::kept && !still_recorded(monitor.children[at].orders))
      forget(monitor.children[at]);
}

// One request. False: the owner is gone.
bool serve(Monitor& monitor) {
  static Received received;
  static char buffer[sizeof(Request) + sys::monitor::largest_orders];
  Request request;
  switch (receive_request(sys::monitor::socket_fd, buffer, sizeof buffer, request, received)) {
    case Asked::again:
      return true;
    case Asked::ended:
      return false;
    case Asked::incomplete:
      break;
    case Asked::whole:
      if (request.successor != 0)
        succeed(monitor, request);
      else
        adopt(monitor, request, buffer + sizeof request, received);
      sweep(monitor);
  }
  drop(received);
  return true;
}

// Closing it gives the lock back that the daemon has put on the file: who waits for the record reads it now.
void record(Child& child, const siginfo_t& info) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  Text<160> line;
  line.add(R"({"kind":")").add(info.si_code == CLD_EXITED ? "exited" : "signaled");
  line.add(R"(","status":)").integer(info.si_status);
  line.add(R"(,"coreDumped":)").add(info.si_code == CLD_DUMPED ? "true" : "false");
  line.add(R"(,"exitedMs":)")
      .number(static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1000000);
  // systemd removes the cgroup now, and the count with it.
  if (const int64_t kills = oom_kills(child.orders); kills >= 0) line.add(R"(,"oomKills":)").integer(kills);
  line.add("}\n");
  call(SYS_write, child.exit_file, line.c_str(), line.size());
  call(SYS_close, child.exit_file);
  child.exit_file = -1;
  child.code = static_cast<uint8_t>(info.si_code);
  child.value = info.si_status;
}

void tell(Monitor& monitor, Child& child) {
  Answer answer = {};
  answer.kind = Kind::ended;
  answer.token = child.token;
  answer.code = child.code;
  answer.value = child.value;
  if (monitor.has_owner && !send(sys::monitor::socket_fd, answer, -1, MSG_DONTWAIT)) {
    child.state = State::untold;
    return;
  }
  if (child.state == State::removing) return;
  if (is_owned(child.orders))
    child.state = State::kept;
  else
    forget(child);
}

void reap(Monitor& monitor) {
  signalfd_siginfo ignored[4];
  while (call(SYS_read, monitor.signals, ignored, sizeof ignored) > 0) {
  }
  for (;;) {
    siginfo_t info = {};
    // First written down, then reaped: whoever sees the process gone finds the record.
    if (call(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL, nullptr) < 0 ||
        info.si_pid == 0)
      return;
    Child* child = nullptr;
    for (uint32_t at = 0; at < monitor.capacity && child == nullptr; at++)
      if (monitor.children[at].pid == info.si_pid) child = &monitor.children[at];
    if (child != nullptr) record(*child, info);
    // One that is not known was made by a container with CLONE_PARENT, clone(2), or has a successor.
    siginfo_t reaped = {};
    call(SYS_waitid, P_PID, info.si_pid, &reaped, WEXITED | WNOHANG | __WALL, nullptr);
    if (child == nullptr) continue;
    child->pid = 0;
    tell(monitor, *child);
  }
}

void lose_owner(Monitor& monitor) {
  monitor.has_owner = false;
  call(SYS_close, sys::monitor::socket_fd);
  call(SYS_close, sys::monitor::owner_fd);
  for (uint32_t at = 0; at < monitor.capacity; at++) {
    Child& child = monitor.children[at];
    if (child.state == State::unused) continue;
    if (!is_owned(child.orders)) {
      if (child.pid == 0) forget(child);
      continue;
    }
    // Ours and not reaped: the number is nobody else's.
    if (child.pid != 0) call(SYS_kill, child.pid, SIGKILL);
    child.state = State::removing;
    child.deadline_s = now_s() + give_up_s;
  }
}

// True: there is something to try again.
bool remove_orphans(Monitor& monitor) {
  bool left = false;
  for (uint32_t at = 0; at < monitor.capacity; at++) {
    Child& child = monitor.children[at];
    if (child.state != State::removing) continue;
    const bool removed = remove_container(child.orders, child.pid == 0);
    if (!removed && now_s() <= child.deadline_s) {
      left = true;
      continue;
    }
    // What cannot be removed is reconcile()'s; what cannot be killed may still end.
    if (child.pid == 0)
      forget(child);
    else
      child.state = State::running;
  }
  return left;
}

bool any(const Monitor& monitor, State state) {
  for (uint32_t at = 0; at < monitor.capacity; at++)
    if (monitor.children[at].state == state) return true;
  return false;
}

bool is_empty(const Monitor& monitor) {
  for (uint32_t at = 0; at < monitor.capacity; at++)
    if (monitor.children[at].state != State::unused) return false;
  return true;
}

void prepare(Monitor& monitor) {
  constexpr int first = sys::monitor::owner_fd + 1;
  // Nothing of the daemon's stays open here, on kernels without close_range neither.
  if (call(SYS_close_range, first, ~0u, 0) < 0)
    for (int fd = first; fd < first + 65536; fd++) call(SYS_close, fd);
  if (!mark_close_on_exec(sys::monitor::socket_fd)) leave(1);
  call(SYS_setsid);
  call(SYS_chdir, "/");
  prctl(PR_SET_NAME, "lc-monitor", 0, 0, 0);
  // Whoever stops a service by its process group or by name means the daemon; SIGKILL remains.
  const uint64_t all = ~uint64_t{0};
  call(SYS_rt_sigprocmask, SIG_SETMASK, &all, nullptr, sizeof all);
  const uint64_t child = uint64_t{1} << (SIGCHLD - 1);
  monitor.signals =
      static_cast<int>(call(SYS_signalfd4, -1, &child, sizeof child, SFD_CLOEXEC | SFD_NONBLOCK));
  monitor.cloner.stack = static_cast<char*>(memory(Cloner::stack_size));
  if (monitor.signals < 0 || monitor.cloner.stack == nullptr) leave(1);
}

}  // namespace

void monitor() {
  static Monitor monitor;
  prepare(monitor);
  while (monitor.has_owner || !is_empty(monitor)) {
    const bool retry = !monitor.has_owner && remove_orphans(monitor);
    const timespec pause = {0, retry_ns};
    const short wanted = any(monitor, State::untold) ? POLLIN | POLLOUT : POLLIN;
    pollfd fds[3] = {{monitor.signals, POLLIN, 0},
                     {monitor.has_owner ? sys::monitor::socket_fd : -1, wanted, 0},
                     {monitor.has_owner ? sys::monitor::owner_fd : -1, POLLIN, 0}};
    if (!monitor.has_owner && !retry && is_empty(monitor)) break;
    call(SYS_ppoll, fds, 3, retry ? &pause : nullptr, nullptr, 8);
    if (fds[0].revents != 0) reap(monitor);
    if ((fds[1].revents & POLLOUT) != 0)
      for (uint32_t at = 0; at < monitor.capacity; at++)
        if (monitor.children[at].state == State::untold) tell(monitor, monitor.children[at]);
    // A socket that somebody who forked off the daemon still holds says nothing of its death: the pidfd does.
    if (fds[2].revents != 0 || ((fds[1].revents & ~POLLOUT) != 0 && !serve(monitor))) lose_owner(monitor);
  }
  leave(0);
}

}  // namespace init
