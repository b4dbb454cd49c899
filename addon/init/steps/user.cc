// SPDX-License-Identifier: Apache-2.0
// bounding, user, capabilities, seccomp, cwd: the last privileges go, in the order that capabilities(7)
// demands.
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "../frames.h"
#include "../passwd.h"
#include "../procfs.h"
#include "../rootfs.h"
#include "steps.h"

namespace init {

Result steps::bounding(Init& init, const Message& message) {
  const uint64_t keep = message.number(1);
  for (unsigned capability = 0; capability < 64; capability++) {
    if ((keep >> capability & 1) != 0 || prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    // One past the last that this kernel has.
    if (errno == EINVAL) break;
    return init.failed("prctl", Raw{"PR_CAPBSET_DROP"}, capability);
  }
  return Result::ok;
}

// A file, directory or disk of the host that was given to read only: its owner could open it again for
// writing by /proc/self/fd (CVE-2026-88265 was a chown of a host's file as stdio).
static bool given_to_read(int fd, mode_t mode) {
  if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISBLK(mode)) return false;
  const long flags = call(SYS_fcntl, fd, F_GETFL);
  return flags < 0 || (flags & O_ACCMODE) == O_RDONLY;
}

// stdio belongs to the process: pipes and terminals that it was given must open again by /proc/self/fd. Null
// devices, and what the kernel does not let us give, are left alone, as in runc's fixStdioPermissions.
static Result give_stdio(Init& init, uint32_t uid) {
  for (int fd = 0; fd <= 2; fd++) {
    struct stat stat;
    // A closed descriptor is legal.
    if (fstat(fd, &stat) < 0) continue;
    if (stat.st_uid == uid || is_device(fd, 1, 3) || given_to_read(fd, stat.st_mode)) continue;
    if (call(SYS_fchown, fd, uid, stat.st_gid) < 0 && errno != EINVAL && errno != EPERM && errno != EROFS)
      return init.failed("fchown", fd, uid, stat.st_gid);
  }
  return Result::ok;
}

static Result set_groups(Init& init, const Message& message) {
  size_t count = 0;
  message.each_number(3, [&](uint64_t) { count++; });
  if (count > 65536) return init.refused(EINVAL, "", "more groups than the kernel takes");
  uint32_t* groups = static_cast<uint32_t*>(init.arena.take((count + 1) * sizeof(uint32_t)));
  size_t at = 0;
  message.each_number(3, [&](uint64_t group) { groups[at++] = static_cast<uint32_t>(group); });
  return call(SYS_setgroups, count, groups) < 0 ? init.failed("setgroups", count) : Result::ok;
}

Result steps::user(Init& init, const Message& message) {
  const uint32_t uid = message.u32(1), gid = message.u32(2);
  // As root still: the passwd file may be readable to nobody else.
  if (init.exec.flag(3)) find_home(init, uid);
  if (!message.flag(5) && give_stdio(init, uid) != Result::ok) return Result::failed;
  // Without it the permitted set goes with uid 0, and the capabilities step could not set what the config
  // grants.
  if (uid != 0 && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
    return init.failed("prctl", Raw{"PR_SET_KEEPCAPS"}, 1);
  // Groups first: the right to change them goes with the uid.
  if (!message.flag(4) && set_groups(init, message) != Result::ok) {
    // Where setgroups is denied (user_namespaces(7)) there is nothing to drop, and nothing can be given.
    if (!message.flag(6) || init.failure.error != EPERM) return Result::failed;
    if (message.has(3)) return init.because("", "additional groups cannot be set in this user namespace");
  }
  if (call(SYS_setresgid, gid, gid, gid) < 0) return init.failed("setresgid", gid, gid, gid);
  if (call(SYS_setresuid, uid, uid, uid) < 0) return init.failed("setresuid", uid, uid, uid);
  // A change of ids sets it to fs.suid_dumpable (prctl(2)): a process of this user could trace us until
  // execve.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  if (uid != 0 && prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) < 0)
    return init.failed("prctl", Raw{"PR_SET_KEEPCAPS"}, 0);
  return Result::ok;
}

struct Sets {
  __user_cap_data_struct data[2];
  static Sets of(uint64_t effective, uint64_t permitted, uint64_t inheritable) {
    Sets sets;
    for (unsigned i = 0; i < 2; i++)
      sets.data[i] = {static_cast<uint32_t>(effective >> (32 * i)),
                      static_cast<uint32_t>(permitted >> (32 * i)),
                      static_cast<uint32_t>(inheritable >> (32 * i))};
    return sets;
  }
};

Result steps::capabilities(Init& init, const Message& message) {
  const uint64_t effective = message.number(1), permitted = message.number(2),
                 inheritable = message.number(3), ambient = message.number(4);
  Sets wanted = Sets::of(effective, permitted, inheritable);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  if (call(SYS_capset, &header, wanted.data) < 0)
    return init.failed("capset", Hex{effective}, Hex{permitted}, Hex{inheritable});
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
    return init.failed("prctl", Raw{"PR_CAP_AMBIENT_CLEAR_ALL"});
  for (unsigned capability = 0; capability < 64; capability++)
    if ((ambient >> capability & 1) != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0)
      return init.failed("prctl", Raw{"PR_CAP_AMBIENT_RAISE"}, capability);
  // Read back: a start that has more, or less, than the config says must not go on.
  Sets have = {};
  if (call(SYS_capget, &header, have.data) < 0) return init.failed("capget");
  if (memcmp(have.data, wanted.data, sizeof have.data) != 0)
    return init.refused(EPERM, "", "the kernel did not take the capability sets as they were given");
  for (unsigned capability = 0; ambient != 0 && capability < 64; capability++)
    if ((ambient >> capability & 1) != 0 &&
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, capability, 0, 0) != 1)
      return init.refused(EPERM, "", "the kernel did not take the ambient set as it was given");
  return Result::ok;
}

Result steps::seccomp(Init& init, const Message& message) {
  const Bytes program = message.bytes(1);
  if (program.size == 0 || program.size % sizeof(sock_filter) != 0 ||
      program.size / sizeof(sock_filter) > BPF_MAXINSNS)
    return init.refused(EINVAL, "", "the size of the seccomp program is out of range");
  // The kernel wants its own alignment; the plan gives none.
  sock_filter* filter = static_cast<sock_filter*>(init.arena.take(program.size));
  memcpy(filter, program.data, program.size);
  const sock_fprog value = {static_cast<unsigned short>(program.size / sizeof(sock_filter)), filter};
  // What would need calls that a profile may lack (docs/start-sequence.md has the list that it must allow).
  if (init.fifo >= 0 && prepare_reopen(init, init.fifo) != Result::ok) return Result::failed;
  const uint32_t first = 3 + init.exec.u32(4);
  if (!mark_close_on_exec(first))
    return init.failed("close_range", first, Hex{~0u}, Raw{"CLOSE_RANGE_CLOEXEC"});
  init.filtered = true;
  const bool notify = message.flag(3);
  const uint32_t flags = message.u32(2) | (notify ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0);
  const long loaded = call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &value);
  if (loaded < 0)
    return init.failed("seccomp", Raw{"SECCOMP_SET_MODE_FILTER"}, Hex{flags},
                       static_cast<unsigned>(value.len));
  if (!notify) return Result::ok;
  const Fd listener(loaded);
  const bool takes = message.flag(5);
  if ((takes ? give_fd(init, "seccomp", listener.get()) : send_fd(init, "seccomp", listener.get())) !=
      Result::ok)
    return Result::failed;
  // Until an agent has it, nobody would answer what the program asks.
  return message.flag(4) ? wait_frame(init, 'G') : Result::ok;
}

// chdir(2) succeeds on /proc/self/fd/N of a directory of the host, too; getcwd(2) then answers
// "(unreachable)…" (CVE-2024-21626). The system call itself is asked: a C library may paper over that.
static Result check_inside(Init& init, const char* path) {
  char where[4096];
  const long length = call(SYS_getcwd, where, sizeof where);
  if (length < 0 && errno != ENOENT) return init.failed("getcwd");
  if (length > 0 && where[0] == '/') return Result::ok;
  errno = length < 0 ? ENOENT : EXDEV;
  (void)init.failed("getcwd", path);
  return init.because(
      "ERR_CWD",
      "current working directory is outside of container mount namespace root -- possible container "
      "breakout detected");
}

Result steps::cwd(Init& init, const Message& message) {
  const char* path = init.text(message, 1);
  // Entered as root already, perhaps where the user could not; what is left is to look where we are.
  if (init.cwd_entered && !message.flag(2)) return check_inside(init, path);
  if (call(SYS_chdir, path) < 0) {
    // The user may be allowed what root without rights over the owner is not; the second try decides. It may
    // be made by a second stage, for whom the container's procfs has a /proc/self.
    if (message.flag(2) && (errno == EACCES || (errno == ENOENT && init.forks))) return Result::ok;
    (void)init.failed("chdir", path);
    return init.because("ERR_CWD", path);
  }
  init.cwd_entered = true;
  return check_inside(init, path);
}

}  // namespace init
