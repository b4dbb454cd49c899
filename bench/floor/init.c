/*
 * The container's side of the floor: everything that the default configuration asks for, one system call
 * after the other, nothing parsed, nothing decided. argv: "init" PLAN_FD STATUS_FD. Static on musl, like the
 * init executable it is the yardstick of. Its order is the order of a start (docs/start-sequence.md).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "plan.h"
#include "second_stage.h"

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
enum { TREE_RECURSIVE = 0x8000, DETACH = 2, REC_SLAVE = 0x4000 | 0x80000 };

int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);

static struct plan *plan;

#define CHECK(call)                    \
  __extension__({                      \
    const long result_ = (long)(call); \
    if (result_ < 0) fail(__LINE__);   \
    (int)result_;                      \
  })

static _Noreturn void fail(int line) {
  plan->failed_line = line;
  plan->failed_errno = errno;
  _exit(127);
}

/* A path inside the rootfs, never out of it. */
static int inside(int root, const char *path) {
  const struct open_how how = {.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
                               .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
  return CHECK(syscall(SYS_openat2, root, path, &how, sizeof how));
}

static void attach(int tree, int root, const char *path) {
  const int target = inside(root, path);
  CHECK(syscall(SYS_move_mount, tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
  close(target);
}

/* options: key, value, key, value, …, null */
static int new_mount(const char *type, const char *const *options, unsigned attributes) {
  const int context = CHECK(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
  for (; options != NULL && options[0] != NULL; options += 2)
    CHECK(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, options[0], options[1], 0));
  CHECK(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
  const int tree = CHECK(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes));
  close(context);
  return tree;
}

static void mount_new(int root, const char *path, const char *type, const char *const *options,
                      unsigned attributes) {
  const int tree = new_mount(type, options, attributes);
  attach(tree, root, path);
  close(tree);
}

static int clone_tree(int directory, const char *path, unsigned long long attributes, unsigned recursive) {
  const unsigned empty = path[0] == '\0' ? AT_EMPTY_PATH : 0;
  const int tree =
      (int)syscall(SYS_open_tree, directory, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | recursive | empty);
  if (tree < 0 || attributes == 0) return tree;
  const struct mount_attr change = {.attr_set = attributes};
  CHECK(syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | recursive, &change, sizeof change));
  return tree;
}

enum {
  PLAIN = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV,
  PLAIN_READONLY = PLAIN | MOUNT_ATTR_RDONLY
};

static void join_cgroups(void) {
  for (int i = 0; i < plan->hierarchies; i++) {
    char path[PATH_LENGTH + 8];
    strcpy(stpcpy(path, plan->cgroup[i].path), "/tasks");
    const int file = CHECK(open(path, O_WRONLY | O_CLOEXEC));
    CHECK(write(file, "0", 1));
    close(file);
  }
}

/* keyctl(2); the permissions let the container's processes search its own keyring only, as runc does. */
static void join_session_keyring(void) {
  const long keyring = CHECK(syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, "_ses.floor"));
  CHECK(syscall(SYS_keyctl, 5 /* KEYCTL_SETPERM */, keyring, 0x3f1f0000 | 0x080000));
}

static void loopback_up(void) {
  const int s = CHECK(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  struct ifreq request = {.ifr_name = "lo"};
  CHECK(ioctl(s, SIOCGIFFLAGS, &request));
  request.ifr_flags |= IFF_UP;
  CHECK(ioctl(s, SIOCSIFFLAGS, &request));
  close(s);
}

static void fill_dev(int dev) {
  static const struct {
    const char *name;
    unsigned major, minor;
  } nodes[] = {{"null", 1, 3}, {"random", 1, 8}, {"full", 1, 7},
               {"tty", 5, 0},  {"zero", 1, 5},   {"urandom", 1, 9}};
  static const char *const links[][2] = {{"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"},
                                         {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
                                         {"/proc/kcore", "core"},       {"pts/ptmx", "ptmx"}};
  for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
    CHECK(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
  for (unsigned i = 0; i < sizeof links / sizeof *links; i++) CHECK(symlinkat(links[i][0], dev, links[i][1]));
}

static void mount_cgroups(int root) {
  if (plan->hierarchies == 0) {
    mount_new(root, "sys/fs/cgroup", "cgroup2", NULL, PLAIN_READONLY);
    return;
  }
  static const char *const options[] = {"mode", "755", NULL};
  const int top = new_mount("tmpfs", options, PLAIN);
  for (int i = 0; i < plan->hierarchies; i++) {
    const char *name = plan->cgroup[i].name;
    CHECK(mkdirat(top, name, 0755));
    /* A hierarchy of several controllers gets a link for each: cpu -> cpu,cpuacct. */
    for (const char *at = name; strchr(name, ',') != NULL && at != NULL;) {
      const char *end = strchrnul(at, ',');
      char one[64] = "";
      memcpy(one, at, (size_t)(end - at));
      CHECK(symlinkat(name, top, one));
      at = *end == ',' ? end + 1 : NULL;
    }
  }
  attach(top, root, "sys/fs/cgroup");
  for (int i = 0; i < plan->hierarchies; i++) {
    const int tree = CHECK(clone_tree(AT_FDCWD, plan->cgroup[i].path, PLAIN_READONLY, 0));
    CHECK(syscall(SYS_move_mount, tree, "", top, plan->cgroup[i].name, MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
  }
  const struct mount_attr readonly = {.attr_set = MOUNT_ATTR_RDONLY};
  CHECK(syscall(SYS_mount_setattr, top, "", AT_EMPTY_PATH, &readonly, sizeof readonly));
  close(top);
}

static void make_rootfs(void) {
  CHECK(mount(NULL, "/", NULL, REC_SLAVE, NULL));
  const int root = CHECK(clone_tree(AT_FDCWD, plan->rootfs, MOUNT_ATTR_RDONLY, TREE_RECURSIVE));
  CHECK(syscall(SYS_move_mount, root, "", AT_FDCWD, plan->rootfs, MOVE_MOUNT_F_EMPTY_PATH));
  CHECK(fchdir(root));
  umask(0);
  mount_new(root, "proc", "proc", NULL, 0);
  static const char *const dev_options[] = {"mode", "755", "size", "65536k", NULL};
  const int dev = new_mount("tmpfs", dev_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
  CHECK(mkdirat(dev, "pts", 0755));
  CHECK(mkdirat(dev, "shm", 0755));
  CHECK(mkdirat(dev, "mqueue", 0755));
  attach(dev, root, "dev");
  static const char *const pts[] = {"ptmxmode", "0666", "mode", "0620", "gid", "5", NULL};
  mount_new(root, "dev/pts", "devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  static const char *const shm[] = {"mode", "1777", "size", "65536k", NULL};
  mount_new(root, "dev/shm", "tmpfs", shm, PLAIN);
  mount_new(root, "dev/mqueue", "mqueue", NULL, PLAIN);
  mount_new(root, "sys", "sysfs", NULL, PLAIN_READONLY);
  mount_cgroups(root);
  fill_dev(dev);
  close(dev);
  CHECK(syscall(SYS_pivot_root, ".", "."));
  CHECK(umount2(".", DETACH));
  CHECK(chdir("/"));
  umask(022);
}

static void hide_paths(void) {
  static const char *const masked[] = {
      "/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",    "/proc/latency_stats",
      "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
  static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                                         "/proc/sysrq-trigger"};
  for (unsigned i = 0; i < sizeof readonly / sizeof *readonly; i++) {
    const int tree = clone_tree(AT_FDCWD, readonly[i], MOUNT_ATTR_RDONLY, TREE_RECURSIVE);
    if (tree < 0 && errno == ENOENT) continue;
    CHECK(tree);
    CHECK(syscall(SYS_move_mount, tree, "", AT_FDCWD, readonly[i], MOVE_MOUNT_F_EMPTY_PATH));
    close(tree);
  }
  static const char *const empty[] = {"size", "0", NULL};
  int cover = -1;
  for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
    struct stat status;
    if (lstat(masked[i], &status) < 0) continue;
    /* The type first: a bind that is refused waits for a grace period of the kernel. */
    int tree;
    if (!S_ISDIR(status.st_mode))
      tree = CHECK(clone_tree(AT_FDCWD, "/dev/null", 0, 0));
    else if (cover >= 0)
      tree = CHECK(clone_tree(cover, "", 0, 0));
    else
      tree = cover = new_mount("tmpfs", empty, MOUNT_ATTR_RDONLY);
    CHECK(syscall(SYS_move_mount, tree, "", AT_FDCWD, masked[i], MOVE_MOUNT_F_EMPTY_PATH));
    if (tree != cover) close(tree);
  }
}

static void drop_privileges(void) {
  enum { AUDIT_WRITE = 29, KILL = 5, NET_BIND_SERVICE = 10, LAST = 40 };
  const unsigned kept = 1U << AUDIT_WRITE | 1U << KILL | 1U << NET_BIND_SERVICE;
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  const struct rlimit files = {1024, 1024};
  CHECK(setrlimit(RLIMIT_NOFILE, &files));
  for (int capability = 0; capability <= LAST; capability++)
    if (capability > 31 || (kept >> capability & 1) == 0) CHECK(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
  CHECK(syscall(SYS_setgroups, 0, NULL));
  CHECK(syscall(SYS_setresgid, 0, 0, 0));
  CHECK(syscall(SYS_setresuid, 0, 0, 0));
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const struct __user_cap_data_struct sets[2] = {{kept, kept, 0}, {0, 0, 0}};
  CHECK(syscall(SYS_capset, &header, sets));
  CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  plan = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[1]), 0);
  if (plan == MAP_FAILED) return 3;
  /* From here on everything closes at the exec; the end of STATUS_FD tells the parent that it has happened.
   */
  CHECK(syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */));
  join_cgroups();
  if (!plan->hidden) CHECK(setsid());
  join_session_keyring();
  if (plan->join_pidfd >= 0) {
    CHECK(setns(plan->join_pidfd, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |
                                      (plan->hidden ? CLONE_NEWPID : 0)));
  } else {
    loopback_up();
    make_rootfs();
    CHECK(sethostname("runc", 4));
    hide_paths();
  }
  drop_privileges();
  if (plan->hidden) {
    CHECK(become_second_stage(atoi(argv[2])));
    CHECK(setsid());
  }
  CHECK(chdir("/"));
  char *const arguments[] = {plan->program, plan->argument[0] != '\0' ? plan->argument : NULL, NULL};
  char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                               "TERM=xterm", "HOME=/root", NULL};
  CHECK(execve(plan->program, arguments, environment));
  return 0;
}
