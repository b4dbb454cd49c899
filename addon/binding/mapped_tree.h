// SPDX-License-Identifier: Apache-2.0
// A bind mount whose ids are mapped, detached: made here, since init may have no rights over the file system
// any more (user namespace).
#pragma once

#include <string>

#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

struct TreeRequest {
  std::string source;
  bool recursive = false;        // with the mounts below it
  bool map_recursive = false;    // ... which are mapped too
  std::string user_namespace;    // whose maps are taken; or:
  std::string uid_map, gid_map;  // lines as in /proc/PID/uid_map
};

// `stack`: the end of memory for a helper process, which is gone when this returns.
sys::Status make_mapped_tree(const TreeRequest& request, void* stack, size_t stack_size, sys::Fd& out);

}  // namespace binding
