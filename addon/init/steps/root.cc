// SPDX-License-Identifier: Apache-2.0
// propagation, openRootfs, pivotRoot, moveRoot, chroot: the rootfs becomes "/". mount_namespaces(7),
// pivot_root(2).
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/stat.h>
#include <sys/mman.h>
#include <sys/statfs.h>

#include "../calls.h"
#include "../filesystem.h"
#include "../mounts.h"
#include "../proc_target.h"
#include "../procfs.h"
#include "../rootfs.h"
#include "../views.h"
#include "steps.h"

namespace init {

static constexpr int umount_detach = 2;
static constexpr long sysfs_magic = 0x62656572;

Result steps::propagation(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  const uint64_t flags = message.number(2);
  if (call(SYS_mount, "", path, "", flags, nullptr) < 0)
    return init.failed("mount", Raw{"none"}, path, Hex{flags});
  if (!init.pivoted && strcmp(path, "/") == 0)
    init.host_slave = (flags & MS_REC) != 0 && (flags & (MS_SLAVE | MS_PRIVATE)) != 0;
  return Result::ok;
}

// The mount that holds the rootfs, found by walking up to a mount's root; no parsing of mountinfo.
static Result set_parent_propagation(Init& init, int rootfs, uint64_t flags, const char* path) {
  Fd at(call(SYS_openat, rootfs, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  for (unsigned depth = 0; at && depth < 4096; depth++) {
    struct statx stat = {};
    if (call(SYS_statx, at.get(), "", AT_EMPTY_PATH, 0, &stat) < 0) return init.failed("statx", path);
    if ((stat.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0)
      return set_propagation(init, at.get(), flags, path);
    at = Fd(call(SYS_openat, at.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  }
  return init.failed("openat", path, "..");
}

Result steps::open_rootfs(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  // Modes of what is made in the rootfs are explicit; the umask step sets the container's own.
  call(SYS_umask, 0);
  // While the host's /proc is whole: in a user namespace a later procfs could be refused for being too
  // revealing.
  if (init.needs_procfs && open_procfs(init) != Result::ok) return Result::failed;
  // For mount(2), when a sandbox refuses the new mount API only after the switch of the root.
  if (!init.procfs)
    init.host_proc = Fd(call(SYS_openat, AT_FDCWD, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  Fd rootfs(message.has(4) ? take_view(init, message.u32(4)).release()
                           : call(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!rootfs) return init.failed("open", path, Raw{"O_PATH|O_DIRECTORY|O_NOFOLLOW"});
  if (message.flag(2)) {
    // pivot_root refuses a root whose parent mount is shared. A host that is slave or private already is
    // fine.
    if (message.number(3) != 0 && !init.host_slave &&
        set_parent_propagation(init, rootfs.get(), message.number(3), path) != Result::ok)
      return Result::failed;
    Fd tree;
    if (clone_tree(init, rootfs.get(), true, tree, path) != Result::ok ||
        attach(init, tree.get(), rootfs.get(), path) != Result::ok) {
      if (!denied(init)) return Result::failed;
      Text<40> self;
      self.add("self/fd/").number(static_cast<uint64_t>(rootfs.get()));
      if (classic_mount(init, self.c_str(), rootfs.get(), path, "", MS_BIND | MS_REC, "") != Result::ok)
        return Result::failed;
      tree = Fd(call(SYS_openat, AT_FDCWD, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
      if (!tree) return init.failed("open", path, Raw{"O_PATH|O_DIRECTORY|O_NOFOLLOW"});
    }
    rootfs = static_cast<Fd&&>(tree);
  }
  if (call(SYS_fchdir, rootfs.get()) < 0) return init.failed("fchdir", path);
  init.root = static_cast<Fd&&>(rootfs);
  return Result::ok;
}

Result steps::pivot_root(Init& init, const Message&) {
  Fd old;
  // Shared or unbindable mounts of the host: the detach below must not reach it.
  if (!init.host_slave) {
    old = Fd(call(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!old) return init.failed("open", "/", Raw{"O_PATH|O_DIRECTORY"});
  }
  if (call(SYS_fchdir, init.root.get()) < 0) return init.failed("fchdir", Raw{"rootfs"});
  // One name for both: the old root then lies on top of the new one and goes with one umount, pivot_root(2)
  // NOTES.
  if (call(SYS_pivot_root, ".", ".") < 0) return init.failed("pivot_root", ".", ".");
  if (old && set_propagation(init, old.get(), MS_SLAVE | MS_REC, "old root") != Result::ok)
    return Result::failed;
  if (old && call(SYS_fchdir, old.get()) < 0) return init.failed("fchdir", Raw{"old root"});
  if (call(SYS_umount2, ".", umount_detach) < 0) return init.failed("umount2", ".", Raw{"MNT_DETACH"});
  if (call(SYS_chdir, "/") < 0) return init.failed("chdir", "/");
  init.pivoted = true;
  return Result::ok;
}

Result steps::chroot(Init& init, const Message&) {
  if (call(SYS_fchdir, init.root.get()) < 0) return init.failed("fchdir", Raw{"rootfs"});
  if (call(SYS_chroot, ".") < 0) return init.failed("chroot", ".");
  if (call(SYS_chdir, "/") < 0) return init.failed("chdir", "/");
  init.pivoted = true;
  return Result::ok;
}

// Decodes \040 and its kin in place, proc_pid_mountinfo(5).
static void unescape(char* text) {
  char* out = text;
  for (; *text != 0; out++) {
    if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
        text[3] >= '0' && text[3] <= '7') {
      *out = static_cast<char>((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
      text += 4;
    } else {
      *out = *text++;
    }
  }
  *out = 0;
}

// A full procfs or sysfs of the host that stayed reachable would let the container mount fresh ones without
// masks (runc PR 1962): take it away, or cover it where it is locked.
static Result hide_mount(Init& init, const char* point) {
  // Another container's procfs may be in sight, and the way to it is that container's: by descriptor, and
  // only when it is still what the line of mountinfo said.
  open_how how = {};
  how.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_SYMLINKS;
  const Fd mount(call(SYS_openat2, AT_FDCWD, point, &how, sizeof how));
  struct statfs fs;
  if (!mount || fstatfs(mount.get(), &fs) < 0)
    return init.failed("openat2", point, Raw{"RESOLVE_NO_SYMLINKS"});
  if (!is_procfs(fs) && static_cast<long>(fs.f_type) != sysfs_magic)
    return init.refused(EAGAIN, "ERR_ESCAPE", "the mount table changed while it was read");
  if (set_propagation(init, mount.get(), MS_SLAVE | MS_REC, point) != Result::ok) return Result::failed;
  if (classic_umount(init, mount.get(), point) == Result::ok) return Result::ok;
  if (init.failure.error != EINVAL && init.failure.error != EPERM) return Result::failed;
  return classic_mount(init, "tmpfs", mount.get(), point, "tmpfs", 0, "");
}

// One line of mountinfo: a procfs or sysfs shown from its root, not below the rootfs?
static Result look_at_mount(Init& init, char* line, const char* rootfs) {
  char* fields[5] = {};
  for (char*& field : fields) {
    field = line;
    line = strchr(line, ' ');
    if (line == nullptr) return Result::ok;
    *line++ = 0;
  }
  const char* type = strstr(line, " - ");
  if (type == nullptr || strcmp(fields[3], "/") != 0) return Result::ok;
  if (strncmp(type + 3, "proc ", 5) != 0 && strncmp(type + 3, "sysfs ", 6) != 0) return Result::ok;
  unescape(fields[4]);
  const size_t length = strlen(rootfs);
  const bool below =
      strncmp(fields[4], rootfs, length) == 0 && (fields[4][length] == '/' || fields[4][length] == 0);
  return below ? Result::ok : hide_mount(init, fields[4]);
}

Result steps::move_root(Init& init, const Message&) {
  char rootfs[4096];
  if (open_procfs(init) != Result::ok) return Result::failed;
  const long length = call(SYS_getcwd, rootfs, sizeof rootfs);
  if (length < 0 || rootfs[0] != '/') return init.failed("getcwd");
  const Fd info(call(SYS_openat, init.procfs.get(), "self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!info) return init.failed("openat", Raw{"procfs"}, "self/mountinfo");
  static constexpr size_t room = 8 << 20;
  char* text = static_cast<char*>(
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (text == MAP_FAILED) return init.failed("mmap", room);
  size_t size = 0;
  for (;;) {
    const long got = call(SYS_read, info.get(), text + size, room - 1 - size);
    if (got < 0) return init.failed("read", "self/mountinfo");
    if (got == 0) break;
    size += static_cast<size_t>(got);
    if (size == room - 1) return init.refused(EFBIG, "", "the host's mount table is too large");
  }
  text[size] = 0;
  for (char* line = text; *line != 0;) {
    char* end = strchr(line, '\n');
    if (end == nullptr) break;
    *end = 0;
    if (look_at_mount(init, line, rootfs) != Result::ok) return Result::failed;
    line = end + 1;
  }
  munmap(text, room);
  if (call(SYS_move_mount, init.root.get(), "", AT_FDCWD, "/", move_mount_f_empty_path) < 0) {
    if (errno != ENOSYS && errno != EPERM) return init.failed("move_mount", rootfs, "/");
    const Fd slash(call(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    Text<40> self;
    self.add("self/fd/").number(static_cast<uint64_t>(init.root.get()));
    if (!slash || classic_mount(init, self.c_str(), slash.get(), "/", "", MS_MOVE, "") != Result::ok)
      return Result::failed;
  }
  return chroot(init, Message());
}

Result steps::remount_readonly(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  if (need_root(init) != Result::ok) return Result::failed;
  Fd target;
  if (message.has(4)) {
    if (message.u32(4) >= init.late_count)
      return init.refused(EBADMSG, "", "the plan has no such late mount");
    target = static_cast<Fd&&>(init.late[message.u32(4)]);
    // An optional mount that could not be made.
    if (!target) return Result::ok;
  } else {
    target = open_in_root(init, path, O_PATH);
    if (!target) return init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"});
  }
  const uint64_t attributes =
      MOUNT_ATTR_RDONLY | (mount_attributes(message.number(2)) &
                           ~static_cast<uint64_t>(MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME));
  if (set_attributes(init, target.get(), attributes, 0, message.flag(3), path) == Result::ok)
    return Result::ok;
  if (!denied(init) || message.flag(3)) return Result::failed;
  return classic_mount(init, "", target.get(), path, "", MS_BIND | MS_REMOUNT | MS_RDONLY | message.number(2),
                       "");
}

}  // namespace init
