// SPDX-License-Identifier: Apache-2.0
#include "proc_target.h"

#include <sys/stat.h>

namespace init {

// Lexical: without ".", ".." and repeated slashes. False: too long.
static bool clean(const char* path, char* out, size_t size) {
  size_t at = 0;
  while (*path != 0) {
    while (*path == '/') path++;
    const size_t length = strcspn(path, "/");
    if (length == 0 || (length == 1 && path[0] == '.')) {
    } else if (length == 2 && path[0] == '.' && path[1] == '.') {
      while (at > 0 && out[--at] != '/') {
      }
    } else {
      if (at + length + 2 > size) return false;
      out[at++] = '/';
      memcpy(out + at, path, length);
      at += length;
    }
    path += length;
  }
  out[at] = 0;
  return true;
}

// runc's list (rootfs_linux.go, checkProcMount).
static bool emulated(const char* path) {
  static const char* const files[] = {"/proc/cpuinfo",
                                      "/proc/diskstats",
                                      "/proc/meminfo",
                                      "/proc/stat",
                                      "/proc/swaps",
                                      "/proc/uptime",
                                      "/proc/loadavg",
                                      "/proc/slabinfo",
                                      "/proc/net/dev",
                                      "/proc/sys/kernel/ns_last_pid",
                                      "/proc/sys/crypto/fips_enabled"};
  for (const char* file : files)
    if (strcmp(path, file) == 0) return true;
  return false;
}

Result check_proc_target(Init& init, const char* path, int target, bool procfs) {
  char cleaned[4096];
  if (!clean(path, cleaned, sizeof cleaned)) {
    errno = ENAMETOOLONG;
    return init.failed("openat2", Raw{"rootfs"}, path);
  }
  const bool under = strncmp(cleaned, "/proc", 5) == 0 && (cleaned[5] == 0 || cleaned[5] == '/');
  struct statfs fs;
  if (fstatfs(target, &fs) < 0) return init.failed("fstatfs", path);
  // A link elsewhere in the rootfs may lead into /proc as well: what counts is where the descriptor is.
  if (!under && !is_procfs(fs)) return Result::ok;
  Text<4352> words;
  words.add('"').add(path).add('"');
  if (under && cleaned[5] == 0) {
    if (procfs) return Result::ok;
    return init.refused(EACCES, "ERR_ESCAPE",
                        words.add(" cannot be mounted because it is not of type proc").c_str());
  }
  struct stat stat;
  if (under && emulated(cleaned) && fstat(target, &stat) == 0 && S_ISREG(stat.st_mode)) return Result::ok;
  return init.refused(EACCES, "ERR_ESCAPE",
                      words.add(" cannot be mounted because it is inside /proc").c_str());
}

}  // namespace init
