// What a process can tell about itself, as JSON: one function per section of `probe json`. Part of probe.c.
#pragma once
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char** environ;

// ---- JSON: a writer that remembers whether a comma is due ----
static int first = 1;

static void comma(void) {
  if (!first) putchar(',');
  first = 0;
}

static void string(const char* text) {
  putchar('"');
  for (const unsigned char* c = (const unsigned char*)text; *c; c++) {
    if (*c == '"' || *c == '\\')
      printf("\\%c", *c);
    else if (*c < 0x20 || *c == 0x7f)
      printf("\\u%04x", *c);
    else
      putchar(*c);
  }
  putchar('"');
}

static void key(const char* name) {
  comma();
  string(name);
  putchar(':');
}

static void open_with(char bracket) {
  putchar(bracket);
  first = 1;
}

static void close_with(char bracket) {
  putchar(bracket);
  first = 0;
}

static void number(const char* name, long long value) {
  key(name);
  printf("%lld", value);
}

static void text(const char* name, const char* value) {
  key(name);
  string(value);
}

// musl has no strerrorname_np.
static const char* errno_name(int number) {
#define ROW(name) [name] = #name
  static const char* const names[] = {
      ROW(EPERM),        ROW(ENOENT),  ROW(ESRCH),     ROW(EINTR),  ROW(EIO),    ROW(ENXIO),
      ROW(E2BIG),        ROW(ENOEXEC), ROW(EBADF),     ROW(ECHILD), ROW(EAGAIN), ROW(ENOMEM),
      ROW(EACCES),       ROW(EFAULT),  ROW(EBUSY),     ROW(EEXIST), ROW(EXDEV),  ROW(ENODEV),
      ROW(ENOTDIR),      ROW(EISDIR),  ROW(EINVAL),    ROW(ENFILE), ROW(EMFILE), ROW(ENOTTY),
      ROW(ETXTBSY),      ROW(EFBIG),   ROW(ENOSPC),    ROW(EROFS),  ROW(EMLINK), ROW(EPIPE),
      ROW(ENAMETOOLONG), ROW(ENOSYS),  ROW(ENOTEMPTY), ROW(ELOOP),  ROW(EDQUOT), ROW(EOPNOTSUPP),
      ROW(EKEYREVOKED),  ROW(ENOKEY)};
#undef ROW
  static char other[16];
  const size_t count = sizeof names / sizeof *names;
  if (number >= 0 && (size_t)number < count && names[number]) return names[number];
  snprintf(other, sizeof other, "errno %d", number);
  return other;
}

// ---- files ----
// A whole small file (procfs), NUL-terminated; NULL when it cannot be read.
static char* slurp(const char* path, size_t* length) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return NULL;
  size_t size = 0, room = 1 << 16;
  char* data = malloc(room);
  for (;;) {
    if (room - size < 4096) data = realloc(data, room *= 2);
    ssize_t n = read(fd, data + size, room - size - 1);
    if (n <= 0) break;
    size += (size_t)n;
  }
  close(fd);
  data[size] = 0;
  if (length) *length = size;
  return data;
}

static void lines(const char* name, const char* path) {
  key(name);
  char* data = slurp(path, NULL);
  if (!data) {
    printf("null");
    return;
  }
  open_with('[');
  for (char* line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
    comma();
    string(line);
  }
  close_with(']');
  free(data);
}

static int by_name(const struct dirent** a, const struct dirent** b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static int real_entry(const struct dirent* entry) {
  return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static const char* link_target(const char* path, char target[PATH_MAX]) {
  ssize_t n = readlink(path, target, PATH_MAX - 1);
  if (n < 0) return NULL;
  target[n] = 0;
  return target;
}

// ---- sections ----
static void ids(void) {
  uid_t u[3];
  gid_t g[3];
  getresuid(&u[0], &u[1], &u[2]);
  getresgid(&g[0], &g[1], &g[2]);
  number("pid", getpid());
  number("ppid", getppid());
  number("sid", getsid(0));
  number("pgid", getpgid(0));
  key("uid");
  printf("[%u,%u,%u]", u[0], u[1], u[2]);
  key("gid");
  printf("[%u,%u,%u]", g[0], g[1], g[2]);
  gid_t groups[1024];
  int count = getgroups(1024, groups);
  key("groups");
  open_with('[');
  for (int i = 0; i < count; i++) {
    comma();
    printf("%u", groups[i]);
  }
  close_with(']');
}

// Every line of /proc/self/status that is the same in each run of the same configuration.
static void status(void) {
  static const char* const wanted[] = {"CapInh",           "CapPrm",  "CapEff", "CapBnd", "CapAmb",
                                       "NoNewPrivs",       "Seccomp", "Umask",  "SigIgn", "SigBlk",
                                       "SigCgt",           "Threads", "Groups", "NSpid",  "Cpus_allowed_list",
                                       "Mems_allowed_list"};
  char* data = slurp("/proc/self/status", NULL);
  key("status");
  if (!data) {
    printf("null");
    return;
  }
  open_with('{');
  for (char* line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
    char* colon = strchr(line, ':');
    if (!colon) continue;
    *colon = 0;
    char* value = colon + 1;
    while (isspace((unsigned char)*value)) value++;
    for (size_t n = strlen(value); n > 0 && isspace((unsigned char)value[n - 1]); n--) value[n - 1] = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
      if (strcmp(line, wanted[i]) == 0) text(line, value);
  }
  close_with('}');
  free(data);
}

static void mounts(void) {
  lines("mountinfo", "/proc/self/mountinfo");
}
static void cgroup(void) {
  lines("cgroup", "/proc/self/cgroup");
}

static void namespaces(void) {
  static const char* const names[] = {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"};
  key("namespaces");
  open_with('{');
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[64], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
    if (link_target(path, target)) text(names[i], target);
  }
  close_with('}');
}

static void limits(void) {
  key("limits");
  open_with('[');
  for (int resource = 0; resource < 16; resource++) {
    struct rlimit limit = {0, 0};
    getrlimit(resource, &limit);
    comma();
    // As strings: infinity is 2^64-1, which JSON readers round.
    printf("[\"%llu\",\"%llu\"]", (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
  }
  close_with(']');
}

static void fds(void) {
  struct dirent** list;
  key("fds");
  int count = scandir("/proc/self/fd", &list, real_entry, by_name);
  if (count < 0) {
    printf("null");
    return;
  }
  open_with('{');
  for (int i = 0; i < count; i++) {
    char path[300], target[PATH_MAX];
    snprintf(path, sizeof path, "/proc/self/fd/%s", list[i]->d_name);
    // scandir's own descriptor is closed again and has no target.
    if (link_target(path, target)) text(list[i]->d_name, target);
  }
  close_with('}');
}

static void environment(void) {
  key("env");
  open_with('[');
  for (char** entry = environ; *entry; entry++) {
    comma();
    string(*entry);
  }
  close_with(']');
  char cwd[PATH_MAX] = "";
  // The raw call: libc hides "(unreachable)".
  if (syscall(SYS_getcwd, cwd, sizeof cwd) < 0) snprintf(cwd, sizeof cwd, "error %d", errno);
  text("cwd", cwd);
}

static void names(void) {
  struct utsname uts;
  uname(&uts);
  text("hostname", uts.nodename);
  text("domainname", uts.domainname);
  text("machine", uts.machine);
}

static char type_of(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return 'f';
    case S_IFDIR:
      return 'd';
    case S_IFLNK:
      return 'l';
    case S_IFCHR:
      return 'c';
    case S_IFBLK:
      return 'b';
    case S_IFIFO:
      return 'p';
    case S_IFSOCK:
      return 's';
    default:
      return '?';
  }
}

static void node(const char* path, const char* name) {
  struct stat st;
  key(name);
  if (lstat(path, &st) < 0) {
    string(errno_name(errno));
    return;
  }
  open_with('{');
  char type[2] = {type_of(st.st_mode), 0};
  text("type", type);
  char mode[8];
  snprintf(mode, sizeof mode, "%04o", st.st_mode & 07777);
  text("mode", mode);
  number("uid", st.st_uid);
  number("gid", st.st_gid);
  if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
    char device[32];
    snprintf(device, sizeof device, "%u:%u", major(st.st_rdev), minor(st.st_rdev));
    text("device", device);
  }
  char target[PATH_MAX];
  if (S_ISLNK(st.st_mode) && link_target(path, target)) text("target", target);
  close_with('}');
}

static void devices(void) {
  struct dirent** list;
  key("dev");
  int count = scandir("/dev", &list, real_entry, by_name);
  open_with('{');
  for (int i = 0; i < count; i++) {
    char path[300];
    snprintf(path, sizeof path, "/dev/%s", list[i]->d_name);
    node(path, list[i]->d_name);
  }
  close_with('}');
}

static void scheduling(void) {
  struct sched_param parameter = {0};
  // The raw calls: those of musl are ENOSYS.
  syscall(SYS_sched_getparam, 0, &parameter);
  key("scheduler");
  printf("{\"policy\":%ld,\"priority\":%d,\"nice\":%d}", syscall(SYS_sched_getscheduler, 0),
         parameter.sched_priority, getpriority(PRIO_PROCESS, 0));
  number("ioprio", syscall(SYS_ioprio_get, 1, 0));
  number("personality", personality(0xffffffff));
  char* value = slurp("/proc/self/oom_score_adj", NULL);
  if (value) number("oomScoreAdj", atoi(value));
  free(value);
  int signal = 0;
  prctl(PR_GET_PDEATHSIG, &signal);
  number("parentDeathSignal", signal);
  number("dumpable", prctl(PR_GET_DUMPABLE));
  number("securebits", prctl(PR_GET_SECUREBITS));
}

static void terminal(void) {
  key("stdio");
  open_with('[');
  for (int fd = 0; fd < 3; fd++) {
    comma();
    open_with('{');
    struct stat st;
    struct winsize size;
    if (fstat(fd, &st) == 0) {
      char type[2] = {type_of(st.st_mode), 0};
      text("type", type);
      number("uid", st.st_uid);
      number("gid", st.st_gid);
    }
    key("tty");
    printf(isatty(fd) ? "true" : "false");
    if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
      number("rows", size.ws_row);
      number("columns", size.ws_col);
    }
    close_with('}');
  }
  close_with(']');
  int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
  key("controllingTerminal");
  printf(tty >= 0 ? "true" : "false");
  if (tty >= 0) close(tty);
}

static void network(void) {
  key("interfaces");
  char* data = slurp("/proc/self/net/dev", NULL);
  if (!data) {
    printf("null");
    return;
  }
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  open_with('{');
  for (char* line = strtok(data, "\n"); line; line = strtok(NULL, "\n")) {
    char* colon = strchr(line, ':');
    if (!colon) continue;
    *colon = 0;
    while (*line == ' ') line++;
    struct ifreq request = {0};
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", line);
    text(line, ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) ? "up" : "down");
  }
  close_with('}');
  close(fd);
  free(data);
}

static void keyring(void) {
  char description[256] = "";
  if (syscall(SYS_keyctl, KEYCTL_DESCRIBE, KEY_SPEC_SESSION_KEYRING, description, sizeof description) < 0)
    snprintf(description, sizeof description, "%s", errno_name(errno));
  text("sessionKeyring", description);
}

static const struct {
  const char* name;
  void (*print)(void);
} sections[] = {{"ids", ids},         {"status", status},         {"mounts", mounts},
                {"cgroup", cgroup},   {"namespaces", namespaces}, {"limits", limits},
                {"fds", fds},         {"env", environment},       {"names", names},
                {"devices", devices}, {"scheduling", scheduling}, {"terminal", terminal},
                {"network", network}, {"keyring", keyring}};
