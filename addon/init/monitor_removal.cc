// SPDX-License-Identifier: Apache-2.0
// Carries the orders out: removes a container whose owner has died (processes, cgroups, state directory).
// Each try goes through all of it, so that one which was cut short can be repeated. The paths are host paths
// of the daemon's making.
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>

#include "calls.h"
#include "monitor.h"
#include "text.h"

namespace init {

namespace {

constexpr int deepest = 32;
constexpr int directory_flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

// getdents64(2)
struct Entry {
  uint64_t inode;
  int64_t offset;
  uint16_t size;
  uint8_t type;
  char name[];
};

template <typename Visit>
void each_order(const Orders& orders, Visit visit) {
  const char* end = orders.text + orders.size;
  for (const char* at = orders.text; at < end; at += strlen(at) + 1)
    if (*at != 0) visit(at[0], at + 1);
}

template <typename Visit>
void each_directory(int fd, Visit visit) {
  alignas(Entry) char buffer[2048];
  for (;;) {
    const long got = call(SYS_getdents64, fd, buffer, sizeof buffer);
    if (got <= 0) return;
    for (long at = 0; at < got;) {
      const Entry* entry = reinterpret_cast<const Entry*>(buffer + at);
      at += entry->size;
      if (entry->type == DT_DIR && strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0)
        visit(entry->name);
    }
  }
}

bool write_file(int directory, const char* name, const char* value) {
  const Fd file(call(SYS_openat, directory, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC));
  return file && call(SYS_write, file.get(), value, strlen(value)) >= 0;
}

void kill_members(int directory) {
  const Fd file(call(SYS_openat, directory, "cgroup.procs", O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  if (!file) return;
  char buffer[4096];
  long pid = 0;
  for (;;) {
    const long got = call(SYS_read, file.get(), buffer, sizeof buffer);
    if (got <= 0) return;
    for (long at = 0; at < got; at++) {
      if (buffer[at] >= '0' && buffer[at] <= '9') {
        pid = pid * 10 + (buffer[at] - '0');
        continue;
      }
      // 0: a process of a pid namespace that is not below ours.
      if (pid > 1) call(SYS_kill, pid, SIGKILL);
      pid = 0;
    }
  }
}

void kill_below(int directory, int depth) {
  kill_members(directory);
  if (depth == 0) return;
  each_directory(directory, [&](const char* name) {
    const Fd below(call(SYS_openat, directory, name, directory_flags));
    if (below) kill_below(below.get(), depth - 1);
  });
}

// Where there is no cgroup.kill (v1; v2 before Linux 5.14) nobody may fork or end, and give its pid away,
// while the list is read.
void kill_cgroup(const char* path) {
  const Fd directory(call(SYS_openat, AT_FDCWD, path, directory_flags));
  if (!directory || write_file(directory.get(), "cgroup.kill", "1")) return;
  const bool v1 = write_file(directory.get(), "freezer.state", "FROZEN");
  const bool v2 = !v1 && write_file(directory.get(), "cgroup.freeze", "1");
  kill_below(directory.get(), deepest);
  // A frozen process of v1 dies when it is thawed.
  if (v1) write_file(directory.get(), "freezer.state", "THAWED");
  if (v2) write_file(directory.get(), "cgroup.freeze", "0");
}

void remove_below(int directory, int depth) {
  each_directory(directory, [&](const char* name) {
    const Fd below(call(SYS_openat, directory, name, directory_flags));
    if (below && depth > 0) remove_below(below.get(), depth - 1);
    call(SYS_unlinkat, directory, name, AT_REMOVEDIR);
  });
}

bool remove_cgroup(const char* path) {
  {
    const Fd directory(call(SYS_openat, AT_FDCWD, path, directory_flags));
    if (!directory) return true;
    remove_below(directory.get(), deepest);
  }
  return call(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR) == 0 || errno == ENOENT;
}

struct Recorded {
  Fd directory;
  bool same = false;
};

Recorded look(const Orders& orders) {
  Recorded found;
  const char* expected = nullptr;
  each_order(orders, [&](char kind, const char* text) {
    if (kind == 'L') found.directory = Fd(call(SYS_openat, AT_FDCWD, text, directory_flags));
    if (kind == '=') expected = text;
  });
  if (!found.directory || expected == nullptr) return found;
  const Fd record(call(SYS_openat, found.directory.get(), "state.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  char buffer[1024];
  const size_t size = strlen(expected);
  found.same = record && size <= sizeof buffer &&
               call(SYS_pread64, record.get(), buffer, size, 0) == static_cast<long>(size) &&
               memcmp(buffer, expected, size) == 0;
  return found;
}

}  // namespace

bool is_owned(const Orders& orders) {
  return orders.size > 0 && orders.text[0] == 'L';
}

int64_t oom_kills(const Orders& orders) {
  int64_t kills = -1;
  each_order(orders, [&](char kind, const char* text) {
    if (kind != 'M') return;
    const Fd file(call(SYS_openat, AT_FDCWD, text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    char buffer[1024];
    const long got = file ? call(SYS_read, file.get(), buffer, sizeof buffer - 1) : -1;
    if (got <= 0) return;
    buffer[got] = 0;
    // Never the first line, neither of memory.events nor of memory.oom_control.
    constexpr char word[] = "\noom_kill ";
    const char* at = strstr(buffer, word);
    if (at == nullptr) return;
    kills = 0;
    for (at += sizeof word - 1; *at >= '0' && *at <= '9'; at++) kills = kills * 10 + (*at - '0');
  });
  return kills;
}

bool still_recorded(const Orders& orders) {
  return look(orders).same;
}

bool remove_container(const Orders& orders, bool ended) {
  const Recorded found = look(orders);
  // Destroyed, and perhaps its ID is another container's by now.
  if (!found.same) return true;
  // The lock of every operation (lib/container-handle.ts): who holds it may be destroying this container.
  if (call(SYS_flock, found.directory.get(), LOCK_EX | LOCK_NB) < 0) return false;
  if (!still_recorded(orders)) return true;
  each_order(orders, [](char kind, const char* text) {
    if (kind == 'C') kill_cgroup(text);
  });
  bool removed = ended;
  each_order(orders, [&](char kind, const char* text) {
    if (kind == 'C' && removed) removed = remove_cgroup(text);
    // Not before every cgroup that the record names is gone.
    if (kind == 'U' && removed) call(SYS_unlinkat, AT_FDCWD, text, 0);
    if (kind == 'R' && removed) call(SYS_unlinkat, AT_FDCWD, text, AT_REMOVEDIR);
  });
  return removed;
}

}  // namespace init
