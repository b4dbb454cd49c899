// SPDX-License-Identifier: Apache-2.0
// device, symlink, reopenNull, makeCwd: what a container finds in /dev, and its working directory.
#include <sys/sysmacros.h>

#include "../mounts.h"
#include "../rootfs.h"
#include "steps.h"

namespace init {

// A node that is there already is used when it is what was asked for; another one could be a trap
// (CVE-2025-31133).
static Result look_at_existing(Init& init, const char* path, const char* name, mode_t type, dev_t device) {
  const Fd existing(call(SYS_openat, init.parent.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat stat;
  if (!existing || fstat(existing.get(), &stat) < 0)
    return init.failed("openat", Raw{"rootfs"}, path, Raw{"O_PATH|O_NOFOLLOW"});
  if ((stat.st_mode & S_IFMT) == type && (type == S_IFIFO || stat.st_rdev == device)) return Result::ok;
  errno = EEXIST;
  (void)init.failed("mknodat", Raw{"rootfs"}, path);
  return init.because("", "a file of another kind is there already");
}

// Where mknod is not allowed, the host's node is bound on an empty file.
static Result bind_device(Init& init, const char* path, const char* name, mode_t type, dev_t device) {
  const Fd source(call(SYS_openat, AT_FDCWD, path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat stat;
  if (!source || fstat(source.get(), &stat) < 0) return init.failed("open", path, Raw{"O_PATH|O_NOFOLLOW"});
  if ((stat.st_mode & S_IFMT) != type || stat.st_rdev != device) {
    errno = ENODEV;
    (void)init.failed("open", path);
    return init.because("", "the host's node has another type or number");
  }
  const Fd made(
      call(SYS_openat, init.parent.get(), name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0));
  if (!made && errno != EEXIST)
    return init.failed("openat", Raw{"rootfs"}, path, Raw{"O_CREAT|O_EXCL|O_NOFOLLOW"});
  const Fd target(call(SYS_openat, init.parent.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat found;
  if (!target || fstat(target.get(), &found) < 0)
    return init.failed("openat", Raw{"rootfs"}, path, Raw{"O_PATH|O_NOFOLLOW"});
  if (S_ISLNK(found.st_mode) || S_ISDIR(found.st_mode))
    return look_at_existing(init, path, name, type, device);
  return bind_file(init, source.get(), target.get(), path);
}

Result steps::device(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  const char* kind = init.text(message, 2);
  const mode_t type = kind[0] == 'b' ? S_IFBLK : kind[0] == 'p' ? S_IFIFO : S_IFCHR;
  const mode_t mode = type | (message.u32(5) & 07777);
  const dev_t device = type == S_IFIFO ? 0 : makedev(message.u32(3), message.u32(4));
  const uint32_t uid = message.u32(6), gid = message.u32(7);
  const char* name = nullptr;
  if (open_parent(init, path, name) != Result::ok) return Result::failed;
  if (message.flag(8) && type != S_IFIFO) return bind_device(init, path, name, type, device);
  if (call(SYS_mknodat, init.parent.get(), name, mode, device) < 0) {
    if (errno == EEXIST) return look_at_existing(init, path, name, type, device);
    (void)init.failed("mknodat", Raw{"rootfs"}, path, Octal{mode}, static_cast<unsigned long>(device));
    return init.failure.error == EPERM && type != S_IFIFO ? bind_device(init, path, name, type, device)
                                                          : Result::failed;
  }
  if ((uid != 0 || gid != 0) &&
      call(SYS_fchownat, init.parent.get(), name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
    return init.failed("fchownat", Raw{"rootfs"}, path, uid, gid);
  return Result::ok;
}

Result steps::symlink(Init& init, const Message& message) {
  const char* target = init.text(message, 1);
  const char* path = init.text(message, 2);
  const char* name = nullptr;
  if (open_parent(init, path, name) != Result::ok) return Result::failed;
  long made = call(SYS_symlinkat, target, init.parent.get(), name);
  if (made < 0 && errno == EEXIST) {
    if (!message.flag(3)) return Result::ok;
    // The entry itself, never what it points to (CVE-2026-41579: a link at /dev made this the host's ptmx).
    if (call(SYS_unlinkat, init.parent.get(), name, 0) < 0)
      return init.failed("unlinkat", Raw{"rootfs"}, path);
    made = call(SYS_symlinkat, target, init.parent.get(), name);
  }
  return made < 0 ? init.failed("symlinkat", target, Raw{"rootfs"}, path) : Result::ok;
}

// stdio that is the host's /dev/null: of the host's devtmpfs, so replaced by the container's.
Result steps::reopen_null(Init& init, const Message&) {
  Fd null;
  for (int fd = 0; fd <= 2; fd++) {
    if (!is_device(fd, 1, 3)) continue;
    if (!null) {
      if (need_root(init) != Result::ok) return Result::failed;
      null = open_in_root(init, "/dev/null", O_RDWR | O_NOFOLLOW);
      if (!null) return init.failed("openat2", Raw{"rootfs"}, "/dev/null", Raw{"O_RDWR|O_NOFOLLOW"});
      if (!is_device(null.get(), 1, 3))
        return init.refused(ENODEV, "ERR_ESCAPE", "/dev/null of the container is not the null device (1:3)");
    }
    if (call(SYS_dup3, null.get(), fd, 0) < 0) return init.failed("dup3", null.get(), fd);
  }
  return Result::ok;
}

Result steps::make_cwd(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  const uint32_t uid = message.u32(2), gid = message.u32(3);
  Fd directory;
  bool made = false;
  if (open_or_make(init, path, Make::directory, directory, &made) != Result::ok) return Result::failed;
  if (made && (uid != 0 || gid != 0) && call(SYS_fchownat, directory.get(), "", uid, gid, AT_EMPTY_PATH) < 0)
    return init.failed("fchownat", Raw{"rootfs"}, path, uid, gid);
  return Result::ok;
}

}  // namespace init
