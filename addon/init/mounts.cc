// SPDX-License-Identifier: Apache-2.0
#include "mounts.h"

#include <linux/mount.h>
#include <linux/stat.h>

#include "procfs.h"
#include "rootfs.h"

namespace init {

uint64_t mount_attributes(uint64_t flags) {
  static const struct {
    uint64_t flag, attribute;
  } table[] = {
      {MS_RDONLY, MOUNT_ATTR_RDONLY},         {MS_NOSUID, MOUNT_ATTR_NOSUID},
      {MS_NODEV, MOUNT_ATTR_NODEV},           {MS_NOEXEC, MOUNT_ATTR_NOEXEC},
      {MS_NODIRATIME, MOUNT_ATTR_NODIRATIME}, {MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW},
  };
  uint64_t attributes = 0;
  for (const auto& row : table)
    if (flags & row.flag) attributes |= row.attribute;
  // As path_mount() in the kernel has it: strictatime wins over noatime, and relatime is the default.
  if (flags & MS_STRICTATIME)
    attributes |= MOUNT_ATTR_STRICTATIME;
  else if (flags & MS_NOATIME)
    attributes |= MOUNT_ATTR_NOATIME;
  return attributes;
}

Result set_attributes(Init& init, int mount, uint64_t set, uint64_t clear, bool recursive, const char* path) {
  if (((set | clear) & MOUNT_ATTR__ATIME) != 0) clear |= MOUNT_ATTR__ATIME;
  mount_attr attributes = {};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  if (call(SYS_mount_setattr, mount, "", AT_EMPTY_PATH | (recursive ? at_recursive : 0), &attributes,
           sizeof attributes) < 0)
    return init.failed("mount_setattr", path, Hex{set}, Hex{clear}, Raw{recursive ? "AT_RECURSIVE" : "0"});
  return Result::ok;
}

Result set_propagation(Init& init, int mount, uint64_t flags, const char* path) {
  mount_attr attributes = {};
  attributes.propagation = flags & ~static_cast<uint64_t>(MS_REC);
  if (call(SYS_mount_setattr, mount, "", AT_EMPTY_PATH | ((flags & MS_REC) != 0 ? at_recursive : 0),
           &attributes, sizeof attributes) == 0)
    return Result::ok;
  if (errno != ENOSYS && errno != EPERM)
    return init.failed("mount_setattr", path, Raw{"propagation"}, Hex{flags});
  return classic_mount(init, "", mount, path, "", flags, "");
}

Result attach(Init& init, int mount, int target, const char* path) {
  if (call(SYS_move_mount, mount, "", target, "", move_mount_f_empty_path | move_mount_t_empty_path) < 0)
    return init.failed("move_mount", path);
  return Result::ok;
}

Result clone_tree(Init& init, int fd, bool recursive, Fd& tree, const char* path) {
  tree = Fd(call(SYS_open_tree, fd, "",
                 open_tree_clone | open_tree_cloexec | AT_EMPTY_PATH |
                     static_cast<unsigned>(recursive ? at_recursive : 0)));
  return tree ? Result::ok
              : init.failed("open_tree", path,
                            Raw{recursive ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"});
}

bool denied(const Init& init) {
  return init.failure.error == ENOSYS || init.failure.error == EPERM;
}

Result bind_file(Init& init, int source, int target, const char* path) {
  Fd copy;
  if (clone_tree(init, source, false, copy, path) == Result::ok &&
      attach(init, copy.get(), target, path) == Result::ok)
    return Result::ok;
  if (!denied(init)) return Result::failed;
  // The source through procfs too: what was looked at is the descriptor, not the name.
  Text<40> self;
  self.add("self/fd/").number(static_cast<uint64_t>(source));
  return classic_mount(init, self.c_str(), target, path, "", MS_BIND, "");
}

// True: fd is the root of a mount, and not of the one that `below` is in.
static bool lies_on(int fd, int below) {
  struct statx above = {}, under = {};
  if (call(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &above) < 0) return false;
  if (call(SYS_statx, below, "", AT_EMPTY_PATH, STATX_MNT_ID, &under) < 0) return false;
  if ((above.stx_attributes & STATX_ATTR_MOUNT_ROOT) == 0) return false;
  if (above.stx_mnt_id == under.stx_mnt_id) return false;
  if ((above.stx_mode & S_IFMT) != S_IFDIR) return true;
  // ".." of a mount's root leads out of it, to where it is mounted (path_resolution(7)).
  const Fd around(call(SYS_openat, fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  const Fd expected(call(SYS_openat, below, "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return around && expected && call(SYS_statx, around.get(), "", AT_EMPTY_PATH, STATX_INO, &above) == 0 &&
         call(SYS_statx, expected.get(), "", AT_EMPTY_PATH, STATX_INO, &under) == 0 &&
         above.stx_ino == under.stx_ino && above.stx_mnt_id == under.stx_mnt_id &&
         above.stx_dev_major == under.stx_dev_major && above.stx_dev_minor == under.stx_dev_minor;
}

Result open_mounted(Init& init, const char* path, int below, Fd& mount) {
  mount = open_in_root(init, path, O_PATH);
  if (!mount) return init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"});
  if (lies_on(mount.get(), below)) return Result::ok;
  return init.refused(EAGAIN, "ERR_ESCAPE", "the path led elsewhere after it was mounted on");
}

}  // namespace init
