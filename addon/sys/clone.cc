// SPDX-License-Identifier: Apache-2.0
#include "sys/clone.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>

namespace sys {

// The child starts with an empty stack, so nothing may be returned to: the call and the exit are one piece of
// assembly. The registers that carry `entry` and `argument` survive a system call on both architectures.
pid_t clone3(clone_args& args, int (*entry)(void*), void* argument) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  register int (*entry_register)(void*) __asm__("r8") = entry;
  register void* argument_register __asm__("r9") = argument;
  __asm__ volatile(
      "syscall\n\t"
      "test %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xor %%ebp, %%ebp\n\t"
      "mov %%r9, %%rdi\n\t"
      "call *%%r8\n\t"
      "mov %%eax, %%edi\n\t"
      "mov %[exit], %%eax\n\t"
      "syscall\n\t"
      "hlt\n"
      "1:"
      : "+a"(result)
      : "D"(&args), "S"(sizeof args), "r"(entry_register), "r"(argument_register), [exit] "i"(SYS_exit)
      : "rcx", "r11", "memory");
#elif defined(__aarch64__)
  register long result __asm__("x0") = reinterpret_cast<long>(&args);
  register long size __asm__("x1") = sizeof args;
  register int (*entry_register)(void*) __asm__("x2") = entry;
  register void* argument_register __asm__("x3") = argument;
  register long number __asm__("x8") = SYS_clone3;
  __asm__ volatile(
      "svc #0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, #0\n\t"
      "mov x0, x3\n\t"
      "blr x2\n\t"
      "mov x8, %[exit]\n\t"
      "svc #0\n\t"
      "brk #0\n"
      "1:"
      : "+r"(result)
      : "r"(size), "r"(entry_register), "r"(argument_register), "r"(number), [exit] "i"(SYS_exit)
      : "x30", "memory");
#else
#error "x86-64 and arm64 only"
#endif
  if (result < 0) {
    errno = static_cast<int>(-result);
    return -1;
  }
  return static_cast<pid_t>(result);
}

pid_t clone_classic(const clone_args& args, int (*entry)(void*), void* argument) {
  constexpr uint64_t only_clone3 = ~uint64_t{0xffffffff} & ~uint64_t{CLONE_CLEAR_SIGHAND};
  if ((args.flags & (only_clone3 | CLONE_NEWTIME)) != 0) {
    errno = ENOSYS;
    return -1;
  }
  const auto flags = static_cast<unsigned>((args.flags & 0xffffffffU) | args.exit_signal);
  // The third argument is where clone(2) stores the pidfd, in the place of the parent's tid.
  return ::clone(entry, reinterpret_cast<void*>(args.stack + args.stack_size), static_cast<int>(flags),
                 argument, reinterpret_cast<pid_t*>(args.pidfd), nullptr,
                 reinterpret_cast<pid_t*>(args.child_tid));
}

}  // namespace sys
