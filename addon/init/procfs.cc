// SPDX-License-Identifier: Apache-2.0
#include "procfs.h"

#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>

namespace init {

static constexpr long proc_super_magic = 0x9fa0;
static constexpr ino_t proc_root_ino = 1;

static Fd detached_procfs() {
  const Fd context(call(SYS_fsopen, "proc", FSOPEN_CLOEXEC));
  if (!context) return Fd();
  if (call(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) return Fd();
  return Fd(call(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC,
                 MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
}

Result open_procfs(Init& init) {
  if (init.procfs) return Result::ok;
  // The container could take it from a process that it sees, and in it nothing is masked.
  if (!init.visible) init.procfs = detached_procfs();
  if (init.procfs) return Result::ok;
  // After the switch of the root the name would be the container's.
  Fd host = static_cast<Fd&&>(init.host_proc);
  if (!host) host = Fd(call(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!host) return init.failed("open", "/proc", Raw{"O_PATH|O_DIRECTORY|O_NOFOLLOW"});
  struct statfs fs;
  struct stat stat;
  if (fstatfs(host.get(), &fs) < 0 || fstat(host.get(), &stat) < 0) return init.failed("fstatfs", "/proc");
  if (static_cast<long>(fs.f_type) != proc_super_magic || stat.st_ino != proc_root_ino)
    return init.refused(EXDEV, "ERR_ESCAPE", "/proc is not the root of a proc file system");
  init.procfs = static_cast<Fd&&>(host);
  return Result::ok;
}

// RESOLVE_NO_XDEV: a file that something is mounted over is refused with EXDEV, in the fallback too.
static Fd open_proc(Init& init, const char* path, int flags, uint64_t resolve) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | resolve;
  for (unsigned tries = 0;; tries++) {
    Fd fd(call(SYS_openat2, init.procfs.get(), path, &how, sizeof how));
    if (fd || (errno != EAGAIN && errno != EINTR) || tries > 100) return fd;
  }
}

Result write_proc(Init& init, const char* path, const char* value) {
  if (open_procfs(init) != Result::ok) return Result::failed;
  const Fd file = open_proc(init, path, O_WRONLY | O_NOFOLLOW, 0);
  if (!file) return init.failed("openat2", Raw{"procfs"}, path, Raw{"O_WRONLY"});
  // One write: the kernel takes a value as a whole or not at all.
  if (call(SYS_write, file.get(), value, strlen(value)) < 0) return init.failed("write", path, value);
  return Result::ok;
}

Result prepare_reopen(Init& init, int fd) {
  if (open_procfs(init) != Result::ok) return Result::failed;
  init.own_fds = open_proc(init, "self/fd", O_PATH | O_DIRECTORY, 0);
  Text<16> name;
  name.number(static_cast<uint64_t>(fd));
  open_how how = {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV;
  if (init.own_fds && Fd(call(SYS_openat2, init.own_fds.get(), name.c_str(), &how, sizeof how)))
    return Result::ok;
  return init.failed("openat2", Raw{"procfs"}, "self/fd");
}

Fd reopen(Init& init, int fd, int flags) {
  // The link itself must be procfs' own before it is followed.
  if (!init.own_fds && prepare_reopen(init, fd) != Result::ok) return Fd();
  Text<16> name;
  name.number(static_cast<uint64_t>(fd));
  long opened;
  do opened = call(SYS_openat, init.own_fds.get(), name.c_str(), flags | O_CLOEXEC);
  while (opened < 0 && errno == EINTR);
  return Fd(opened);
}

Fd open_own_namespace(Init& init, const char* name) {
  const Fd directory = open_proc(init, "self/ns", O_PATH | O_DIRECTORY, 0);
  if (!directory) return Fd();
  // The link itself must be procfs' own before it is followed.
  open_how how = {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV;
  if (!Fd(call(SYS_openat2, directory.get(), name, &how, sizeof how))) return Fd();
  return Fd(call(SYS_openat, directory.get(), name, O_RDONLY | O_CLOEXEC));
}

// One call with the handle as the working directory, since mount(2) and umount2(2) know no dirfd.
template <typename Call>
static Result in_procfs(Init& init, long& result, Call call_it) {
  if (open_procfs(init) != Result::ok) return Result::failed;
  const Fd here(call(SYS_openat, AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here || call(SYS_fchdir, init.procfs.get()) < 0) return init.failed("fchdir", Raw{"procfs"});
  result = call_it();
  const int error = errno;
  if (call(SYS_fchdir, here.get()) < 0) return init.failed("fchdir", here.get());
  errno = error;
  return Result::ok;
}

Result classic_mount(Init& init, const char* source, int target, const char* target_path, const char* type,
                     uint64_t flags, const char* data) {
  Text<32> path;
  path.add("self/fd/").number(static_cast<uint64_t>(target));
  long mounted = -1;
  if (in_procfs(init, mounted, [&] { return call(SYS_mount, source, path.c_str(), type, flags, data); }) !=
      Result::ok)
    return Result::failed;
  return mounted < 0 ? init.failed("mount", source, target_path, type, Hex{flags}, data) : Result::ok;
}

Result classic_umount(Init& init, int mount, const char* path) {
  static constexpr int umount_detach = 2;
  Text<32> self;
  self.add("self/fd/").number(static_cast<uint64_t>(mount));
  long done = -1;
  if (in_procfs(init, done, [&] { return call(SYS_umount2, self.c_str(), umount_detach); }) != Result::ok)
    return Result::failed;
  return done < 0 ? init.failed("umount2", path, Raw{"MNT_DETACH"}) : Result::ok;
}

}  // namespace init
