// SPDX-License-Identifier: Apache-2.0
// Making, closing and sending descriptors. What is returned is CLOEXEC and the caller's.
#include <napi.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/un.h>

#include <cstring>
#include <memory>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/work.h"
#include "sys/calls.h"

namespace binding {

namespace {

Napi::Value pair(Napi::Env env, const int (&fds)[2]) {
  auto out = Napi::Array::New(env, 2);
  out.Set(0U, Napi::Number::New(env, fds[0]));
  out.Set(1U, Napi::Number::New(env, fds[1]));
  return out;
}

Napi::Value pipe(const Napi::CallbackInfo& info) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) == 0) return pair(info.Env(), fds);
  throw_failure(info.Env(), sys::failure("pipe2", "O_CLOEXEC"));
  return info.Env().Undefined();
}

Napi::Value socketpair(const Napi::CallbackInfo& info) {
  int fds[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0) return pair(info.Env(), fds);
  throw_failure(info.Env(), sys::failure("socketpair", "AF_UNIX, SOCK_STREAM"));
  return info.Env().Undefined();
}

Napi::Value open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  const int flags = static_cast<int>(arguments.integer(info[1], "flags", 0, 0x7fffffff));
  const auto mode = static_cast<mode_t>(arguments.integer(info[2], "mode", 0, 07777));
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd;
  if (const auto failed = sys::open_file(fd, path, flags, mode)) {
    throw_failure(env, *failed);
    return env.Undefined();
  }
  return Napi::Number::New(env, fd.take());
}

Napi::Value close(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const int fd = arguments.fd(info[0], "fd");
  if (arguments.thrown()) return info.Env().Undefined();
  // EINTR: the number is free on Linux all the same, close(2).
  if (::close(fd) != 0 && errno != EINTR)
    throw_failure(info.Env(), sys::failure("close", std::to_string(fd)));
  return info.Env().Undefined();
}

Napi::Value fs_type(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  if (arguments.thrown()) return env.Undefined();
  struct statfs found {};
  if (::statfs(path.c_str(), &found) == 0)
    return Napi::Number::New(env, static_cast<double>(static_cast<uint32_t>(found.f_type)));
  throw_failure(env, sys::failure("statfs", sys::quoted(path), path));
  return env.Undefined();
}

Napi::Value is_locked(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd;
  if (sys::open_file(fd, path, O_RDONLY | O_NOFOLLOW)) return Napi::Boolean::New(env, false);
  // The lock goes with the descriptor.
  return Napi::Boolean::New(env, ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK);
}

Napi::Value eventfd(const Napi::CallbackInfo& info) {
  const int fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  throw_failure(info.Env(), sys::failure("eventfd", "0, EFD_CLOEXEC|EFD_NONBLOCK"));
  return info.Env().Undefined();
}

Napi::Value inotify(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "path");
  const auto mask = static_cast<uint32_t>(arguments.integer(info[1], "mask", 1, 0xffffffff));
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd) {
    throw_failure(env, sys::failure("inotify_init1", "IN_CLOEXEC|IN_NONBLOCK"));
    return env.Undefined();
  }
  if (::inotify_add_watch(fd.get(), path.c_str(), mask) < 0) {
    throw_failure(env, sys::failure("inotify_add_watch", sys::quoted(path), path));
    return env.Undefined();
  }
  return Napi::Number::New(env, fd.take());
}

Napi::Value pty_resize(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "fd");
  winsize size{};
  size.ws_col = static_cast<unsigned short>(arguments.integer(info[1], "columns", 0, 0xffff));
  size.ws_row = static_cast<unsigned short>(arguments.integer(info[2], "rows", 0, 0xffff));
  if (arguments.thrown()) return env.Undefined();
  if (::ioctl(fd, TIOCSWINSZ, &size) != 0)
    throw_failure(env, sys::failure("ioctl", std::to_string(fd) + ", TIOCSWINSZ"));
  return env.Undefined();
}

sys::Status connect_to(sys::Fd& out, const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return sys::failure("connect", sys::quoted(path), path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return sys::failure("socket", "AF_UNIX, SOCK_STREAM");
  // A listener that never accepts must not hold a thread of the pool: SO_SNDTIMEO bounds connect too,
  // unix(7).
  const timeval limit{10, 0};
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return sys::failure("connect", sys::quoted(path), path);
  out = std::move(fd);
  return {};
}

sys::Status send_descriptor(const std::string& path, const std::string& data, int passed) {
  sys::Fd socket;
  if (auto failed = connect_to(socket, path)) return failed;
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    cmsghdr align;
  } control{};
  // SCM_RIGHTS needs at least one byte of data, unix(7).
  std::string text = data.empty() ? std::string(1, '\0') : data;
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
  ssize_t sent = 0;
  do sent = ::sendmsg(socket.get(), &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(text.size())) return {};
  if (sent >= 0) errno = EIO;
  return sys::failure("sendmsg", sys::quoted(path), path);
}

Napi::Value send_fd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const std::string path = arguments.path(info[0], "socketPath");
  const std::string data = arguments.string(info[1], "data");
  const int fd = arguments.fd(info[2], "fd");
  if (arguments.thrown()) return env.Undefined();
  // The caller may close its own meanwhile.
  auto copy = std::make_shared<sys::Fd>(sys::Fd::duplicate(fd));
  if (!*copy) {
    throw_failure(env, sys::failure("fcntl", std::to_string(fd) + ", F_DUPFD_CLOEXEC"));
    return env.Undefined();
  }
  auto failed = std::make_shared<sys::Status>();
  auto body = [failed, copy, path, data] {
    *failed = send_descriptor(path, data, copy->get());
    copy->reset();
  };
  auto finish = [failed](Napi::Env settled, Napi::Promise::Deferred& promise) {
    if (*failed)
      promise.Reject(error_object(settled, **failed).Value());
    else
      promise.Resolve(settled.Undefined());
  };
  return run_in_pool(env, std::move(body), std::move(finish));
}

}  // namespace

void export_descriptors(Napi::Env env, Napi::Object& exports) {
  add<pipe>(env, exports, "pipe");
  add<socketpair>(env, exports, "socketpair");
  add<open>(env, exports, "open");
  add<close>(env, exports, "close");
  add<fs_type>(env, exports, "fsType");
  add<is_locked>(env, exports, "isLocked");
  add<eventfd>(env, exports, "eventfd");
  add<inotify>(env, exports, "inotify");
  add<pty_resize>(env, exports, "ptyResize");
  add<send_fd>(env, exports, "sendFd");
}

}  // namespace binding
