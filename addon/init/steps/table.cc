// SPDX-License-Identifier: Apache-2.0
#include "steps.h"

namespace init {

static constexpr uint32_t text(uint32_t field) {
  return 1u << field;
}

// Indexed by the field number of Step's oneof.
static constexpr Kind kinds[] = {
    {nullptr, nullptr, 0},
    {"joinCgroup", steps::join_cgroup, text(1)},
    {"oomScoreAdj", steps::oom_score_adj, 0},
    {"setns", steps::setns, text(2)},
    {"unshare", steps::unshare, 0},
    {"sessionKeyring", steps::session_keyring, text(1) | text(2)},
    {"loopback", steps::loopback, 0},
    {"propagation", steps::propagation, text(1)},
    {"openRootfs", steps::open_rootfs, text(1)},
    {"mount", steps::mount, text(1) | text(2) | text(3) | text(7) | text(14)},
    {"device", steps::device, text(1) | text(2)},
    {"symlink", steps::symlink, text(1) | text(2)},
    {"sync", steps::sync, text(1)},
    {"hooks", steps::hooks, text(1)},
    {"pivotRoot", steps::pivot_root, 0},
    {"moveRoot", steps::move_root, 0},
    {"chroot", steps::chroot, 0},
    {"reopenNull", steps::reopen_null, 0},
    {"makeCwd", steps::make_cwd, text(1)},
    {"console", steps::console, 0},
    {"remountReadonly", steps::remount_readonly, text(1)},
    {"hostname", steps::hostname, text(1)},
    {"domainname", steps::domainname, text(1)},
    {"sysctl", steps::sysctl, text(1) | text(2)},
    {"readonlyPath", steps::readonly_path, text(1) | text(2)},
    {"maskPath", steps::mask_path, text(1) | text(2)},
    {"apparmor", steps::apparmor, text(1)},
    {"selinux", steps::selinux, text(1)},
    {"noNewPrivileges", steps::no_new_privileges, 0},
    {"scheduler", steps::scheduler, 0},
    {"ioPriority", steps::io_priority, 0},
    {"personality", steps::personality, 0},
    {"memoryPolicy", steps::memory_policy, 0},
    {"rlimit", steps::rlimit, text(4)},
    {"ready", steps::ready, 0},
    {"seccomp", steps::seccomp, 0},
    {"bounding", steps::bounding, 0},
    {"user", steps::user, 0},
    {"umask", steps::umask, 0},
    {"cwd", steps::cwd, text(1)},
    {"capabilities", steps::capabilities, 0},
    {"findExecutable", steps::find_executable, text(1) | text(2)},
    {"waitStart", steps::wait_start, 0},
    {"exec", steps::exec, text(1) | text(2)},
    {"affinity", steps::affinity, 0},
};

// Those whose numbers are not consecutive.
static constexpr struct {
  uint32_t number;
  Kind kind;
} later[] = {
    {50, {"forkInto", steps::fork_into, 0}},
    {67, {"userNamespace", steps::user_namespace, 0}},
    {68, {"hostView", steps::host_view, 0}},
    {85, {"finish", steps::finish, 0}},
    {86, {"landlock", steps::landlock, text(1) | text(2) | text(3)}},
    {75, {"timeNamespace", steps::time_namespace, text(1)}},
    {115, {"idle", steps::idle, 0}},
    {116, {"waitCommand", steps::wait_command, 0}},
    {120, {"overlay", steps::overlay, text(1) | text(2) | text(3) | text(4) | text(5) | text(6)}},
    {95, {"firstInside", steps::first_inside, 0}},
};

const Kind* kind_of(uint32_t number) {
  if (number != 0 && number < sizeof kinds / sizeof kinds[0]) return &kinds[number];
  for (const auto& row : later)
    if (row.number == number) return &row.kind;
  return nullptr;
}

}  // namespace init
