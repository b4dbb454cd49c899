// SPDX-License-Identifier: Apache-2.0
#include "binding/enosys_stub.h"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cerrno>
#include <cstddef>

namespace binding {

namespace {

constexpr uint32_t x32_bit = 1U << 30U;

sock_filter load(size_t offset) {
  return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
sock_filter jump(uint16_t test, uint32_t value, size_t if_true, size_t if_false) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), value, static_cast<uint8_t>(if_true),
                  static_cast<uint8_t>(if_false));
}
sock_filter answer_enosys() {
  return BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
}

// Number above `last`: ENOSYS; then to the filter. The offset is filled in when the whole length is known.
void append_check(std::vector<sock_filter>& section, int last) {
  if (last >= 0) {
    section.push_back(jump(BPF_JGT, static_cast<uint32_t>(last), 0, 1));
    section.push_back(answer_enosys());
  }
  section.push_back(BPF_STMT(BPF_JMP | BPF_JA, 0));
}

std::vector<sock_filter> section_for(uint32_t arch, const LastSyscalls& last) {
  std::vector<sock_filter> section{load(offsetof(seccomp_data, nr))};
  if (arch == AUDIT_ARCH_X86_64) {
    std::vector<sock_filter> plain;
    append_check(plain, last.plain);
    section.push_back(jump(BPF_JSET, x32_bit, plain.size(), 0));
    section.insert(section.end(), plain.begin(), plain.end());
    append_check(section, last.x32);
    return section;
  }
  if (arch == AUDIT_ARCH_S390 || arch == AUDIT_ARCH_S390X) {
    // Numbers that the kernel does not know arrive there as 0, the long gone setup(2).
    section.push_back(jump(BPF_JEQ, 0, 0, 1));
    section.push_back(answer_enosys());
  }
  append_check(section, last.plain);
  return section;
}

}  // namespace

std::vector<sock_filter> enosys_stub(const std::map<uint32_t, LastSyscalls>& last) {
  std::vector<sock_filter> stub{load(offsetof(seccomp_data, arch))};
  for (const auto& [arch, numbers] : last) {
    if (numbers.plain < 0 && numbers.x32 < 0) continue;
    const std::vector<sock_filter> section = section_for(arch, numbers);
    stub.push_back(jump(BPF_JEQ, arch, 0, section.size()));
    stub.insert(stub.end(), section.begin(), section.end());
  }
  if (stub.size() == 1) return {};
  for (size_t at = 0; at < stub.size(); at++)
    if (stub[at].code == (BPF_JMP | BPF_JA)) stub[at].k = static_cast<uint32_t>(stub.size() - at - 1);
  return stub;
}

}  // namespace binding
