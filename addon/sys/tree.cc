// SPDX-License-Identifier: Apache-2.0
#include "sys/tree.h"

#include <dirent.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <cstring>
#include <memory>

namespace sys {

namespace {

constexpr uint64_t in_root = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;

Fd resolve(int directory, const std::string& path, int flags, uint64_t how_far) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = how_far;
  // EAGAIN: a rename elsewhere raced with a ".." of a link, openat2(2).
  for (unsigned tries = 0;; tries++) {
    Fd fd(static_cast<int>(
        ::syscall(SYS_openat2, directory, path.empty() ? "." : path.c_str(), &how, sizeof how)));
    if (fd || (errno != EAGAIN && errno != EINTR) || tries > 1000) return fd;
  }
}

Fd open_at(int directory, const std::string& name, int flags) {
  return Fd(::openat(directory, name.c_str(), flags | O_CLOEXEC));
}

struct Split {
  std::string parent;
  std::string name;
};

Split split(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// The caller has cleaned the path; what it has overlooked ends here.
Status check_path(const std::string& path) {
  const std::string all = "/" + path + "/";
  if (path.find('\0') == std::string::npos && (path.empty() || all.find("//") == std::string::npos) &&
      all.find("/./") == std::string::npos && all.find("/../") == std::string::npos)
    return {};
  errno = EINVAL;
  return failure("openat2", quoted(path), path);
}

// A parent directory, made when it is missing. One component per round from the first that is missing.
Status open_parent(Fd& out, int root, const std::string& path, bool make) {
  out = resolve(root, path, O_PATH | O_DIRECTORY, in_root);
  if (out) return {};
  if (errno != ENOENT || !make) return failure("openat2", quoted(path) + ", RESOLVE_IN_ROOT", path);
  for (size_t end = 0; end != std::string::npos;) {
    end = path.find('/', end + 1);
    const std::string prefix = path.substr(0, end);
    out = resolve(root, prefix, O_PATH | O_DIRECTORY, in_root);
    if (out) continue;
    if (errno != ENOENT) return failure("openat2", quoted(prefix) + ", RESOLVE_IN_ROOT", path);
    const auto [above, name] = split(prefix);
    const Fd parent = resolve(root, above, O_PATH | O_DIRECTORY, in_root);
    if (!parent) return failure("openat2", quoted(above) + ", RESOLVE_IN_ROOT", path);
    // EEXIST: a link to nothing. Nothing is made where it points.
    if (::mkdirat(parent.get(), name.c_str(), 0755) != 0) return failure("mkdirat", quoted(prefix), path);
    out = open_at(parent.get(), name, directory_flags);
    // The creation mask of this process is its own affair.
    if (!out || ::fchmod(out.get(), 0755) != 0) return failure("openat", quoted(prefix), path);
  }
  return {};
}

// Takes away all that is no directory; `name`: the first directory that is met.
Status clear_files(int directory, std::string& name) {
  name.clear();
  const int copy = ::openat(directory, ".", directory_flags | O_CLOEXEC);
  if (copy < 0) return failure("openat", "\".\"");
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(copy), ::closedir);
  if (!entries) {
    ::close(copy);
    return failure("fdopendir", "\".\"");
  }
  while (const dirent* entry = ::readdir(entries.get())) {
    if (std::strcmp(entry->d_name, ".") == 0 || std::strcmp(entry->d_name, "..") == 0) continue;
    if (::unlinkat(directory, entry->d_name, 0) == 0 || errno == ENOENT) continue;
    // EPERM is what POSIX wants for a directory, EISDIR what Linux says, unlink(2).
    if (errno != EISDIR && errno != EPERM) return failure("unlinkat", quoted(entry->d_name));
    name = entry->d_name;
    return {};
  }
  return {};
}

struct Above {
  std::string name;
  dev_t device;
  ino_t inode;
};

// Down into the first directory, up when nothing is left: one descriptor however deep it goes, since an
// archive can make a tree deeper than a path or a stack is long.
Status clear_directory(Fd at) {
  std::vector<Above> above;
  for (;;) {
    std::string name;
    if (auto failed = clear_files(at.get(), name)) return failed;
    struct stat stat {};
    if (!name.empty()) {
      if (::fstat(at.get(), &stat) != 0) return failure("fstat", quoted(name));
      above.push_back({name, stat.st_dev, stat.st_ino});
      Fd below = open_at(at.get(), name, directory_flags);
      if (!below) return failure("openat", quoted(name));
      at = std::move(below);
      continue;
    }
    if (above.empty()) return {};
    Fd up = open_at(at.get(), "..", directory_flags);
    const Above& expected = above.back();
    if (!up || ::fstat(up.get(), &stat) != 0) return failure("openat", "\"..\"");
    if (stat.st_dev != expected.device || stat.st_ino != expected.inode) {
      errno = EXDEV;
      return failure("openat", "\"..\"");
    }
    at = std::move(up);
    if (::unlinkat(at.get(), expected.name.c_str(), AT_REMOVEDIR) != 0)
      return failure("unlinkat", quoted(expected.name) + ", AT_REMOVEDIR");
    above.pop_back();
  }
}

Status remove_at(int parent, const std::string& name, const std::string& path) {
  if (::unlinkat(parent, name.c_str(), 0) == 0 || errno == ENOENT) return {};
  if (errno != EISDIR && errno != EPERM) return failure("unlinkat", quoted(path), path);
  Fd directory = open_at(parent, name, directory_flags);
  if (!directory) return failure("openat", quoted(path), path);
  if (auto failed = clear_directory(std::move(directory))) return failed;
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) != 0)
    return failure("unlinkat", quoted(path) + ", AT_REMOVEDIR", path);
  return {};
}

Status make_directory(TreeMade& out, int parent, const std::string& name, const TreeEntry& entry) {
  if (::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST)
    return failure("mkdirat", quoted(entry.path), entry.path);
  const Fd fd = open_at(parent, name, directory_flags);
  struct stat stat {};
  if (!fd || ::fstat(fd.get(), &stat) != 0) return failure("openat", quoted(entry.path), entry.path);
  // Who is not root must be able to fill it; finish_entry says what it is in the end.
  if ((stat.st_mode & 0700) != 0700 && ::fchmod(fd.get(), (stat.st_mode & 07777) | 0700) != 0)
    return failure("fchmod", quoted(entry.path), entry.path);
  out.inode = stat.st_ino;
  return {};
}

// A link within the tree: both names are single components of directories that were resolved in it.
Status make_link(int root, int parent, const std::string& name, const TreeEntry& entry) {
  if (auto failed = check_path(entry.target)) return failed;
  const auto [above, target] = split(entry.target);
  Fd directory;
  if (auto failed = open_parent(directory, root, above, false)) return failed;
  struct stat from {
  }, to{};
  if (::fstatat(directory.get(), target.c_str(), &from, AT_SYMLINK_NOFOLLOW) != 0)
    return failure("fstatat", quoted(entry.target), entry.path);
  const bool there = ::fstatat(parent, name.c_str(), &to, AT_SYMLINK_NOFOLLOW) == 0;
  // The same file already, or the very same name: to take it away first would take the target away.
  if (there && from.st_dev == to.st_dev && from.st_ino == to.st_ino) return {};
  if (auto failed = remove_at(parent, name, entry.path)) return failed;
  if (::linkat(directory.get(), target.c_str(), parent, name.c_str(), 0) != 0)
    return failure("linkat", quoted(entry.target) + ", " + quoted(entry.path), entry.path);
  return {};
}

constexpr mode_t type_of(TreeKind kind) {
  return kind == TreeKind::fifo ? S_IFIFO : kind == TreeKind::character ? S_IFCHR : S_IFBLK;
}

Status set_owner_and_time(int parent, const std::string& name, const TreeEntry& entry) {
  const timespec time{entry.mtime_ms / 1000, (entry.mtime_ms % 1000) * 1000000};
  const timespec times[2] = {time, time};
  if ((entry.uid >= 0 || entry.gid >= 0) &&
      ::fchownat(parent, name.c_str(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid),
                 AT_SYMLINK_NOFOLLOW) != 0)
    return failure("fchownat", quoted(entry.path), entry.path);
  if (entry.kind != TreeKind::symlink) {
    // chmod(2) has no form that takes O_PATH before Linux 6.6: by procfs, of what is open.
    const Fd node = open_at(parent, name, O_PATH | O_NOFOLLOW);
    struct stat stat {};
    if (!node || ::fstat(node.get(), &stat) != 0 || (stat.st_mode & S_IFMT) != type_of(entry.kind) ||
        ::chmod(("/proc/self/fd/" + std::to_string(node.get())).c_str(), entry.mode & 07777) != 0)
      return failure("chmod", quoted(entry.path), entry.path);
  }
  if (::utimensat(parent, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return failure("utimensat", quoted(entry.path), entry.path);
  return {};
}

Status make_node(int parent, const std::string& name, const TreeEntry& entry) {
  if (entry.kind == TreeKind::symlink) {
    if (::symlinkat(entry.target.c_str(), parent, name.c_str()) != 0)
      return failure("symlinkat", quoted(entry.target) + ", " + quoted(entry.path), entry.path);
  } else if (::mknodat(parent, name.c_str(), type_of(entry.kind) | 0600,
                       gnu_dev_makedev(entry.major, entry.minor)) != 0) {
    return failure("mknodat", quoted(entry.path), entry.path);
  }
  return set_owner_and_time(parent, name, entry);
}

}  // namespace

Status make_entry(TreeMade& out, int root, const TreeEntry& entry) {
  if (auto failed = check_path(entry.path)) return failed;
  if (entry.path.empty()) {
    if (entry.kind == TreeKind::directory) return make_directory(out, root, ".", entry);
    errno = EISDIR;
    return failure("unlinkat", "\"/\"", "/");
  }
  const auto [above, name] = split(entry.path);
  Fd parent;
  if (auto failed = open_parent(parent, root, above, true)) return failed;
  if (entry.kind == TreeKind::link) return make_link(root, parent.get(), name, entry);
  struct stat stat {};
  const bool there = ::fstatat(parent.get(), name.c_str(), &stat, AT_SYMLINK_NOFOLLOW) == 0;
  const bool merged = there && entry.kind == TreeKind::directory && S_ISDIR(stat.st_mode);
  if (there && !merged)
    if (auto failed = remove_at(parent.get(), name, entry.path)) return failed;
  if (entry.kind == TreeKind::directory) return make_directory(out, parent.get(), name, entry);
  if (entry.kind != TreeKind::file) return make_node(parent.get(), name, entry);
  out.fd =
      Fd(::openat(parent.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  return out.fd ? Status{} : failure("openat", quoted(entry.path) + ", O_CREAT|O_EXCL", entry.path);
}

Status finish_entry(int root, const TreeEntry& entry, Fd fd, uint64_t inode,
                    std::vector<std::string>& refused) {
  if (!fd) {
    if (auto failed = check_path(entry.path)) return failed;
    fd = resolve(root, entry.path, O_RDONLY | O_DIRECTORY, in_root);
    struct stat stat {};
    if (!fd || ::fstat(fd.get(), &stat) != 0 || stat.st_ino != inode) return {};
  }
  // In this order: a change of the owner takes set-user-ID bits and security.capability away, chown(2).
  if ((entry.uid >= 0 || entry.gid >= 0) &&
      ::fchown(fd.get(), static_cast<uid_t>(entry.uid), static_cast<gid_t>(entry.gid)) != 0)
    return failure("fchown", quoted(entry.path), entry.path);
  if (::fchmod(fd.get(), entry.mode & 07777) != 0) return failure("fchmod", quoted(entry.path), entry.path);
  for (const auto& [name, value] : entry.attributes) {
    if (::fsetxattr(fd.get(), name.c_str(), value.data(), value.size(), 0) == 0) continue;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != EINVAL)
      return failure("fsetxattr", quoted(entry.path) + ", " + quoted(name), entry.path);
    refused.push_back(name);
  }
  const timespec time{entry.mtime_ms / 1000, (entry.mtime_ms % 1000) * 1000000};
  const timespec times[2] = {time, time};
  if (::futimens(fd.get(), times) != 0) return failure("futimens", quoted(entry.path), entry.path);
  return {};
}

Status remove_entry(int root, const std::string& path, bool keep) {
  if (auto failed = check_path(path)) return failed;
  if (keep) {
    Fd directory = resolve(root, path, directory_flags, in_root);
    // Not there, or no directory: nothing is in it. What a link points to is not what was meant.
    if (!directory && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) return {};
    return directory ? clear_directory(std::move(directory)) : failure("openat2", quoted(path), path);
  }
  if (path.empty()) {
    errno = EBUSY;
    return failure("unlinkat", "\"/\"", "/");
  }
  const auto [above, name] = split(path);
  Fd parent = resolve(root, above, O_PATH | O_DIRECTORY, in_root);
  if (!parent && (errno == ENOENT || errno == ENOTDIR)) return {};
  return parent ? remove_at(parent.get(), name, path) : failure("openat2", quoted(above), path);
}

Status open_beneath(Fd& out, int directory, const std::string& path, int flags) {
  out = resolve(directory, path, flags, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
  return out ? Status{} : failure("openat2", quoted(path) + ", RESOLVE_BENEATH", path);
}

}  // namespace sys
