// The test program inside a container: tells as JSON what a process there sees, and does simple things on
// request. Static (musl), no file of the rootfs is needed. `probe json [SECTION…]` prints one object; the
// other verbs are listed in the table at the end. Exit codes: 0, 1 for a failed call (message on stderr), 2
// for a wrong use.
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
#define ERRNO_NAMES                                                                                      \
  X(EPERM)                                                                                               \
  X(ENOENT) X(ESRCH) X(EINTR) X(EIO) X(ENXIO) X(E2BIG) X(ENOEXEC) X(EBADF) X(ECHILD) X(EAGAIN) X(ENOMEM) \
      X(EACCES) X(EFAULT) X(EBUSY) X(EEXIST) X(EXDEV) X(ENODEV) X(ENOTDIR) X(EISDIR) X(EINVAL) X(ENFILE) \
          X(EMFILE) X(ENOTTY) X(ETXTBSY) X(EFBIG) X(ENOSPC) X(EROFS) X(EMLINK) X(EPIPE) X(ENAMETOOLONG)  \
              X(ENOSYS) X(ENOTEMPTY) X(ELOOP) X(EDQUOT) X(EOPNOTSUPP) X(EKEYREVOKED) X(ENOKEY)

static const char* errno_name(int number) {
#define X(name) \
  if (number == name) return #name;
  ERRNO_NAMES
#undef X
  static char other[16];
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
  sched_getparam(0, &parameter);
  key("scheduler");
  printf("{\"policy\":%d,\"priority\":%d,\"nice\":%d}", sched_getscheduler(0), parameter.sched_priority,
         getpriority(PRIO_PROCESS, 0));
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

// ---- verbs ----
static int failed(const char* what) {
  fprintf(stderr, "probe: %s: %s\n", what, errno_name(errno));
  return 1;
}

static int json(int count, char** wanted) {
  open_with('{');
  for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
    int print = count == 0;
    for (int j = 0; j < count; j++) print |= strcmp(wanted[j], sections[i].name) == 0;
    if (print) sections[i].print();
  }
  close_with('}');
  putchar('\n');
  return 0;
}

static void say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  putchar('\n');
  fflush(stdout);
}

static const struct {
  const char* name;
  int number;
} signals[] = {{"HUP", SIGHUP},   {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"ABRT", SIGABRT},
               {"KILL", SIGKILL}, {"SEGV", SIGSEGV},   {"TERM", SIGTERM}, {"USR1", SIGUSR1},
               {"USR2", SIGUSR2}, {"WINCH", SIGWINCH}, {"STOP", SIGSTOP}, {"CONT", SIGCONT},
               {"PIPE", SIGPIPE}};

static int signal_number(const char* name) {
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    if (strcmp(signals[i].name, name) == 0) return signals[i].number;
  return atoi(name);
}

static const char* signal_name(int number) {
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
    if (signals[i].number == number) return signals[i].name;
  return "other";
}

static int wait_for_signal(void) {
  while (pause() < 0) continue;
  return 0;
}

// Until a signal of default disposition kills it. PID 1 has no default dispositions: only KILL from outside
// ends it.
static int sleeps(int count, char** arguments) {
  (void)count, (void)arguments;
  say("ready");
  return wait_for_signal();
}

// Prints the name of each of these signals; TERM ends it with the exit code given (default 0).
static int trap(int count, char** arguments) {
  sigset_t set;
  sigemptyset(&set);
  const int wanted[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT};
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) sigaddset(&set, wanted[i]);
  sigprocmask(SIG_BLOCK, &set, NULL);
  say("ready");
  for (;;) {
    int number = sigwaitinfo(&set, NULL);
    if (number < 0) continue;
    struct winsize size;
    if (number == SIGWINCH && ioctl(0, TIOCGWINSZ, &size) == 0)
      say("WINCH %d %d", size.ws_row, size.ws_col);
    else
      say("%s", signal_name(number));
    if (number == SIGTERM) return count > 0 ? atoi(arguments[0]) : 0;
  }
}

static int exits(int count, char** arguments) {
  return count > 0 ? atoi(arguments[0]) : 0;
}

// A PID 1 cannot send itself a deadly signal, but a fault of its own kills it: SEGV is a real one.
static int kills(int count, char** arguments) {
  if (count < 1) return 2;
  int number = signal_number(arguments[0]);
  if (number == SIGSEGV) *(volatile int*)(uintptr_t)8 = 1;
  signal(number, SIG_DFL);
  kill(getpid(), number);
  say("survived %s", arguments[0]);
  return 1;
}

// Touches so many bytes, says so, and waits.
static int eats(int count, char** arguments) {
  if (count < 1) return 2;
  size_t bytes = strtoull(arguments[0], NULL, 0);
  char* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return failed("mmap");
  for (size_t i = 0; i < bytes; i += 4096) memory[i] = 1;
  say("eaten %zu", bytes);
  return wait_for_signal();
}

// So many children that wait; tells how many there are. With a second argument it ends then, else it waits.
static int forks(int count, char** arguments) {
  if (count < 1) return 2;
  int wanted = atoi(arguments[0]), made = 0;
  const char* error = "";
  for (; made < wanted; made++) {
    pid_t pid = fork();
    if (pid == 0)
      for (;;) pause();
    if (pid < 0) {
      error = errno_name(errno);
      break;
    }
  }
  say("forked %d %s", made, error);
  if (count > 1) return 0;
  return wait_for_signal();
}

static int burns(int count, char** arguments) {
  if (count < 1) return 2;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long end = now.tv_sec * 1000LL + now.tv_nsec / 1000000 + atoll(arguments[0]);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while (now.tv_sec * 1000LL + now.tv_nsec / 1000000 < end);
  say("burnt");
  return 0;
}

static int reads(int count, char** arguments) {
  if (count < 1) return 2;
  size_t length;
  char* data = slurp(arguments[0], &length);
  if (!data) return failed(arguments[0]);
  fwrite(data, 1, length, stdout);
  return 0;
}

static int writes(int count, char** arguments) {
  if (count < 2) return 2;
  int fd = open(arguments[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return failed(arguments[0]);
  size_t length = strlen(arguments[1]);
  if (write(fd, arguments[1], length) != (ssize_t)length) return failed("write");
  return close(fd) < 0 ? failed("close") : 0;
}

// One call, answered with `ok` or the name of its errno; the exit code is 0 either way.
static int tries(int count, char** arguments) {
  if (count < 2) return 2;
  const char *call = arguments[0], *path = arguments[1];
  int result = -1;
  if (strcmp(call, "read") == 0)
    result = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  else if (strcmp(call, "write") == 0)
    result = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
  else if (strcmp(call, "create") == 0)
    result = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  else if (strcmp(call, "mkdir") == 0)
    result = mkdir(path, 0755);
  else if (strcmp(call, "unlink") == 0)
    result = unlink(path);
  else if (strcmp(call, "list") == 0)
    result = opendir(path) ? 0 : -1;
  else if (strcmp(call, "chown") == 0 && count == 4)
    result = chown(path, (uid_t)atoi(arguments[2]), (gid_t)atoi(arguments[3]));
  else if (strcmp(call, "mknod") == 0 && count == 5)
    result = mknod(path, 0600 | (arguments[2][0] == 'b' ? S_IFBLK : S_IFCHR),
                   makedev((unsigned)atoi(arguments[3]), (unsigned)atoi(arguments[4])));
  else
    return 2;
  say("%s", result < 0 ? errno_name(errno) : "ok");
  return 0;
}

static int stats(int count, char** arguments) {
  open_with('{');
  for (int i = 0; i < count; i++) node(arguments[i], arguments[i]);
  close_with('}');
  putchar('\n');
  return 0;
}

// stdin to stdout, as it comes.
static int echoes(int count, char** arguments) {
  (void)count, (void)arguments;
  char buffer[1 << 16];
  ssize_t n;
  while ((n = read(0, buffer, sizeof buffer)) > 0)
    for (ssize_t done = 0, m; done < n; done += m)
      if ((m = write(1, buffer + done, (size_t)(n - done))) < 0) return failed("write");
  return n < 0 ? failed("read") : 0;
}

// A grandchild that outlives its parent and belongs to PID 1 then; prints its pid and ends.
static int orphans(int count, char** arguments) {
  (void)count, (void)arguments;
  int ends[2];
  if (pipe(ends) < 0) return failed("pipe");
  pid_t middle = fork();
  if (middle == 0) {
    pid_t pid = fork();
    if (pid == 0)
      for (;;) pause();
    if (write(ends[1], &pid, sizeof pid) < 0) _exit(1);
    _exit(0);
  }
  waitpid(middle, NULL, 0);
  pid_t pid = -1;
  if (read(ends[0], &pid, sizeof pid) < 0) return failed("read");
  say("orphan %d", pid);
  return 0;
}

static const struct {
  const char* name;
  const char* use;
  int (*run)(int count, char** arguments);
} verbs[] = {
    {"json", "[SECTION…]", json},
    {"sleep", "", sleeps},
    {"trap", "[EXIT_CODE]", trap},
    {"exit", "[EXIT_CODE]", exits},
    {"kill", "SIGNAL", kills},
    {"eat", "BYTES", eats},
    {"fork", "COUNT [exit]", forks},
    {"burn", "MILLISECONDS", burns},
    {"read", "PATH", reads},
    {"write", "PATH TEXT", writes},
    {"try", "read|write|create|mkdir|unlink|list PATH | chown PATH UID GID | mknod PATH b|c MAJOR MINOR",
     tries},
    {"stat", "PATH…", stats},
    {"echo", "", echoes},
    {"orphan", "", orphans}};

int main(int count, char** arguments) {
  for (size_t i = 0; count > 1 && i < sizeof verbs / sizeof *verbs; i++) {
    if (strcmp(arguments[1], verbs[i].name) != 0) continue;
    int code = verbs[i].run(count - 2, arguments + 2);
    if (code != 2) return code;
    fprintf(stderr, "use: probe %s %s\n", verbs[i].name, verbs[i].use);
    return 2;
  }
  fprintf(stderr, "use: probe VERB …\n");
  for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
    fprintf(stderr, "  %s %s\n", verbs[i].name, verbs[i].use);
  return 2;
}
