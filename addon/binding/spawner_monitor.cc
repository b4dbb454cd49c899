// SPDX-License-Identifier: Apache-2.0
// The spawner's dealings with monitors (docs/adr/0003), and the ends of processes.
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "binding/spawner.h"
#include "sys/calls.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace binding {

namespace {

// Its new parent reaps it in a moment, and hangs up the pidfd by that.
bool kernel_told(int pidfd, int& status) {
  constexpr int reap_ms = 200;
  sys::ExitKnown known = sys::exit_status(pidfd, status);
  if (known == sys::ExitKnown::not_yet) {
    pollfd reaped{pidfd, 0, 0};
    (void)::poll(&reaped, 1, reap_ms);
    known = sys::exit_status(pidfd, status);
  }
  return known == sys::ExitKnown::yes;
}

}  // namespace

sys::Status Spawner::launch(Job& job) {
  if (job.request.front) {
    Monitor front(std::move(job.request.front));
    job.fronted = true;
    return launcher_.launch(job, &front, ++last_token_);
  }
  if (job.request.exit_file.empty()) return launcher_.launch(job, nullptr, 0);
  for (bool again = true;; again = false) {
    Monitor* monitor = nullptr;
    if (auto failed = monitor_for(job, monitor)) return failed;
    const uint32_t token = ++last_token_;
    auto failed = launcher_.launch(job, monitor, token);
    // It was killed while nobody asked it for anything. Once: another one.
    if (failed && failed->reason == monitor_gone && again) {
      hear_monitors();
      continue;
    }
    if (failed) return failed;
    job.monitor = monitor;
    job.token = token;
    monitored_.emplace(token, &job);
    return {};
  }
}

sys::Status Spawner::monitor_for(Job& job, Monitor*& out) {
  for (const auto& monitor : monitors_)
    if (!monitor->gone() && monitor->fits()) {
      out = monitor.get();
      return {};
    }
  int executable = -1;
  if (auto failed = launcher_.prepare_init(job.request.faults, executable)) return failed;
  auto monitor = std::make_unique<Monitor>();
  if (auto failed = monitor->start(executable)) return failed;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = Monitor::epoll_data;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, monitor->socket(), &event) != 0)
    return sys::failure("epoll_ctl", "EPOLL_CTL_ADD, monitor process");
  out = monitor.get();
  monitors_.push_back(std::move(monitor));
  return {};
}

void Spawner::hear_monitors() {
  for (const auto& monitor : monitors_) {
    for (const MonitoredExit& exit : monitor->take()) {
      const auto found = monitored_.find(exit.token);
      if (found == monitored_.end()) continue;
      Event event;
      event.signaled = exit.code == CLD_KILLED || exit.code == CLD_DUMPED;
      event.core_dumped = exit.code == CLD_DUMPED;
      event.status = exit.status;
      end(*found->second, std::move(event));
    }
    if (monitor->gone()) lose_monitor(*monitor);
  }
  // The socket of one that is gone leaves epoll with its descriptor.
  std::erase_if(monitors_, [](const auto& monitor) { return monitor->gone(); });
}

// Killed by somebody. Its children go on as children of a process that knows nothing of us: their ends are
// heard of by pidfd.
void Spawner::lose_monitor(Monitor& monitor) {
  for (auto& [key, job] : jobs_) {
    if (job->monitor != &monitor) continue;
    monitored_.erase(job->token);
    job->monitor = nullptr;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = reinterpret_cast<uint64_t>(job.get());
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, job->pidfd.get(), &event);
  }
}

// A child of ours is not reaped before we do it; a monitor may have done so, and then its number is nobody's.
bool Spawner::is_reaped(const Job& job) {
  return (job.monitor != nullptr || job.fronted) && sys::pidfd_send_signal(job.pidfd.get(), 0) != 0;
}

// ECHILD: its monitor was killed, or the host process waits for children that are not its own (waitpid(-1)).
void Spawner::ask_kernel(Job& job, Event& event) {
  int status = 0;
  // Whoever reaps it may take its time, and asks nobody here.
  event.unknown = job.fronted || !kernel_told(job.pidfd.get(), status);
  event.signaled = WIFSIGNALED(status);
  event.core_dumped = event.signaled && WCOREDUMP(status);
  event.status = event.signaled ? WTERMSIG(status) : WEXITSTATUS(status);
}

// A monitor's child has ended.
void Spawner::end(Job& job, Event event) {
  // What init said before it died is still in the socket.
  read_pipe(job);
  if (job.pipe) on_pipe_closed(job);
  {
    const std::lock_guard<std::mutex> lock(job.mutex);
    job.pidfd.reset();
  }
  event.job = shared(job);
  event.type = EventType::exit;
  event.pid = job.pid;
  event.last = true;
  finish(job, std::move(event));
}

}  // namespace binding
