// SPDX-License-Identifier: Apache-2.0
#include "binding/device_program.h"

#include <linux/bpf.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstring>
#include <mutex>
#include <vector>

#include "sys/calls.h"

namespace binding {

namespace {

// BPF_PROG_QUERY of kernels 6.17 to 7.1 writes past a short attribute: always the whole structure, with room
// behind it.
struct Attribute {
  bpf_attr attr;
  char room[128];
  Attribute() { std::memset(this, 0, sizeof *this); }
};

int bpf(bpf_cmd command, Attribute& attribute) {
  long result = -1;
  do result = ::syscall(SYS_bpf, command, &attribute.attr, sizeof attribute.attr);
  while (result < 0 && (errno == EINTR || (errno == EAGAIN && command == BPF_PROG_LOAD)));
  return static_cast<int>(result);
}

uint64_t address(const void* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

int load(std::string_view program, std::string* log) {
  Attribute attribute;
  attribute.attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attribute.attr.insn_cnt = static_cast<uint32_t>(program.size() / sizeof(bpf_insn));
  attribute.attr.insns = address(program.data());
  attribute.attr.license = address("Apache");
  attribute.attr.expected_attach_type = BPF_CGROUP_DEVICE;
  if (log != nullptr) {
    attribute.attr.log_level = 1;
    attribute.attr.log_size = static_cast<uint32_t>(log->size());
    attribute.attr.log_buf = address(log->data());
  }
  return bpf(BPF_PROG_LOAD, attribute);
}

// Before 5.11 programs counted against RLIMIT_MEMLOCK. Only after a refusal, and tolerating one: raising
// needs CAP_SYS_RESOURCE, and newer kernels do not need it.
void raise_memlock() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

sys::Status load_program(sys::Fd& out, std::string_view program) {
  int fd = load(program, nullptr);
  if (fd < 0 && errno == EPERM) {
    rlimit former{};
    const bool known = ::getrlimit(RLIMIT_MEMLOCK, &former) == 0;
    raise_memlock();
    fd = load(program, nullptr);
    const int error = errno;
    // The limit belongs to the host process.
    if (known) (void)::setrlimit(RLIMIT_MEMLOCK, &former);
    errno = error;
  }
  if (fd >= 0) {
    out.reset(fd);
    return {};
  }
  sys::Failure failed = sys::failure("bpf", "BPF_PROG_LOAD");
  // Once more for the verifier's words.
  std::string log(16384, '\0');
  const int again = load(program, &log);
  if (again >= 0) {
    out.reset(again);
    return {};
  }
  log.resize(std::strlen(log.c_str()));
  if (!log.empty()) failed.args += ", " + sys::quoted(log.substr(0, 2048));
  return failed;
}

sys::Status attached_programs(std::vector<uint32_t>& out, int directory, const std::string& cgroup) {
  uint32_t room = 64;
  for (;;) {
    out.assign(room, 0);
    Attribute attribute;
    attribute.attr.query.target_fd = static_cast<uint32_t>(directory);
    attribute.attr.query.attach_type = BPF_CGROUP_DEVICE;
    attribute.attr.query.prog_ids = address(out.data());
    attribute.attr.query.prog_cnt = room;
    if (bpf(BPF_PROG_QUERY, attribute) == 0) {
      out.resize(attribute.attr.query.prog_cnt);
      return {};
    }
    if (errno != ENOSPC || room >= 4096)
      return sys::failure("bpf", "BPF_PROG_QUERY, " + sys::quoted(cgroup), cgroup);
    room *= 2;
  }
}

sys::Status detach(int directory, int program, const std::string& cgroup) {
  Attribute attribute;
  attribute.attr.target_fd = static_cast<uint32_t>(directory);
  attribute.attr.attach_bpf_fd = static_cast<uint32_t>(program);
  attribute.attr.attach_type = BPF_CGROUP_DEVICE;
  if (bpf(BPF_PROG_DETACH, attribute) == 0 || errno == ENOENT) return {};
  return sys::failure("bpf", "BPF_PROG_DETACH, " + sys::quoted(cgroup), cgroup);
}

int program_by_id(uint32_t id) {
  Attribute attribute;
  attribute.attr.prog_id = id;
  return bpf(BPF_PROG_GET_FD_BY_ID, attribute);
}

}  // namespace

sys::Status attach_device_program(const std::string& cgroup, std::string_view program) {
  if (program.empty() || program.size() % sizeof(bpf_insn) != 0) {
    errno = EINVAL;
    return sys::failure("bpf", "BPF_PROG_LOAD, " + std::to_string(program.size()) + " bytes", cgroup);
  }
  sys::Fd directory;
  if (auto failed = sys::open_file(directory, cgroup, O_RDONLY | O_DIRECTORY)) return failed;
  sys::Fd loaded;
  if (auto failed = load_program(loaded, program)) return failed;
  std::vector<uint32_t> ids;
  if (auto failed = attached_programs(ids, directory.get(), cgroup)) return failed;
  std::vector<sys::Fd> former;
  for (const uint32_t id : ids) {
    // ENOENT: it went away meanwhile.
    sys::Fd fd(program_by_id(id));
    if (fd)
      former.push_back(std::move(fd));
    else if (errno != ENOENT)
      return sys::failure("bpf", "BPF_PROG_GET_FD_BY_ID, " + std::to_string(id), cgroup);
  }
  Attribute attribute;
  attribute.attr.target_fd = static_cast<uint32_t>(directory.get());
  attribute.attr.attach_bpf_fd = static_cast<uint32_t>(loaded.get());
  attribute.attr.attach_type = BPF_CGROUP_DEVICE;
  attribute.attr.attach_flags = BPF_F_ALLOW_MULTI;
  bool replaced = false;
  if (former.size() == 1) {
    // Kernel 5.6. In one step, so that there is no moment without rules and none with both (both must allow).
    Attribute replacing = attribute;
    replacing.attr.attach_flags |= BPF_F_REPLACE;
    replacing.attr.replace_bpf_fd = static_cast<uint32_t>(former[0].get());
    replaced = bpf(BPF_PROG_ATTACH, replacing) == 0;
    // EINVAL: the old one was attached without BPF_F_ALLOW_MULTI, or the kernel has no BPF_F_REPLACE.
    if (!replaced && errno != EINVAL && errno != ENOENT)
      return sys::failure("bpf", "BPF_PROG_ATTACH, BPF_F_REPLACE, " + sys::quoted(cgroup), cgroup);
  }
  if (replaced) return {};
  if (bpf(BPF_PROG_ATTACH, attribute) != 0)
    return sys::failure("bpf", "BPF_PROG_ATTACH, " + sys::quoted(cgroup), cgroup);
  for (const sys::Fd& old : former)
    if (auto failed = detach(directory.get(), old.get(), cgroup)) return failed;
  return {};
}

}  // namespace binding
