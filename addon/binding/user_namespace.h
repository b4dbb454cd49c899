// SPDX-License-Identifier: Apache-2.0
// What only the parent can do for a process in a user namespace of its own: its id maps, limits above its
// hard ones, and the mounts whose sources its root may not reach. user_namespaces(7).
#pragma once

#include <sys/types.h>

#include <vector>

#include "binding/job.h"
#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

// Writes files below /proc/PID, each in one write. The child is not reaped, so the number is still its own.
sys::Status write_process_files(pid_t pid, const std::vector<ProcessFile>& files);

// Opens paths as this process may, but in the mount namespace of the child: what the host has locked there
// (mount_namespaces(7)) stays locked.
sys::Status open_views(int pidfd, const std::vector<View>& views, std::vector<sys::Fd>& out);

// 'V' frames with all descriptors, in order.
sys::Status send_views(int pipe, const std::vector<sys::Fd>& views);

sys::Status set_limits(pid_t pid, const std::vector<Limit>& limits);

}  // namespace binding
