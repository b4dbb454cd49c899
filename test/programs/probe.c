// The test program inside a container: tells as JSON what a process there sees, and does simple things on
// request. Static (musl), no file of the rootfs is needed. `probe json [SECTION…]` prints one object; the
// other verbs are listed in the table at the end. Exit codes: 0, 1 for a failed call (message on stderr), 2
// for a wrong use.
#include <poll.h>

#include "probe_facts.h"

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

// Touches so many bytes, says so, and waits. With a second argument in huge pages, or it says why not.
static int eats(int count, char** arguments) {
  if (count < 1) return 2;
  size_t bytes = strtoull(arguments[0], NULL, 0);
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | (count > 1 ? MAP_HUGETLB : 0);
  char* memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED && count > 1) {
    say("%s", errno_name(errno));
    return 1;
  }
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

// The seals of a file in memory, fcntl(2).
static int seals(int count, char** arguments) {
  if (count != 1) return 2;
  int fd = open(arguments[0], O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open");
  int have = fcntl(fd, F_GET_SEALS);
  if (have < 0) return failed("fcntl");
  static const char* const names[] = {"seal", " shrink", " grow", " write", " future-write", " exec"};
  char text[64] = "";
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if ((have >> i & 1) != 0) strcat(text, names[i]);
  say("%s", text);
  return 0;
}

// ---- what a process that appears here has that is not the container's ----
static int link_of(char* out, size_t size, int pid, const char* name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  ssize_t length = readlink(path, out, size - 1);
  out[length < 0 ? 0 : length] = 0;
  return length >= 0;
}

// 1: as ours, 0: gone or hidden, -1: another.
static int same_directory(int pid, const char* name) {
  char path[64];
  struct stat theirs, ours;
  snprintf(path, sizeof path, "/proc/%d/%s/", pid, name);
  if (stat(path, &theirs) < 0 || stat("/", &ours) < 0) return 0;
  return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino ? 1 : -1;
}

static unsigned long long permitted(int pid) {
  char path[64], text[4096] = "";
  snprintf(path, sizeof path, "/proc/%d/status", pid);
  int fd = open(path, O_RDONLY);
  ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  const char* line = length > 0 ? strstr(text, "CapPrm:") : NULL;
  return line == NULL ? 0 : strtoull(line + 7, NULL, 16);
}

static void hit(const char* kind, const char* value) {
  static char told[64][32];
  for (size_t i = 0; i < 64; i++) {
    if (strcmp(told[i], kind) == 0) return;
    if (told[i][0] != 0) continue;
    snprintf(told[i], sizeof told[i], "%s", kind);
    say("hit %s %s", kind, value);
    return;
  }
}

// True when it was our init, before its execve.
static int examine(int pid, unsigned long long own) {
  char theirs[4096], ours[4096];
  if (same_directory(pid, "root") < 0) hit("root", "");
  if (same_directory(pid, "cwd") < 0) hit("cwd", "");
  static const char* const kinds[] = {"cgroup", "ipc", "mnt", "net", "pid", "uts"};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    char name[16];
    snprintf(name, sizeof name, "ns/%s", kinds[i]);
    if (link_of(theirs, sizeof theirs, pid, name) && link_of(ours, sizeof ours, getpid(), name) &&
        strcmp(theirs, ours) != 0)
      hit(name, theirs);
  }
  for (int fd = 0; fd < 32; fd++) {
    char name[16];
    snprintf(name, sizeof name, "fd/%d", fd);
    if (!link_of(theirs, sizeof theirs, pid, name)) continue;
    static const char* const harmless[] = {"pipe:", "socket:", "/dev/null", "/etc/passwd"};
    int known = 0;
    for (size_t i = 0; i < 4; i++) known |= strncmp(theirs, harmless[i], strlen(harmless[i])) == 0;
    if (!known) hit("fd", theirs);
  }
  if ((permitted(pid) & ~own) != 0) hit("caps", "");
  if (!link_of(theirs, sizeof theirs, pid, "exe")) return 0;
  if (strncmp(theirs, "/bin/", 5) != 0 && strncmp(theirs, "/memfd:libcontainer-init", 24) != 0)
    hit("exe", theirs);
  return theirs[1] == 'm';
}

// The last pid that was given out in this pid namespace.
static int last_pid(void) {
  char text[128] = "";
  int fd = open("/proc/loadavg", O_RDONLY);
  ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  const char* last = length > 0 ? strrchr(text, ' ') : NULL;
  return last == NULL ? 0 : atoi(last);
}

// Looks at each process that comes until stdin has something, as a program in the container would that waits
// for one to enter. CAP_SYS_PTRACE lets it look into what is not dumpable.
static int hunts(int count, char** arguments) {
  (void)count, (void)arguments;
  unsigned long long own = permitted(getpid());
  int next = getpid() + 1, seen = 0;
  say("ready");
  for (struct pollfd in = {0, POLLIN, 0}; poll(&in, 1, 0) == 0;)
    for (int round = 0; round < 1000; round++) {
      char path[32];
      // Those that came and went while this one did not run.
      if (round % 50 == 0 && last_pid() > next) next = last_pid();
      for (int pid = next; pid < next + 3; pid++) {
        snprintf(path, sizeof path, "/proc/%d", pid);
        int inits = 0;
        while (access(path, F_OK) == 0) {
          inits += examine(pid, own);
          next = pid + 1;
        }
        seen += inits != 0;
      }
    }
  say("seen %d of %d", seen, next - getpid() - 1);
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
    {"eat", "BYTES [huge]", eats},
    {"fork", "COUNT [exit]", forks},
    {"burn", "MILLISECONDS", burns},
    {"read", "PATH", reads},
    {"write", "PATH TEXT", writes},
    {"try", "read|write|create|mkdir|unlink|list PATH | chown PATH UID GID | mknod PATH b|c MAJOR MINOR",
     tries},
    {"stat", "PATH…", stats},
    {"echo", "", echoes},
    {"orphan", "", orphans},
    {"seals", "PATH", seals},
    {"hunt", "", hunts}};

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
