// SPDX-License-Identifier: Apache-2.0
#include "binding/seccomp.h"

#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "binding/enosys_stub.h"
#include "sys/error.h"
#include "sys/fd.h"

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

namespace binding {

namespace {

// The functions that we use of libseccomp 2.5 and later. Never unloaded: it keeps tables of its own.
struct Library {
  decltype(&::seccomp_version) version = nullptr;
  decltype(&::seccomp_init) init = nullptr;
  decltype(&::seccomp_release) release = nullptr;
  decltype(&::seccomp_arch_native) arch_native = nullptr;
  decltype(&::seccomp_arch_add) arch_add = nullptr;
  decltype(&::seccomp_attr_set) attr_set = nullptr;
  decltype(&::seccomp_syscall_resolve_name) resolve = nullptr;
  decltype(&::seccomp_syscall_resolve_name_arch) resolve_arch = nullptr;
  decltype(&::seccomp_syscall_resolve_num_arch) name_of = nullptr;
  decltype(&::seccomp_rule_add_array) rule_add = nullptr;
  decltype(&::seccomp_export_bpf) export_bpf = nullptr;
  std::string error;
};

template <typename Function>
void find(Library& library, void* handle, const char* name, Function& out) {
  out = reinterpret_cast<Function>(::dlsym(handle, name));
  if (out == nullptr) library.error = std::string("libseccomp has no ") + name;
}

Library load_library() {
  Library library;
  void* handle = ::dlopen("libseccomp.so.2", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* text = ::dlerror();
    library.error = text == nullptr ? "libseccomp.so.2 cannot be loaded" : text;
    return library;
  }
  find(library, handle, "seccomp_version", library.version);
  find(library, handle, "seccomp_init", library.init);
  find(library, handle, "seccomp_release", library.release);
  find(library, handle, "seccomp_arch_native", library.arch_native);
  find(library, handle, "seccomp_arch_add", library.arch_add);
  find(library, handle, "seccomp_attr_set", library.attr_set);
  find(library, handle, "seccomp_syscall_resolve_name", library.resolve);
  find(library, handle, "seccomp_syscall_resolve_name_arch", library.resolve_arch);
  find(library, handle, "seccomp_syscall_resolve_num_arch", library.name_of);
  find(library, handle, "seccomp_rule_add_array", library.rule_add);
  find(library, handle, "seccomp_export_bpf", library.export_bpf);
  return library;
}

template <typename Value>
struct Row {
  const char* name;
  Value value;
};

template <typename Value, size_t count>
const Value* lookup(const std::array<Row<Value>, count>& table, const std::string& name) {
  for (const auto& row : table)
    if (name == row.name) return &row.value;
  return nullptr;
}

// The token of libseccomp and the value that the kernel reports: they differ for x32.
struct Architecture {
  uint32_t token;
  uint32_t audit;
};
constexpr std::array<Row<Architecture>, 19> architectures{{
    {"SCMP_ARCH_X86", {SCMP_ARCH_X86, AUDIT_ARCH_I386}},
    {"SCMP_ARCH_X86_64", {SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64}},
    {"SCMP_ARCH_X32", {SCMP_ARCH_X32, AUDIT_ARCH_X86_64}},
    {"SCMP_ARCH_ARM", {SCMP_ARCH_ARM, AUDIT_ARCH_ARM}},
    {"SCMP_ARCH_AARCH64", {SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64}},
    {"SCMP_ARCH_MIPS", {SCMP_ARCH_MIPS, AUDIT_ARCH_MIPS}},
    {"SCMP_ARCH_MIPS64", {SCMP_ARCH_MIPS64, AUDIT_ARCH_MIPS64}},
    {"SCMP_ARCH_MIPS64N32", {SCMP_ARCH_MIPS64N32, AUDIT_ARCH_MIPS64N32}},
    {"SCMP_ARCH_MIPSEL", {SCMP_ARCH_MIPSEL, AUDIT_ARCH_MIPSEL}},
    {"SCMP_ARCH_MIPSEL64", {SCMP_ARCH_MIPSEL64, AUDIT_ARCH_MIPSEL64}},
    {"SCMP_ARCH_MIPSEL64N32", {SCMP_ARCH_MIPSEL64N32, AUDIT_ARCH_MIPSEL64N32}},
    {"SCMP_ARCH_PPC", {SCMP_ARCH_PPC, AUDIT_ARCH_PPC}},
    {"SCMP_ARCH_PPC64", {SCMP_ARCH_PPC64, AUDIT_ARCH_PPC64}},
    {"SCMP_ARCH_PPC64LE", {SCMP_ARCH_PPC64LE, AUDIT_ARCH_PPC64LE}},
    {"SCMP_ARCH_S390", {SCMP_ARCH_S390, AUDIT_ARCH_S390}},
    {"SCMP_ARCH_S390X", {SCMP_ARCH_S390X, AUDIT_ARCH_S390X}},
    {"SCMP_ARCH_PARISC", {SCMP_ARCH_PARISC, AUDIT_ARCH_PARISC}},
    {"SCMP_ARCH_PARISC64", {SCMP_ARCH_PARISC64, AUDIT_ARCH_PARISC64}},
    {"SCMP_ARCH_RISCV64", {SCMP_ARCH_RISCV64, AUDIT_ARCH_RISCV64}},
}};

constexpr std::array<Row<scmp_compare>, 7> operators{{
    {"SCMP_CMP_NE", SCMP_CMP_NE},
    {"SCMP_CMP_LT", SCMP_CMP_LT},
    {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_EQ", SCMP_CMP_EQ},
    {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT},
    {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
}};

constexpr std::array<Row<uint32_t>, 4> flags{{
    {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC},
    {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG},
    {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW},
    {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV},
}};

constexpr std::array<Row<uint32_t>, 9> actions{{
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_NOTIFY", SCMP_ACT_NOTIFY},
}};

// EPERM when the profile gives no number, as the specification says.
bool action_of(const std::string& name, std::optional<unsigned> errno_ret, uint32_t& out) {
  const uint32_t* found = lookup(actions, name);
  if (found == nullptr) return false;
  out = *found;
  if (out == SCMP_ACT_ERRNO(0) || out == SCMP_ACT_TRACE(0)) out |= errno_ret.value_or(EPERM) & 0xffffU;
  return true;
}

// A profile of more rules gets a binary tree instead of a list; libseccomp 2.5 cannot do it for none (runc's
// threshold).
constexpr size_t rules_for_tree = 32;
constexpr size_t most_instructions = BPF_MAXINSNS;

std::string element(const char* name, size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

class Compiler {
 public:
  Compiler(const Library& library, const SeccompProfile& profile)
      : library_(library), profile_(profile), context_(nullptr, library.release) {}

  std::optional<SeccompError> run(SeccompProgram& out) {
    if (!action_of(profile_.default_action, profile_.default_errno_ret, default_action_))
      return wrong("defaultAction", "unknown action " + profile_.default_action);
    if (default_action_ == SCMP_ACT_NOTIFY)
      return wrong("defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action");
    context_.reset(library_.init(default_action_));
    if (!context_) return wrong("defaultAction", "libseccomp refuses " + profile_.default_action);
    if (auto error = add_architectures()) return error;
    if (auto error = read_flags(out)) return error;
    size_t names = 0;
    for (const SeccompRule& rule : profile_.rules) names += rule.names.size();
    // Older libraries do not know the attribute; the list is only slower.
    if (names > rules_for_tree) (void)library_.attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);
    for (size_t i = 0; i < profile_.rules.size(); i++)
      if (auto error = add_rule(profile_.rules[i], element("syscalls", i))) return error;
    if (notify_) out.flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // The kernel refuses both together, since both want the return value; one thread needs no TSYNC.
    if (notify_)
      out.flags &= ~static_cast<uint32_t>(SECCOMP_FILTER_FLAG_TSYNC);
    else if ((out.flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) != 0)
      return wrong("flags", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY");
    return emit(out);
  }

 private:
  static SeccompError wrong(std::string field, std::string message) {
    return SeccompError{std::move(field), std::move(message)};
  }
  static SeccompError refused(std::string field, const char* call, int result) {
    return wrong(std::move(field), std::string(call) + ": " + sys::errno_name(-result));
  }

  std::optional<SeccompError> add_architectures() {
    const uint32_t native = library_.arch_native();
    for (const auto& row : architectures)
      if (row.value.token == native) used_.push_back(row.value);
    for (size_t i = 0; i < profile_.architectures.size(); i++) {
      const std::string& name = profile_.architectures[i];
      if (name == "SCMP_ARCH_NATIVE") continue;
      const Architecture* found = lookup(architectures, name);
      if (found == nullptr) return wrong(element("architectures", i), "unknown architecture " + name);
      const int result = library_.arch_add(context_.get(), found->token);
      // The native one is there from the start, and a name may stand twice.
      if (result == -EEXIST) continue;
      if (result != 0) return refused(element("architectures", i), "seccomp_arch_add", result);
      used_.push_back(*found);
    }
    return {};
  }

  std::optional<SeccompError> read_flags(SeccompProgram& out) {
    // runc's default: without it every process with a filter pays for the speculation mitigation.
    if (!profile_.flags) {
      out.flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW;
      return {};
    }
    for (size_t i = 0; i < profile_.flags->size(); i++) {
      const uint32_t* found = lookup(flags, (*profile_.flags)[i]);
      if (found == nullptr) return wrong(element("flags", i), "unknown flag " + (*profile_.flags)[i]);
      out.flags |= *found;
    }
    return {};
  }

  std::optional<SeccompError> conditions_of(const SeccompRule& rule, const std::string& field,
                                            std::vector<scmp_arg_cmp>& out, bool& repeated) {
    std::array<int, 6> seen{};
    for (size_t i = 0; i < rule.arguments.size(); i++) {
      const SeccompArgument& argument = rule.arguments[i];
      const std::string where = field + "." + element("args", i);
      if (argument.index >= seen.size()) return wrong(where + ".index", "a system call has arguments 0 to 5");
      const scmp_compare* op = lookup(operators, argument.op);
      if (op == nullptr) return wrong(where + ".op", "unknown operator " + argument.op);
      if (++seen[argument.index] > 1) repeated = true;
      out.push_back({argument.index, *op, argument.value, argument.value_two});
    }
    return {};
  }

  std::optional<SeccompError> add_rule(const SeccompRule& rule, const std::string& field) {
    uint32_t action = 0;
    if (!action_of(rule.action, rule.errno_ret, action))
      return wrong(field + ".action", "unknown action " + rule.action);
    std::vector<scmp_arg_cmp> conditions;
    bool repeated = false;
    if (auto error = conditions_of(rule, field, conditions, repeated)) return error;
    for (size_t i = 0; i < rule.names.size(); i++) {
      const std::string where = field + "." + element("names", i);
      const std::string& name = rule.names[i];
      if (name.empty()) return wrong(where, "empty string is not a valid syscall");
      // init reports with it after the filter is loaded; answered by nobody yet, it would wait for ever.
      if (action == SCMP_ACT_NOTIFY && name == "write")
        return wrong(where, "SCMP_ACT_NOTIFY cannot be used for the write syscall");
      if (action == SCMP_ACT_NOTIFY) notify_ = true;
      remember(name);
      // libseccomp refuses a rule that says what the default says.
      if (action == default_action_) continue;
      const int number = library_.resolve(name.c_str());
      // Unknown to this libseccomp: newer than it, or of another architecture.
      if (number == __NR_SCMP_ERROR) continue;
      if (auto error = add_to_filter(action, number, conditions, repeated, where)) return error;
    }
    return {};
  }

  std::optional<SeccompError> add_to_filter(uint32_t action, int number,
                                            const std::vector<scmp_arg_cmp>& conditions, bool repeated,
                                            const std::string& where) {
    // libseccomp takes one condition for each argument: several on one become rules of their own (any may
    // match), as in runc.
    if (repeated) {
      for (const scmp_arg_cmp& condition : conditions) {
        const int result = library_.rule_add(context_.get(), action, number, 1, &condition);
        if (result != 0) return refused(where, "seccomp_rule_add", result);
      }
      return {};
    }
    const int result = library_.rule_add(context_.get(), action, number,
                                         static_cast<unsigned>(conditions.size()), conditions.data());
    if (result != 0) return refused(where, "seccomp_rule_add", result);
    return {};
  }

  void remember(const std::string& name) {
    for (const Architecture& architecture : used_) {
      const int number = library_.resolve_arch(architecture.token, name.c_str());
      // Below zero: a name that this architecture does not have.
      if (number < 0) continue;
      LastSyscalls& last = last_[architecture.audit];
      int& highest = architecture.token == SCMP_ARCH_X32 ? last.x32 : last.plain;
      if (number > highest) highest = number;
    }
  }

  std::optional<SeccompError> emit(SeccompProgram& out) {
    const sys::Fd memory(::memfd_create("libcontainer-seccomp", MFD_CLOEXEC));
    if (!memory) return wrong("", "memfd_create: " + sys::errno_name(errno));
    const int result = library_.export_bpf(context_.get(), memory.get());
    if (result != 0) return refused("", "seccomp_export_bpf", result);
    const off_t size = ::lseek(memory.get(), 0, SEEK_END);
    if (size <= 0 || size % static_cast<off_t>(sizeof(sock_filter)) != 0)
      return wrong("", "libseccomp exported no program");
    std::string filter(static_cast<size_t>(size), '\0');
    if (::pread(memory.get(), filter.data(), filter.size(), 0) != size)
      return wrong("", "pread: " + sys::errno_name(errno));
    // What allows unknown calls already, or asks a tracer, needs no stub.
    const bool allows = default_action_ == SCMP_ACT_ALLOW || default_action_ == SCMP_ACT_LOG ||
                        (default_action_ & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_TRACE;
    if (!allows) {
      const std::vector<sock_filter> stub = enosys_stub(last_);
      out.instructions.assign(reinterpret_cast<const char*>(stub.data()), stub.size() * sizeof(sock_filter));
    }
    out.instructions += filter;
    if (out.instructions.size() / sizeof(sock_filter) > most_instructions)
      return wrong("syscalls",
                   "the program has more than " + std::to_string(most_instructions) + " instructions");
    return {};
  }

  const Library& library_;
  const SeccompProfile& profile_;
  std::unique_ptr<void, decltype(&::seccomp_release)> context_;
  uint32_t default_action_ = 0;
  bool notify_ = false;
  std::vector<Architecture> used_;
  std::map<uint32_t, LastSyscalls> last_;
};

}  // namespace

std::optional<SeccompError> compile_seccomp(const SeccompProfile& profile, SeccompProgram& out) {
  const Library library = load_library();
  if (!library.error.empty()) return SeccompError{"", library.error};
  return Compiler(library, profile).run(out);
}

std::string seccomp_syscall_name(uint32_t arch, int number) {
  const Library library = load_library();
  if (!library.error.empty()) return {};
  // The kernel reports x32 as x86-64 with a bit in the number (asm/unistd.h).
  constexpr int x32_bit = 1 << 30;
  const bool x32 = arch == AUDIT_ARCH_X86_64 && (number & x32_bit) != 0;
  for (const auto& row : architectures) {
    if (row.value.audit != arch || (row.value.token == SCMP_ARCH_X32) != x32) continue;
    char* name = library.name_of(row.value.token, number);
    if (name == nullptr) return {};
    std::string out = name;
    std::free(name);
    return out;
  }
  return {};
}

std::string seccomp_library_version() {
  const Library library = load_library();
  if (!library.error.empty()) return {};
  const scmp_version* version = library.version();
  if (version == nullptr) return {};
  return std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
         std::to_string(version->micro);
}

}  // namespace binding
