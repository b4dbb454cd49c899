// SPDX-License-Identifier: Apache-2.0
// The other life of this executable: the parent of a daemon's containers (docs/adr/0003).
#pragma once
#include <stdint.h>

namespace init {

// What is to be looked at when a container has ended, and done when its owner has died: texts as
// lib/parent/monitor-orders.ts writes them.
struct Orders {
  const char* text = nullptr;
  uint32_t size = 0;
};

// The container is to go with its owner.
bool is_owned(const Orders& orders);
// OOM kills of the container's cgroup so far; -1: not asked for, or the cgroup is gone.
int64_t oom_kills(const Orders& orders);
// The state directory is still that of the container that the orders are for.
bool still_recorded(const Orders& orders);
// One try to kill and remove all that the orders name. False: something still keeps it busy, try again.
// `ended`: its first process is reaped.
bool remove_container(const Orders& orders, bool ended);

[[noreturn]] void monitor();

}  // namespace init
