// SPDX-License-Identifier: Apache-2.0
// maskPath and readonlyPath: each on one descriptor from look to attachment, so that nothing can be swapped
// between.
#include <linux/mount.h>

#include "../filesystem.h"
#include "../mounts.h"
#include "../procfs.h"
#include "../rootfs.h"
#include "steps.h"

namespace init {

// A path that is not there needs no protection. `found` false: leave it.
static Result open_existing(Init& init, const char* path, Fd& target) {
  if (need_root(init) != Result::ok) return Result::failed;
  target = open_in_root(init, path, O_PATH);
  if (target || errno == ENOENT || errno == ENOTDIR) return Result::ok;
  return init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"});
}

static constexpr uint64_t readonly_remount = MS_BIND | MS_REMOUNT | MS_RDONLY;

// bind and remount of mount(2), both through descriptors.
static Result readonly_classic(Init& init, const char* path, int target) {
  Text<40> self;
  self.add("self/fd/").number(static_cast<uint64_t>(target));
  Fd mount;
  if (classic_mount(init, self.c_str(), target, path, "", MS_BIND | MS_REC, "") != Result::ok ||
      open_mounted(init, path, target, mount) != Result::ok)
    return Result::failed;
  return classic_mount(init, "", mount.get(), path, "", readonly_remount, "");
}

Result steps::readonly_path(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  Fd target, tree;
  if (open_existing(init, path, target) != Result::ok) return Result::failed;
  if (!target) return Result::ok;
  if (clone_tree(init, target.get(), true, tree, path) != Result::ok)
    return denied(init) ? readonly_classic(init, path, target.get()) : Result::failed;
  const bool set = set_attributes(init, tree.get(), MOUNT_ATTR_RDONLY, 0, false, path) == Result::ok;
  if (!set && !denied(init)) return Result::failed;
  if (attach(init, tree.get(), target.get(), path) != Result::ok)
    return denied(init) ? readonly_classic(init, path, target.get()) : Result::failed;
  // The same descriptor is the attached mount now.
  return set ? Result::ok : classic_mount(init, "", tree.get(), path, "", readonly_remount, "");
}

// One empty read-only tmpfs lies over all masked directories: superblocks are dear, and nothing is ever in
// it.
static Result mask_directory(Init& init, const char* path, int target, const char* label) {
  char* data = static_cast<char*>(init.arena.take(strlen(label) + 64));
  strcpy(data, "nr_blocks=1,nr_inodes=1");
  if (label[0] != 0) strcat(strcat(strcat(data, ",context=\""), label), "\"");
  if (init.mask) return bind_file(init, init.mask.get(), target, path);
  const Filesystem filesystem = {"tmpfs", "tmpfs", MS_RDONLY, data, nullptr};
  Fd mount;
  if (make_mount(init, filesystem, mount) == Result::ok &&
      attach(init, mount.get(), target, path) == Result::ok) {
    init.mask = static_cast<Fd&&>(mount);
    return Result::ok;
  }
  return denied(init) ? classic_mount(init, "tmpfs", target, path, "tmpfs", MS_RDONLY, data) : Result::failed;
}

static Result mask_file(Init& init, const char* path, int target) {
  if (need_null(init) != Result::ok) return Result::failed;
  return bind_file(init, init.null.get(), target, path);
}

Result steps::mask_path(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  Fd target;
  if (open_existing(init, path, target) != Result::ok) return Result::failed;
  if (!target) return Result::ok;
  // The type first: a bind mount that the kernel refuses costs a grace period of RCU.
  struct stat stat;
  if (fstat(target.get(), &stat) < 0) return init.failed("fstat", path);
  return S_ISDIR(stat.st_mode) ? mask_directory(init, path, target.get(), init.text(message, 2))
                               : mask_file(init, path, target.get());
}

}  // namespace init
