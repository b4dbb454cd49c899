// SPDX-License-Identifier: Apache-2.0
#include "rootfs.h"

#include <linux/openat2.h>
#include <sys/sysmacros.h>

namespace init {

Result need_root(Init& init) {
  if (init.root) return Result::ok;
  init.root = Fd(call(SYS_openat, AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  return init.root ? Result::ok : init.failed("open", "/", Raw{"O_PATH|O_DIRECTORY"});
}

static Fd open_beneath(int directory, const char* path, int flags, uint64_t resolve) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.resolve = resolve;
  // EAGAIN: a rename or mount elsewhere raced with a ".." of the path; openat2(2) asks for another try.
  for (unsigned tries = 0;; tries++) {
    Fd fd(call(SYS_openat2, directory, path, &how, sizeof how));
    if (fd || (errno != EAGAIN && errno != EINTR) || tries > 1000) return fd;
  }
}

Fd open_in_mount(const Fd& mount, const char* path, int flags) {
  return open_beneath(mount.get(), path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

Fd open_in_root(Init& init, const char* path, int flags, uint64_t resolve) {
  return open_beneath(init.root.get(), path[0] == 0 ? "." : path, flags,
                      RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);
}

static constexpr size_t path_max = 4096;

// The parts of a path around its first component that does not exist.
struct Missing {
  Fd parent;
  char name[256];
  const char* rest;  // what follows the name, without leading slashes
  size_t prefix;     // length of the existing part
};

// Most often only the last component is missing: one look instead of one for each component.
static bool only_last_missing(Init& init, const char* path, Missing& missing) {
  const char* slash = strrchr(path, '/');
  const char* name = slash == nullptr ? path : slash + 1;
  const size_t length = strlen(name);
  if (length == 0 || length >= sizeof missing.name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    return false;
  char parent[path_max];
  missing.prefix = static_cast<size_t>(name - path);
  memcpy(parent, path, missing.prefix);
  parent[missing.prefix] = 0;
  missing.parent = open_in_root(init, parent, O_PATH | O_DIRECTORY);
  if (!missing.parent) return false;
  memcpy(missing.name, name, length + 1);
  missing.rest = name + length;
  return true;
}

static Result find_missing(Init& init, const char* path, Missing& missing) {
  if (only_last_missing(init, path, missing)) return Result::ok;
  missing.parent = open_in_root(init, ".", O_PATH | O_DIRECTORY);
  if (!missing.parent) return init.failed("openat2", Raw{"rootfs"}, ".");
  char prefix[path_max];
  size_t at = 0;
  missing.prefix = 0;
  for (;;) {
    while (path[at] == '/') at++;
    size_t end = at;
    while (path[end] != 0 && path[end] != '/') end++;
    if (end == at) return init.refused(EAGAIN, "", "the path changed while it was resolved");
    if (end - at >= sizeof missing.name) {
      errno = ENAMETOOLONG;
      return init.failed("openat2", Raw{"rootfs"}, path);
    }
    memcpy(prefix, path, end);
    prefix[end] = 0;
    Fd next = open_in_root(init, prefix, O_PATH | O_DIRECTORY);
    if (!next) {
      if (errno != ENOENT) return init.failed("openat2", Raw{"rootfs"}, prefix, Raw{"O_PATH|O_DIRECTORY"});
      memcpy(missing.name, path + at, end - at);
      missing.name[end - at] = 0;
      while (path[end] == '/') end++;
      missing.rest = path + end;
      return Result::ok;
    }
    missing.parent = static_cast<Fd&&>(next);
    missing.prefix = end;
    at = end;
  }
}

// Puts the target of a dangling link in the place of its name: prefix/target/rest.
static Result follow_dangling(Init& init, char* path, const Missing& missing, long length,
                              const char* target) {
  char joined[path_max];
  const size_t rest = strlen(missing.rest);
  const size_t prefix = target[0] == '/' ? 0 : missing.prefix;
  if (prefix + static_cast<size_t>(length) + rest + 3 > sizeof joined) {
    errno = ENAMETOOLONG;
    return init.failed("readlinkat", Raw{"rootfs"}, missing.name);
  }
  size_t at = 0;
  memcpy(joined, path, prefix);
  at += prefix;
  joined[at++] = '/';
  memcpy(joined + at, target, static_cast<size_t>(length));
  at += static_cast<size_t>(length);
  joined[at++] = '/';
  memcpy(joined + at, missing.rest, rest);
  at += rest;
  while (at > 1 && joined[at - 1] == '/') at--;
  joined[at] = 0;
  memcpy(path, joined, at + 1);
  return Result::ok;
}

// A directory in made_parent, as make_missing would make it and without following anything: mkdirat has just
// made it (so the name is an ordinary one), and if somebody has put a link there since, the open fails and
// the long way decides.
static bool make_in_parent(Init& init, const char* path, Fd& fd) {
  const char* slash = strrchr(path, '/');
  if (!init.made_parent || slash == nullptr) return false;
  const size_t prefix = static_cast<size_t>(slash + 1 - path);
  if (prefix != init.made_length || memcmp(path, init.made_path, prefix) != 0) return false;
  const int parent = init.made_parent.get();
  if (call(SYS_mkdirat, parent, slash + 1, 0755) != 0) return false;
  fd = Fd(call(SYS_openat, parent, slash + 1, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  return static_cast<bool>(fd);
}

static Result make_missing(Init& init, char* path, Make what, bool* made, unsigned& links) {
  Missing missing;
  if (find_missing(init, path, missing) != Result::ok) return Result::failed;
  const int parent = missing.parent.get();
  const bool file = what == Make::file && missing.rest[0] == 0;
  if (file) {
    const Fd fd(
        call(SYS_openat, parent, missing.name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644));
    if (fd) {
      if (made != nullptr) *made = true;
      return Result::ok;
    }
  } else if (call(SYS_mkdirat, parent, missing.name, 0755) == 0) {
    if (made != nullptr) *made = true;
    // Without a slash at its end it is never found again.
    if (missing.rest[0] == 0 && missing.prefix <= sizeof init.made_path) {
      init.made_length = missing.prefix;
      memcpy(init.made_path, path, missing.prefix);
      init.made_parent = static_cast<Fd&&>(missing.parent);
    }
    return Result::ok;
  }
  if (errno != EEXIST) return init.failed(file ? "openat" : "mkdirat", Raw{"rootfs"}, path, missing.name);
  // It exists and yet could not be opened: a dangling link, or somebody was quicker and the next try will see
  // it.
  char target[path_max];
  const long length = call(SYS_readlinkat, parent, missing.name, target, sizeof target - 1);
  if (length < 0)
    return errno == EINVAL ? Result::ok : init.failed("readlinkat", Raw{"rootfs"}, missing.name);
  target[length] = 0;
  if (++links > 40) {
    errno = ELOOP;
    return init.failed("openat2", Raw{"rootfs"}, path);
  }
  return follow_dangling(init, path, missing, length, target);
}

Result open_or_make(Init& init, const char* wanted, Make what, Fd& fd, bool* made) {
  if (need_root(init) != Result::ok) return Result::failed;
  init.fresh = what == Make::directory && make_in_parent(init, wanted, fd);
  if (init.fresh) {
    if (made != nullptr) *made = true;
    return Result::ok;
  }
  init.made_parent.reset();
  fd = open_in_root(init, wanted, O_PATH);
  if (fd) return Result::ok;
  char path[path_max];
  if (errno != ENOENT || strlen(wanted) >= sizeof path)
    return init.failed("openat2", Raw{"rootfs"}, wanted, Raw{"O_PATH"}, Raw{"RESOLVE_IN_ROOT"});
  strcpy(path, wanted);
  unsigned links = 0;
  // One component per round; more rounds than a path has components mean that somebody removes what we make.
  for (unsigned rounds = 0; rounds < path_max; rounds++) {
    if (make_missing(init, path, what, made, links) != Result::ok) return Result::failed;
    fd = open_in_root(init, path, O_PATH);
    init.fresh = fd && init.made_parent;
    if (fd) return Result::ok;
    if (errno != ENOENT) break;
  }
  return init.failed("openat2", Raw{"rootfs"}, path, Raw{"O_PATH"}, Raw{"RESOLVE_IN_ROOT"});
}

void forget_parent(Init& init) {
  init.parent.reset();
  init.parent_path.clear();
}

Result open_parent(Init& init, const char* path, const char*& name) {
  const char* slash = strrchr(path, '/');
  name = slash == nullptr ? path : slash + 1;
  if (name[0] == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
    errno = EINVAL;
    return init.failed("openat2", Raw{"rootfs"}, path);
  }
  Text<256> directory;
  directory.add(path, static_cast<size_t>(name - path));
  if (init.parent && !directory.cut() && strcmp(directory.c_str(), init.parent_path.c_str()) == 0)
    return Result::ok;
  char* whole = static_cast<char*>(init.arena.take(static_cast<size_t>(name - path) + 1));
  memcpy(whole, path, static_cast<size_t>(name - path));
  whole[name - path] = 0;
  forget_parent(init);
  if (open_or_make(init, whole, Make::directory, init.parent) != Result::ok) return Result::failed;
  if (!directory.cut()) init.parent_path = directory;
  return Result::ok;
}

bool is_device(int fd, unsigned major_, unsigned minor_) {
  struct stat stat;
  return fstat(fd, &stat) == 0 && S_ISCHR(stat.st_mode) && stat.st_rdev == makedev(major_, minor_);
}

Result need_null(Init& init) {
  if (init.null) return Result::ok;
  if (need_root(init) != Result::ok) return Result::failed;
  Fd null = open_in_root(init, "/dev/null", O_PATH | O_NOFOLLOW);
  if (!null) return init.failed("openat2", Raw{"rootfs"}, "/dev/null", Raw{"O_PATH|O_NOFOLLOW"});
  if (!is_device(null.get(), 1, 3))
    return init.refused(ENODEV, "ERR_ESCAPE", "/dev/null of the container is not the null device (1:3)");
  init.null = static_cast<Fd&&>(null);
  return Result::ok;
}

}  // namespace init
