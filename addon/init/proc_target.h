// SPDX-License-Identifier: Apache-2.0
// Mounts over /proc: only a procfs on /proc itself, and the files that lxcfs emulates (CVE-2015-3630,
// CVE-2019-16884).
#pragma once
#include <sys/statfs.h>

#include "init.h"

namespace init {

inline bool is_procfs(const struct statfs& fs) {
  return fs.f_type == 0x9fa0;
}
// `path` as configured, `target` what it resolved to; `procfs`: what is to be mounted is a procfs.
Result check_proc_target(Init& init, const char* path, int target, bool procfs);

}  // namespace init
