// SPDX-License-Identifier: Apache-2.0
// A new mount of a file system type, detached: fsopen, one fsconfig per option, fsmount.
#pragma once
#include "init.h"

namespace init {

struct Filesystem {
  const char* type;
  const char* source;
  uint64_t flags;    // MS_*
  const char* data;  // comma separated
  const char* mode;  // octal, added as mode= when not null
};

// True when only mount(2) can express it: flags and value lengths that fsconfig(2) has no room for.
bool needs_classic(const Filesystem& filesystem);
Result make_mount(Init& init, const Filesystem& filesystem, Fd& mount);

}  // namespace init
