/*
 * The floor: the least work that makes the same container as the default configuration with memory, pids and
 * cpu limits, runs a program in it, waits for its end and takes it away. What the library is measured
 * against: it has no state file, no hooks, no error texts, no configuration.
 *
 *   floor ROOTFS INIT serve            a line on stdin is one cycle; answers "TOTAL RUNNING EXITED" in
 * microseconds floor ROOTFS INIT serve-exec       the same for a program executed in a container that runs
 *   floor ROOTFS INIT serve-hidden-exec  the same, born from a stage that the container cannot see
 *   floor ROOTFS INIT throughput THREADS SECONDS        prints containers per second
 *   floor ROOTFS INIT commands         a line on stdin is a command, words separated by tabs: runs it,
 * answers "MICROSECONDS STATUS"; how other runtimes are timed, without Node's own fork floor ROOTFS INIT
 * command-throughput THREADS SECONDS WORD…     the same as throughput; @ID@ in a word is replaced
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "device_program.h"
#include "plan.h"
#include "second_stage.h"

/* The limits of bench/bundle.mjs; both sides must set the same. */
#define MEMORY_BYTES "268435456"
#define PIDS "128"
#define CPU_SHARES "512"
#define CPU_WEIGHT "20"
#define CPU_QUOTA "100000"
#define CPU_PERIOD "100000"

static const char *rootfs;
static int init_image;
static int null_fd;
static int own_pid_namespace;
static int v2_root = -1;
static char v2_path[PATH_LENGTH];
static int device_program = -1;
static int hierarchy_count;
static struct {
  char name[64];
  char mount[PATH_LENGTH];
  int directory;
} hierarchies[MAX_HIERARCHIES];
static char cpuset_cpus[256], cpuset_mems[256];

static _Noreturn void die(const char *what) {
  fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
  exit(1);
}

static double now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* One container or one executed program at a time; a thread has its own. */
struct worker {
  struct plan *plan;
  int plan_fd;
  char id[64];
  unsigned sequence;
  int v2_directory;
  int status_pipe;
  int pidfd;
  double started, running, exited, removed;
};

/* ---- cgroups ---- */

static void write_file(int directory, const char *id, const char *file, const char *value) {
  char path[PATH_LENGTH];
  snprintf(path, sizeof path, "%s/%s", id, file);
  const int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, value, strlen(value)) < 0) die(path);
  close(fd);
}

static void write_device_rules(int directory, const char *id) {
  static const char *const allowed[] = {"c *:* m",   "b *:* m",     "c 1:3 rwm",   "c 1:8 rwm",
                                        "c 1:7 rwm", "c 5:0 rwm",   "c 1:5 rwm",   "c 1:9 rwm",
                                        "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"};
  write_file(directory, id, "devices.deny", "a");
  char path[PATH_LENGTH];
  snprintf(path, sizeof path, "%s/devices.allow", id);
  const int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
    if (write(fd, allowed[i], strlen(allowed[i])) < 0) die(path);
  close(fd);
}

static int has_controller(const char *name, const char *controller) {
  const size_t length = strlen(controller);
  for (const char *at = name; at != NULL; at = strchr(at, ',') == NULL ? NULL : strchr(at, ',') + 1)
    if (strncmp(at, controller, length) == 0 && (at[length] == ',' || at[length] == '\0')) return 1;
  return 0;
}

static void make_cgroups(struct worker *w) {
  for (int i = 0; i < hierarchy_count; i++) {
    const int directory = hierarchies[i].directory;
    const char *name = hierarchies[i].name;
    if (mkdirat(directory, w->id, 0755) < 0) die(name);
    if (has_controller(name, "devices")) write_device_rules(directory, w->id);
    if (has_controller(name, "memory")) write_file(directory, w->id, "memory.limit_in_bytes", MEMORY_BYTES);
    if (has_controller(name, "pids")) write_file(directory, w->id, "pids.max", PIDS);
    if (has_controller(name, "cpuset")) {
      write_file(directory, w->id, "cpuset.cpus", cpuset_cpus);
      write_file(directory, w->id, "cpuset.mems", cpuset_mems);
    }
    if (has_controller(name, "cpu")) {
      write_file(directory, w->id, "cpu.shares", CPU_SHARES);
      write_file(directory, w->id, "cpu.cfs_period_us", CPU_PERIOD);
      write_file(directory, w->id, "cpu.cfs_quota_us", CPU_QUOTA);
    }
    memcpy(w->plan->cgroup[i].name, name, sizeof w->plan->cgroup[i].name);
    snprintf(w->plan->cgroup[i].path, PATH_LENGTH, "%.180s/%s", hierarchies[i].mount, w->id);
  }
  if (hierarchy_count > 0) return;
  if (mkdirat(v2_root, w->id, 0755) < 0) die("cgroup v2");
  write_file(v2_root, w->id, "memory.max", MEMORY_BYTES);
  write_file(v2_root, w->id, "pids.max", PIDS);
  write_file(v2_root, w->id, "cpu.weight", CPU_WEIGHT);
  write_file(v2_root, w->id, "cpu.max", CPU_QUOTA " " CPU_PERIOD);
  w->v2_directory = openat(v2_root, w->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  union bpf_attr attach = {.target_fd = (unsigned)w->v2_directory,
                           .attach_bpf_fd = (unsigned)device_program,
                           .attach_type = BPF_CGROUP_DEVICE,
                           .attach_flags = BPF_F_ALLOW_MULTI};
  if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) < 0) die("bpf attach");
}

static void remove_cgroup(int directory, const char *id) {
  while (unlinkat(directory, id, AT_REMOVEDIR) < 0) {
    if (errno != EBUSY) die("rmdir");
    sched_yield();
  }
}

static void remove_cgroups(struct worker *w) {
  for (int i = hierarchy_count - 1; i >= 0; i--) remove_cgroup(hierarchies[i].directory, w->id);
  if (hierarchy_count > 0) return;
  close(w->v2_directory);
  remove_cgroup(v2_root, w->id);
}

/* ---- one start ---- */

static _Noreturn void become_init(const struct worker *w, int status) {
  /* Its descriptors are its own (no CLONE_FILES), its memory is ours. */
  for (int fd = 0; fd < 3; fd++) dup2(null_fd, fd);
  fcntl(w->plan_fd, F_SETFD, 0);
  fcntl(status, F_SETFD, 0);
  if (w->plan->join_pidfd >= 0) fcntl(w->plan->join_pidfd, F_SETFD, 0);
  char plan_text[12], status_text[12];
  snprintf(plan_text, sizeof plan_text, "%d", w->plan_fd);
  snprintf(status_text, sizeof status_text, "%d", status);
  char *const arguments[] = {"init", plan_text, status_text, NULL};
  char *const environment[] = {NULL};
  syscall(SYS_execveat, init_image, "", arguments, environment, AT_EMPTY_PATH);
  w->plan->failed_errno = errno;
  _exit(127);
}

/* The system call inline: parent and child leave it on one stack, as with vfork(2), so no return address may
 * be in use. */
static inline __attribute__((always_inline)) long clone3_inline(struct clone_args *arguments) {
#if defined(__x86_64__)
  long result = SYS_clone3;
  __asm__ volatile("syscall"
                   : "+a"(result)
                   : "D"(arguments), "S"(sizeof *arguments)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(__aarch64__)
  register long number __asm__("x8") = SYS_clone3;
  register long result __asm__("x0") = (long)arguments;
  register long size __asm__("x1") = sizeof *arguments;
  __asm__ volatile("svc 0" : "+r"(result) : "r"(number), "r"(size) : "memory");
  return result;
#else
#error "x86-64 or arm64"
#endif
}

static __attribute__((noinline)) void spawn(struct worker *w, unsigned long long flags) {
  int ends[2];
  if ((w->plan->hidden ? socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)
                       : pipe2(ends, O_CLOEXEC)) < 0)
    die("pipe");
  struct clone_args arguments = {.flags = flags | CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
                                 .pidfd = (unsigned long long)(uintptr_t)&w->pidfd,
                                 .exit_signal = SIGCHLD};
  if (w->v2_directory >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = (unsigned long long)w->v2_directory;
  }
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  const long pid = clone3_inline(&arguments);
  if (pid == 0) become_init(w, ends[1]);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (pid < 0) {
    errno = (int)-pid;
    die("clone3");
  }
  close(ends[1]);
  w->status_pipe = ends[0];
}

static void wait_running(struct worker *w) {
  char byte;
  if (w->plan->hidden && meet_second_stage(w->status_pipe, &w->pidfd) < 0) die("second stage");
  if (read(w->status_pipe, &byte, 1) != 0) die("status pipe");
  close(w->status_pipe);
  w->running = now_us();
}

static void wait_exit(struct worker *w) {
  struct pollfd ready = {.fd = w->pidfd, .events = POLLIN};
  while (poll(&ready, 1, -1) < 0) continue;
  w->exited = now_us();
  siginfo_t status = {0};
  if (waitid(P_PIDFD, (id_t)w->pidfd, &status, WEXITED) < 0) die("waitid");
  close(w->pidfd);
  if (status.si_code == CLD_EXITED && status.si_status == 0) return;
  fprintf(stderr, "floor: the container ended with %d; line %d of init.c: %s\n", status.si_status,
          w->plan->failed_line, strerror(w->plan->failed_errno));
  exit(1);
}

static const unsigned long long new_namespaces =
    CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS;

static void start_container(struct worker *w) {
  snprintf(w->id, sizeof w->id, "floor-%d-%p-%u", (int)getpid(), (void *)w, w->sequence++);
  make_cgroups(w);
  spawn(w, hierarchy_count > 0 ? new_namespaces : new_namespaces | CLONE_NEWCGROUP);
  wait_running(w);
}

static void run_cycle(struct worker *w) {
  w->started = now_us();
  start_container(w);
  wait_exit(w);
  remove_cgroups(w);
  w->removed = now_us();
}

/* Into a running container: the thread enters the pid namespace for its children, clones once, and comes
 * back. */
static void exec_cycle(struct worker *w, const struct worker *target) {
  w->started = now_us();
  w->plan->join_pidfd = target->pidfd;
  memcpy(w->plan->cgroup, target->plan->cgroup, sizeof w->plan->cgroup);
  if (hierarchy_count == 0) w->v2_directory = openat(v2_root, target->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (!w->plan->hidden && setns(target->pidfd, CLONE_NEWPID) < 0) die("setns");
  spawn(w, 0);
  if (!w->plan->hidden && setns(own_pid_namespace, CLONE_NEWPID) < 0) die("setns back");
  if (w->v2_directory >= 0) close(w->v2_directory);
  wait_running(w);
  wait_exit(w);
  w->removed = now_us();
}

static struct worker *make_worker(const char *program, const char *argument) {
  struct worker *w = calloc(1, sizeof *w);
  w->v2_directory = -1;
  w->plan_fd = memfd_create("plan", MFD_CLOEXEC);
  if (w->plan_fd < 0 || ftruncate(w->plan_fd, sizeof *w->plan) < 0) die("memfd");
  w->plan = mmap(NULL, sizeof *w->plan, PROT_READ | PROT_WRITE, MAP_SHARED, w->plan_fd, 0);
  if (w->plan == MAP_FAILED) die("mmap");
  snprintf(w->plan->rootfs, PATH_LENGTH, "%s", rootfs);
  snprintf(w->plan->program, sizeof w->plan->program, "%s", program);
  snprintf(w->plan->argument, sizeof w->plan->argument, "%s", argument);
  w->plan->hierarchies = hierarchy_count;
  w->plan->join_pidfd = -1;
  return w;
}

/* ---- set-up, once ---- */

static void read_text(int directory, const char *file, char *text, size_t size) {
  const int fd = openat(directory, file, O_RDONLY | O_CLOEXEC);
  const ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
  if (length < 0) die(file);
  text[length] = '\0';
  close(fd);
}

static int known(const char *name) {
  for (int i = 0; i < hierarchy_count; i++)
    if (strcmp(hierarchies[i].name, name) == 0) return 1;
  return 0;
}

static void find_hierarchies(void) {
  FILE *mounts = fopen("/proc/self/mountinfo", "re");
  if (mounts == NULL) die("mountinfo");
  char line[4096];
  while (fgets(line, sizeof line, mounts) != NULL) {
    char mount[PATH_LENGTH], type[32];
    const char *tail = strstr(line, " - ");
    if (tail == NULL || sscanf(tail, " - %31s", type) != 1) continue;
    if (strcmp(type, "cgroup") != 0 || sscanf(line, "%*s %*s %*s %*s %255s", mount) != 1) continue;
    if (strncmp(mount, "/sys/fs/cgroup/", 15) != 0 || hierarchy_count == MAX_HIERARCHIES) continue;
    /* Below v1-only.sh's mount on /sys/fs/cgroup the host's are listed too, under the same paths. */
    if (known(mount + 15)) continue;
    snprintf(hierarchies[hierarchy_count].name, 64, "%.63s", mount + 15);
    snprintf(hierarchies[hierarchy_count].mount, PATH_LENGTH, "%s", mount);
    const int directory = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) die(mount);
    hierarchies[hierarchy_count].directory = directory;
    if (has_controller(mount + 15, "cpuset")) {
      read_text(directory, "cpuset.cpus", cpuset_cpus, sizeof cpuset_cpus);
      read_text(directory, "cpuset.mems", cpuset_mems, sizeof cpuset_mems);
    }
    hierarchy_count++;
  }
  fclose(mounts);
}

static void set_up_v2(void) {
  struct statfs fs;
  if (statfs("/sys/fs/cgroup", &fs) < 0 || fs.f_type != 0x63677270) die("no cgroup hierarchy");
  const int top = open("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  write_file(top, ".", "cgroup.subtree_control", "+memory +pids +cpu +cpuset");
  snprintf(v2_path, sizeof v2_path, "/sys/fs/cgroup/floor-%d", (int)getpid());
  if (mkdir(v2_path, 0755) < 0) die(v2_path);
  v2_root = open(v2_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  write_file(v2_root, ".", "cgroup.subtree_control", "+memory +pids +cpu");
  device_program = load_device_program();
  if (device_program < 0) die("bpf load");
}

static int seal_image(const char *path) {
  const int source = open(path, O_RDONLY | O_CLOEXEC);
  const int image = memfd_create("init", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  char block[65536];
  ssize_t length;
  if (source < 0 || image < 0) die(path);
  while ((length = read(source, block, sizeof block)) > 0)
    if (write(image, block, (size_t)length) != length) die("memfd");
  close(source);
  fchmod(image, 0500);
  fcntl(image, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return image;
}

/* ---- modes ---- */

static void serve(int executing, int hidden) {
  struct worker *w = make_worker("/bin/true", "");
  struct worker *target = NULL;
  if (executing) {
    target = make_worker("/bin/sleep", "100000");
    start_container(target);
    w->plan->hidden = hidden;
  }
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (executing)
      exec_cycle(w, target);
    else
      run_cycle(w);
    printf("%.1f %.1f %.1f\n", w->removed - w->started, w->running - w->started, w->exited - w->started);
    fflush(stdout);
  }
  if (target == NULL) return;
  syscall(SYS_pidfd_send_signal, target->pidfd, SIGKILL, NULL, 0);
  siginfo_t status;
  waitid(P_PIDFD, (id_t)target->pidfd, &status, WEXITED);
  remove_cgroups(target);
}

/* vfork(2) inside: its price does not depend on us. Output goes where ours goes. */
static int run_command(char *const *words) {
  pid_t pid;
  int status;
  if (posix_spawnp(&pid, words[0], NULL, NULL, words, environ) != 0) return 127;
  if (waitpid(pid, &status, 0) < 0) die("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void serve_commands(void) {
  /* The answers' own descriptor: a command's output must not be taken for one. */
  FILE *answers = fdopen(fcntl(1, F_DUPFD_CLOEXEC, 3), "w");
  dup2(null_fd, 1);
  static char line[1 << 16];
  fputs("ready\n", answers);
  fflush(answers);
  while (fgets(line, sizeof line, stdin) != NULL) {
    char *words[256], *rest = line, *word;
    int count = 0;
    while (count < 255 && (word = strsep(&rest, "\t\n")) != NULL)
      if (*word != '\0') words[count++] = word;
    words[count] = NULL;
    const double start = now_us();
    const int status = run_command(words);
    fprintf(answers, "%.1f %d\n", now_us() - start, status);
    fflush(answers);
  }
}

static double throughput_end;
static atomic_long containers;
static char **command;

static void *work(void *argument) {
  while (now_us() < throughput_end) {
    run_cycle(argument);
    containers++;
  }
  return NULL;
}

static void *work_command(void *argument) {
  static atomic_long sequence;
  (void)argument;
  while (now_us() < throughput_end) {
    char id[64], *words[256];
    snprintf(id, sizeof id, "bench-%d-%ld", (int)getpid(), (long)sequence++);
    int count = 0;
    for (; command[count] != NULL && count < 255; count++)
      words[count] = strcmp(command[count], "@ID@") == 0 ? id : command[count];
    words[count] = NULL;
    if (run_command(words) != 0) die("a command failed");
    containers++;
  }
  return NULL;
}

static void throughput(int threads, double seconds) {
  pthread_t ids[64];
  struct worker *workers[64];
  if (threads < 1 || threads > 64) die("1 to 64 threads");
  for (int i = 0; i < threads; i++) workers[i] = make_worker("/bin/true", "");
  const double start = now_us();
  throughput_end = start + seconds * 1e6;
  for (int i = 0; i < threads; i++)
    if (pthread_create(&ids[i], NULL, command == NULL ? work : work_command, workers[i]) != 0)
      die("pthread_create");
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  printf("%.2f\n", (double)containers / ((now_us() - start) / 1e6));
}

int main(int argc, char **argv) {
  if (argc < 4) return fprintf(stderr, "usage: see the head of floor.c\n"), 2;
  rootfs = argv[1];
  init_image = seal_image(argv[2]);
  null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  own_pid_namespace = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  find_hierarchies();
  if (hierarchy_count == 0 && strncmp(argv[3], "command", 7) != 0) set_up_v2();
  if (strcmp(argv[3], "serve") == 0)
    serve(0, 0);
  else if (strcmp(argv[3], "serve-exec") == 0)
    serve(1, 0);
  else if (strcmp(argv[3], "serve-hidden-exec") == 0)
    serve(1, 1);
  else if (strcmp(argv[3], "throughput") == 0 && argc == 6)
    throughput(atoi(argv[4]), atof(argv[5]));
  else if (strcmp(argv[3], "commands") == 0)
    serve_commands();
  else if (strcmp(argv[3], "command-throughput") == 0 && argc > 6) {
    command = argv + 6;
    throughput(atoi(argv[4]), atof(argv[5]));
  } else
    return fprintf(stderr, "usage: see the head of floor.c\n"), 2;
  if (v2_root >= 0) rmdir(v2_path);
  return 0;
}
