// A stand-in for init: the plan is text, one command a line, so that a test says exactly what the spawner
// sees.
//
// send TEXT        one frame; \xHH escapes
// expect C         waits for a frame of type C; its text goes to stdout
// peek             waits for a frame and leaves it unread
// sendfd NAME N    an 'F' frame with descriptor N
// fds              its descriptors to stdout: number, target, flags
// status           /proc/self/status to stdout
// cat PATH         a file to stdout
// open PATH        opens it for reading and writing; errno to stdout
// close            closes the pipe
// exit N, kill N, pause
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int pipe_fd;

static size_t unescape(char *text) {
  char *out = text;
  for (char *in = text; *in != '\0';) {
    if (in[0] == '\\' && in[1] == 'x') {
      char digits[3] = {in[2], in[3], '\0'};
      *out++ = (char)strtol(digits, NULL, 16);
      in += 4;
    } else {
      *out++ = *in++;
    }
  }
  return (size_t)(out - text);
}

static void expect(char type) {
  static char buffer[65536];
  ssize_t got = recv(pipe_fd, buffer, sizeof buffer, 0);
  if (got <= 0) _exit(91);
  if (buffer[0] != type) _exit(92);
  printf("%.*s\n", (int)got, buffer);
  fflush(stdout);
}

static void send_fd(char *arguments) {
  char name[32];
  int fd = -1;
  if (sscanf(arguments, "%31s %d", name, &fd) != 2) _exit(93);
  char frame[64];
  int size = snprintf(frame, sizeof frame, "F\x0a%c%s", (char)strlen(name), name);
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control = {0};
  struct iovec part = {frame, (size_t)size};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(pipe_fd, &message, 0) != size) _exit(94);
}

static void list_fds(void) {
  DIR *directory = opendir("/proc/self/fd");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    char path[64], target[256];
    int fd = atoi(entry->d_name);
    if (entry->d_name[0] == '.' || fd == dirfd(directory)) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(path, target, sizeof target - 1);
    printf("%d %.*s %d\n", fd, (int)size, target, fcntl(fd, F_GETFD));
  }
  closedir(directory);
  fflush(stdout);
}

static void print_open(const char *path) {
  int fd = open(path, O_RDWR | O_CLOEXEC);
  printf("%s %d\n", path, fd < 0 ? errno : 0);
  fflush(stdout);
  if (fd >= 0) close(fd);
}

static void print_file(const char *path) {
  char text[4096];
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = read(fd, text, sizeof text);
  close(fd);
  if (size > 0) fwrite(text, 1, (size_t)size, stdout);
  fflush(stdout);
}

static void run(char *line) {
  char *rest = strchr(line, ' ');
  if (rest != NULL) *rest++ = '\0';
  if (strcmp(line, "send") == 0) {
    size_t size = unescape(rest);
    if (send(pipe_fd, rest, size, MSG_NOSIGNAL) < 0) _exit(95);
  } else if (strcmp(line, "expect") == 0)
    expect(rest[0]);
  else if (strcmp(line, "peek") == 0) {
    char first;
    if (recv(pipe_fd, &first, 1, MSG_PEEK) <= 0) _exit(91);
  } else if (strcmp(line, "sendfd") == 0)
    send_fd(rest);
  else if (strcmp(line, "fds") == 0)
    list_fds();
  else if (strcmp(line, "status") == 0)
    print_file("/proc/self/status");
  else if (strcmp(line, "open") == 0)
    print_open(rest);
  else if (strcmp(line, "cat") == 0)
    print_file(rest);
  else if (strcmp(line, "close") == 0)
    close(pipe_fd);
  else if (strcmp(line, "exit") == 0)
    _exit(atoi(rest));
  else if (strcmp(line, "kill") == 0)
    kill(getpid(), atoi(rest));
  else if (strcmp(line, "pause") == 0)
    for (;;) pause();
  else
    _exit(96);
}

int main(int argc, char **argv) {
  if (argc != 4) return 97;
  pipe_fd = atoi(argv[1]);
  static char plan[65536];
  ssize_t size = read(atoi(argv[2]), plan, sizeof plan - 1);
  if (size < 0) return 98;
  for (char *line = strtok(plan, "\n"); line != NULL; line = strtok(NULL, "\n")) run(line);
  return 99;
}
