// SPDX-License-Identifier: Apache-2.0
#include "binding/spawner.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cstring>

#include "sys/calls.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr size_t thread_stack = 256U * 1024U;
constexpr int events_per_turn = 64;
// In the low bits of epoll's data: which descriptor of the job. Null is the wake-up.
constexpr uint64_t pipe_tag = 1;
constexpr uint64_t tags = pipe_tag | first_stage_tag;
// Nothing tells of the end of a process that nobody has a pidfd of; it happens at most once in a start that
// was killed from outside.
constexpr int stray_pause_ms = 5;

}  // namespace

void Spawner::configure(std::string init, std::string init_faults) {
  const std::lock_guard<std::mutex> lock(mutex_);
  init_path_ = std::move(init);
  init_faults_path_ = std::move(init_faults);
}

sys::Status Spawner::submit(std::shared_ptr<Job> job) {
  if (!started_)
    if (auto failed = start_thread()) return failed;
  bool first = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    first = inbox_.empty();
    inbox_.push_back(std::move(job));
  }
  if (first) ::eventfd_write(wake_fd_.get(), 1);
  return {};
}

void Spawner::abort(const std::shared_ptr<Job>& job) {
  {
    const std::lock_guard<std::mutex> lock(job->mutex);
    job->aborted = true;
    if (job->pidfd) (void)sys::pidfd_send_signal(job->pidfd.get(), SIGKILL);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    aborted_.push_back(job);
  }
  ::eventfd_write(wake_fd_.get(), 1);
}

std::vector<Event> Spawner::take_events() {
  std::vector<Event> events;
  const std::lock_guard<std::mutex> lock(mutex_);
  events.swap(outbox_);
  return events;
}

void Spawner::close() {
  std::vector<Event> unread;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    unread.swap(outbox_);
  }
  {
    const std::lock_guard<std::mutex> lock(wake_mutex_);
    wake_ = nullptr;
  }
  if (started_) ::eventfd_write(wake_fd_.get(), 1);
}

sys::Status Spawner::start_thread() {
  sys::Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return sys::failure("epoll_create1", "EPOLL_CLOEXEC");
  sys::Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return sys::failure("eventfd", "0");
  epoll_event event{};
  event.events = EPOLLIN;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0)
    return sys::failure("epoll_ctl", "EPOLL_CTL_ADD");
  epoll_ = std::move(epoll);
  wake_fd_ = std::move(wake);

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, thread_stack);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The host's signals are for the host's threads; the thread inherits the mask.
  sigset_t all;
  sigset_t former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  auto* self = new std::shared_ptr<Spawner>(shared_from_this());
  pthread_t thread{};
  const int error = pthread_create(&thread, &attributes, thread_main, self);
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  pthread_attr_destroy(&attributes);
  if (error != 0) {
    delete self;
    errno = error;
    return sys::failure("pthread_create", "spawner");
  }
  pthread_setname_np(thread, "libcontainer");
  started_ = true;
  return {};
}

void* Spawner::thread_main(void* self) {
  auto* owner = static_cast<std::shared_ptr<Spawner>*>(self);
  (*owner)->loop();
  delete owner;
  return nullptr;
}

void Spawner::loop() {
  epoll_event events[events_per_turn];
  while (!orphaned_ || !jobs_.empty()) {
    const int pause = strays_.empty() ? -1 : stray_pause_ms;
    const int count = ::epoll_wait(epoll_.get(), events, events_per_turn, pause);
    if (count < 0) continue;  // EINTR: the only cause there is
    bool woken = false;
    bool monitored = false;
    // Pipes first: 'running' comes before 'exit' when both are there.
    for (int i = 0; i < count; i++) {
      const uint64_t data = events[i].data.u64;
      if (data == 0)
        woken = true;
      else if (data == Monitor::epoll_data)
        monitored = true;
      else if ((data & pipe_tag) != 0)
        read_pipe(*reinterpret_cast<Job*>(data & ~tags));
    }
    for (int i = 0; i < count; i++) {
      const uint64_t data = events[i].data.u64;
      if (data == 0 || data == Monitor::epoll_data || (data & pipe_tag) != 0) continue;
      Job& job = *reinterpret_cast<Job*>(data & ~tags);
      if ((data & first_stage_tag) != 0)
        reap_first(job);
      else
        on_exit(job);
    }
    end_strays();
    if (monitored) hear_monitors();
    flush();
    if (woken) run_inbox();
    // What a monitor said while a start waited for its answer.
    if (woken && !monitored_.empty()) hear_monitors();
    flush();
    ended_.clear();
  }
}

void Spawner::run_inbox() {
  eventfd_t ignored = 0;
  ::eventfd_read(wake_fd_.get(), &ignored);
  for (;;) {
    std::vector<std::shared_ptr<Job>> jobs;
    std::vector<std::shared_ptr<Job>> aborted;
    bool closed = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      jobs.swap(inbox_);
      aborted.swap(aborted_);
      closed = closed_;
      launcher_.configure(init_path_, init_faults_path_);
    }
    for (const auto& job : aborted) drop_pipe(*job);
    if (closed && !orphaned_) {
      orphaned_ = true;
      // Who is not ready dies of this; who is goes on without its parent (proto/init.proto).
      for (auto& [key, job] : jobs_) drop_pipe(*job);
    }
    if (jobs.empty()) return;
    if (orphaned_) return;
    for (const auto& job : jobs) {
      run_job(job);
      // The first of many must not wait for the last.
      flush();
    }
  }
}

void Spawner::run_job(const std::shared_ptr<Job>& job) {
  jobs_.emplace(job.get(), job);
  Operations& operations = job->operations;
  bool aborted = false;
  {
    const std::lock_guard<std::mutex> lock(job->mutex);
    aborted = job->aborted;
  }
  if (aborted) {
    fail(*job, Stage::spawn, -1, "clone", {"", "", ECANCELED, "", ""}, "aborted before the clone", true);
    return;
  }
  if (auto failed = operations.run(job->request.before)) {
    operations.undo();
    const FileOperation& operation = job->request.before[failed->index];
    fail(*job, Stage::prepare, static_cast<int64_t>(failed->index), name_of(operation.kind),
         std::move(failed->failure), {}, true);
    return;
  }
  if (auto failed = launch(*job)) {
    operations.undo();
    fail(*job, Stage::spawn, -1, "clone", std::move(*failed), {}, true);
    return;
  }
  release_request(*job);
  if (auto failed = watch(*job)) {
    (void)sys::pidfd_send_signal(job->pidfd.get(), SIGKILL);
    siginfo_t info{};
    // ECHILD: the monitor's, which reaps it.
    while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(job->pidfd.get()), &info,
                    WEXITED | __WALL) != 0 &&
           errno == EINTR) {
    }
    monitored_.erase(job->token);
    if (!job->request.exit_file.empty()) ::unlink(job->request.exit_file.c_str());
    operations.undo();
    executed(*job);
    fail(*job, Stage::spawn, -1, "clone", std::move(*failed), {}, true);
    return;
  }
  // Its clone has waited for the execve.
  if (job->monitor != nullptr || job->fronted) job->operations = {};
  prepare_state(*job);
  const std::lock_guard<std::mutex> lock(job->mutex);
  if (job->aborted) (void)sys::pidfd_send_signal(job->pidfd.get(), SIGKILL);
}

// init has said something, or the child has ended: nobody uses the memory that was shared with it.
void Spawner::executed(Job& job) {
  if (!job.birth) return;
  launcher_.recycle(std::move(job.birth));
  job.operations = {};
}

// JavaScript may keep the handle for long; the descriptors must go now: ours would keep pipes and terminals
// open.
void Spawner::release_request(Job& job) {
  JobRequest& request = job.request;
  request.stdio = {};
  request.preserved.clear();
  request.slots.clear();
  request.plan = {};
  request.before = {};
}

sys::Status Spawner::watch(Job& job) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = reinterpret_cast<uint64_t>(&job);
  // A monitor tells of the end by itself, with the status.
  if (job.monitor == nullptr && ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, job.pidfd.get(), &event) != 0)
    return sys::failure("epoll_ctl", "EPOLL_CTL_ADD, pidfd");
  event.data.u64 |= pipe_tag;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, job.pipe.get(), &event) != 0)
    return sys::failure("epoll_ctl", "EPOLL_CTL_ADD, init pipe");
  return {};
}

void Spawner::on_exit(Job& job) {
  if (job.over || job.stray) return;
  // What init said before it died is still in the socket.
  read_pipe(job);
  const bool unborn = job.request.forks && !job.born;
  siginfo_t info{};
  const auto look = [&](int more) {
    return ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(job.pidfd.get()), &info,
                    WEXITED | WNOHANG | __WALL | more);
  };
  const bool unreaped = job.request.unreaped;
  int result = look(unborn || unreaped ? WNOWAIT : 0);
  if (result == 0 && info.si_pid == 0) return;
  // No child of ours to ask about: the event may be that of a first stage, which has named the second one
  // since.
  pollfd ended{job.pidfd.get(), POLLIN, 0};
  if (job.fronted && ::poll(&ended, 1, 0) == 0) return;
  if (unborn) {
    // As long as it is a zombie nobody else can have its number. Without a group of its own it has no child
    // yet.
    ::kill(-job.pid, SIGKILL);
    result = look(0);
  }
  Event event;
  if (result != 0) ask_kernel(job, event);
  // The process may have spoken between the first look and its end.
  read_pipe(job);
  if (job.pipe) on_pipe_closed(job);
  // A process that has run stays a zombie for whoever inherits it; one that could not be started is nobody's.
  if (unreaped && !unborn && (job.failed || !job.started)) result = look(0);
  {
    const std::lock_guard<std::mutex> lock(job.mutex);
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, job.pidfd.get(), nullptr);
    job.pidfd.reset();
  }
  event.job = shared(job);
  event.type = EventType::exit;
  event.pid = job.pid;
  event.last = true;
  if (result == 0) {
    event.signaled = info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
    event.core_dumped = info.si_code == CLD_DUMPED;
    event.status = info.si_status;
  }
  job.stray = unborn && has_stray(job);
  if (job.stray)
    strays_.push_back(std::move(event));
  else
    finish(job, std::move(event));
}

// All processes of the job are gone, but for a first stage that has done its part.
void Spawner::finish(Job& job, Event exit) {
  monitored_.erase(job.token);
  job.state.discard();
  // init was never executed: there was no process as far as anybody else can tell.
  if (job.birth && job.birth->failed_call != nullptr) {
    sys::Failure failure{job.birth->failed_call, "", job.birth->error, "", ""};
    job.operations.undo();
    executed(job);
    fail(job, Stage::spawn, -1, "clone", std::move(failure), {}, true);
    return;
  }
  executed(job);
  emit(std::move(exit));
  job.over = true;
  reap_first(job);
  if (job.first) {
    // Somebody has stopped it.
    (void)sys::pidfd_send_signal(job.first.get(), SIGKILL);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = reinterpret_cast<uint64_t>(&job) | first_stage_tag;
    // EEXIST: a container's is heard of already (hear_of).
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, job.first.get(), &event) == 0 || errno == EEXIST) return;
  }
  if (!jobs_.contains(&job)) return;
  ended_.push_back(shared(job));
  jobs_.erase(&job);
}

void Spawner::fail(Job& job, Stage stage, int64_t index, std::string step, sys::Failure failure,
                   std::string detail, bool last) {
  Event event;
  event.job = shared(job);
  event.type = EventType::failed;
  event.stage = stage;
  event.index = index;
  event.step = std::move(step);
  event.failure = std::move(failure);
  event.detail = std::move(detail);
  event.last = last;
  if (!job.failed) emit(std::move(event));
  job.failed = true;
  if (!last) return;
  release_request(job);
  job.over = true;
  ended_.push_back(shared(job));
  jobs_.erase(&job);
}

void Spawner::emit(Event event, bool urgent) {
  pending_.push_back(std::move(event));
  urgent_ = urgent_ || urgent;
}

void Spawner::flush() {
  if (!urgent_) return;
  urgent_ = false;
  bool first = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      pending_.clear();
      return;
    }
    first = outbox_.empty();
    for (Event& event : pending_) outbox_.push_back(std::move(event));
    pending_.clear();
  }
  if (!first) return;
  // Not under mutex_: JavaScript's thread would wake up only to wait for it.
  const std::lock_guard<std::mutex> lock(wake_mutex_);
  if (wake_ != nullptr) uv_async_send(wake_);
}

}  // namespace binding
