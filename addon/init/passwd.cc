// SPDX-License-Identifier: Apache-2.0
#include "passwd.h"

#include <sys/stat.h>

namespace init {

// Decimal digits only and no overflow: a name or a sign is never a uid (CVE-2016-3697).
static bool parse_id(const char* text, size_t size, uint32_t& id) {
  uint64_t value = 0;
  if (size == 0 || size > 10) return false;
  for (size_t i = 0; i < size; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + static_cast<uint64_t>(text[i] - '0');
  }
  id = static_cast<uint32_t>(value);
  return value <= 0xffffffff;
}

// name:password:uid:gid:gecos:home:shell, passwd(5).
static bool look_at_line(const char* line, size_t size, uint32_t uid, char* home, size_t room) {
  const char* end = line + size;
  const char* fields[7];
  size_t lengths[7];
  size_t count = 0;
  for (const char* at = line; count < 7; count++) {
    const char* colon = static_cast<const char*>(memchr(at, ':', static_cast<size_t>(end - at)));
    fields[count] = at;
    lengths[count] = static_cast<size_t>((colon == nullptr ? end : colon) - at);
    if (colon == nullptr) {
      count++;
      break;
    }
    at = colon + 1;
  }
  uint32_t id = 0;
  if (count < 6 || !parse_id(fields[2], lengths[2], id) || id != uid) return false;
  if (lengths[5] == 0 || lengths[5] >= room || memchr(fields[5], 0, lengths[5]) != nullptr) return false;
  memcpy(home, fields[5], lengths[5]);
  home[lengths[5]] = 0;
  return true;
}

void find_home(Init& init, uint32_t uid) {
  if (init.home[0] != 0) return;
  strcpy(init.home, "/");
  // Nonblocking: the file could be a fifo. We are inside the root already, so a link stays inside.
  const Fd file(call(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat stat;
  if (!file || fstat(file.get(), &stat) < 0 || !S_ISREG(stat.st_mode)) return;
  static char buffer[65536];
  size_t held = 0;
  // A file without end must not hold a start up.
  for (size_t total = 0; total < (16 << 20);) {
    const long got = call(SYS_read, file.get(), buffer + held, sizeof buffer - held);
    if (got < 0) return;
    held += static_cast<size_t>(got);
    total += static_cast<size_t>(got);
    size_t at = 0;
    for (;;) {
      const char* newline = static_cast<const char*>(memchr(buffer + at, '\n', held - at));
      if (newline == nullptr && (got != 0 || at == held)) break;
      const size_t size = newline == nullptr ? held - at : static_cast<size_t>(newline - buffer) - at;
      if (look_at_line(buffer + at, size, uid, init.home, sizeof init.home)) return;
      at += size + (newline == nullptr ? 0 : 1);
    }
    if (got == 0) return;
    memmove(buffer, buffer + at, held - at);
    held -= at;
    // A line longer than the buffer is nobody's entry: what was read of it is dropped.
    if (held == sizeof buffer) held = 0;
  }
}

}  // namespace init
