// SPDX-License-Identifier: Apache-2.0
// UNIX sockets that keep messages apart and carry descriptors (SOCK_SEQPACKET, unix(7)), which Node's own
// modules lack: CRIU's RPC. Nothing here blocks; JavaScript waits with watch().
#include <napi.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <memory>
#include <vector>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/throw.h"
#include "sys/calls.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

namespace binding {

namespace {

constexpr size_t largest_packet = 256U * 1024U;
constexpr size_t most_descriptors = 16;

Napi::Value packet_pair(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    throw_failure(env, sys::failure("socketpair", "AF_UNIX, SOCK_SEQPACKET"));
    return env.Undefined();
  }
  auto out = Napi::Array::New(env, 2);
  out.Set(0U, Napi::Number::New(env, fds[0]));
  out.Set(1U, Napi::Number::New(env, fds[1]));
  return out;
}

Napi::Value packet_send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "fd");
  const std::string data = arguments.bytes(info[1], "data");
  if (arguments.thrown()) return env.Undefined();
  ssize_t sent = 0;
  do sent = ::send(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent >= 0) return Napi::Boolean::New(env, true);
  // The other side is gone: a state of it, no error of the call.
  if (errno == EPIPE || errno == ECONNRESET) return Napi::Boolean::New(env, false);
  throw_failure(env, sys::failure("send", std::to_string(fd)));
  return env.Undefined();
}

// Every descriptor of the message, owned: what the caller does not take is closed.
void take_descriptors(msghdr& message, std::vector<sys::Fd>& out) {
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof number);
      out.emplace_back(number);
    }
  }
}

Napi::Value packet_receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "fd");
  if (arguments.thrown()) return env.Undefined();
  const std::unique_ptr<char[]> buffer(new char[largest_packet]);
  union {
    char bytes[CMSG_SPACE(sizeof(int) * most_descriptors)];
    cmsghdr align;
  } control{};
  iovec part{buffer.get(), largest_packet};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  do got = ::recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return Napi::String::New(env, "none");
  // No message of a protocol is empty: 0 bytes are the end (recv(2)).
  if (got == 0 || (got < 0 && errno == ECONNRESET)) return Napi::String::New(env, "ended");
  std::vector<sys::Fd> fds;
  if (got > 0) take_descriptors(message, fds);
  if (got < 0 || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    if (got >= 0) errno = EMSGSIZE;
    throw_failure(env, sys::failure("recvmsg", std::to_string(fd)));
    return env.Undefined();
  }
  auto numbers = Napi::Array::New(env, fds.size());
  for (uint32_t i = 0; i < fds.size(); i++) numbers.Set(i, Napi::Number::New(env, fds[i].take()));
  auto out = Napi::Object::New(env);
  out.Set("data", Napi::Buffer<char>::Copy(env, buffer.get(), static_cast<size_t>(got)));
  out.Set("fds", numbers);
  return out;
}

// A listening socket at a path where nothing is; nobody but its owner may connect.
sys::Status listen_at(const std::string& path, sys::Fd& out) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return sys::failure("bind", sys::quoted(path), path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  sys::Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return sys::failure("socket", "AF_UNIX, SOCK_SEQPACKET");
  // The file gets the mode of the socket (unix(7)): no moment in which others may connect.
  if (::fchmod(fd.get(), S_IRUSR | S_IWUSR) != 0) return sys::failure("fchmod", "socket, 0600");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return sys::failure("bind", sys::quoted(path), path);
  if (::listen(fd.get(), SOMAXCONN) != 0) return sys::failure("listen", sys::quoted(path), path);
  out = std::move(fd);
  return {};
}

Napi::Value packet_listen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd;
  if (const auto failed = listen_at(path, fd)) {
    throw_failure(env, *failed);
    return env.Undefined();
  }
  return Napi::Number::New(env, fd.take());
}

// Who has connected is what the kernel noted then: SO_PEERCRED, unix(7). The number may be another process's
// by now; since Linux 6.5 the process itself is to be had too (SO_PEERPIDFD).
Napi::Value packet_accept(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "fd");
  if (arguments.thrown()) return env.Undefined();
  sys::Fd accepted;
  do accepted.reset(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  while (!accepted && (errno == EINTR || errno == ECONNABORTED));
  if (!accepted && errno == EAGAIN) return env.Null();
  ucred peer{};
  socklen_t size = sizeof peer;
  if (!accepted || ::getsockopt(accepted.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    throw_failure(env, sys::failure(accepted ? "getsockopt" : "accept4", std::to_string(fd)));
    return env.Undefined();
  }
  int pidfd = -1;
  size = sizeof pidfd;
  const bool gone =
      ::getsockopt(accepted.get(), SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) != 0 && errno != ENOPROTOOPT;
  auto out = Napi::Object::New(env);
  out.Set("fd", Napi::Number::New(env, accepted.take()));
  out.Set("pid", Napi::Number::New(env, gone ? 0 : peer.pid));
  out.Set("pidfd", Napi::Number::New(env, gone ? -1 : pidfd));
  out.Set("uid", Napi::Number::New(env, peer.uid));
  return out;
}

}  // namespace

void export_packets(Napi::Env env, Napi::Object& exports) {
  add<packet_pair>(env, exports, "packetPair");
  add<packet_send>(env, exports, "packetSend");
  add<packet_receive>(env, exports, "packetReceive");
  add<packet_listen>(env, exports, "packetListen");
  add<packet_accept>(env, exports, "packetAccept");
}

}  // namespace binding
