// SPDX-License-Identifier: Apache-2.0
// Compiles a seccomp section of the OCI spec to BPF with libseccomp, which is loaded when it is first needed:
// the library also runs where it is not installed. config-linux.md "Seccomp", seccomp(2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace binding {

struct SeccompArgument {
  unsigned index = 0;
  uint64_t value = 0;
  uint64_t value_two = 0;
  std::string op;
};

struct SeccompRule {
  std::vector<std::string> names;
  std::string action;
  std::optional<unsigned> errno_ret;
  std::vector<SeccompArgument> arguments;
};

struct SeccompProfile {
  std::string default_action;
  std::optional<unsigned> default_errno_ret;
  std::vector<std::string> architectures;
  std::optional<std::vector<std::string>> flags;
  std::vector<SeccompRule> rules;
};

struct SeccompError {
  std::string field;  // "syscalls[3].action"
  std::string message;
};

struct SeccompProgram {
  std::string instructions;  // struct sock_filter[]
  uint32_t flags = 0;        // SECCOMP_FILTER_FLAG_*
};

std::optional<SeccompError> compile_seccomp(const SeccompProfile& profile, SeccompProgram& out);
// The name of a system call; `arch` is AUDIT_ARCH_*. Empty when libseccomp does not know it.
std::string seccomp_syscall_name(uint32_t arch, int number);
// "2.5.4"; empty when the library is not there.
std::string seccomp_library_version();

}  // namespace binding
