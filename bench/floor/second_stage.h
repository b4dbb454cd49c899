/*
 * The least that docs/adr/0008 asks of an exec: what is born in the container's pid namespace has nothing of
 * the host's, and who waits for it knows it before it goes on. Both sides, over a SOCK_SEQPACKET pair.
 */
#pragma once

#include <linux/sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

union one_descriptor {
  struct cmsghdr head;
  char space[CMSG_SPACE(sizeof(int))];
};

/* In the first stage, which has entered the pid namespace for its children. Returns in the second one. */
static inline int become_second_stage(int socket) {
  if (socket > 3 && syscall(SYS_close_range, 3, socket - 1, 0) < 0) return -1;
  if (syscall(SYS_close_range, socket + 1, ~0U, 0) < 0) return -1;
  int pidfd = -1;
  struct clone_args arguments = {.flags = CLONE_PARENT | CLONE_PIDFD, .pidfd = (unsigned long)&pidfd};
  char byte = 0;
  const long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
  if (pid <= 0) return pid < 0 || read(socket, &byte, 1) != 1 ? -1 : 0;
  union one_descriptor control = {
      .head = {.cmsg_len = CMSG_LEN(sizeof pidfd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
  memcpy(CMSG_DATA(&control.head), &pidfd, sizeof pidfd);
  struct iovec data = {&byte, 1};
  const struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  _exit(sendmsg(socket, &message, 0) == 1 ? 0 : 1);
}

/* `pidfd` is the first stage's, and afterwards the second one's. */
static inline int meet_second_stage(int socket, int *pidfd) {
  char byte;
  union one_descriptor control;
  struct iovec data = {&byte, 1};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1 || send(socket, &byte, 1, 0) != 1) return -1;
  siginfo_t status;
  if (waitid(P_PIDFD, (id_t)*pidfd, &status, WEXITED) < 0) return -1;
  close(*pidfd);
  memcpy(pidfd, CMSG_DATA(&control.head), sizeof *pidfd);
  return 0;
}
