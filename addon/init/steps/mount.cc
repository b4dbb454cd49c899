// SPDX-License-Identifier: Apache-2.0
#include <linux/mount.h>
#include <linux/openat2.h>
#include <sys/statfs.h>

#include "../copy_up.h"
#include "../filesystem.h"
#include "../mounts.h"
#include "../proc_target.h"
#include "../procfs.h"
#include "../rootfs.h"
#include "../views.h"
#include "steps.h"

namespace init {

namespace {

struct Request {
  const char* type;
  const char* source;
  const char* target;
  uint64_t flags;
  uint64_t cleared;
  const char* data;
  uint64_t recursive_set;
  uint64_t recursive_clear;
  bool copy_up;
  int tree = -1;  // the source, already cloned (an idmapped mount, which the parent has made)
  bool bind() const { return (flags & MS_BIND) != 0 || strcmp(type, "bind") == 0; }
  // proc and sysfs only on a real directory: a link there would mount them over another place
  // (CVE-2019-19921).
  bool no_links() const { return !bind() && (strcmp(type, "proc") == 0 || strcmp(type, "sysfs") == 0); }
};

constexpr uint64_t atime_flags = MS_NOATIME | MS_RELATIME | MS_STRICTATIME;
constexpr uint64_t attribute_flags =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NODIRATIME | MS_NOSYMFOLLOW | atime_flags;
constexpr uint64_t plain_attributes =
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSYMFOLLOW;

Result not_ordinary(Init& init, const Request& request) {
  Text<256> words;
  words.add("filesystem \"").add(request.type).add("\" must be mounted on ordinary directory");
  return init.because("ERR_ESCAPE", words.c_str());
}

Result open_target(Init& init, const Request& request, Make what, Fd& target) {
  if (!request.no_links()) return open_or_make(init, request.target, what, target);
  if (need_root(init) != Result::ok) return Result::failed;
  const int flags = O_PATH | O_NOFOLLOW | O_DIRECTORY;
  target = open_in_root(init, request.target, flags, RESOLVE_NO_SYMLINKS);
  if (!target && errno == ENOENT) {
    Fd made;
    if (open_or_make(init, request.target, what, made) != Result::ok) return Result::failed;
    target = open_in_root(init, request.target, flags, RESOLVE_NO_SYMLINKS);
  }
  if (target) return Result::ok;
  const bool ordinary = errno != ELOOP && errno != ENOTDIR;
  const Result result = init.failed("openat2", Raw{"rootfs"}, request.target, Raw{"O_PATH|O_DIRECTORY"},
                                    Raw{"RESOLVE_NO_SYMLINKS"});
  return ordinary ? result : not_ordinary(init, request);
}

// A bind mount starts with the attributes of its source; like mount -o remount,bind the given flags replace
// them all when there are any. Where the kernel has locked some (a mount from another user namespace), those
// that nobody asked to clear are kept.
Result apply_bind_flags(Init& init, const Request& request, int mount) {
  const uint64_t wanted = request.flags & attribute_flags;
  if (wanted == 0 && request.cleared == 0) return Result::ok;
  uint64_t set = mount_attributes(wanted);
  uint64_t clear = plain_attributes & ~set;
  // No word about atime: it stays as it is at the source.
  const bool atime = ((wanted | request.cleared) & (atime_flags | MS_NODIRATIME)) != 0;
  if (atime) clear |= MOUNT_ATTR__ATIME | (~set & MOUNT_ATTR_NODIRATIME);
  if (set_attributes(init, mount, set, clear, false, request.target) == Result::ok) return Result::ok;
  if (init.failure.error != EPERM) return Result::failed;
  clear = mount_attributes(request.cleared) & plain_attributes & ~set;
  return set_attributes(init, mount, set, clear, false, request.target);
}

// For mount(2). Without a word about atime the kernel keeps what is there, so what takes it back needs one.
uint64_t remount_flags(const Request& request) {
  const uint64_t wanted = request.flags & attribute_flags, about = atime_flags | MS_NODIRATIME;
  const uint64_t plain = (wanted & about) == 0 && (request.cleared & about) != 0 ? MS_RELATIME : 0;
  return MS_BIND | MS_REMOUNT | wanted | plain;
}

Result apply_after(Init& init, const Request& request, const Message& message, int mount) {
  if ((request.recursive_set | request.recursive_clear) != 0 &&
      set_attributes(init, mount, request.recursive_set, request.recursive_clear, true, request.target) !=
          Result::ok)
    return Result::failed;
  // After the attachment: a mount that lands below a shared one becomes shared by that.
  Result result = Result::ok;
  message.each_number(6, [&](uint64_t flags) {
    if (result == Result::ok) result = set_propagation(init, mount, flags, request.target);
  });
  return result;
}

Result remount(Init& init, const Request& request, const Message& message, Fd& target) {
  if (need_root(init) != Result::ok) return Result::failed;
  target = open_in_root(init, request.target, O_PATH);
  if (!target) return init.failed("openat2", Raw{"rootfs"}, request.target, Raw{"O_PATH"});
  if (check_proc_target(init, request.target, target.get(), true) != Result::ok) return Result::failed;
  const Result result = request.bind() ? apply_bind_flags(init, request, target.get())
                                       : classic_mount(init, request.source, target.get(), request.target,
                                                       request.type, request.flags, request.data);
  return result == Result::ok ? apply_after(init, request, message, target.get()) : result;
}

Result open_source(Init& init, const Request& request, Fd& tree) {
  const bool recursive = (request.flags & MS_REC) != 0;
  tree = Fd(call(SYS_open_tree, AT_FDCWD, request.source,
                 open_tree_clone | open_tree_cloexec | static_cast<unsigned>(recursive ? at_recursive : 0)));
  if (!tree)
    return init.failed("open_tree", request.source,
                       Raw{recursive ? "OPEN_TREE_CLONE|AT_RECURSIVE" : "OPEN_TREE_CLONE"});
  return Result::ok;
}

Result bind_detached(Init& init, const Request& request, Fd& target, Fd& tree) {
  if (request.tree >= 0)
    tree = Fd(request.tree);
  else if (open_source(init, request, tree) != Result::ok)
    return Result::failed;
  struct stat stat;
  struct statfs fs;
  if (fstat(tree.get(), &stat) < 0 || fstatfs(tree.get(), &fs) < 0)
    return init.failed("fstat", request.source);
  if (open_target(init, request, S_ISDIR(stat.st_mode) ? Make::directory : Make::file, target) != Result::ok)
    return Result::failed;
  if (check_proc_target(init, request.target, target.get(), is_procfs(fs)) != Result::ok)
    return Result::failed;
  const bool set = apply_bind_flags(init, request, tree.get()) == Result::ok;
  if (!set && init.failure.error != ENOSYS) return Result::failed;
  if (attach(init, tree.get(), target.get(), request.target) != Result::ok) return Result::failed;
  // The same descriptor is the attached mount now, which mount(2) can change.
  return set ? Result::ok
             : classic_mount(init, "", tree.get(), request.target, "", remount_flags(request), "");
}

Result bind_classic(Init& init, const Request& request, Fd& mount) {
  const Fd source(call(SYS_openat, AT_FDCWD, request.source, O_PATH | O_CLOEXEC));
  if (!source) return init.failed("open", request.source, Raw{"O_PATH"});
  struct stat stat;
  struct statfs fs;
  if (fstat(source.get(), &stat) < 0 || fstatfs(source.get(), &fs) < 0)
    return init.failed("fstat", request.source);
  Fd target;
  if (open_target(init, request, S_ISDIR(stat.st_mode) ? Make::directory : Make::file, target) != Result::ok)
    return Result::failed;
  if (check_proc_target(init, request.target, target.get(), is_procfs(fs)) != Result::ok)
    return Result::failed;
  Text<40> self;
  self.add("self/fd/").number(static_cast<uint64_t>(source.get()));
  if (classic_mount(init, self.c_str(), target.get(), request.target, "", MS_BIND | (request.flags & MS_REC),
                    "") != Result::ok ||
      open_mounted(init, request.target, target.get(), mount) != Result::ok)
    return Result::failed;
  const uint64_t wanted = request.flags & attribute_flags;
  if (wanted == 0 && request.cleared == 0) return Result::ok;
  return classic_mount(init, "", mount.get(), request.target, "", remount_flags(request), "");
}

Result bind(Init& init, const Request& request, const Message& message, Fd& mount) {
  Fd target;
  Result result = bind_detached(init, request, target, mount);
  if (result != Result::ok && denied(init) && request.tree < 0) result = bind_classic(init, request, mount);
  return result == Result::ok ? apply_after(init, request, message, mount.get()) : result;
}

// tmpfs without mode= keeps the mode of the directory that it covers, as runc does.
const char* inherited_mode(Init& init, const Request& request, int target, bool made) {
  if (made || strcmp(request.type, "tmpfs") != 0 || strncmp(request.data, "mode=", 5) == 0 ||
      strstr(request.data, ",mode=") != nullptr)
    return nullptr;
  struct stat stat;
  if (fstat(target, &stat) < 0) return nullptr;
  Text<16> mode;
  mode.number(stat.st_mode & 07777, 8);
  return init.arena.text({reinterpret_cast<const uint8_t*>(mode.c_str()), mode.size()});
}

Result filesystem_classic(Init& init, const Request& request, const Filesystem& filesystem, int target,
                          Fd& mount) {
  char* data = static_cast<char*>(init.arena.take(strlen(filesystem.data) + 32));
  strcpy(data, filesystem.data);
  if (filesystem.mode != nullptr) strcat(strcat(data, data[0] == 0 ? "mode=" : ",mode="), filesystem.mode);
  if (classic_mount(init, filesystem.source, target, request.target, filesystem.type, filesystem.flags,
                    data) != Result::ok)
    return Result::failed;
  return open_mounted(init, request.target, target, mount);
}

Result label_root(Init& init, const Request& request, int mount, const char* label) {
  // What fsmount gives is O_PATH, which fsetxattr does not take.
  const Fd root(call(SYS_openat, mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) return init.failed("openat", request.target, Raw{"O_DIRECTORY"});
  if (call(SYS_fsetxattr, root.get(), "security.selinux", label, strlen(label), 0) == 0) return Result::ok;
  (void)init.failed("fsetxattr", request.target, "security.selinux", label);
  return init.because("ERR_LABEL", "");
}

Result new_filesystem(Init& init, const Request& request, const Message& message, Fd& mount) {
  Fd target;
  bool made = false;
  if (request.no_links()) {
    if (open_target(init, request, Make::directory, target) != Result::ok) return Result::failed;
  } else if (open_or_make(init, request.target, Make::directory, target, &made) != Result::ok) {
    return Result::failed;
  }
  if (check_proc_target(init, request.target, target.get(), strcmp(request.type, "proc") == 0) != Result::ok)
    return Result::failed;
  const Filesystem filesystem = {request.type, request.source, request.flags, request.data,
                                 inherited_mode(init, request, target.get(), made)};
  bool classic = needs_classic(filesystem);
  Result result = Result::ok;
  if (!classic) {
    result = make_mount(init, filesystem, mount);
    if (result == Result::ok && request.copy_up &&
        copy_up(init, target.get(), mount.get(), request.target) != Result::ok)
      return Result::failed;
    if (result == Result::ok) result = attach(init, mount.get(), target.get(), request.target);
    classic = result != Result::ok && denied(init);
  }
  if (classic) {
    result = filesystem_classic(init, request, filesystem, target.get(), mount);
    if (result == Result::ok && request.copy_up)
      result = copy_up(init, target.get(), mount.get(), request.target);
  }
  if (result == Result::ok && message.has(14))
    result = label_root(init, request, mount.get(), init.text(message, 14));
  return result == Result::ok ? apply_after(init, request, message, mount.get()) : result;
}

}  // namespace

Result steps::mount(Init& init, const Message& message) {
  Request request = {init.text(message, 1), init.text(message, 2), init.text(message, 3),
                     message.number(4),     message.number(5),     init.text(message, 7),
                     message.number(8),     message.number(9),     message.flag(10)};
  if (message.has(15)) request.tree = init.first_slot + static_cast<int>(message.u32(15));
  // Opened by the parent for the root of a user namespace.
  if (message.has(16)) {
    request.tree = take_view(init, message.u32(16)).release();
    if (request.tree < 0) return init.refused(EBADF, "", "the parent has not opened the source");
  }
  if (message.flag(12)) request.flags &= ~static_cast<uint64_t>(MS_RDONLY);
  forget_parent(init);
  init.fresh = false;
  Fd mount;
  Result result;
  if ((request.flags & MS_REMOUNT) != 0)
    result = remount(init, request, message, mount);
  else if (request.bind())
    result = bind(init, request, message, mount);
  else
    result = new_filesystem(init, request, message, mount);
  // Anywhere else the mount may cover the directory, or the way to it.
  if (!init.fresh) init.made_parent.reset();
  const int error = init.failure.error;
  if (result != Result::ok && message.flag(11) && (error == ENOENT || error == ENODEV || error == EINVAL)) {
    init.failure.detail.clear();
    init.failure.reason = "";
    result = Result::ok;
  }
  if (result == Result::ok && mount && strcmp(request.target, "/proc") == 0)
    init.proc_mount = Fd(call(SYS_fcntl, mount.get(), F_DUPFD_CLOEXEC, 3));
  if (result == Result::ok && mount && strcmp(request.target, "/sys") == 0)
    init.sys_mount = Fd(call(SYS_fcntl, mount.get(), F_DUPFD_CLOEXEC, 3));
  if (result != Result::ok || !message.flag(12)) return result;
  if (init.late_count == Init::max_late)
    return init.refused(E2BIG, "ERR_UNSUPPORTED", "more than 256 mounts that become read-only late");
  init.late[init.late_count++] = static_cast<Fd&&>(mount);
  return Result::ok;
}

}  // namespace init
