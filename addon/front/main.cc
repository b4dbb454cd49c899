// SPDX-License-Identifier: Apache-2.0
// The front: stands in nrunc's place and asks a resident `nrunc serve` for what the command does
// (docs/adr/0026). It clones the container's processes itself, as the server tells it, so that they are
// children of the caller's subreaper as ever. Whenever there is no server, or none that answers, it executes
// the command line of Node: the file beside it whose name has "-node" added.
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "init/calls.h"
#include "init/monitor_clone.h"
#include "init/monitor_socket.h"
#include "init/text.h"

extern "C" char** environ;

namespace front {

using init::call;
using init::Fd;

// lib/cli/serve/protocol.ts has the other side.
constexpr uint32_t protocol = 1;
constexpr char version[] = NRUNC_VERSION;
// The default queue of a socket holds more (net.core.wmem_default is 212992); who has more is served by Node.
constexpr size_t largest_request = 160 * 1024;
constexpr size_t largest_frame = 64 * 1024;
// Before a server says that it has the command nothing is done, and a start of Node costs about as much.
constexpr int default_patience_ms = 50;
constexpr int longest_patience_ms = 600000;

enum class Outcome : uint8_t {
  wait,
  fall_back,  // nothing was done
  over
};

struct Front {
  Fd connection;
  Fd clones;
  bool answered = false;   // the server has the command
  bool committed = false;  // it may have had effects
  bool printed = false;
  pid_t cloned = 0;
  int code = 1;
  init::Cloner cloner;
};

struct Buffer {
  char* data;
  size_t size;
  size_t used = 0;
  bool full = false;
  void add(const void* bytes, size_t count) {
    if (count > size - used) {
      full = true;
      return;
    }
    memcpy(data + used, bytes, count);
    used += count;
  }
  void text(const char* value) { add(value, strlen(value) + 1); }
};

int64_t now_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

bool write_all(int fd, const char* text, size_t size) {
  while (size > 0) {
    const long done = call(SYS_write, fd, text, size);
    if (done < 0 && errno == EAGAIN) {
      pollfd room = {fd, POLLOUT, 0};
      poll(&room, 1, -1);
    } else if (done < 0 && errno != EINTR) {
      return false;
    } else if (done > 0) {
      text += done;
      size -= static_cast<size_t>(done);
    }
  }
  return true;
}

void complain(const char* text) {
  (void)write_all(2, text, strlen(text));
}

// A path of the caller's, or where `nrunc serve` of this user listens by default.
bool socket_path(sockaddr_un& address) {
  init::Text<sizeof address.sun_path> path;
  if (const char* given = getenv("NRUNC_SOCKET"); given != nullptr && *given != 0) {
    path.add(given);
  } else if (geteuid() == 0) {
    path.add("/run/libcontainer/@serve");
  } else {
    const char* own = getenv("XDG_RUNTIME_DIR");
    if (own == nullptr || *own != '/') return false;
    path.add(own).add("/libcontainer/@serve");
  }
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return !path.cut();
}

// Whoever listens there must be ourselves, or root would run a stranger's orders. The kernel noted who it is
// at its listen(2): unix(7), SO_PEERCRED.
bool connect_to_server(Front& front) {
  sockaddr_un address = {};
  if (!socket_path(address)) return false;
  front.connection = Fd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!front.connection ||
      connect(front.connection.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    return false;
  ucred peer = {};
  socklen_t size = sizeof peer;
  return getsockopt(front.connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
         peer.uid == geteuid();
}

bool ask(Front& front, int argc, char** argv) {
  static char bytes[largest_request];
  Buffer request = {bytes, sizeof bytes};
  uint32_t count = 0;
  while (environ[count] != nullptr) count++;
  const uint32_t head[3] = {protocol, static_cast<uint32_t>(argc - 1), count};
  request.add(head, sizeof head);
  request.text(version);
  static char cwd[4096];
  // Without a name for it Node must find its own words. "(unreachable)": getcwd(2).
  if (call(SYS_getcwd, cwd, sizeof cwd) < 0 || cwd[0] != '/') return false;
  request.text(cwd);
  for (int at = 1; at < argc; at++) request.text(argv[at]);
  for (uint32_t at = 0; at < count; at++) request.text(environ[at]);
  int pair[2];
  if (request.full || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) return false;
  front.clones = Fd(pair[0]);
  const Fd theirs(pair[1]);
  const int fds[] = {0, 1, 2, theirs.get()};
  union {
    char bytes[CMSG_SPACE(sizeof fds)];
    cmsghdr align;
  } control = {};
  iovec part = {request.data, request.used};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  memcpy(CMSG_DATA(header), fds, sizeof fds);
  // EBADF: one of 0 to 2 is closed; EAGAIN: the server does not read.
  return sendmsg(front.connection.get(), &message, MSG_NOSIGNAL) >= 0;
}

// As a monitor does it (addon/init/monitor.cc), once or twice in a life.
void clone_for_server(Front& front) {
  static init::Received received;
  static char buffer[sizeof(sys::monitor::Request) + sys::monitor::largest_orders];
  sys::monitor::Request request;
  const init::Asked asked =
      init::receive_request(front.clones.get(), buffer, sizeof buffer, request, received);
  if (asked == init::Asked::ended) front.clones.reset();
  if (asked != init::Asked::whole) {
    init::drop(received);
    return;
  }
  // The child shares our memory until its execve, and may be in namespaces of a container's by then
  // (CVE-2016-9962).
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  sys::monitor::Answer answer = {};
  answer.token = request.token;
  int pidfd = -1;
  void* stack =
      mmap(nullptr, init::Cloner::stack_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED || request.successor != 0) {
    answer.kind = sys::monitor::Kind::failed;
    answer.value = stack == MAP_FAILED ? ENOMEM : EINVAL;
    strncpy(answer.call, "mmap", sizeof answer.call - 1);
  } else {
    front.cloner.stack = static_cast<char*>(stack);
    const pid_t pid = init::clone_child(front.cloner, request, received.fds, answer, pidfd);
    if (pid > 0) answer.pid = front.cloned = pid;
  }
  // No copy of what the child was given may keep its pipes open here.
  init::drop(received);
  (void)init::send(front.clones.get(), answer, pidfd, 0);
  if (pidfd >= 0) call(SYS_close, pidfd);
}

// The one that the caller shall have stays, as a child that its subreaper inherits. A first stage of an exec
// has done its part; what a failed start has left is dead.
void reap(const Front& front, pid_t kept) {
  if (front.cloned == 0 || front.cloned == kept) return;
  siginfo_t info;
  call(SYS_kill, front.cloned, SIGKILL);
  while (call(SYS_waitid, P_PID, front.cloned, &info, WEXITED | __WALL, nullptr) < 0 && errno == EINTR) {
  }
  if (kept != 0) return;
  info.si_pid = 1;
  while (info.si_pid != 0) {
    info.si_pid = 0;
    if (call(SYS_waitid, P_ALL, 0, &info, WEXITED | WNOHANG | __WALL, nullptr) < 0) return;
  }
}

Outcome server_is_gone(Front& front) {
  if (!front.committed && !front.printed) return Outcome::fall_back;
  // Done or not, nobody here can tell: it must not be done a second time.
  complain("nrunc: the server ended before it had answered: look at the container's state\n");
  front.code = 1;
  return Outcome::over;
}

Outcome hear(Front& front) {
  static char frame[largest_frame];
  const long got = recv(front.connection.get(), frame, sizeof frame, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Outcome::wait;
  if (got <= 0) return server_is_gone(front);
  const char* text = frame + 1;
  const size_t size = static_cast<size_t>(got) - 1;
  front.answered = true;
  switch (frame[0]) {
    case 'W':  // it is at work
      return Outcome::wait;
    case 'D':  // this one is for Node
      return Outcome::fall_back;
    case 'A':  // it would do it now: does anybody still want it?
      if (send(front.connection.get(), "G", 1, MSG_NOSIGNAL) < 0) return Outcome::fall_back;
      front.committed = true;
      return Outcome::wait;
    case 'O':
    case 'E':
      front.printed = true;
      if (write_all(frame[0] == 'O' ? 1 : 2, text, size)) return Outcome::wait;
      front.code = 1;
      return Outcome::over;
    case 'X': {
      int32_t answer[2];
      if (size != sizeof answer) return server_is_gone(front);
      memcpy(answer, text, sizeof answer);
      front.code = answer[0];
      reap(front, answer[1]);
      return Outcome::over;
    }
    default:
      return server_is_gone(front);
  }
}

// NRUNC_PATIENCE_MS, for machines where a millisecond is not what it is elsewhere.
int patience_ms() {
  const char* given = getenv("NRUNC_PATIENCE_MS");
  const int value = given == nullptr ? 0 : atoi(given);
  return value > 0 && value <= longest_patience_ms ? value : default_patience_ms;
}

Outcome talk(Front& front) {
  const int64_t deadline = now_ms() + patience_ms();
  for (;;) {
    pollfd fds[2] = {{front.connection.get(), POLLIN, 0}, {front.clones.get(), POLLIN, 0}};
    const int64_t left = deadline - now_ms();
    const int ready = poll(fds, 2, front.answered ? -1 : left > 0 ? static_cast<int>(left) : 0);
    if (ready == 0) return Outcome::fall_back;
    if (ready < 0) continue;
    if (fds[1].revents != 0) clone_for_server(front);
    if (fds[0].revents == 0) continue;
    const Outcome outcome = hear(front);
    if (outcome != Outcome::wait) return outcome;
  }
}

[[noreturn]] void execute_node(char** argv) {
  static char path[4096];
  constexpr char suffix[] = "-node";
  const long size = call(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - sizeof suffix);
  if (size > 0) {
    memcpy(path + size, suffix, sizeof suffix);
    execve(path, argv, environ);
  }
  complain("nrunc: the command line of Node cannot be executed: ");
  complain(size > 0 ? path : "/proc/self/exe");
  complain("\n");
  _exit(127);
}

}  // namespace front

int main(int argc, char** argv) {
  // Closed descriptors 0 to 2 would be taken by ours: Node opens /dev/null there.
  front::Front state;
  const bool plain = argc < 1 || fcntl(0, F_GETFD) < 0 || fcntl(1, F_GETFD) < 0 || fcntl(2, F_GETFD) < 0;
  if (plain || !front::connect_to_server(state) || !front::ask(state, argc, argv) ||
      front::talk(state) == front::Outcome::fall_back) {
    state.connection.reset();
    state.clones.reset();
    front::execute_node(argv);
  }
  _exit(state.code);
}
