// SPDX-License-Identifier: Apache-2.0
// The daemon's side of a monitor process (docs/adr/0003): started once, asked for clones, heard of ends. On
// the spawner thread only.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sys/error.h"
#include "sys/fd.h"
#include "sys/monitor_protocol.h"

namespace binding {

// Failure::reason: the monitor was dead before it was asked.
inline constexpr char monitor_gone[] = "MONITOR_GONE";

// How a child of the monitor ended.
struct MonitoredExit {
  uint32_t token;
  int code;
  int status;
};

struct MonitoredClone {
  uint64_t clone_flags = 0;
  uint32_t pipe = 0;
  // Made by this call, with a lock that goes when the record is written.
  std::string exit_file;
  std::string orders;
  int init = -1;
  int cgroup = -1;
  int pid_namespace = -1;
  struct Entered {
    int type;
    int fd;
  };
  std::vector<Entered> entered;
  std::vector<int> targets;
};

class Monitor {
 public:
  // In the spawner's epoll; no job has this address.
  static constexpr uint64_t epoll_data = 2;

  Monitor() = default;
  // A front (addon/front), over a socket pair that it has made: no process of ours, and it keeps no record.
  explicit Monitor(sys::Fd socket);
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;
  // Closes the socket and waits for the end of the process: only when it has no children any more, or none
  // that it may keep.
  ~Monitor();

  sys::Status start(int init_memfd);
  // It would give its children the user and the groups that this process has now.
  bool fits() const;
  bool gone() const { return gone_; }
  int socket() const { return socket_.get(); }
  sys::Status clone(const MonitoredClone& order, uint32_t token, pid_t& pid, sys::Fd& pidfd);
  // A child of the monitor's takes the place of the one of this token, which is ended.
  sys::Status succeed(uint32_t token, pid_t successor);
  // All that has been said; sets gone().
  std::vector<MonitoredExit> take();

 private:
  sys::Status ask(const MonitoredClone& order, uint32_t token, int exit_file);
  sys::Status hear(uint32_t token, pid_t& pid, sys::Fd& pidfd);
  ssize_t receive(sys::monitor::Answer& answer, sys::Fd& fd, int flags);

  sys::Fd socket_;
  sys::Fd pidfd_;
  bool gone_ = false;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  // Came while an answer was waited for.
  std::vector<MonitoredExit> early_;
};

}  // namespace binding
