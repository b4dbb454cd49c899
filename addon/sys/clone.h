// SPDX-License-Identifier: Apache-2.0
// clone3 with a function that runs on a stack of its own in the child; glibc has no wrapper. clone(2).
#pragma once

#include <linux/sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ULL
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

namespace sys {

// Returns the pid, or -1 with errno. `entry` must not return in a way that needs its caller: its value is the
// exit code.
pid_t clone3(clone_args& args, int (*entry)(void*), void* argument);
// The same with clone(2), for kernels or sandboxes without clone3: no CLONE_INTO_CGROUP, CLONE_NEWTIME,
// CLONE_CLEAR_SIGHAND.
pid_t clone_classic(const clone_args& args, int (*entry)(void*), void* argument);

}  // namespace sys
