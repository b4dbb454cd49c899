// SPDX-License-Identifier: Apache-2.0
// Makes the init process of a job: one clone3 that shares memory (never a fork: its price grows with the heap
// of the daemon) and one execveat of a sealed memfd. Runs on the spawner thread only.
#pragma once

#include <string>
#include <vector>

#include "binding/job.h"
#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

class Launcher {
 public:
  Launcher() = default;
  Launcher(const Launcher&) = delete;
  Launcher& operator=(const Launcher&) = delete;
  ~Launcher();

  void configure(std::string init, std::string init_faults);
  // Opens the slots, makes pipe and plan, clones. On success the job has pid, pidfd and its end of the pipe.
  sys::Status launch(Job& job);

 private:
  sys::Status prepare_init(bool faults, int& out);
  sys::Status prepare_stack();
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
  void* stack_ = nullptr;
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
