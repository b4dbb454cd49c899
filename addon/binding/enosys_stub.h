// SPDX-License-Identifier: Apache-2.0
// ENOSYS for system calls newer than all that a profile names: with EPERM in their place libc's fallbacks do
// not work (runc's patchbpf does the same).
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <map>
#include <vector>

namespace binding {

// Highest system call that a profile names. For x86-64 both ABIs share one AUDIT_ARCH; bit 30 of the number
// tells them apart.
struct LastSyscalls {
  int plain = -1;
  int x32 = -1;
};

// By AUDIT_ARCH_*. What comes back is put in front of the filter: it falls through into it.
std::vector<sock_filter> enosys_stub(const std::map<uint32_t, LastSyscalls>& last);

}  // namespace binding
