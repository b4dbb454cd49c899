/* What floor.c tells init.c, in a shared memory file; init answers there when a call fails. */
#pragma once

enum { MAX_HIERARCHIES = 16, PATH_LENGTH = 256 };

struct hierarchy {
  char name[64];          /* directory below /sys/fs/cgroup: "cpu,cpuacct" */
  char path[PATH_LENGTH]; /* this container's cgroup on the host */
};

struct plan {
  char rootfs[PATH_LENGTH];
  char program[64];
  char argument[16];
  int hierarchies; /* 0: cgroup v2, and clone3 has put us in it */
  struct hierarchy cgroup[MAX_HIERARCHIES];
  int join_pidfd; /* -1: make a container; else execute in this one */
  int hidden;     /* executed from a stage that the container cannot see (docs/adr/0008) */
  int failed_line;
  int failed_errno;
};
