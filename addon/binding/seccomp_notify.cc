// SPDX-License-Identifier: Apache-2.0
// The supervisor's end of seccomp notifications: seccomp_unotify(2). Nothing here blocks: a notification is
// only received when poll(2) says that there is one.
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <napi.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <vector>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/seccomp.h"
#include "binding/throw.h"
#include "sys/calls.h"

// Linux 5.14; Debian 12's headers have it, older ones do not.
#ifndef SECCOMP_ADDFD_FLAG_SEND
#define SECCOMP_ADDFD_FLAG_SEND (1UL << 1)
#endif

namespace binding {

namespace {

// A kernel that is newer than our headers may have longer structures: it says how long (seccomp(2),
// SECCOMP_GET_NOTIF_SIZES), and writes as much.
struct Sizes {
  size_t notification = sizeof(seccomp_notif);
  size_t response = sizeof(seccomp_notif_resp);
};
const Sizes& sizes() {
  static const Sizes known = [] {
    Sizes out;
    seccomp_notif_sizes kernel{};
    if (::syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &kernel) == 0) {
      out.notification = std::max(out.notification, size_t{kernel.seccomp_notif});
      out.response = std::max(out.response, size_t{kernel.seccomp_notif_resp});
    }
    return out;
  }();
  return known;
}

// Aligned, and zeroed: the kernel refuses a buffer that is not.
template <typename Header>
class Buffer {
 public:
  explicit Buffer(size_t size) : words_((size + 7) / 8) {}
  Header* operator->() { return reinterpret_cast<Header*>(words_.data()); }
  Header* get() { return reinterpret_cast<Header*>(words_.data()); }

 private:
  std::vector<uint64_t> words_;
};

int control(int fd, unsigned long request, void* argument) {
  int result = 0;
  do result = ::ioctl(fd, request, argument);
  while (result < 0 && errno == EINTR);
  return result;
}

bool valid(int fd, uint64_t id) {
  return control(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

Napi::Value receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  if (arguments.thrown()) return env.Undefined();
  for (;;) {
    pollfd state{fd, POLLIN, 0};
    if (::poll(&state, 1, 0) < 0 && errno != EINTR) {
      throw_failure(env, sys::failure("poll", std::to_string(fd)));
      return env.Undefined();
    }
    if ((state.revents & POLLIN) == 0)
      // Nobody uses the filter any more (Linux 5.8): there will be none. Receiving would wait for ever.
      return Napi::String::New(env, (state.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0 ? "ended" : "none");
    Buffer<seccomp_notif> notification(sizes().notification);
    if (control(fd, SECCOMP_IOCTL_NOTIF_RECV, notification.get()) == 0) {
      auto out = Napi::Object::New(env);
      out.Set("id", Napi::BigInt::New(env, uint64_t{notification->id}));
      out.Set("pid", Napi::Number::New(env, notification->pid));
      out.Set("number", Napi::Number::New(env, notification->data.nr));
      out.Set("arch", Napi::Number::New(env, notification->data.arch));
      out.Set("instructionPointer", Napi::BigInt::New(env, uint64_t{notification->data.instruction_pointer}));
      auto list = Napi::Array::New(env, 6);
      for (uint32_t i = 0; i < 6; i++)
        list.Set(i, Napi::BigInt::New(env, uint64_t{notification->data.args[i]}));
      out.Set("args", list);
      return out;
    }
    // ENOENT: the caller was killed, or interrupted, between the two calls; perhaps there is another one.
    if (errno != ENOENT) {
      throw_failure(env, sys::failure("ioctl", std::to_string(fd) + ", SECCOMP_IOCTL_NOTIF_RECV"));
      return env.Undefined();
    }
  }
}

// False: the caller is gone, or was interrupted by a signal; nobody waits for the answer.
Napi::Value respond(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  const auto error = static_cast<int32_t>(arguments.integer(info[2], "errno", 0, 4095));
  const int64_t value = arguments.integer(info[3], "value", -9007199254740991, 9007199254740991);
  const bool proceed = arguments.boolean(info[4], "continue");
  if (arguments.thrown()) return env.Undefined();
  Buffer<seccomp_notif_resp> response(sizes().response);
  response->id = id;
  if (proceed) {
    response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  } else {
    response->error = -error;
    response->val = error == 0 ? value : 0;
  }
  if (control(fd, SECCOMP_IOCTL_NOTIF_SEND, response.get()) == 0) return Napi::Boolean::New(env, true);
  if (errno != ENOENT)
    throw_failure(env, sys::failure("ioctl", std::to_string(fd) + ", SECCOMP_IOCTL_NOTIF_SEND"));
  return Napi::Boolean::New(env, false);
}

Napi::Value is_valid(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  if (arguments.thrown()) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), valid(fd, id));
}

// The number in the caller; -1: the caller is gone.
Napi::Value add_fd(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  const int source = arguments.fd(info[2], "fd");
  const int64_t target = arguments.integer(info[3], "at", -1, 0x7fffffff);
  const bool close_on_exec = arguments.boolean(info[4], "closeOnExec");
  const bool send = arguments.boolean(info[5], "send");
  if (arguments.thrown()) return env.Undefined();
  seccomp_notif_addfd added{};
  added.id = id;
  added.srcfd = static_cast<uint32_t>(source);
  if (target >= 0) {
    added.flags |= SECCOMP_ADDFD_FLAG_SETFD;
    added.newfd = static_cast<uint32_t>(target);
  }
  if (close_on_exec) added.newfd_flags = O_CLOEXEC;
  if (send) added.flags |= SECCOMP_ADDFD_FLAG_SEND;
  const int number = control(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &added);
  if (number >= 0) return Napi::Number::New(env, number);
  if (errno != ENOENT)
    throw_failure(env, sys::failure("ioctl", std::to_string(fd) + ", SECCOMP_IOCTL_NOTIF_ADDFD"));
  return Napi::Number::New(env, -1);
}

// seccomp_unotify(2), "Caveats": the thread may be gone and its number somebody else's. So what was read
// counts only when the cookie is still valid afterwards.
Napi::Value read_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  const auto pid = static_cast<pid_t>(arguments.integer(info[2], "pid", 1, 0x7fffffff));
  const uint64_t address = arguments.bigint(info[3], "address");
  const auto size = static_cast<size_t>(arguments.integer(info[4], "size", 0, 1 << 20));
  if (arguments.thrown()) return env.Undefined();
  if (!valid(fd, id)) return env.Null();
  std::vector<char> bytes(size);
  const iovec local{bytes.data(), bytes.size()};
  const iovec remote{reinterpret_cast<void*>(address), size};
  const ssize_t got = size == 0 ? 0 : ::process_vm_readv(pid, &local, 1, &remote, 1, 0);
  const int error = errno;
  if (!valid(fd, id)) return env.Null();
  if (got < 0) {
    errno = error;
    throw_failure(env, sys::failure("process_vm_readv", std::to_string(pid)));
    return env.Undefined();
  }
  return Napi::Buffer<char>::Copy(env, bytes.data(), static_cast<size_t>(got));
}

// Through /proc/PID/mem, which is opened before the cookie is looked at: then it is the caller's memory for
// sure, and a write can hit nobody else's. The number of bytes; -1: the caller is gone.
Napi::Value write_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  const auto pid = static_cast<pid_t>(arguments.integer(info[2], "pid", 1, 0x7fffffff));
  const uint64_t address = arguments.bigint(info[3], "address");
  const std::string bytes = arguments.bytes(info[4], "bytes");
  if (arguments.thrown()) return env.Undefined();
  sys::Fd memory;
  const auto failed = sys::open_file(memory, "/proc/" + std::to_string(pid) + "/mem", O_WRONLY, 0);
  if (!valid(fd, id)) return Napi::Number::New(env, -1);
  if (failed) {
    throw_failure(env, *failed);
    return env.Undefined();
  }
  const ssize_t done = ::pwrite64(memory.get(), bytes.data(), bytes.size(), static_cast<off64_t>(address));
  if (done >= 0) return Napi::Number::New(env, static_cast<double>(done));
  throw_failure(env, sys::failure("pwrite", "/proc/" + std::to_string(pid) + "/mem"));
  return env.Undefined();
}

// For the time of one look-up this thread has the file-system identity of the caller, so that the kernel, and
// not we, decides what the caller may reach. The raw system calls change the calling thread alone,
// credentials(7); no JavaScript runs in between.
class FilesystemIdentity {
 public:
  FilesystemIdentity(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
    const long count = ::syscall(SYS_getgroups, 0, nullptr);
    former_.resize(count < 0 ? 0 : static_cast<size_t>(count));
    taken_ = ::syscall(SYS_getgroups, former_.size(), former_.data()) >= 0 &&
             ::syscall(SYS_setgroups, groups.size(), groups.data()) == 0;
    if (!taken_) return;
    gid_ = static_cast<gid_t>(::syscall(SYS_setfsgid, gid));
    uid_ = static_cast<uid_t>(::syscall(SYS_setfsuid, uid));
  }
  FilesystemIdentity(const FilesystemIdentity&) = delete;
  FilesystemIdentity& operator=(const FilesystemIdentity&) = delete;
  ~FilesystemIdentity() {
    if (!taken_) return;
    ::syscall(SYS_setfsuid, uid_);
    ::syscall(SYS_setfsgid, gid_);
    const long restored = ::syscall(SYS_setgroups, former_.size(), former_.data());
    // Going on as somebody else would be worse than not going on.
    if (restored != 0 || ::syscall(SYS_setfsuid, -1) != static_cast<long>(uid_) ||
        ::syscall(SYS_setfsgid, -1) != static_cast<long>(gid_))
      std::abort();
  }
  bool taken() const { return taken_; }

 private:
  bool taken_ = false;
  uid_t uid_ = 0;
  gid_t gid_ = 0;
  std::vector<gid_t> former_;
};

struct Node {
  std::string directory;
  std::string name;
  mode_t mode = 0;
  dev_t device = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

sys::Fd open_at(int directory, const char* path, uint64_t flags, uint64_t resolve) {
  open_how how{};
  how.flags = flags | O_PATH | O_CLOEXEC;
  how.resolve = resolve;
  return sys::Fd(static_cast<int>(::syscall(SYS_openat2, directory, path, &how, sizeof how)));
}

// Below the caller's root; nothing that is there is replaced. 0, or errno.
int make(int root, const Node& node) {
  sys::Fd parent;
  {
    const FilesystemIdentity caller(node.uid, node.gid, node.groups);
    if (!caller.taken()) return EPERM;
    parent = open_at(root, node.directory.c_str(), O_DIRECTORY, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
    if (!parent) return errno;
    if (::syscall(SYS_faccessat2, parent.get(), "", W_OK | X_OK, AT_EACCESS | AT_EMPTY_PATH) != 0)
      return errno;
  }
  // Without rights for anybody, so that it can be told from what may be put in its place.
  if (::mknodat(parent.get(), node.name.c_str(), node.mode & S_IFMT, node.device) != 0) return errno;
  const sys::Fd made = open_at(parent.get(), node.name.c_str(), O_NOFOLLOW, 0);
  if (!made) return errno;
  struct stat stat {};
  if (::fstat(made.get(), &stat) != 0) return errno;
  if (stat.st_mode != (node.mode & S_IFMT) || stat.st_nlink != 1 || stat.st_rdev != node.device)
    return ESTALE;
  if (::fchownat(made.get(), "", node.uid, node.gid, AT_EMPTY_PATH) != 0 ||
      ::chmod(("/proc/self/fd/" + std::to_string(made.get())).c_str(), node.mode & 0777) != 0)
    return errno;
  return 0;
}

// For a caller that may not make the node itself. The root is opened before the cookie is looked at. 0, or
// errno; -1: the caller is gone.
Napi::Value make_node(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int fd = arguments.fd(info[0], "listener");
  const uint64_t id = arguments.bigint(info[1], "id");
  const auto pid = static_cast<pid_t>(arguments.integer(info[2], "pid", 1, 0x7fffffff));
  Node node;
  node.directory = arguments.path(info[3], "directory");
  node.name = arguments.path(info[4], "name");
  node.mode = static_cast<mode_t>(arguments.integer(info[5], "mode", 0, 0177777));
  const auto major = static_cast<unsigned>(arguments.integer(info[6], "major", 0, 0xfff));
  const auto minor = static_cast<unsigned>(arguments.integer(info[7], "minor", 0, 0xfffff));
  node.device = ::makedev(major, minor);
  const std::string owner = arguments.bytes(info[8], "identity");
  if (owner.size() < 2 * sizeof(uint32_t) || owner.size() % sizeof(uint32_t) != 0)
    arguments.wrong("identity must be uid, gid and groups of 32 bits");
  if (node.name == "." || node.name == ".." || node.name.find('/') != std::string::npos)
    arguments.wrong("name must not be a path");
  if (arguments.thrown()) return env.Undefined();
  std::vector<uint32_t> ids(owner.size() / sizeof(uint32_t));
  std::memcpy(ids.data(), owner.data(), owner.size());
  node.uid = ids[0];
  node.gid = ids[1];
  node.groups.assign(ids.begin() + 2, ids.end());
  sys::Fd root;
  const auto failed = sys::open_file(root, "/proc/" + std::to_string(pid) + "/root", O_PATH | O_DIRECTORY, 0);
  if (!valid(fd, id)) return Napi::Number::New(env, -1);
  return Napi::Number::New(env, failed ? failed->error : make(root.get(), node));
}

// "mkdirat", or null for a number that this libseccomp does not know.
Napi::Value syscall_name(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const auto arch = static_cast<uint32_t>(arguments.integer(info[0], "arch", 0, 0xffffffff));
  const auto number = static_cast<int>(arguments.integer(info[1], "number", -0x80000000LL, 0x7fffffff));
  if (arguments.thrown()) return env.Undefined();
  const std::string name = seccomp_syscall_name(arch, number);
  if (name.empty()) return env.Null();
  return Napi::String::New(env, name);
}

// The version of Landlock's interface; 0: the kernel has none, or it is not switched on (landlock(7)).
Napi::Value landlock_abi(const Napi::CallbackInfo& info) {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return Napi::Number::New(info.Env(), version < 0 ? 0 : static_cast<double>(version));
}

}  // namespace

void export_seccomp_notify(Napi::Env env, Napi::Object& exports) {
  add<receive>(env, exports, "seccompReceive");
  add<respond>(env, exports, "seccompRespond");
  add<is_valid>(env, exports, "seccompValid");
  add<add_fd>(env, exports, "seccompAddFd");
  add<read_memory>(env, exports, "seccompReadMemory");
  add<write_memory>(env, exports, "seccompWriteMemory");
  add<make_node>(env, exports, "seccompMakeNode");
  add<syscall_name>(env, exports, "syscallName");
  add<landlock_abi>(env, exports, "landlockAbi");
}

}  // namespace binding
