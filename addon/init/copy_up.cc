// SPDX-License-Identifier: Apache-2.0
#include "copy_up.h"

#include <sys/stat.h>

namespace init {

namespace {

// Each level holds a buffer on the stack; nobody nests deeper than a path is long.
constexpr unsigned max_depth = 200;

struct Entry {
  uint64_t inode;
  int64_t offset;
  unsigned short size;
  unsigned char type;
  char name[1];
};

Result copy_tree(Init& init, int from, int to, const char* path, unsigned depth);

Result copy_owner(Init& init, int to, const char* name, const struct stat& stat, const char* path) {
  if (call(SYS_fchownat, to, name, stat.st_uid, stat.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
    return init.failed("fchownat", path, name);
  // After the chown, which takes set-user-ID bits away.
  if (!S_ISLNK(stat.st_mode) && call(SYS_fchmodat, to, name, stat.st_mode & 07777) < 0)
    return init.failed("fchmodat", path, name);
  const timespec times[2] = {stat.st_atim, stat.st_mtim};
  if (call(SYS_utimensat, to, name, times, AT_SYMLINK_NOFOLLOW) < 0)
    return init.failed("utimensat", path, name);
  return Result::ok;
}

Result copy_file(Init& init, int from, int to, const char* name, const char* path) {
  const Fd in(call(SYS_openat, from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!in) return init.failed("openat", path, name);
  const Fd out(call(SYS_openat, to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!out) return init.failed("openat", Raw{"tmpfs"}, path, name);
  for (;;) {
    const long sent = call(SYS_sendfile, out.get(), in.get(), nullptr, 1 << 20);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return init.failed("sendfile", path, name);
    if (sent == 0) return Result::ok;
  }
}

Result copy_link(Init& init, int from, int to, const char* name, const char* path) {
  char target[4096];
  const long length = call(SYS_readlinkat, from, name, target, sizeof target - 1);
  if (length < 0) return init.failed("readlinkat", path, name);
  target[length] = 0;
  return call(SYS_symlinkat, target, to, name) < 0 ? init.failed("symlinkat", target, path, name)
                                                   : Result::ok;
}

Result copy_entry(Init& init, int from, int to, const char* name, const char* path, unsigned depth) {
  struct stat stat;
  if (fstatat(from, name, &stat, AT_SYMLINK_NOFOLLOW) < 0) return init.failed("fstatat", path, name);
  Result result = Result::ok;
  if (S_ISDIR(stat.st_mode)) {
    const Fd in(call(SYS_openat, from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!in) return init.failed("openat", path, name);
    if (call(SYS_mkdirat, to, name, 0700) < 0) return init.failed("mkdirat", path, name);
    const Fd out(call(SYS_openat, to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!out) return init.failed("openat", Raw{"tmpfs"}, path, name);
    result = copy_tree(init, in.get(), out.get(), path, depth + 1);
  } else if (S_ISREG(stat.st_mode)) {
    result = copy_file(init, from, to, name, path);
  } else if (S_ISLNK(stat.st_mode)) {
    result = copy_link(init, from, to, name, path);
  } else if (call(SYS_mknodat, to, name, stat.st_mode & (S_IFMT | 07777), stat.st_rdev) < 0) {
    result =
        init.failed("mknodat", path, name, Octal{stat.st_mode}, static_cast<unsigned long>(stat.st_rdev));
  }
  return result == Result::ok ? copy_owner(init, to, name, stat, path) : result;
}

Result copy_tree(Init& init, int from, int to, const char* path, unsigned depth) {
  if (depth > max_depth) {
    errno = ELOOP;
    return init.failed("openat", path);
  }
  alignas(Entry) char buffer[2048];
  for (;;) {
    const long size = call(SYS_getdents64, from, buffer, sizeof buffer);
    if (size < 0) return init.failed("getdents64", path);
    if (size == 0) return Result::ok;
    for (long at = 0; at < size;) {
      const Entry* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->size;
      const char* name = entry->name;
      if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
      if (copy_entry(init, from, to, name, path, depth) != Result::ok) return Result::failed;
    }
  }
}

}  // namespace

Result copy_up(Init& init, int from, int to, const char* path) {
  // `from` may be an O_PATH descriptor, which has no entries to read.
  const Fd in(call(SYS_openat, from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!in) return init.failed("openat", path, ".");
  const Fd out(call(SYS_openat, to, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!out) return init.failed("openat", Raw{"tmpfs"}, ".");
  struct stat stat;
  if (fstat(in.get(), &stat) < 0 || call(SYS_fchown, out.get(), stat.st_uid, stat.st_gid) < 0)
    return init.failed("fchown", path);
  return copy_tree(init, in.get(), out.get(), path, 0);
}

}  // namespace init
