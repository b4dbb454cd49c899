/*
 * The device program of a cgroup v2: allows what write_device_rules() of floor.c allows. Loaded once, as a
 * runtime that caches programs by content does.
 */
#pragma once

#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static int load_device_program(void) {
  static const int allowed[][2] = {{1, 3}, {1, 8}, {1, 7},    {5, 0},   {1, 5},
                                   {1, 9}, {5, 2}, {136, -1}, {10, 200}};
  struct bpf_insn p[128];
  int n = 0;
#define EMIT(c, d, s, o, i) \
  p[n++] = (struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)}
#define ALLOW()                                  \
  EMIT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1); \
  EMIT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 2, 1, 0, 0); /* access << 16 | type */
  EMIT(BPF_ALU64 | BPF_MOV | BPF_X, 3, 2, 0, 0);
  EMIT(BPF_ALU | BPF_AND | BPF_K, 2, 0, 0, 0xffff);
  EMIT(BPF_ALU | BPF_RSH | BPF_K, 3, 0, 0, 16);
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0); /* major */
  EMIT(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0); /* minor */
  EMIT(BPF_JMP | BPF_JNE | BPF_K, 3, 0, 2, BPF_DEVCG_ACC_MKNOD);
  ALLOW();
  for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
    const int any = allowed[i][1] < 0;
    EMIT(BPF_JMP | BPF_JNE | BPF_K, 2, 0, (short)(any ? 3 : 4), BPF_DEVCG_DEV_CHAR);
    EMIT(BPF_JMP | BPF_JNE | BPF_K, 4, 0, (short)(any ? 2 : 3), allowed[i][0]);
    if (!any) EMIT(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, allowed[i][1]);
    ALLOW();
  }
  EMIT(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
  EMIT(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
                         .insns = (unsigned long long)(uintptr_t)p,
                         .insn_cnt = (unsigned)n,
                         .license = (unsigned long long)(uintptr_t) "Apache"};
  const int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);
  return fd;
}
