// SPDX-License-Identifier: Apache-2.0
// Makes the init process of a job: one clone3 that shares memory (never a fork: its price grows with the heap
// of the daemon) and one execveat of a sealed memfd. Runs on the spawner thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "binding/job.h"
#include "binding/monitor.h"
#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;

  void configure(std::string init, std::string init_faults);
  // Opens the slots, makes pipe and plan, clones, and does not wait for the child's execve. On success the
  // job has pid, pidfd, its end of the pipe, and what it shares with the child until then. With a monitor the
  // process is its child, known to it by `token`, and shares nothing.
  sys::Status launch(Job& job, Monitor* monitor, uint32_t token);
  // Takes back what was shared with a child that has executed init or has ended.
  void recycle(std::unique_ptr<Birth> birth);
  // The executable of `job`, which is a monitor's too.
  sys::Status prepare_init(bool faults, int& out);

 private:
  sys::Status prepare_birth(std::unique_ptr<Birth>& out);
  sys::Status enter_namespaces(const JobRequest& request);
  sys::Status leave_namespaces();
  sys::Status enter_pid_namespace(const JobRequest& request, bool& entered);
  sys::Status leave_pid_namespace();

  struct Executable {
    std::string path;
    sys::Fd memfd;
  };
  Executable init_;
  Executable init_faults_;
  std::vector<std::unique_ptr<Birth>> spare_;
  sys::Fd own_pid_namespace_;
  struct Left {
    int type;
    sys::Fd own;
  };
  std::vector<Left> left_;  // own namespaces that the thread must return to
  // The thread could not return to its own pid namespace: a child of it would be born in a stranger's.
  bool lost_ = false;
};

}  // namespace binding
