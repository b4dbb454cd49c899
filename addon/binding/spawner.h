// SPDX-License-Identifier: Apache-2.0
// The spawner thread: one per addon instance, started at the first spawn. It runs each start as one job and
// watches the children with its own epoll, so that neither the event loop nor the four threads of libuv's
// pool are held.
#pragma once

#include <uv.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "binding/frames.h"
#include "binding/job.h"
#include "binding/launch.h"
#include "binding/monitor.h"
#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

// In the low bits of epoll's data: the pidfd of a first stage that has a second one.
inline constexpr uint64_t first_stage_tag = 2;

// Owned by both sides: the JavaScript thread may end (Worker) while containers live; the thread then only
// reaps them.
class Spawner : public std::enable_shared_from_this<Spawner> {
 public:
  // `wake` is called (with uv_async_send) after events were queued.
  explicit Spawner(uv_async_t* wake) : wake_(wake) {}

  // JavaScript thread.
  void configure(std::string init, std::string init_faults);
  sys::Status submit(std::shared_ptr<Job> job);
  void abort(const std::shared_ptr<Job>& job);
  std::vector<Event> take_events();
  // No event and no uv_async_send after this. Children that are not ready die with their pipes; others live
  // on and are reaped. Does not wait.
  void close();

 private:
  sys::Status start_thread();
  static void* thread_main(void* self);
  void loop();
  void run_inbox();
  void run_job(const std::shared_ptr<Job>& job);
  static bool is_reaped(const Job& job);
  sys::Status launch(Job& job);
  sys::Status monitor_for(Job& job, Monitor*& out);
  void hear_monitors();
  void lose_monitor(Monitor& monitor);
  static void release_request(Job& job);
  void executed(Job& job);
  bool take_descriptor(Job& job, int number, sys::Fd& out);
  void on_birth(Job& job, const Frame& frame, sys::Fd pidfd);
  sys::Status hear_of(Job& job, pid_t second, int pidfd);
  void reap_first(Job& job);
  bool has_stray(Job& job);
  void end_strays();
  void finish(Job& job, Event exit);
  sys::Status watch(Job& job);
  void read_pipe(Job& job);
  void on_frame(Job& job, const Frame& frame, sys::Fd fd);
  void prepare_state(Job& job);
  void fail_in_parent(Job& job, std::string step, sys::Failure failure);
  void fail_state(Job& job, sys::Failure failure);
  // True: it was the parent's part of a user namespace, and is done.
  bool on_user_namespace(Job& job, const std::string& name);
  void on_ready(Job& job);
  void on_pipe_closed(Job& job);
  void on_exit(Job& job);
  void end(Job& job, Event event);
  static void ask_kernel(Job& job, Event& event);
  void drop_pipe(Job& job);
  void fail(Job& job, Stage stage, int64_t index, std::string step, sys::Failure failure,
            std::string detail = {}, bool last = false);
  // Queued only: flushed with the next event that JavaScript waits for, or at the end of this turn when
  // `urgent`.
  void emit(Event event, bool urgent = true);
  void flush();
  std::shared_ptr<Job> shared(Job& job) { return jobs_.at(&job); }

  // Shared.
  std::mutex mutex_;
  // Keeps wake_ alive while it is used; never taken together with mutex_.
  std::mutex wake_mutex_;
  uv_async_t* wake_;
  bool closed_ = false;
  bool started_ = false;
  sys::Fd wake_fd_;
  std::vector<std::shared_ptr<Job>> inbox_;
  std::vector<std::shared_ptr<Job>> aborted_;
  std::vector<Event> outbox_;
  std::string init_path_;
  std::string init_faults_path_;

  // The thread's.
  sys::Fd epoll_;
  Launcher launcher_;
  std::vector<std::unique_ptr<Monitor>> monitors_;
  std::unordered_map<uint32_t, Job*> monitored_;  // by token
  uint32_t last_token_ = 0;
  std::unordered_map<Job*, std::shared_ptr<Job>> jobs_;
  std::vector<std::shared_ptr<Job>> ended_;  // until the end of the turn: epoll may still name them
  std::vector<Event> pending_;
  std::vector<Event> strays_;  // the exits of first stages, told when their second stages are gone, too
  bool urgent_ = false;
  bool orphaned_ = false;
};

}  // namespace binding
