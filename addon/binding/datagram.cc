// SPDX-License-Identifier: Apache-2.0
// What Node's own modules lack: UNIX datagram sockets, for sd_notify(3), and O_NONBLOCK on a descriptor that
// somebody else opened.
#include <fcntl.h>
#include <napi.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/throw.h"
#include "sys/calls.h"

namespace binding {

namespace {

// `@name` is the abstract name, as in NOTIFY_SOCKET. False: too long.
bool address_of(const std::string& path, sockaddr_un& address, socklen_t& size) {
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool abstract = path[0] == '@';
  if (abstract) address.sun_path[0] = '\0';
  // The length of an abstract name counts, unix(7); a path ends with its NUL.
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return true;
}

sys::Status listen_on(sys::Fd& out, const std::string& path, mode_t mode) {
  sockaddr_un address{};
  socklen_t size = 0;
  if (!address_of(path, address, size)) {
    errno = ENAMETOOLONG;
    return sys::failure("bind", sys::quoted(path), path);
  }
  sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return sys::failure("socket", "AF_UNIX, SOCK_DGRAM");
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0)
    return sys::failure("bind", sys::quoted(path), path);
  // Writing to a socket file is what permits sending, unix(7); the umask must not decide it.
  if (path[0] != '@' && ::chmod(path.c_str(), mode) != 0) {
    sys::Failure failed = sys::failure("chmod", sys::quoted(path), path);
    (void)::unlink(path.c_str());
    return failed;
  }
  out = std::move(fd);
  return {};
}

Napi::Value datagram_listen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  const auto mode = static_cast<mode_t>(arguments.integer(info[1], "mode", 0, 07777));
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd;
  if (const auto failed = listen_on(fd, path, mode)) {
    throw_failure(env, *failed);
    return env.Undefined();
  }
  return Napi::Number::New(env, fd.take());
}

Napi::Value datagram_send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  const std::string data = arguments.string(info[1], "data");
  if (arguments.thrown()) return env.Undefined();
  sockaddr_un address{};
  socklen_t size = 0;
  if (!address_of(path, address, size)) {
    errno = ENAMETOOLONG;
    throw_failure(env, sys::failure("sendto", sys::quoted(path), path));
    return env.Undefined();
  }
  sys::Fd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  ssize_t sent = -1;
  if (fd) do
      sent = ::sendto(fd.get(), data.data(), data.size(), MSG_NOSIGNAL,
                      reinterpret_cast<const sockaddr*>(&address), size);
    while (sent < 0 && errno == EINTR);
  if (sent < 0) throw_failure(env, sys::failure("sendto", sys::quoted(path), path));
  return env.Undefined();
}

Napi::Value set_non_blocking(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const int fd = arguments.fd(info[0], "fd");
  if (arguments.thrown()) return info.Env().Undefined();
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
    throw_failure(info.Env(), sys::failure("fcntl", std::to_string(fd) + ", F_SETFL, O_NONBLOCK"));
  return info.Env().Undefined();
}

}  // namespace

void export_datagram(Napi::Env env, Napi::Object& exports) {
  add<datagram_listen>(env, exports, "datagramListen");
  add<datagram_send>(env, exports, "datagramSend");
  add<set_non_blocking>(env, exports, "setNonBlocking");
}

}  // namespace binding
