// SPDX-License-Identifier: Apache-2.0
// System calls for init: every one goes through call(), which has no cancellation points, no caches and no
// locks of a libc behind it. Flags that the C library's headers of Debian 12 lack are written down here with
// their source.
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace init {

// include/uapi/linux/{fcntl,mount,stat}.h
inline constexpr int at_recursive = 0x8000;
inline constexpr unsigned open_tree_clone = 1;
inline constexpr unsigned open_tree_cloexec = O_CLOEXEC;
inline constexpr unsigned move_mount_f_empty_path = 0x4;
inline constexpr unsigned move_mount_t_empty_path = 0x40;
inline constexpr unsigned close_range_cloexec = 4;

template <typename T>
long as_long(T value) {
  if constexpr (__is_same(T, decltype(nullptr)))
    return 0;
  else
    return (long)value;
}

// -1 and errno on failure, as syscall(2).
template <typename... Arguments>
long call(long number, Arguments... arguments) {
  return ::syscall(number, as_long(arguments)...);
}

// Marks every descriptor from `first` on. Without close_range (Linux 5.11 for the flag): each of the numbers
// that a fresh process can have, since what it was not born with it got from the lowest free number up.
inline bool mark_close_on_exec(unsigned first) {
  if (call(SYS_close_range, first, ~0u, close_range_cloexec) == 0) return true;
  if (errno != ENOSYS && errno != EPERM) return false;
  for (unsigned fd = first; fd < first + 65536; fd++)
    if (call(SYS_fcntl, fd, F_SETFD, FD_CLOEXEC) < 0 && errno != EBADF) return false;
  return true;
}

// Owns one descriptor. close is never retried: on Linux EINTR has already freed the number, close(2).
class Fd {
 public:
  Fd() = default;
  explicit Fd(long fd) : fd_(static_cast<int>(fd)) {}
  Fd(Fd&& other) : fd_(other.release()) {}
  Fd& operator=(Fd&& other) {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset() {
    if (fd_ < 0) return;
    const int saved = errno;
    call(SYS_close, fd_);
    errno = saved;
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

}  // namespace init
