// SPDX-License-Identifier: Apache-2.0
// Paths of the container. A path is resolved by the kernel inside the root (openat2 RESOLVE_IN_ROOT), never
// by string work, and what comes back is a descriptor that all further work uses (CVE-2021-30465 and its
// kin).
#pragma once
#include <sys/stat.h>

#include "init.h"

namespace init {

// The root's descriptor; opens "/" when no rootfs was opened before (a process that joined a container).
Result need_root(Init& init);
// openat2 in the root. `resolve` adds RESOLVE_* flags. Invalid Fd and errno on failure.
// A path below what is mounted, whatever the way to the mount is by now.
Fd open_in_mount(const Fd& mount, const char* path, int flags);
Fd open_in_root(Init& init, const char* path, int flags, uint64_t resolve = 0);

enum class Make { directory, file };
// Opens a path with O_PATH, making it and its parents when absent, each by mkdirat on a held descriptor
// (CVE-2024-45310). A dangling link is followed inside the root: images carry such links for resolv.conf.
// `made` tells whether anything was created.
Result open_or_make(Init& init, const char* path, Make what, Fd& fd, bool* made = nullptr);
// Splits a path into its parent directory, opened and made when absent, and the last name.
Result open_parent(Init& init, const char* path, const char*& name);
// Makes the parent directory cache forget: what it held may lie under a new mount now.
void forget_parent(Init& init);

// The character device major:minor behind fd?
bool is_device(int fd, unsigned major, unsigned minor);
// /dev/null of the container, verified as 1:3 by descriptor (CVE-2025-31133).
Result need_null(Init& init);

}  // namespace init
