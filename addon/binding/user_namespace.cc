// SPDX-License-Identifier: Apache-2.0
#include "binding/user_namespace.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "sys/calls.h"

namespace binding {

namespace {

constexpr ino_t proc_root_inode = 1;
constexpr size_t thread_stack = 256U * 1024U;
constexpr size_t views_per_packet = 64;  // SCM_MAX_FD is 253

// A procfs that is what it says: a write of ids must not land in a file of somebody else (CVE-2025-52881).
sys::Status open_proc(sys::Fd& out) {
  if (auto failed = sys::open_file(out, "/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW)) return failed;
  struct statfs fs {};
  struct stat stat {};
  if (::fstatfs(out.get(), &fs) != 0 || ::fstat(out.get(), &stat) != 0)
    return sys::failure("fstatfs", "\"/proc\"");
  if (fs.f_type == PROC_SUPER_MAGIC && stat.st_ino == proc_root_inode) return {};
  errno = EXDEV;
  return sys::failure("fstatfs", "\"/proc\"");
}

struct Viewer {
  int pidfd;
  const std::vector<View>& views;
  std::vector<sys::Fd>& out;
  sys::Status failed;
};

sys::Status view_all(Viewer& viewer) {
  // setns(2): a thread that shares its directory and root with others cannot change its mount namespace.
  if (::unshare(CLONE_FS) != 0) return sys::failure("unshare", "CLONE_FS");
  if (::setns(viewer.pidfd, CLONE_NEWNS) != 0) return sys::failure("setns", "init, CLONE_NEWNS");
  for (const View& view : viewer.views) {
    long fd = -1;
    if (view.tree) {
      const unsigned flags =
          OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (view.recursive ? static_cast<unsigned>(AT_RECURSIVE) : 0U);
      fd = ::syscall(SYS_open_tree, AT_FDCWD, view.path.c_str(), flags);
      if (fd < 0)
        return sys::failure("open_tree",
                            sys::quoted(view.path) +
                                (view.recursive ? ", OPEN_TREE_CLONE|AT_RECURSIVE" : ", OPEN_TREE_CLONE"),
                            view.path);
    } else {
      fd = ::open(view.path.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (fd < 0)
        return sys::failure("open", sys::quoted(view.path) + ", O_PATH|O_DIRECTORY|O_NOFOLLOW", view.path);
    }
    viewer.out.emplace_back(static_cast<int>(fd));
  }
  return {};
}

void* viewer_main(void* argument) {
  auto* viewer = static_cast<Viewer*>(argument);
  viewer->failed = view_all(*viewer);
  return nullptr;
}

}  // namespace

sys::Status write_process_files(pid_t pid, const std::vector<ProcessFile>& files) {
  sys::Fd proc;
  if (auto failed = open_proc(proc)) return failed;
  for (const ProcessFile& file : files) {
    const std::string path = std::to_string(pid) + "/" + file.name;
    open_how how{};
    how.flags = O_WRONLY | O_CLOEXEC;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS;
    const sys::Fd fd(static_cast<int>(::syscall(SYS_openat2, proc.get(), path.c_str(), &how, sizeof how)));
    const std::string shown = "/proc/" + path;
    if (!fd) return sys::failure("openat2", sys::quoted(shown) + ", O_WRONLY", shown);
    const ssize_t written = ::write(fd.get(), file.data.data(), file.data.size());
    if (written == static_cast<ssize_t>(file.data.size())) continue;
    if (written >= 0) errno = EIO;
    return sys::failure("write", sys::quoted(shown) + ", " + sys::quoted(file.data), shown);
  }
  return {};
}

// In a thread that ends with it: nothing of this process lives in a container's mount namespace afterwards.
sys::Status open_views(int pidfd, const std::vector<View>& views, std::vector<sys::Fd>& out) {
  Viewer viewer{pidfd, views, out, {}};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, thread_stack);
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, viewer_main, &viewer);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    errno = error;
    return sys::failure("pthread_create", "mounts");
  }
  pthread_join(thread, nullptr);
  return std::move(viewer.failed);
}

sys::Status send_views(int pipe, const std::vector<sys::Fd>& views) {
  for (size_t at = 0; at < views.size(); at += views_per_packet) {
    const size_t count = std::min(views.size() - at, views_per_packet);
    char type = 'V';
    iovec part{&type, 1};
    union {
      char bytes[CMSG_SPACE(sizeof(int) * views_per_packet)];
      cmsghdr align;
    } control{};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (size_t i = 0; i < count; i++) {
      const int fd = views[at + i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof fd);
    }
    if (::sendmsg(pipe, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
      return sys::failure("sendmsg", "init pipe, SCM_RIGHTS");
  }
  return {};
}

sys::Status set_limits(pid_t pid, const std::vector<Limit>& limits) {
  for (const Limit& limit : limits) {
    const rlimit64 value{limit.soft, limit.hard};
    if (::prlimit64(pid, static_cast<__rlimit_resource>(limit.resource), &value, nullptr) != 0)
      return sys::failure("prlimit64", std::to_string(pid) + ", " + std::to_string(limit.resource) + ", {" +
                                           std::to_string(limit.soft) + ", " + std::to_string(limit.hard) +
                                           "}");
  }
  return {};
}

}  // namespace binding
