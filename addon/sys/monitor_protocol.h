// SPDX-License-Identifier: Apache-2.0
// What the spawner and the monitor (addon/init/monitor.cc) say to one another over a SOCK_SEQPACKET pair.
// Both are of one package and one machine: structures as they are in memory.
#pragma once

#include <stdint.h>

namespace sys::monitor {

// argv[0] of the monitor; its descriptors: 0 to 2 /dev/null, then these two.
inline constexpr char name[] = "libcontainer-monitor";
inline constexpr int socket_fd = 3;
inline constexpr int owner_fd = 4;  // pidfd of the daemon

// SCM_MAX_FD is 253: unix(7). More follow in packets of one byte each.
inline constexpr uint32_t fds_per_packet = 250;
inline constexpr uint32_t most_fds = 1024;
inline constexpr uint32_t most_entered = 4;  // net, ipc, uts, cgroup
inline constexpr uint32_t largest_orders = 60 * 1024;

// Clone a container's first process. Descriptors: exit record, init executable, [cgroup], [pid namespace],
// the entered namespaces, then one per number that the child is to have, from 0 on. Behind it in the packet:
// orders for the end of the child and of its owner (lib/parent/monitor-orders.ts), texts that each end with a
// NUL byte.
// With a successor nothing is cloned and no descriptor comes along: this child of the monitor's, which the
// one of that token has made with CLONE_PARENT, takes its place, and the former is ended.
struct Request {
  uint32_t token;
  int32_t successor;  // or 0
  uint32_t targets;
  uint64_t clone_flags;  // CLONE_NEW*
  uint32_t pipe;         // the first of the three numbers in init's argv
  uint32_t has_cgroup;
  uint32_t has_pid_namespace;
  uint32_t orders_size;
  uint32_t entered;  // namespaces that the child is born in
  int32_t entered_types[most_entered];
};

enum class Kind : uint32_t {
  born,    // pid; the pidfd comes along
  failed,  // call, value: errno
  ended    // reaped; code: si_code, value: si_status
};

struct Answer {
  Kind kind;
  uint32_t token;
  int32_t pid;
  int32_t code;
  int32_t value;
  char call[28];
};

}  // namespace sys::monitor
