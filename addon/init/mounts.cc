// SPDX-License-Identifier: Apache-2.0
#include "mounts.h"

#include <linux/mount.h>

#include "procfs.h"

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

}  // namespace init
