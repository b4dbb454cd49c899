// SPDX-License-Identifier: Apache-2.0
// rlimit, scheduler, ioPriority, personality, memoryPolicy, affinity, umask, noNewPrivileges: attributes of
// the process.
#include <sys/prctl.h>

#include "steps.h"

namespace init {

Result steps::rlimit(Init& init, const Message& message) {
  const struct { uint64_t soft, hard; } limit = {message.number(2), message.number(3)};
  const uint32_t resource = message.u32(1);
  if (call(SYS_prlimit64, 0, resource, &limit, nullptr) < 0)
    return init.failed("prlimit64", 0, Raw{init.text(message, 4)}, static_cast<unsigned long>(limit.soft),
                       static_cast<unsigned long>(limit.hard));
  return Result::ok;
}

// struct sched_attr, sched_setattr(2): version 0 of it.
struct SchedulerAttributes {
  uint32_t size = 48;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
};
static_assert(sizeof(SchedulerAttributes) == 48);

Result steps::scheduler(Init& init, const Message& message) {
  SchedulerAttributes attributes;
  attributes.policy = message.u32(1);
  attributes.nice = message.sint32(2);
  attributes.priority = static_cast<uint32_t>(message.sint32(3));
  attributes.flags = message.number(4);
  attributes.runtime = message.number(5);
  attributes.deadline = message.number(6);
  attributes.period = message.number(7);
  if (call(SYS_sched_setattr, 0, &attributes, 0) < 0)
    return init.failed("sched_setattr", 0, attributes.policy, attributes.nice, attributes.priority);
  return Result::ok;
}

Result steps::io_priority(Init& init, const Message& message) {
  static constexpr int of_process = 1;
  const uint32_t value = message.u32(1);
  return call(SYS_ioprio_set, of_process, 0, value) < 0
             ? init.failed("ioprio_set", Raw{"IOPRIO_WHO_PROCESS"}, 0, Hex{value})
             : Result::ok;
}

Result steps::personality(Init& init, const Message& message) {
  const uint64_t domain = message.number(1);
  return call(SYS_personality, domain) < 0 ? init.failed("personality", Hex{domain}) : Result::ok;
}

Result steps::memory_policy(Init& init, const Message& message) {
  static constexpr size_t most = 1024 / 64;
  uint64_t mask[most] = {0};
  size_t words = 0;
  message.each_number(2, [&](uint64_t word) {
    if (words / 2 < most) mask[words / 2] |= (word & 0xffffffffu) << (words % 2 * 32);
    words++;
  });
  words = (words + 1) / 2;
  if (words > most) return init.refused(EINVAL, "", "the node mask is too long");
  const uint32_t mode = message.u32(1);
  // The kernel looks at one bit less than it is told, set_mempolicy(2) NOTES.
  if (call(SYS_set_mempolicy, mode, words == 0 ? nullptr : mask, words == 0 ? 0 : words * 64 + 1) < 0)
    return init.failed("set_mempolicy", Hex{mode}, Hex{mask[0]});
  return Result::ok;
}

Result steps::affinity(Init& init, const Message& message) {
  const Bytes mask = message.bytes(1);
  return call(SYS_sched_setaffinity, 0, mask.size, mask.data) < 0
             ? init.failed("sched_setaffinity", 0, mask.size)
             : Result::ok;
}

Result steps::umask(Init&, const Message& message) {
  call(SYS_umask, message.u32(1) & 0777);
  return Result::ok;
}

Result steps::no_new_privileges(Init& init, const Message&) {
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? init.failed("prctl", Raw{"PR_SET_NO_NEW_PRIVS"}, 1)
                                                    : Result::ok;
}

}  // namespace init
