// SPDX-License-Identifier: Apache-2.0
#include "sys/error.h"

#include <cstring>

namespace sys {

namespace {
// Linux knows fewer; errno(3).
constexpr int highest_errno = 134;
}  // namespace

Failure failure(std::string_view syscall, std::string args, std::string path) {
  const int error = errno;
  return Failure{std::string(syscall), std::move(args), error, std::move(path), {}};
}

std::string errno_name(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? std::string(name) : "E" + std::to_string(error);
}

int errno_number(std::string_view name) {
  // The names that glibc has a second name for: it only tells the first.
  if (name == "ENOTSUP") return ENOTSUP;
  if (name == "EWOULDBLOCK") return EWOULDBLOCK;
  for (int number = 1; number < highest_errno; number++) {
    const char* known = strerrorname_np(number);
    if (known != nullptr && name == known) return number;
  }
  return 0;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      constexpr char digits[] = "0123456789abcdef";
      out += "\\x";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

}  // namespace sys
