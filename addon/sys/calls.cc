// SPDX-License-Identifier: Apache-2.0
#include "sys/calls.h"

#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace sys {

namespace {

// State files and procfs files are far smaller; a larger one is not ours.
constexpr size_t largest_file = 16U << 20U;

ssize_t write_retry(int fd, const void* data, size_t size) {
  ssize_t written = 0;
  do written = ::write(fd, data, size);
  while (written < 0 && errno == EINTR);
  return written;
}

std::string octal(mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "0%o", mode);
  return text;
}

bool on_tmpfs(int fd) {
  struct statfs info {};
  return ::fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
}

Status sync_directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
  Fd fd;
  if (auto failed = open_file(fd, directory, O_RDONLY | O_DIRECTORY)) return failed;
  if (::fsync(fd.get()) != 0) return failure("fsync", quoted(directory), directory);
  return {};
}

}  // namespace

Status open_file(Fd& out, const std::string& path, int flags, mode_t mode) {
  int fd = -1;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  if (fd < 0) return failure("open", quoted(path), path);
  out.reset(fd);
  return {};
}

Status read_file(std::string& out, const std::string& path) {
  Fd fd;
  if (auto failed = open_file(fd, path, O_RDONLY)) return failed;
  out.clear();
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failure("read", quoted(path), path);
    if (got == 0) return {};
    out.append(buffer, static_cast<size_t>(got));
    if (out.size() > largest_file) {
      errno = EFBIG;
      return failure("read", quoted(path), path);
    }
  }
}

Status write_once(const std::string& path, std::string_view data) {
  Fd fd;
  if (auto failed = open_file(fd, path, O_WRONLY)) return failed;
  const ssize_t written = write_retry(fd.get(), data.data(), data.size());
  if (written >= 0 && static_cast<size_t>(written) == data.size()) return {};
  if (written >= 0) errno = EIO;
  return failure("write", quoted(path) + ", " + quoted(data), path);
}

Status write_all(int fd, std::string_view data, const std::string& path) {
  while (!data.empty()) {
    const ssize_t written = write_retry(fd, data.data(), data.size());
    if (written < 0) return failure("write", quoted(path), path);
    data.remove_prefix(static_cast<size_t>(written));
  }
  return {};
}

Status NewFile::write(const std::string& path, std::string_view data, mode_t mode, bool sync) {
  discard();
  const std::string temporary = path + ".tmp";
  // The container's lock is held: a temporary file that is there was left by a writer that died.
  ::unlink(temporary.c_str());
  Fd fd;
  if (auto failed = open_file(fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)) return failed;
  temporary_ = temporary;
  path_ = path;
  // The umask of the host process must not decide who reads our state.
  if (::fchmod(fd.get(), mode) != 0) return failure("fchmod", quoted(temporary) + ", " + octal(mode), path);
  if (auto failed = write_all(fd.get(), data, temporary)) return failed;
  durable_ = sync && !on_tmpfs(fd.get());
  if (durable_ && ::fsync(fd.get()) != 0) return failure("fsync", quoted(temporary), path);
  return {};
}

Status NewFile::publish() {
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    return failure("rename", quoted(temporary_) + ", " + quoted(path_), path_);
  temporary_.clear();
  return durable_ ? sync_directory_of(path_) : Status{};
}

void NewFile::discard() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

Status put_file(const std::string& path, std::string_view data, mode_t mode, bool sync) {
  NewFile file;
  if (auto failed = file.write(path, data, mode, sync)) return failed;
  return file.publish();
}

Status sealed_memfd(Fd& out, const char* name, std::string_view content, bool executable) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  // Kernels from 6.3 want to know about execution (vm.memfd_noexec); older ones refuse the flag.
  int number = ::memfd_create(name, flags | (executable ? MFD_EXEC : MFD_NOEXEC_SEAL));
  if (number < 0 && errno == EINVAL) number = ::memfd_create(name, flags);
  if (number < 0) return failure("memfd_create", quoted(name));
  Fd fd(number);
  if (auto failed = write_all(fd.get(), content, name)) return failed;
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0)
    return failure("fcntl", quoted(name) + ", F_ADD_SEALS");
  // The plan is read with read(2) by one child: from the start.
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return failure("lseek", quoted(name));
  out = std::move(fd);
  return {};
}

Status pidfd_open(Fd& out, pid_t pid) {
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return failure("pidfd_open", std::to_string(pid));
  out.reset(static_cast<int>(fd));
  return {};
}

Status pidfd_getfd(Fd& out, int pidfd, int number) {
  const long fd = ::syscall(SYS_pidfd_getfd, pidfd, number, 0);
  if (fd < 0) return failure("pidfd_getfd", std::to_string(number));
  out.reset(static_cast<int>(fd));
  return {};
}

int pidfd_send_signal(int pidfd, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

ExitKnown exit_status(int pidfd, int& status) {
  // include/uapi/linux/pidfd.h
  struct {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code;
  } info{};
  constexpr uint64_t exit_mask = 1U << 3U;
  static_assert(sizeof info == 64);
  info.mask = exit_mask;
  if (::ioctl(pidfd, _IOWR(0xff, 11, decltype(info)), &info) != 0) return ExitKnown::never;
  // Linux 6.13 and 6.14 have the call but not this part of it: whoever waits sets a bound.
  if ((info.mask & exit_mask) == 0) return ExitKnown::not_yet;
  status = info.exit_code;
  return ExitKnown::yes;
}

uint64_t start_time(pid_t pid, bool zombies) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  if (!fd) return 0;
  char text[1024];
  const ssize_t got = ::read(fd.get(), text, sizeof text - 1);
  if (got <= 0) return 0;
  text[got] = '\0';
  // The name may hold spaces and parentheses: count from the last one.
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ') return 0;
  const char state = at[2];
  if (!zombies && (state == 'Z' || state == 'X' || state == 'x')) return 0;
  // Behind the name stands field 3; the start time is field 22.
  at += 2;
  for (int field = 3; field < 22; field++) {
    at = std::strchr(at, ' ');
    if (at == nullptr) return 0;
    at++;
  }
  return std::strtoull(at, nullptr, 10);
}

}  // namespace sys
