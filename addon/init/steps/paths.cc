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

static const Fd* kernel_mount(const Init& init, const char* path, const char*& below) {
  static constexpr size_t proc = sizeof "/proc/" - 1, sys = sizeof "/sys/" - 1;
  if (init.proc_mount && strncmp(path, "/proc/", proc) == 0) {
    below = path + proc;
    return &init.proc_mount;
  }
  if (init.sys_mount && strncmp(path, "/sys/", sys) == 0) {
    below = path + sys;
    return &init.sys_mount;
  }
  return nullptr;
}

static bool same_file(const Fd& one, const Fd& other) {
  struct stat a, b;
  return fstat(one.get(), &a) == 0 && fstat(other.get(), &b) == 0 && a.st_dev == b.st_dev &&
         a.st_ino == b.st_ino;
}

// A path that is not there needs no protection: `target` stays empty. What is below /proc and /sys is looked
// for in what was mounted there. By name alone, somebody who renames the mount point away for the moment of
// the look (another container on the same rootfs can) would have the path passed over, and it is writable
// when he has put it back.
static Result open_existing(Init& init, const char* path, Fd& target) {
  if (need_root(init) != Result::ok) return Result::failed;
  target = open_in_root(init, path, O_PATH);
  if (!target && errno != ENOENT && errno != ENOTDIR)
    return init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"});
  const char* below = nullptr;
  const Fd* const mount = kernel_mount(init, path, below);
  if (mount == nullptr) return Result::ok;
  Fd held = open_in_mount(*mount, below, O_PATH);
  if (!held && errno != ENOENT && errno != ENOTDIR) return init.failed("openat2", Raw{"mount"}, path);
  if (!held && !target) return Result::ok;
  if (!held || !target || !same_file(held, target))
    return init.refused(EAGAIN, "ERR_ESCAPE", "the path led elsewhere than to what was mounted");
  target = static_cast<Fd&&>(held);
  return Result::ok;
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
