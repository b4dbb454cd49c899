// SPDX-License-Identifier: Apache-2.0
// The mount API of Linux 5.2 and 5.12: a detached mount is made, given its attributes, and only then attached
// to a verified descriptor, so no path is walked twice. fsopen(2), open_tree(2), mount_setattr(2),
// move_mount(2).
#pragma once
#include "init.h"

namespace init {

// MS_* per-mount flags as MOUNT_ATTR_*.
uint64_t mount_attributes(uint64_t flags);
// mount_setattr on the mount whose root `mount` is. Atime bits are cleared as the kernel demands when any is
// set.
Result set_attributes(Init& init, int mount, uint64_t set, uint64_t clear, bool recursive, const char* path);
// One MS_SHARED|MS_PRIVATE|MS_SLAVE|MS_UNBINDABLE, with MS_REC or not.
Result set_propagation(Init& init, int mount, uint64_t flags, const char* path);
Result attach(Init& init, int mount, int target, const char* path);
// The new mount API is missing (ENOSYS), or a sandbox around us refuses it (EPERM): the classic one is tried.
bool denied(const Init& init);
// What lies behind `source` on `target`, both by descriptor: a detached copy, else mount(2) through procfs.
Result bind_file(Init& init, int source, int target, const char* path);
// The mount that mount(2) has just put on `below`, which is what `path` led to before. A name that leads
// elsewhere by now is refused.
Result open_mounted(Init& init, const char* path, int below, Fd& mount);
// A detached copy of the mount (tree) behind fd.
Result clone_tree(Init& init, int fd, bool recursive, Fd& tree, const char* path);

}  // namespace init
