// SPDX-License-Identifier: Apache-2.0
#include "binding/spawner.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>

#include "binding/init_pipe.h"
#include "binding/user_namespace.h"
#include "sys/calls.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr size_t largest_frame = 64U * 1024U;
constexpr size_t thread_stack = 256U * 1024U;
constexpr int events_per_turn = 64;
// In the low bits of epoll's data: which descriptor of the job. Null is the wake-up.
constexpr uint64_t pipe_tag = 1;
constexpr uint64_t first_tag = 2;
constexpr uint64_t tags = pipe_tag | first_tag;
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
      if ((data & first_tag) != 0)
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
  if (job->monitor != nullptr) job->operations = {};
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

void Spawner::read_pipe(Job& job) {
  char buffer[largest_frame];
  while (job.pipe) {
    sys::Fd fd;
    pid_t sender = 0;
    const ssize_t got = receive_packet(job.pipe.get(), buffer, sizeof buffer, fd, sender);
    if (got < 0 && errno == EAGAIN) return;
    if (got == 0 || (got < 0 && errno != EMSGSIZE)) {
      on_pipe_closed(job);
      return;
    }
    executed(job);
    // The second stage says nothing before it is answered; who speaks in its name controls it with ptrace(2).
    if (job.request.forks && !job.born && sender != job.pid) continue;
    Frame frame;
    if (got < 0 || !decode_frame({buffer, static_cast<size_t>(got)}, frame)) {
      fail(job, Stage::init, -1, "", {"recvmsg", "init pipe", EBADMSG, "", ""},
           "init sent a frame that cannot be read");
      (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
      drop_pipe(job);
      return;
    }
    on_frame(job, frame, std::move(fd));
  }
}

void Spawner::on_frame(Job& job, const Frame& frame, sys::Fd fd) {
  Event event;
  event.job = shared(job);
  event.pid = job.pid;
  event.start_time = job.start_time;
  switch (frame.type) {
    case 'S':
      if (on_user_namespace(job, frame.name)) break;
      event.type = EventType::sync;
      event.name = frame.name;
      emit(std::move(event));
      break;
    case 'R':
      on_ready(job);
      break;
    case 'W':
      event.type = EventType::waiting;
      event.durations = frame.durations;
      emit(std::move(event));
      break;
    case 'X':
      job.executing = true;
      job.durations = frame.durations;
      break;
    case 'P':
      on_birth(job, frame, std::move(fd));
      break;
    case 'F':
      if (!fd) break;
      event.type = EventType::fd;
      event.name = frame.name;
      event.fd = std::move(fd);
      emit(std::move(event));
      break;
    case 'E':
      fail(job, Stage::init, frame.index, frame.step,
           {frame.syscall, frame.args, frame.error, "", frame.reason}, frame.detail);
      break;
    case 'K':
      // From the fault-injecting build only: init cannot signal a parent outside its pid namespace.
      if (job.request.faults) ::kill(::getpid(), SIGKILL);
      [[fallthrough]];
    default:
      // A type of a newer init cannot come: both are of one package.
      fail(job, Stage::init, -1, "", {"recvmsg", "init pipe", EBADMSG, "", ""},
           "init sent a frame of unknown type");
      (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
      drop_pipe(job);
  }
}

// The second stage waits for the answer: until then it is found by its process group (has_stray), afterwards
// by its pidfd, whatever happens to the first stage.
void Spawner::on_birth(Job& job, const Frame& frame, sys::Fd pidfd) {
  sys::Status failed;
  if (!job.request.forks || job.born || !pidfd || frame.pid < 2 || frame.pid > INT32_MAX) {
    errno = EBADMSG;
    failed = sys::failure("recvmsg", "init pipe");
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = reinterpret_cast<uint64_t>(&job);
  if (!failed && ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pidfd.get(), &event) != 0)
    failed = sys::failure("epoll_ctl", "EPOLL_CTL_ADD, pidfd");
  if (failed) {
    fail_in_parent(job, "forkInto", std::move(*failed));
    return;
  }
  if (auto refused = set_limits(static_cast<pid_t>(frame.pid), job.request.user_namespace.limits)) {
    (void)sys::pidfd_send_signal(pidfd.get(), SIGKILL);
    fail_in_parent(job, "rlimit", std::move(*refused));
    return;
  }
  // It ends at once; who looks for its end every time something else happens need not be woken up for it.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, job.pidfd.get(), nullptr);
  Event born;
  born.job = shared(job);
  born.type = EventType::ready;
  born.pid = static_cast<pid_t>(frame.pid);
  // Travels with the next event: nobody waits for it.
  emit(std::move(born), false);
  const std::lock_guard<std::mutex> lock(job.mutex);
  job.born = true;
  job.pid = static_cast<pid_t>(frame.pid);
  job.first = std::move(job.pidfd);
  job.pidfd = std::move(pidfd);
  if (job.aborted) (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
  const std::string answer = go_frame({});
  // A failure shows itself as the end of the pipe.
  (void)::send(job.pipe.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Spawner::reap_first(Job& job) {
  if (!job.first) return;
  siginfo_t info{};
  const int result = ::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(job.first.get()), &info,
                              WEXITED | WNOHANG | __WALL);
  if (result == 0 && info.si_pid == 0) return;
  job.first.reset();
  if (!job.over) return;
  ended_.push_back(shared(job));
  jobs_.erase(&job);
}

// The first stage was killed, perhaps between its clone and the frame that tells of it. Its child is ours
// then (CLONE_PARENT) and still of its process group, whose number nobody else can get while the child is
// there.
bool Spawner::has_stray(Job& job) {
  siginfo_t info{};
  return ::waitid(P_PGID, static_cast<id_t>(job.pid), &info, WEXITED | WNOHANG | __WALL) == 0 &&
         info.si_pid == 0;
}

void Spawner::end_strays() {
  for (size_t at = 0; at < strays_.size();) {
    Job& job = *strays_[at].job;
    if (has_stray(job)) {
      at++;
      continue;
    }
    Event event = std::move(strays_[at]);
    strays_.erase(strays_.begin() + static_cast<ptrdiff_t>(at));
    finish(job, std::move(event));
  }
}

bool Spawner::on_user_namespace(Job& job, const std::string& name) {
  const UserNamespaceWork& work = job.request.user_namespace;
  sys::Status failed;
  if (name == "userNamespace" && !work.files.empty()) {
    if (is_reaped(job)) return true;
    failed = write_process_files(job.pid, work.files);
    if (!failed) {
      const std::string frame = go_frame({});
      (void)::send(job.pipe.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    }
  } else if (name == "hostView") {
    std::vector<sys::Fd> views;
    failed = open_views(job.pidfd.get(), work.views, views);
    if (!failed) failed = send_views(job.pipe.get(), views);
  } else {
    return false;
  }
  if (failed) fail_in_parent(job, name, std::move(*failed));
  return true;
}

// Not a step of init's failed, but our part of it.
void Spawner::fail_in_parent(Job& job, std::string step, sys::Failure failure) {
  fail(job, Stage::init, -1, std::move(step), std::move(failure));
  (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
  drop_pipe(job);
}

void Spawner::fail_state(Job& job, sys::Failure failure) {
  fail_in_parent(job, "stateFile", std::move(failure));
}

// While init does its steps on another processor; what is left for the moment when it is ready is a rename.
void Spawner::prepare_state(Job& job) {
  if (job.request.forks) return;
  job.start_time = sys::start_time(job.pid, true);
  // A monitor may have reaped it by now, and the number may be another's.
  if (is_reaped(job)) job.start_time = 0;
  if (!job.request.state_file) return;
  const StateFile& file = *job.request.state_file;
  const std::string content =
      file.text[0] + std::to_string(job.pid) + file.text[1] + std::to_string(job.start_time) + file.text[2];
  if (auto failed = job.state.write(file.path, content, file.mode, file.sync))
    fail_state(job, std::move(*failed));
}

// The state is on disk before init may go on: a `start` or `delete` from another process finds it.
void Spawner::on_ready(Job& job) {
  const JobRequest& request = job.request;
  if (is_reaped(job)) return;
  if (auto failed = set_limits(job.pid, request.user_namespace.limits)) {
    fail_in_parent(job, "rlimit", std::move(*failed));
    return;
  }
  if (request.state_file) {
    if (auto failed = job.state.publish()) {
      fail_state(job, std::move(*failed));
      return;
    }
  }
  if (!request.ask_ready) {
    const std::string frame = go_frame(with_pid(request.ready_state, job.pid));
    // A failure shows itself as the end of the pipe.
    (void)::send(job.pipe.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  Event event;
  event.job = shared(job);
  event.type = EventType::ready;
  event.pid = job.pid;
  event.start_time = job.start_time;
  // Nobody waits for it when nobody has to answer: it travels with the next event.
  emit(std::move(event), request.ask_ready);
}

void Spawner::on_pipe_closed(Job& job) {
  drop_pipe(job);
  if (job.failed || (job.birth && job.birth->failed_call != nullptr)) return;
  if (!job.executing) {
    if (!job.aborted)
      fail(job, Stage::died, -1, "", {"", "", 0, "", ""}, "init closed its pipe without a word");
    return;
  }
  Event event;
  event.job = shared(job);
  event.type = EventType::running;
  event.pid = job.pid;
  event.start_time = job.start_time;
  event.durations = std::move(job.durations);
  emit(std::move(event));
}

void Spawner::drop_pipe(Job& job) {
  const std::lock_guard<std::mutex> lock(job.mutex);
  if (!job.pipe) return;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, job.pipe.get(), nullptr);
  job.pipe.reset();
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
  int result = look(unborn ? WNOWAIT : 0);
  if (result == 0 && info.si_pid == 0) return;
  if (unborn) {
    // As long as it is a zombie nobody else can have its number. Without a group of its own it has no child
    // yet.
    ::kill(-job.pid, SIGKILL);
    result = look(0);
  }
  Event event;
  if (result != 0) ask_kernel(job, event);
  if (job.pipe) on_pipe_closed(job);
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
    event.data.u64 = reinterpret_cast<uint64_t>(&job) | first_tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, job.first.get(), &event) == 0) return;
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
