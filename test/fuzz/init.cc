// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: the whole init executable on a kernel that the input plays. Input: two bytes of length,
// so many bytes of plan (proto/init.proto), and then the kernel's answers: which call fails with what, what
// is read, which inode is found. init's sources are compiled with their few ways to the kernel renamed
// (scripts/fuzz.mjs), so nothing of the machine is touched, and AddressSanitizer looks at every buffer that
// goes in or out.
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

int init_main(int argc, char** argv);

namespace {

constexpr unsigned most_calls = 4000;
constexpr size_t most_maps = 64;

const uint8_t* rest;
size_t left;
const uint8_t* plan;
size_t plan_size;
unsigned calls;
int next_fd;
long packet;
jmp_buf out;
void* maps[most_maps];
size_t map_count;
volatile uint8_t sink;

uint8_t next() {
  if (left == 0) return 0xff;
  left--;
  return *rest++;
}

// What the kernel copies out: as much as the input has, at most `size`.
size_t fill(void* to, size_t size) {
  const size_t wanted = next() % 64;
  size_t count = wanted < size ? wanted : size;
  if (count > left) count = left;
  memcpy(to, rest, count);
  rest += count;
  left -= count;
  return count;
}

void touch(const void* from, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(from);
  for (size_t i = 0; i < size; i++) sink = bytes[i];
}

void touch_text(const void* text) {
  if (text != nullptr) touch(text, strlen(static_cast<const char*>(text)));
}

// True: this call fails, with an errno of the input's choice.
bool refused() {
  if (++calls > most_calls) longjmp(out, 1);
  const uint8_t byte = next();
  if (byte >= 40) return false;
  static const int errors[] = {EPERM,  ENOENT,  ENOSYS,       EACCES, EEXIST, EINVAL, ELOOP,
                               EAGAIN, EINTR,   ENOTDIR,      EBUSY,  ENOMEM, EMFILE, ENODEV,
                               EROFS,  ENOEXEC, ENAMETOOLONG, ENOTTY, EXDEV,  EIO};
  errno = errors[byte % 20];
  return true;
}

void fill_stat(struct stat* stat) {
  static const mode_t kinds[] = {S_IFDIR | 0755, S_IFREG | 0755, S_IFLNK | 0777,
                                 S_IFCHR | 0666, S_IFIFO,        S_IFBLK};
  *stat = {};
  const uint8_t byte = next();
  stat->st_mode = kinds[byte % 6];
  static const dev_t devices[] = {makedev(1, 3), makedev(5, 2), makedev(136, 0), makedev(9, 9)};
  stat->st_rdev = devices[byte / 6 % 4];
  stat->st_ino = byte % 7;
  stat->st_size = byte;
}

long entries(char* buffer, size_t size) {
  struct Head {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
  };
  const uint8_t count = next();
  if (count >= 0xf0) return 0;
  size_t at = 0;
  for (uint8_t i = 0; i < count % 8; i++) {
    const size_t length = 1 + next() % 20;
    const size_t whole = (19 + length + 1 + 7) & ~size_t{7};
    if (at + whole > size) break;
    memset(buffer + at, 'a' + i, whole);
    const Head head = {1, 0, static_cast<unsigned short>(whole), 0};
    memcpy(buffer + at, &head, 19);
    if (next() % 16 == 0) memcpy(buffer + at + 19, "..", 3);
    buffer[at + 19 + length] = 0;
    at += whole;
  }
  return static_cast<long>(at);
}

}  // namespace

// Six are read of however many were given: what lies behind them is not looked at.
extern "C" __attribute__((no_sanitize("address"))) long fuzz_syscall(long number, ...) {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& value : a) value = va_arg(list, long);
  va_end(list);
  const auto text = [&](int i) { touch_text(reinterpret_cast<const void*>(a[i])); };
  const auto pointer = [&](int i) { return reinterpret_cast<void*>(a[i]); };
  switch (number) {
    case SYS_exit_group:
      longjmp(out, 1);
    case SYS_close:
    case SYS_rt_sigaction:
    case SYS_rt_sigprocmask:
    case SYS_setsid:
    case SYS_umask:
      return 0;
    case SYS_geteuid:
    case SYS_getpid:
      return next() % 3;
    case SYS_execve:
      text(0);
      for (int i = 1; i <= 2; i++)
        for (char** entry = static_cast<char**>(pointer(i)); *entry != nullptr; entry++) touch_text(*entry);
      if (!refused()) longjmp(out, 1);
      return -1;
  }
  if (refused()) return -1;
  switch (number) {
    case SYS_openat:
    case SYS_openat2:
    case SYS_open_tree:
      text(1);
      return next_fd++;
    case SYS_fsopen:
      text(0);
      return next_fd++;
    case SYS_fsmount:
    case SYS_socket:
      return next_fd++;
    case SYS_fsconfig:
      text(2);
      text(3);
      return 0;
    case SYS_mount:
      text(0);
      text(1);
      text(2);
      text(4);
      return 0;
    case SYS_mkdirat:
    case SYS_mknodat:
    case SYS_unlinkat:
    case SYS_fchownat:
    case SYS_faccessat:
    case SYS_faccessat2:
    case SYS_utimensat:
    case SYS_fchmodat:
      text(1);
      return 0;
    case SYS_symlinkat:
      text(0);
      text(2);
      return 0;
    case SYS_chdir:
    case SYS_chroot:
    case SYS_umount2:
    case SYS_sethostname:
    case SYS_setdomainname:
      return 0;
    case SYS_readlinkat:
      return static_cast<long>(fill(pointer(2), static_cast<size_t>(a[3])));
    case SYS_getcwd: {
      auto* path = static_cast<char*>(pointer(0));
      const size_t count = fill(path, static_cast<size_t>(a[1]) - 1);
      path[count] = 0;
      return static_cast<long>(count + 1);
    }
    case SYS_read:
      // An answer behind a filter.
      if (a[2] == 1 && next() != 0) {
        *static_cast<char*>(pointer(1)) = next() % 2 == 0 ? 'L' : 'G';
        return 1;
      }
      return static_cast<long>(fill(pointer(1), static_cast<size_t>(a[2])));
    case SYS_pread64:
      return static_cast<long>(fill(pointer(1), static_cast<size_t>(a[2])));
    case SYS_write:
      touch(pointer(1), static_cast<size_t>(a[2]));
      return a[2];
    case SYS_sendfile:
      return 0;
    case SYS_getdents64:
      return entries(static_cast<char*>(pointer(1)), static_cast<size_t>(a[2]));
    case SYS_sendmsg: {
      const auto* message = static_cast<const msghdr*>(pointer(1));
      for (size_t i = 0; i < message->msg_iovlen; i++)
        touch(message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
      return 1;
    }
    case SYS_recvfrom: {
      if ((a[3] & MSG_PEEK) != 0) {
        packet = next() == 0xff ? 0 : static_cast<long>(next());
        if (packet > 0 && a[2] > 0) *static_cast<char*>(pointer(1)) = 'G';
        return packet;
      }
      const size_t size = static_cast<size_t>(a[2]);
      if (size == 0) return 0;
      auto* data = static_cast<uint8_t*>(pointer(1));
      for (size_t i = 0; i < size; i++) data[i] = next();
      if (next() != 0) data[0] = next() % 2 == 0 ? 'L' : 'G';
      return a[2];
    }
    case SYS_ioctl:
      return next() == 0 ? 0x20000 : 0;
    case SYS_statx:
      memset(pointer(4), next(), 256);
      return 0;
    case SYS_capget:
      for (size_t i = 0; i < 24; i++) static_cast<uint8_t*>(pointer(1))[i] = next();
      return 0;
    case SYS_ppoll: {
      auto* polled = static_cast<pollfd*>(pointer(0));
      for (long i = 0; i < a[1]; i++) polled[i].revents = static_cast<short>(next() % 32);
      return next() % 3;
    }
    case SYS_clone3:
      return next() % 2;
    default:
      return 0;
  }
}

extern "C" int fuzz_fstat(int fd, struct stat* stat) {
  // The plan: the descriptor that argv names.
  if (fd == 4) {
    *stat = {};
    stat->st_size = static_cast<off_t>(plan_size);
    return 0;
  }
  if (refused()) return -1;
  fill_stat(stat);
  return 0;
}

extern "C" int fuzz_fstatat(int, const char* path, struct stat* stat, int) {
  touch_text(path);
  if (refused()) return -1;
  fill_stat(stat);
  return 0;
}

extern "C" int fuzz_fstatfs(int, struct statfs* stat) {
  if (refused()) return -1;
  static const long magics[] = {0x9fa0, 0x1cd1, 0x62656572, 0x01021994};
  *stat = {};
  stat->f_type = magics[next() % 4];
  return 0;
}

// From malloc, so that a byte beyond the end is seen.
extern "C" void* fuzz_mmap(void*, size_t size, int, int, int fd, off_t) {
  if (map_count == most_maps || size > (64u << 20)) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  void* memory = calloc(1, size);
  if (fd == 4) memcpy(memory, plan, plan_size);
  return maps[map_count++] = memory;
}

extern "C" int fuzz_munmap(void*, size_t) {
  return 0;
}

extern "C" int fuzz_prctl(int, ...) {
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  plan_size = static_cast<size_t>(data[0] | data[1] << 8);
  if (plan_size > size - 2) plan_size = size - 2;
  plan = data + 2;
  rest = plan + plan_size;
  left = size - 2 - plan_size;
  calls = 0;
  next_fd = 100;
  map_count = 0;
  char name[] = "init", pipe[] = "3", memfd[] = "4", slot[] = "5";
  char* argv[] = {name, pipe, memfd, slot, nullptr};
  if (setjmp(out) == 0) init_main(4, argv);
  for (size_t i = 0; i < map_count; i++) free(maps[i]);
  return 0;
}
