// SPDX-License-Identifier: Apache-2.0
// deny CALL=ERRNO… -- COMMAND…: runs the command where these system calls answer with this errno, as on an
// older kernel (ENOSYS) or in somebody's sandbox (EPERM). A seccomp filter, so it holds for all that the
// command starts.
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
  const char* name;
  unsigned number;
} calls[] = {
    {"openat2", 437},     {"fsopen", 430},     {"fsmount", 432},       {"fsconfig", 431},
    {"open_tree", 428},   {"move_mount", 429}, {"mount_setattr", 442}, {"close_range", 436},
    {"clone3", 435},      {"pidfd_open", 434}, {"faccessat2", 439},    {"memfd_create", SYS_memfd_create},
    {"statx", SYS_statx}, {"bpf", SYS_bpf},    {"keyctl", SYS_keyctl}, {"pidfd_send_signal", 424},
};

int main(int argc, char** argv) {
  struct sock_filter program[2 * sizeof calls / sizeof calls[0] + 2];
  unsigned short size = 0;
  program[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  int at = 1;
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
