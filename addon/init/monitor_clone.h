// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <sys/types.h>

#include "sys/monitor_protocol.h"

namespace init {

struct Cloner {
  static constexpr size_t stack_size = 64 * 1024;
  char* stack = nullptr;
  int own_pid_namespace = -1;
  bool stranded = false;  // could not return to its own namespaces
};

// The pid; or -1 with what failed in `answer`. `fds`: as they came, in the order that the protocol says.
pid_t clone_child(Cloner& cloner, const sys::monitor::Request& request, const int* fds,
                  sys::monitor::Answer& answer, int& pidfd);

}  // namespace init
