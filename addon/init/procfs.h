// SPDX-License-Identifier: Apache-2.0
// A procfs that no mount of the container can lie over (CVE-2019-16884, CVE-2025-52881): a detached instance
// of our own from fsopen, else the host's /proc after a look at what it is. Every write to /proc goes through
// it.
#pragma once
#include "init.h"

namespace init {

// Opens the handle once.
Result open_procfs(Init& init);
// Writes value to /proc/`path` in one write.
Result write_proc(Init& init, const char* path, const char* value);
// Before a seccomp filter is loaded: a later reopen() of this descriptor then needs openat only.
Result prepare_reopen(Init& init, int fd);
// A new open of the file behind one of our own descriptors; the caller looks at the value.
Fd reopen(Init& init, int fd, int flags);
// One of this process' own namespaces, by its name in /proc/self/ns; invalid Fd and errno on failure.
Fd open_own_namespace(Init& init, const char* name);
// mount(2) onto the file behind `target`, for kernels and sandboxes without the new mount API: the target is
// self/fd/N relative to the handle, so no path of the rootfs is walked again (CVE-2021-30465).
Result classic_mount(Init& init, const char* source, int target, const char* target_path, const char* type,
                     uint64_t flags, const char* data);

// umount2(MNT_DETACH) of the mount whose root `mount` is, in the same way.
Result classic_umount(Init& init, int mount, const char* path);

}  // namespace init
