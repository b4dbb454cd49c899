// SPDX-License-Identifier: Apache-2.0
// One start: what JavaScript asked for, and what the two threads share about it. SpawnJob in
// lib/native/binding.ts.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "binding/birth.h"
#include "binding/mapped_tree.h"
#include "binding/operations.h"
#include "sys/calls.h"
#include "sys/fd.h"

namespace binding {

struct StateFile {
  std::string path;
  std::array<std::string, 3> text;
  mode_t mode = 0600;
  bool sync = false;
};

struct Slot {
  sys::Fd fd;  // or:
  std::string path;
  int flags = 0;
  std::optional<TreeRequest> tree;  // or
};

// A file below /proc/PID of the child.
struct ProcessFile {
  std::string name;
  std::string data;
};

// What init cannot reach itself: a detached copy of the mounts at a path, or (not `tree`) the directory.
struct View {
  std::string path;
  bool tree = false;
  bool recursive = false;
};

struct Limit {
  int resource = 0;
  uint64_t soft = 0;
  uint64_t hard = 0;
};

// A namespace that is joined by path before the clone.
struct EnteredNamespace {
  int type = 0;  // CLONE_NEW*
  std::string path;
};

// For a child in a user namespace; kept until it is ready.
struct UserNamespaceWork {
  std::vector<ProcessFile> files;
  std::vector<View> views;
  std::vector<Limit> limits;
};

struct JobRequest {
  std::vector<FileOperation> before;
  std::string plan;
  uint64_t clone_flags = 0;
  std::string cgroup;
  std::string pid_namespace_path;
  std::vector<EnteredNamespace> entered;
  UserNamespaceWork user_namespace;
  std::array<sys::Fd, 3> stdio;
  std::vector<sys::Fd> preserved;
  std::vector<Slot> slots;
  std::optional<StateFile> state_file;
  bool ask_ready = false;
  std::string ready_state;
  bool forks = false;
  bool faults = false;
  bool unreaped = false;
  // Not empty: the monitor is to be the parent, and writes down there how the process ends.
  std::string exit_file;
  std::string orders;
  // A socket to the front that is to be the parent.
  sys::Fd front;
};

class Monitor;

struct Job {
  explicit Job(JobRequest asked) : request(std::move(asked)) {}

  // The spawner's alone; emptied after the clone.
  JobRequest request;

  // Both threads'.
  std::mutex mutex;
  sys::Fd pidfd;  // until the child is reaped
  sys::Fd pipe;   // until it closes
  bool aborted = false;

  // The spawner's alone.
  Monitor* monitor = nullptr;  // its parent, while that lives
  uint32_t token = 0;          // its name there
  bool fronted = false;        // a child of a front's, which reaps it or leaves it to its subreaper
  pid_t pid = 0;
  std::unique_ptr<Birth> birth;  // until init is known to execute
  Operations operations;         // what was done before the clone: taken back when init cannot be executed
  // A job that forks: pid and pidfd are those of the first stage until it has named the second one.
  bool born = false;
  sys::Fd first;       // the first stage, until it is reaped
  bool stray = false;  // the first stage died; the second, which nobody has named, has yet to
  uint64_t start_time = 0;
  sys::NewFile state;  // written while init works, published when it is ready
  std::vector<uint64_t> durations;
  bool executing = false;  // 'X' has come
  bool started = false;    // as far as the caller asked: it waits, or executes
  bool failed = false;     // a 'failed' event was sent: nothing but 'exit' follows
  bool over = false;
};

enum class EventType { sync, ready, waiting, running, fd, failed, exit };
enum class Stage { prepare, spawn, init, died };

struct Event {
  std::shared_ptr<Job> job;
  EventType type = EventType::exit;
  std::string name;  // sync, fd
  sys::Fd fd;
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::vector<uint64_t> durations;
  // failed
  Stage stage = Stage::init;
  int64_t index = -1;
  std::string step;
  sys::Failure failure;
  std::string detail;
  // exit
  bool unknown = false;
  bool signaled = false;
  int status = 0;
  bool core_dumped = false;
  // Nothing follows for this job.
  bool last = false;
};

}  // namespace binding
