// SPDX-License-Identifier: Apache-2.0
// What the steps share: the descriptors that a start holds, the memory of a step, and the one record of a
// failure.
#pragma once
#include "calls.h"
#include "text.h"
#include "wire.h"

namespace init {

// Either way out of a step; what failed is in Init::failure.
enum class [[nodiscard]] Result : bool{ok, failed};

struct Failure {
  const char* call = "";    // name of the system call, "" when it was none
  Text<1024> args;          // as strace prints them
  int error = 0;            // errno, positive
  const char* reason = "";  // a code of lib/errors.ts for a cause that errno does not tell
  Text<8192> detail;        // a sentence for people
};

// Memory of one step, given back as a whole after it. Its size is fixed by the size of the plan, so it cannot
// run out for a plan that was read: every string of the plan fits, and a pointer for each.
class Arena {
 public:
  bool reserve(size_t bytes);
  void reset() { used_ = 0; }
  void* take(size_t bytes);
  // A C string; embedded NULs were refused when the plan was read.
  char* text(Bytes bytes);

 private:
  uint8_t* base_ = nullptr;
  size_t size_ = 0;
  size_t used_ = 0;
};

class Faults;

struct Init {
  static constexpr size_t max_steps = 4096;
  static constexpr size_t max_durations = 1024;
  static constexpr size_t max_views = 1024;
  static constexpr uint32_t max_late = 256;

  Faults* faults = nullptr;  // for a place inside of a step
  int pipe = -1;
  int first_slot = -1;
  int fifo = -1;  // O_PATH descriptor of exec.fifo, when a waitStart step has one
  Message plan;
  Message exec;               // the exec step: hooks may inherit its environment, `user` looks for its home
  bool waits = false;         // a waitStart step follows: problems of the executable are worth finding early
  bool needs_procfs = false;  // a later step writes to /proc
  bool forks = false;         // a forkInto step follows
  bool filters = false;       // a seccomp step follows
  bool visible = false;       // to a container's processes, while this one is still privileged
  bool terminal = false;      // stdio is the container's terminal
  bool answered = false;      // the parent has said Go after ready: init may live on without it

  // The rootfs: a descriptor of its root directory; every path of the config is resolved in it. Opened lazily
  // on "/" for a process that joined a container.
  Fd root;
  bool host_slave = false;  // the host's mounts no longer receive ours: nothing propagates back at the detach
  Fd host_proc;             // /proc of the host, for the case that no detached procfs can be made
  bool pivoted = false;
  bool cwd_entered = false;
  Fd procfs;
  Fd own_fds;             // procfs' self/fd, opened before a filter that may refuse openat2
  bool filtered = false;  // a seccomp filter is loaded: as few calls as possible from here on
  // The directory that the last device or link was made in: /dev is filled entry by entry.
  Fd parent;
  Text<256> parent_path;
  // The directory that the last mount point was made in, while nothing but such fresh directories is mounted
  // on: neighbours (/sys/fs/cgroup/*, /dev/*) are made in it without another look at the whole path.
  Fd made_parent;
  size_t made_length = 0;
  char made_path[256];  // its path, up to the last slash
  bool fresh = false;   // the last target is a directory just made in made_parent
  // What was mounted on /proc and /sys: paths below them are protected there, wherever the names lead by
  // then.
  Fd proc_mount, sys_mount;
  Fd null;  // verified /dev/null of the container
  Fd mask;  // the one empty read-only tmpfs over masked directories
  // Mounts that become read-only when nothing more is made in them: remounted by these, since by then a name
  // could lead to another mount (GHSA-3q8j-pf29-vwv8, CVE-2026-115521).
  Fd late[max_late];
  uint32_t late_count = 0;

  int views[max_views];  // from the parent; each is taken once
  uint32_t view_count = 0;

  char executable[4096];
  char home[4096];
  Bytes state;    // OCI state from the last Go, for hooks
  Bytes command;  // of the release, for findExecutable and exec with `late`

  bool clock_moved = false;  // a time namespace was entered: CLOCK_MONOTONIC has jumped
  uint64_t durations[max_durations];
  uint32_t duration_count = 0;
  uint32_t step_count = 0;
  Arena arena;
  Failure failure;

  char* text(const Message& message, uint32_t field) { return arena.text(message.bytes(field)); }

  // Takes errno. Arguments are printed only here, when something has failed.
  template <typename... Arguments>
  Result failed(const char* name, Arguments... arguments) {
    const Argument list[] = {arguments..., Raw{""}};
    return record(name, list, sizeof...(arguments));
  }
  Result record(const char* name, const Argument* arguments, size_t count);
  // Adds our own words to a failure.
  Result because(const char* reason, const char* detail);
  // No system call failed; our own check did.
  Result refused(int error, const char* reason, const char* detail);
};

}  // namespace init
