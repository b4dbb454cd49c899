// SPDX-License-Identifier: Apache-2.0
// What a new child shares with us until it executes init: its stack, its orders, and what became of them. The
// spawner does not wait for the execve (CLONE_VFORK would): in a cgroup that is frozen at this moment it
// comes only when somebody thaws it, and until then no other container could be started.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <string>
#include <vector>

namespace binding {

struct Birth {
  static constexpr size_t stack_size = 64U * 1024U;
  static constexpr size_t guard_size = 64U * 1024U;  // a whole page on every page size of arm64

  Birth() = default;
  Birth(const Birth&) = delete;
  Birth& operator=(const Birth&) = delete;
  ~Birth() {
    if (stack != nullptr) ::munmap(stack, stack_size + guard_size);
  }

  void* stack = nullptr;
  // Not 0 while the child uses this memory: the kernel clears it at execve and at exit
  // (CLONE_CHILD_CLEARTID).
  int child_tid = 0;
  bool in_child = false;     // a clone has succeeded
  std::vector<int> sources;  // by target number
  int init = -1;
  char numbers[3][12] = {};
  char name[5] = "init";
  char* argv[5] = {};
  // Nothing of the host's environment gets near the container.
  char* envp[1] = {};
  bool handlers_kept = false;
  bool keeps_capabilities = false;
  // Why init was not executed.
  const char* failed_call = nullptr;
  int error = 0;
};

}  // namespace binding
