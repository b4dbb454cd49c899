// SPDX-License-Identifier: Apache-2.0
#include "init.h"

namespace init {

static void print(Text<1024>& out, const Argument& argument) {
  if (out.size() > 0) out.add(", ");
  switch (argument.kind) {
    case Argument::Kind::text:
      if (argument.text == nullptr)
        out.add("NULL");
      else
        out.add('"').add(argument.text).add('"');
      break;
    case Argument::Kind::raw:
      out.add(argument.text);
      break;
    case Argument::Kind::integer:
      out.integer(static_cast<int64_t>(argument.number));
      break;
    case Argument::Kind::number:
      out.number(argument.number);
      break;
    case Argument::Kind::hex:
      out.add("0x").number(argument.number, 16);
      break;
    case Argument::Kind::octal:
      out.add('0').number(argument.number, 8);
      break;
  }
}

Result Init::record(const char* name, const Argument* arguments, size_t count) {
  failure.error = errno;
  failure.call = name;
  failure.reason = "";
  failure.detail.clear();
  failure.args.clear();
  for (size_t i = 0; i < count; i++) print(failure.args, arguments[i]);
  // No resolver of ours in its place: one of user space has to look at each component and then use it, and
  // every such pair is a race with whoever can rename (CVE-2021-30465). openat2 never answers EPERM to what
  // init asks.
  if (strcmp(name, "openat2") == 0 && (errno == ENOSYS || errno == EPERM))
    return because("ERR_PLATFORM",
                   "openat2(2) is missing (Linux 5.6) or refused by a sandbox around this process");
  return Result::failed;
}

Result Init::because(const char* reason, const char* detail) {
  failure.reason = reason;
  failure.detail.clear();
  failure.detail.add(detail);
  return Result::failed;
}

Result Init::refused(int error, const char* reason, const char* detail) {
  errno = error;
  (void)record("", nullptr, 0);
  return because(reason, detail);
}

}  // namespace init
