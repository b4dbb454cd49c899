// SPDX-License-Identifier: Apache-2.0
// Device rules on cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program. bpf(2), kernel cgroup-v2.rst "Device
// controller".
#pragma once

#include <string>
#include <string_view>

#include "sys/error.h"

namespace binding {

// Loads the instructions (struct bpf_insn[]) and attaches them to the cgroup directory. Programs that are
// attached there are replaced: without a gap when there is exactly one, else the new one is attached first
// and the old ones are detached after.
sys::Status attach_device_program(const std::string& cgroup, std::string_view program);

}  // namespace binding
