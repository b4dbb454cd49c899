// SPDX-License-Identifier: Apache-2.0
// The owner of a file descriptor. Everything that the addon opens is CLOEXEC from birth: the daemon is
// multi-threaded, and any other thread may exec at any time (CVE-2024-21626).
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace sys {

// close is never retried: on Linux EINTR has already freed the number, close(2).
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int take() noexcept { return std::exchange(fd_, -1); }
  // Keeps errno: it runs on error paths that still have to report one.
  void reset(int fd = -1) noexcept {
    if (fd_ >= 0) {
      const int saved = errno;
      ::close(fd_);
      errno = saved;
    }
    fd_ = fd;
  }
  // Above the low numbers, so that the child seldom has to move it out of the way of its final layout.
  static Fd duplicate(int fd) noexcept { return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 64)); }

 private:
  int fd_ = -1;
};

}  // namespace sys
