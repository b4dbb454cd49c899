// SPDX-License-Identifier: Apache-2.0
// landlock: the process gives up the file system but for some paths of the container, landlock(7).
#include <linux/landlock.h>

#include "../rootfs.h"
#include "steps.h"

namespace init {

// Of newer kernels than our headers: include/uapi/linux/landlock.h.
static constexpr uint64_t access_truncate = 1ULL << 14;   // ABI 3, Linux 6.2
static constexpr uint64_t access_ioctl_dev = 1ULL << 15;  // ABI 5, Linux 6.10

static constexpr uint64_t file_rights = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |
                                        LANDLOCK_ACCESS_FS_READ_FILE | access_truncate | access_ioctl_dev;
static constexpr uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static constexpr uint64_t executing = reading | LANDLOCK_ACCESS_FS_EXECUTE;
// Everything that changes something; without the right to link and rename between directories (ABI 2) the
// kernel denies that to every process with a ruleset.
static constexpr uint64_t writing =
    LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | access_truncate | access_ioctl_dev;

static uint64_t known_rights(long abi) {
  uint64_t rights = executing | writing;
  if (abi < 5) rights &= ~access_ioctl_dev;
  if (abi < 3) rights &= ~access_truncate;
  if (abi < 2) rights &= ~static_cast<uint64_t>(LANDLOCK_ACCESS_FS_REFER);
  return rights;
}

static Result allow(Init& init, int ruleset, int fd, const char* path, uint64_t rights) {
  struct stat stat;
  if (fstat(fd, &stat) < 0) return init.failed("fstat", path);
  landlock_path_beneath_attr rule = {};
  // What is no directory takes the rights of files alone, else EINVAL.
  rule.allowed_access = S_ISDIR(stat.st_mode) ? rights : rights & file_rights;
  rule.parent_fd = fd;
  if (rule.allowed_access == 0 ||
      call(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0)
    return Result::ok;
  return init.failed("landlock_add_rule", path, Hex{rights});
}

static Result allow_all(Init& init, int ruleset, const Message& message, uint32_t field, uint64_t rights) {
  Result result = Result::ok;
  message.each_bytes(field, [&](Bytes bytes) {
    if (result != Result::ok) return;
    const char* path = init.arena.text(bytes);
    const Fd fd = open_in_root(init, path, O_PATH);
    result = fd ? allow(init, ruleset, fd.get(), path, rights)
                : init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"}, Raw{"RESOLVE_IN_ROOT"});
  });
  return result;
}

// As the user and with its capabilities: what is allowed is what it could reach anyhow.
Result steps::landlock(Init& init, const Message& message) {
  const long abi = call(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 0) {
    (void)init.failed("landlock_create_ruleset", Raw{"LANDLOCK_CREATE_RULESET_VERSION"});
    return init.because("ERR_UNSUPPORTED", "this kernel has no Landlock");
  }
  const uint64_t known = known_rights(abi);
  // The first version's attribute; newer kernels take the shorter one.
  landlock_ruleset_attr attribute = {};
  attribute.handled_access_fs = known;
  const Fd ruleset(call(SYS_landlock_create_ruleset, &attribute, sizeof attribute.handled_access_fs, 0));
  if (!ruleset) return init.failed("landlock_create_ruleset", Hex{known});
  if (need_root(init) != Result::ok ||
      allow_all(init, ruleset.get(), message, 1, reading & known) != Result::ok ||
      allow_all(init, ruleset.get(), message, 2, writing & known) != Result::ok ||
      allow_all(init, ruleset.get(), message, 3, executing & known) != Result::ok)
    return Result::failed;
  // init's own way out of waitStart: a file that no path of the container leads to.
  if (init.fifo >= 0 &&
      allow(init, ruleset.get(), init.fifo, "exec.fifo", LANDLOCK_ACCESS_FS_WRITE_FILE) != Result::ok)
    return Result::failed;
  return call(SYS_landlock_restrict_self, ruleset.get(), 0) == 0 ? Result::ok
                                                                 : init.failed("landlock_restrict_self");
}

}  // namespace init
