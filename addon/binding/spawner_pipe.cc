// SPDX-License-Identifier: Apache-2.0
// What a child says over its init pipe, and what the spawner does about it.
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "binding/init_pipe.h"
#include "binding/monitor.h"
#include "binding/spawner.h"
#include "binding/user_namespace.h"
#include "sys/calls.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

constexpr size_t largest_frame = 64U * 1024U;

}  // namespace

void Spawner::read_pipe(Job& job) {
  char buffer[largest_frame];
  while (job.pipe) {
    sys::Fd fd;
    pid_t sender = 0;
    const ssize_t got = receive_packet(job.pipe.get(), buffer, sizeof buffer, fd, sender);
    if (got < 0 && errno == EAGAIN) return;
    // It has ended with an answer of ours unread. Told once, and before the frames that it sent ahead of
    // that.
    if (got < 0 && errno == ECONNRESET) continue;
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
      job.started = true;
      event.durations = frame.durations;
      emit(std::move(event));
      break;
    case 'X':
      job.executing = true;
      job.started = true;
      job.durations = frame.durations;
      break;
    case 'P':
      on_birth(job, frame, std::move(fd));
      break;
    case 'F':
      if (!fd && frame.descriptor >= 0 && !take_descriptor(job, frame.descriptor, fd)) break;
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

// Of init, which stands still until it is answered. Only its own are in reach, whatever number it names.
bool Spawner::take_descriptor(Job& job, int number, sys::Fd& out) {
  if (auto failed = sys::pidfd_getfd(out, job.pidfd.get(), number)) {
    fail_in_parent(job, "seccomp", std::move(*failed));
    return false;
  }
  const std::string answer = go_frame({});
  // A failure shows itself as the end of the pipe.
  (void)::send(job.pipe.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return true;
}

// The second stage waits for the answer: until then it is found by its process group (has_stray), afterwards
// by its pidfd, whatever happens to the first stage.
void Spawner::on_birth(Job& job, const Frame& frame, sys::Fd pidfd) {
  const bool container = job.request.state_file.has_value();
  sys::Status failed;
  if (!job.request.forks || job.born || !pidfd || frame.pid < 2 || frame.pid > INT32_MAX) {
    errno = EBADMSG;
    failed = sys::failure("recvmsg", "init pipe");
  }
  if (!failed) failed = hear_of(job, static_cast<pid_t>(frame.pid), pidfd.get());
  if (failed) {
    fail_in_parent(job, container ? "firstInside" : "forkInto", std::move(*failed));
    return;
  }
  if (!container) {
    // A container's first process gets them when it is ready.
    if (auto refused = set_limits(static_cast<pid_t>(frame.pid), job.request.user_namespace.limits)) {
      (void)sys::pidfd_send_signal(pidfd.get(), SIGKILL);
      fail_in_parent(job, "rlimit", std::move(*refused));
      return;
    }
    Event born;
    born.job = shared(job);
    born.type = EventType::ready;
    born.pid = static_cast<pid_t>(frame.pid);
    // Travels with the next event: nobody waits for it.
    emit(std::move(born), false);
  } else if (job.monitor == nullptr) {
    // It waits for that (steps::first_inside); a monitor has done it.
    (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
  }
  {
    const std::lock_guard<std::mutex> lock(job.mutex);
    job.born = true;
    job.pid = static_cast<pid_t>(frame.pid);
    // A monitor's child is the monitor's to reap.
    if (job.monitor == nullptr) job.first = std::move(job.pidfd);
    job.pidfd = std::move(pidfd);
    if (job.aborted) (void)sys::pidfd_send_signal(job.pidfd.get(), SIGKILL);
    const std::string answer = go_frame({});
    // A failure shows itself as the end of the pipe.
    (void)::send(job.pipe.get(), answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  prepare_state(job);
}

// Of the end of the second stage. That of the first one comes at once: who looks for it every time something
// else happens need not be woken up for it, but a container lives too long for a zombie beside it.
sys::Status Spawner::hear_of(Job& job, pid_t second, int pidfd) {
  if (job.monitor != nullptr) return job.monitor->succeed(job.token, second);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = reinterpret_cast<uint64_t>(&job);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pidfd, &event) != 0)
    return sys::failure("epoll_ctl", "EPOLL_CTL_ADD, pidfd");
  event.data.u64 |= first_stage_tag;
  const int change = job.request.state_file ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
  ::epoll_ctl(epoll_.get(), change, job.pidfd.get(), &event);
  return {};
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
  // A second stage that is a container's first process has one too.
  if (job.request.forks && !(job.born && job.request.state_file)) return;
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

}  // namespace binding
