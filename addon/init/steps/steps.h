// SPDX-License-Identifier: Apache-2.0
// One function per kind of step; the table in table.cc names them. A function reads its own message, does its
// work and says what failed. Field numbers are those of proto/init.proto.
#pragma once
#include "../init.h"

namespace init {

struct Kind {
  const char* name;
  Result (*run)(Init&, const Message&);
  uint32_t texts;  // bit n: field n is text, which must not hold a NUL byte
};

// The kind for a field number of Step; null: unknown.
const Kind* kind_of(uint32_t number);

namespace steps {
Result join_cgroup(Init&, const Message&);
Result oom_score_adj(Init&, const Message&);
Result setns(Init&, const Message&);
Result unshare(Init&, const Message&);
Result session_keyring(Init&, const Message&);
Result loopback(Init&, const Message&);
Result propagation(Init&, const Message&);
Result open_rootfs(Init&, const Message&);
Result mount(Init&, const Message&);
Result device(Init&, const Message&);
Result symlink(Init&, const Message&);
Result sync(Init&, const Message&);
Result hooks(Init&, const Message&);
Result pivot_root(Init&, const Message&);
Result move_root(Init&, const Message&);
Result chroot(Init&, const Message&);
Result reopen_null(Init&, const Message&);
Result make_cwd(Init&, const Message&);
Result console(Init&, const Message&);
Result remount_readonly(Init&, const Message&);
Result hostname(Init&, const Message&);
Result domainname(Init&, const Message&);
Result sysctl(Init&, const Message&);
Result readonly_path(Init&, const Message&);
Result mask_path(Init&, const Message&);
Result apparmor(Init&, const Message&);
Result selinux(Init&, const Message&);
Result no_new_privileges(Init&, const Message&);
Result scheduler(Init&, const Message&);
Result io_priority(Init&, const Message&);
Result personality(Init&, const Message&);
Result memory_policy(Init&, const Message&);
Result rlimit(Init&, const Message&);
Result ready(Init&, const Message&);
Result seccomp(Init&, const Message&);
Result bounding(Init&, const Message&);
Result user(Init&, const Message&);
Result umask(Init&, const Message&);
Result cwd(Init&, const Message&);
Result capabilities(Init&, const Message&);
Result find_executable(Init&, const Message&);
Result wait_start(Init&, const Message&);
Result exec(Init&, const Message&);
Result affinity(Init&, const Message&);
Result finish(Init&, const Message&);
Result landlock(Init&, const Message&);
Result idle(Init&, const Message&);
Result wait_command(Init&, const Message&);
Result time_namespace(Init&, const Message&);
Result user_namespace(Init&, const Message&);
Result host_view(Init&, const Message&);
Result overlay(Init&, const Message&);
Result fork_into(Init&, const Message&);
Result first_inside(Init&, const Message&);
}  // namespace steps

}  // namespace init
