// SPDX-License-Identifier: Apache-2.0
// shim PIDFILE COMMAND…: what the shims of container engines do around a runtime. It is a subreaper; it runs
// the command
// (`runtime create …` or `runtime exec -d …`) with the streams that a container is to have, waits for it
// alone, reads the pid that it wrote, and then waits for that process, which the kernel has made its child.
// On descriptor 3 come lines: "runtime STATUS", "pid N", "exit STATUS" (128 + signal).
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { report = 3, signalled = 128 };

static void die(const char* what) {
  perror(what);
  exit(1);
}

static int code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : signalled + WTERMSIG(status);
}

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) die("prctl");
  pid_t runtime = fork();
  if (runtime < 0) die("fork");
  if (runtime == 0) {
    close(report);
    execvp(argv[2], argv + 2);
    die(argv[2]);
  }
  int status = 0;
  if (waitpid(runtime, &status, 0) != runtime) die("waitpid");
  dprintf(report, "runtime %d\n", code(status));
  if (code(status) != 0) return 1;
  FILE* file = fopen(argv[1], "r");
  int pid = 0;
  if (file == NULL || fscanf(file, "%d", &pid) != 1) die(argv[1]);
  fclose(file);
  dprintf(report, "pid %d\n", pid);
  // Whatever else becomes ours on the way is reaped too.
  for (pid_t ended = 0; ended != pid;)
    if ((ended = wait(&status)) < 0) die("wait");
  dprintf(report, "exit %d\n", code(status));
  return 0;
}
