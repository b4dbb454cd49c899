// SPDX-License-Identifier: Apache-2.0
// deny CALL=ERRNO… -- COMMAND…: runs the command where these system calls answer with this errno, as on an
// older kernel (ENOSYS) or in somebody's sandbox (EPERM). A seccomp filter, so it holds for all that the
// command starts. cgroup.kill=ENOENT or =EPERM: every open of a file of that name; by a listener, so that
// nothing below can have one of its own (seccomp(2), EBUSY).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct {
  const char* name;
  unsigned number;
} calls[] = {
    {"openat2", 437},     {"fsopen", 430},     {"fsmount", 432},       {"fsconfig", 431},
    {"open_tree", 428},   {"move_mount", 429}, {"mount_setattr", 442}, {"close_range", 436},
    {"clone3", 435},      {"pidfd_open", 434}, {"faccessat2", 439},    {"memfd_create", SYS_memfd_create},
    {"statx", SYS_statx}, {"bpf", SYS_bpf},    {"keyctl", SYS_keyctl}, {"pidfd_send_signal", 424},
    {"pidfd_getfd", 438},
};

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

static void pass(int socket, int* fd, int sends) {
  char byte = 0;
  struct iovec part = {&byte, 1};
  union control control = {0};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (sends) {
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof *fd);
    memcpy(CMSG_DATA(header), fd, sizeof *fd);
  }
  const ssize_t done = sends ? sendmsg(socket, &message, 0) : recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (done != 1 || (!sends && CMSG_FIRSTHDR(&message) == NULL)) {
    perror("deny: socketpair");
    exit(1);
  }
  if (!sends) memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof *fd);
}

// Whether the path of the caller's open ends in cgroup.kill. Shorter reads at the end of a mapping are fine.
static int is_kill_file(const struct seccomp_notif* request) {
  static const char name[] = "cgroup.kill";
  char path[4096];
  const struct iovec own = {path, sizeof path}, page = {(void*)request->data.args[1], sizeof path};
  const unsigned long rest = 4096 - (request->data.args[1] & 4095);
  const struct iovec first = {(void*)request->data.args[1], rest};
  ssize_t size = process_vm_readv((pid_t)request->pid, &own, 1, &page, 1, 0);
  if (size <= 0) size = process_vm_readv((pid_t)request->pid, &own, 1, &first, 1, 0);
  if (size <= 0) return 0;
  const size_t length = strnlen(path, (size_t)size);
  return length >= sizeof name - 1 && memcmp(path + length - (sizeof name - 1), name, sizeof name - 1) == 0;
}

static void answer_opens(int listener, int error) {
  static char asked[1024], said[1024];
  struct seccomp_notif* request = (struct seccomp_notif*)asked;
  struct seccomp_notif_resp* response = (struct seccomp_notif_resp*)said;
  struct pollfd polled = {listener, POLLIN, 0};
  while (poll(&polled, 1, -1) >= 0 || errno == EINTR) {
    if ((polled.revents & POLLIN) == 0) {
      if ((polled.revents & (POLLHUP | POLLERR)) != 0) return;
      continue;
    }
    memset(asked, 0, sizeof asked);
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, request) != 0) continue;
    memset(said, 0, sizeof said);
    response->id = request->id;
    if (is_kill_file(request))
      response->error = -error;
    else
      response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    (void)ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, response);
  }
}

// The command goes on in a child behind a filter that asks this process; comes back in the child alone.
static void without_kill_file(int error) {
  int pair[2], listener = -1;
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    perror("deny: socketpair");
    exit(1);
  }
  const pid_t child = fork();
  if (child == 0) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = {sizeof program / sizeof *program, program};
    prctl(PR_SET_NO_NEW_PRIVS, geteuid() != 0, 0, 0, 0);
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    if (listener < 0) {
      perror("deny: seccomp");
      exit(1);
    }
    pass(pair[1], &listener, 1);
    close(listener);
    return;
  }
  signal(SIGINT, SIG_IGN);
  pass(pair[0], &listener, 0);
  const pid_t server = fork();
  if (server == 0) {
    answer_opens(listener, error);
    _exit(0);
  }
  close(listener);
  int status = 0;
  waitpid(child, &status, 0);
  kill(server, SIGKILL);
  exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char** argv) {
  struct sock_filter program[2 * sizeof calls / sizeof calls[0] + 2];
  unsigned short size = 0;
  program[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  int at = 1;
  if (argc > 1 && strncmp(argv[at], "cgroup.kill=", 12) == 0)
    without_kill_file(strcmp(argv[at++] + 12, "EPERM") == 0 ? EPERM : ENOENT);
  for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
    char* equals = strchr(argv[at], '=');
    size_t row = 0;
    while (equals != NULL && row < sizeof calls / sizeof calls[0] &&
           (strlen(calls[row].name) != (size_t)(equals - argv[at]) ||
            strncmp(calls[row].name, argv[at], (size_t)(equals - argv[at])) != 0))
      row++;
    const int error = equals == NULL                   ? 0
                      : strcmp(equals, "=ENOSYS") == 0 ? ENOSYS
                      : strcmp(equals, "=EPERM") == 0  ? EPERM
                                                       : 0;
    if (error == 0 || row == sizeof calls / sizeof calls[0] || at > (int)(sizeof calls / sizeof calls[0])) {
      fprintf(stderr, "deny: %s: CALL=ENOSYS or CALL=EPERM, CALL one of:", argv[at]);
      for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) fprintf(stderr, " %s", calls[i].name);
      fprintf(stderr, "\n");
      return 2;
    }
    program[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[row].number, 0, 1);
    program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error);
  }
  if (at + 1 >= argc) {
    fprintf(stderr, "usage: deny CALL=ERRNO... -- COMMAND...\n");
    return 2;
  }
  program[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  const struct sock_fprog filter = {size, program};
  // Root needs no no_new_privs for a filter, which a container would inherit and show.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0 &&
      (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)) {
    perror("deny: seccomp");
    return 1;
  }
  execvp(argv[at + 1], argv + at + 1);
  perror(argv[at + 1]);
  return 127;
}
