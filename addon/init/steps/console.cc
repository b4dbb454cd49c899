// SPDX-License-Identifier: Apache-2.0
// console: a terminal of the container's own devpts (CVE-2025-52565), pty(7), ioctl_tty(2).
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <termios.h>

#include "../frames.h"
#include "../mounts.h"
#include "../rootfs.h"
#include "steps.h"

namespace init {

static bool on_devpts(int fd) {
  struct statfs fs;
  return fstatfs(fd, &fs) == 0 && fs.f_type == 0x1cd1;
}

static Result impostor(Init& init, const char* what) {
  (void)init.refused(ENODEV, "ERR_CONSOLE", what);
  return Result::failed;
}

static Result open_pair(Init& init, Fd& ptmx, Fd& peer) {
  ptmx = open_in_root(init, "/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW);
  if (!ptmx) {
    (void)init.failed("openat2", Raw{"rootfs"}, "/dev/pts/ptmx", Raw{"O_RDWR|O_NOCTTY|O_NOFOLLOW"});
    return init.because("ERR_CONSOLE", "the container has no devpts on /dev/pts");
  }
  if (!is_device(ptmx.get(), 5, 2) || !on_devpts(ptmx.get()))
    return impostor(init, "/dev/pts/ptmx is not the terminal multiplexer (5:2) of a devpts");
  const int unlocked = 0;
  if (call(SYS_ioctl, ptmx.get(), TIOCSPTLCK, &unlocked) < 0)
    return init.failed("ioctl", Raw{"ptmx"}, Raw{"TIOCSPTLCK"});
  // By descriptor: the name /dev/pts/N could be something else by now.
  peer = Fd(call(SYS_ioctl, ptmx.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!peer) return init.failed("ioctl", Raw{"ptmx"}, Raw{"TIOCGPTPEER"});
  struct stat stat;
  if (fstat(peer.get(), &stat) < 0) return init.failed("fstat", Raw{"terminal"});
  // Unix98 terminals have the majors 136 to 143, Documentation/admin-guide/devices.txt.
  if (!S_ISCHR(stat.st_mode) || major(stat.st_rdev) < 136 || major(stat.st_rdev) > 143 ||
      !on_devpts(peer.get()))
    return impostor(init, "the terminal is not one of a devpts");
  return Result::ok;
}

// On an empty file of ours, or on what is there already as long as it is no link and no directory
// (CVE-2026-88264).
static Result bind_console(Init& init, int peer) {
  const char* name = nullptr;
  if (open_parent(init, "/dev/console", name) != Result::ok) return Result::failed;
  const Fd made(call(SYS_openat, init.parent.get(), name,
                     O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_NOCTTY | O_CLOEXEC, 0666));
  if (!made && errno != EEXIST)
    return init.failed("openat", Raw{"rootfs"}, "/dev/console", Raw{"O_CREAT|O_EXCL|O_NOFOLLOW"});
  const Fd target(call(SYS_openat, init.parent.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat stat;
  if (!target || fstat(target.get(), &stat) < 0)
    return init.failed("openat", Raw{"rootfs"}, "/dev/console", Raw{"O_PATH|O_NOFOLLOW"});
  if (S_ISLNK(stat.st_mode) || S_ISDIR(stat.st_mode))
    return init.refused(ELOOP, "ERR_ESCAPE", "/dev/console is a link or a directory");
  return bind_file(init, peer, target.get(), "/dev/console");
}

// The end of a line goes out as it is: who passes it on to another terminal has that one make the \r.
static Result clear_onlcr(Init& init, int peer) {
  // The kernel's termios is the beginning of musl's.
  struct termios settings = {};
  if (call(SYS_ioctl, peer, TCGETS, &settings) < 0)
    return init.failed("ioctl", Raw{"terminal"}, Raw{"TCGETS"});
  settings.c_oflag &= ~static_cast<tcflag_t>(ONLCR);
  if (call(SYS_ioctl, peer, TCSETS, &settings) < 0)
    return init.failed("ioctl", Raw{"terminal"}, Raw{"TCSETS"});
  return Result::ok;
}

Result steps::console(Init& init, const Message& message) {
  if (need_root(init) != Result::ok) return Result::failed;
  Fd ptmx, peer;
  if (open_pair(init, ptmx, peer) != Result::ok) return Result::failed;
  const winsize size = {static_cast<unsigned short>(message.u32(1)),
                        static_cast<unsigned short>(message.u32(2)), 0, 0};
  if ((size.ws_row != 0 || size.ws_col != 0) && call(SYS_ioctl, ptmx.get(), TIOCSWINSZ, &size) < 0)
    return init.failed("ioctl", Raw{"ptmx"}, Raw{"TIOCSWINSZ"}, static_cast<unsigned>(size.ws_col),
                       static_cast<unsigned>(size.ws_row));
  if (message.flag(6) && clear_onlcr(init, peer.get()) != Result::ok) return Result::failed;
  struct stat stat;
  if (fstat(peer.get(), &stat) < 0) return init.failed("fstat", Raw{"terminal"});
  // The group stays that of the devpts mount (gid=5): write(1) and wall(1) work by it.
  if (stat.st_uid != message.u32(3) && call(SYS_fchown, peer.get(), message.u32(3), stat.st_gid) < 0)
    return init.failed("fchown", Raw{"terminal"}, message.u32(3), stat.st_gid);
  if (message.flag(5) && bind_console(init, peer.get()) != Result::ok) return Result::failed;
  if (send_fd(init, "console", ptmx.get()) != Result::ok) return Result::failed;
  for (int fd = 0; fd <= 2; fd++)
    if (call(SYS_dup3, peer.get(), fd, 0) < 0) return init.failed("dup3", Raw{"terminal"}, fd);
  init.terminal = true;
  // A second stage leads a session of its own, and takes the terminal itself.
  if (init.forks) return Result::ok;
  if (call(SYS_ioctl, 0, TIOCSCTTY, 0) < 0) return init.failed("ioctl", 0, Raw{"TIOCSCTTY"}, 0);
  return Result::ok;
}

}  // namespace init
