// SPDX-License-Identifier: Apache-2.0
// What a failed system call leaves behind, as strace would print it, and the names of errno values.
#pragma once

#include <cerrno>
#include <optional>
#include <string>
#include <string_view>

namespace sys {

struct Failure {
  std::string syscall;
  std::string args;
  int error = 0;
  std::string path;
  // Stable word for a cause that errno does not tell; mostly empty.
  std::string reason;
};

// nullopt: it worked.
using Status = std::optional<Failure>;

// The failure of the call that has just set errno.
Failure failure(std::string_view syscall, std::string args, std::string path = {});
// "EINVAL"; "E4711" for a number without a name.
std::string errno_name(int error);
// 0 when there is no such name.
int errno_number(std::string_view name);
// The path in quotes with what is not printable escaped, as strace prints it.
std::string quoted(std::string_view text);

}  // namespace sys
