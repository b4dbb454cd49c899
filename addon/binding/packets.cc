// SPDX-License-Identifier: Apache-2.0
// UNIX sockets that keep messages apart and carry descriptors (SOCK_SEQPACKET, unix(7)), which Node's own
// modules lack: CRIU's RPC. Nothing here blocks; JavaScript waits with watch().
#include <napi.h>
#include <sys/socket.h>

#include <cstring>
#include <vector>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/throw.h"
#include "sys/calls.h"

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
  std::vector<char> buffer(largest_packet);
  union {
    char bytes[CMSG_SPACE(sizeof(int) * most_descriptors)];
    cmsghdr align;
  } control{};
  iovec part{buffer.data(), buffer.size()};
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
  out.Set("data", Napi::Buffer<char>::Copy(env, buffer.data(), static_cast<size_t>(got)));
  out.Set("fds", numbers);
  return out;
}

}  // namespace

void export_packets(Napi::Env env, Napi::Object& exports) {
  add<packet_pair>(env, exports, "packetPair");
  add<packet_send>(env, exports, "packetSend");
  add<packet_receive>(env, exports, "packetReceive");
}

}  // namespace binding
