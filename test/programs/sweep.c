// SPDX-License-Identifier: Apache-2.0
// sweep COMMAND…: runs the command so that init (of any container that it starts) can be held before its k-th
// system call that takes a path. By seccomp user notification: the call goes on unchanged when its time has
// come. On descriptor 3 come "arm K", "count", "go", "next" (go, and hold the call after this one) and
// "mount\tSOURCE\tTARGET\tDIRECTORY" (in the mount namespace of the one that is held), on 4 go "hit NUMBER",
// "count N" and "mounted ERRNO", a line each. scripts/sweep.mjs swaps files meanwhile.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { commands = 3, events = 4 };

static const unsigned calls[] = {
    SYS_openat,
    SYS_mkdirat,
    SYS_mknodat,
    SYS_symlinkat,
    SYS_unlinkat,
    SYS_fchownat,
    SYS_fchmodat,
    SYS_readlinkat,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_chdir,
    SYS_fchdir,
    SYS_execve,
    SYS_newfstatat,
    SYS_statx,
    SYS_faccessat,
    437 /* openat2 */,
    428 /* open_tree */,
    429 /* move_mount */,
    442 /* mount_setattr */,
    439 /* faccessat2 */,
    SYS_utimensat,
#ifdef SYS_stat
    SYS_stat,
#endif
};
enum { count_of_calls = sizeof calls / sizeof calls[0] };

static void die(const char* what) {
  perror(what);
  exit(1);
}

static int listen_filter(void) {
  struct sock_filter program[count_of_calls + 3];
  unsigned short size = 0;
  program[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (size_t i = 0; i < count_of_calls; i++)
    program[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i],
                                                   (unsigned char)(count_of_calls - i), 0);
  program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  const struct sock_fprog filter = {size, program};
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
}

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

static void send_fd(int socket, int fd) {
  char byte = 0;
  struct iovec part = {&byte, 1};
  union control control = {0};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) != 1) die("sweep: sendmsg");
}

static int receive_fd(int socket) {
  char byte = 0;
  struct iovec part = {&byte, 1};
  union control control = {0};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  int fd = -1;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&message) == NULL)
    die("sweep: recvmsg");
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

static int is_init(unsigned pid) {
  char path[32], target[64];
  snprintf(path, sizeof path, "/proc/%u/exe", pid);
  const ssize_t length = readlink(path, target, sizeof target - 1);
  if (length < 0) return 0;
  target[length] = 0;
  return strncmp(target, "/memfd:libcontainer-init", 24) == 0;
}

static long wanted = -1, seen;
static unsigned held;

// Where the DIRECTORY is not to be seen the root has been switched, and TARGET is a path below "/".
static int mount_in_held(const char* source, const char* target, const char* directory) {
  char path[4096];
  snprintf(path, sizeof path, "/proc/%u/ns/mnt", held);
  const int space = open(path, O_RDONLY | O_CLOEXEC);
  const int tree = strcmp(source, "tmpfs") == 0 ? -1
                                                : (int)syscall(428 /* open_tree */, AT_FDCWD, source,
                                                               1 /* OPEN_TREE_CLONE */ | O_CLOEXEC);
  if (space < 0 || (tree < 0 && strcmp(source, "tmpfs") != 0) || setns(space, CLONE_NEWNS) != 0) return errno;
  snprintf(path, sizeof path, "%s/%s", access(directory, F_OK) == 0 ? directory : "", target);
  const long failed =
      tree < 0 ? mount("tmpfs", path, "tmpfs", 0, "size=64k")
               : syscall(429 /* move_mount */, tree, "", AT_FDCWD, path, 4 /* MOVE_MOUNT_F_EMPTY_PATH */);
  return failed == 0 ? 0 : errno;
}

static void mount_over(char* words) {
  const char* source = strsep(&words, "\t");
  const char* target = strsep(&words, "\t");
  if (words == NULL) die("sweep: mount");
  const pid_t child = fork();
  if (child == 0) _exit(mount_in_held(source, target, words));
  int status = 0;
  waitpid(child, &status, 0);
  dprintf(events, "mounted %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 255);
}

/* One command; 0: "go" or "next", 1: another one, -1: the end. */
static int command(void) {
  static char line[8192];
  size_t size = 0;
  for (;;) {
    const ssize_t got = read(commands, line + size, 1);
    if (got <= 0) return -1;
    if (line[size] == '\n' || size + 2 == sizeof line) break;
    size++;
  }
  line[size] = 0;
  if (strcmp(line, "go") == 0) return 0;
  if (strcmp(line, "next") == 0) {
    wanted = seen;
    return 0;
  }
  if (strncmp(line, "mount\t", 6) == 0) mount_over(line + 6);
  if (strcmp(line, "count") == 0) dprintf(events, "count %ld\n", seen);
  if (strncmp(line, "arm ", 4) == 0) {
    wanted = atol(line + 4);
    seen = 0;
    dprintf(events, "armed\n");
  }
  return 1;
}

static void serve(int listener) {
  static char notification[1024], response[1024];
  struct seccomp_notif* request = (struct seccomp_notif*)notification;
  struct seccomp_notif_resp* answer = (struct seccomp_notif_resp*)response;
  struct pollfd polled[2] = {{listener, POLLIN, 0}, {commands, POLLIN, 0}};
  for (;;) {
    if (poll(polled, 2, -1) < 0 && errno != EINTR) die("sweep: poll");
    if ((polled[1].revents & (POLLIN | POLLHUP)) != 0 && command() < 0) return;
    if ((polled[0].revents & POLLIN) == 0) {
      if ((polled[0].revents & (POLLHUP | POLLERR)) != 0) return;
      continue;
    }
    memset(notification, 0, sizeof notification);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, request) != 0) {
      if (errno == EINTR || errno == ENOENT) continue;
      die("sweep: SECCOMP_IOCTL_NOTIF_RECV");
    }
    if (is_init(request->pid) && seen++ == wanted) {
      held = request->pid;
      dprintf(events, "hit %d\n", request->data.nr);
      int said = 1;
      while (said > 0) said = command();
      if (said < 0) return;
    }
    memset(response, 0, sizeof response);
    answer->id = request->id;
    answer->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, answer) != 0 && errno != ENOENT)
      die("sweep: SECCOMP_IOCTL_NOTIF_SEND");
  }
}

int main(int argc, char** argv) {
  int pair[2];
  if (argc < 2 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    fprintf(stderr, "usage: sweep COMMAND... 3<commands 4>events\n");
    return 2;
  }
  const pid_t child = fork();
  if (child == 0) {
    close(commands);
    close(events);
    const int listener = listen_filter();
    if (listener < 0) die("sweep: seccomp");
    send_fd(pair[1], listener);
    close(listener);
    execvp(argv[1], argv + 1);
    die(argv[1]);
  }
  serve(receive_fd(pair[0]));
  int status = 0;
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return 0;
}
