// SPDX-License-Identifier: Apache-2.0
// Readiness of descriptors and waiting for locks, in the event loop itself: no thread is held and none is
// started.
#include <napi.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/instance.h"
#include "binding/throw.h"
#include "sys/calls.h"

namespace binding {

namespace {

class Poll : public LoopHandle {
 public:
  Poll(Instance& instance, sys::Fd fd, bool once, Napi::Function on_ready)
      : instance_(instance), fd_(std::move(fd)), once_(once), on_ready_(Napi::Persistent(on_ready)) {}
  // A libuv error number; on failure the handle was not initialised.
  int start(unsigned events) {
    const int error = uv_poll_init(instance_.loop(), &poll_, fd_.get());
    if (error != 0) return error;
    poll_.data = this;
    int wanted = UV_DISCONNECT;
    if ((events & EPOLLIN) != 0) wanted |= UV_READABLE;
    if ((events & EPOLLOUT) != 0) wanted |= UV_WRITABLE;
    // Alone: libuv reports a cgroup file's EPOLLPRI|EPOLLERR as priority only when nothing else is asked for.
    if ((events & EPOLLPRI) != 0) wanted = UV_PRIORITIZED | (wanted & (UV_READABLE | UV_WRITABLE));
    instance_.add(this);
    return uv_poll_start(&poll_, wanted, on_event);
  }
  uv_handle_t* handle() override { return reinterpret_cast<uv_handle_t*>(&poll_); }
  void forget() override {
    on_ready_.Reset();
    // Stopped first: epoll must not keep a number that somebody else may get.
    uv_poll_stop(&poll_);
    *link_ = nullptr;
  }
  const std::shared_ptr<Poll*>& link() const { return link_; }

 private:
  static void on_event(uv_poll_t* poll, int status, int events) {
    auto* self = static_cast<Poll*>(poll->data);
    unsigned mask = 0;
    if (status < 0) mask = EPOLLERR;
    if ((events & UV_READABLE) != 0) mask |= EPOLLIN;
    if ((events & UV_WRITABLE) != 0) mask |= EPOLLOUT;
    if ((events & UV_PRIORITIZED) != 0) mask |= EPOLLPRI;
    if ((events & UV_DISCONNECT) != 0) mask |= EPOLLRDHUP;
    Instance& instance = self->instance_;
    instance.enter([&] {
      const Napi::Function on_ready = self->on_ready_.Value();
      const Napi::Env env = on_ready.Env();
      const bool once = self->once_;
      if (once) instance.close(self);
      if (once)
        instance.call(on_ready, {});
      else
        instance.call(on_ready, {Napi::Number::New(env, mask)});
    });
  }
  Instance& instance_;
  uv_poll_t poll_{};
  sys::Fd fd_;  // our own duplicate: libuv allows one watcher for each number
  bool once_;
  std::shared_ptr<Poll*> link_ = std::make_shared<Poll*>(this);
  Napi::FunctionReference on_ready_;
};

// What JavaScript holds. The Poll may be gone before it: the link is null then.
class Watch : public Napi::ObjectWrap<Watch> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "Watch",
                       {InstanceMethod<&Watch::close>("close"), InstanceMethod<&Watch::ref>("ref"),
                        InstanceMethod<&Watch::unref>("unref")});
  }
  explicit Watch(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Watch>(info) {
    if (info.Length() == 1 && info[0].IsExternal())
      link_ = *info[0].As<Napi::External<std::shared_ptr<Poll*>>>().Data();
    else
      Napi::TypeError::New(info.Env(), "watches come from watch()").ThrowAsJavaScriptException();
  }

 private:
  Napi::Value close(const Napi::CallbackInfo& info) {
    if (*link_ != nullptr) Instance::of(info.Env()).close(*link_);
    return info.Env().Undefined();
  }
  Napi::Value ref(const Napi::CallbackInfo& info) {
    if (*link_ != nullptr) uv_ref((*link_)->handle());
    return info.Env().Undefined();
  }
  Napi::Value unref(const Napi::CallbackInfo& info) {
    if (*link_ != nullptr) uv_unref((*link_)->handle());
    return info.Env().Undefined();
  }
  std::shared_ptr<Poll*> link_ = std::make_shared<Poll*>(nullptr);
};

Napi::Value start_watch(const Napi::CallbackInfo& info, int number, unsigned events, bool once,
                        Napi::Function on_ready) {
  const Napi::Env env = info.Env();
  sys::Fd fd = sys::Fd::duplicate(number);
  if (!fd) {
    throw_failure(env, sys::failure("fcntl", std::to_string(number) + ", F_DUPFD_CLOEXEC"));
    return env.Undefined();
  }
  Instance& instance = Instance::of(env);
  auto poll = std::make_unique<Poll>(instance, std::move(fd), once, on_ready);
  const int error = poll->start(events);
  if (error != 0) {
    errno = -error;
    const sys::Failure failed = sys::failure("epoll_ctl", "EPOLL_CTL_ADD, " + std::to_string(number));
    if (instance.has(poll.get())) instance.close(poll.release());
    throw_failure(env, failed);
    return env.Undefined();
  }
  if (instance.watch.IsEmpty()) instance.watch = Napi::Persistent(Watch::define(env));
  std::shared_ptr<Poll*> link = poll.release()->link();
  return instance.watch.New({Napi::External<std::shared_ptr<Poll*>>::New(env, &link)});
}

Napi::Value pidfd_watch(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const int fd = arguments.fd(info[0], "pidfd");
  const Napi::Function on_exit = arguments.function(info[1], "onExit");
  if (arguments.thrown()) return info.Env().Undefined();
  return start_watch(info, fd, EPOLLIN, true, on_exit);
}

Napi::Value watch(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const int fd = arguments.fd(info[0], "fd");
  const auto events = static_cast<unsigned>(arguments.integer(info[1], "events", 1, 0x7fffffff));
  const Napi::Function on_ready = arguments.function(info[2], "onReady");
  if ((events & ~static_cast<unsigned>(EPOLLIN | EPOLLOUT | EPOLLPRI)) != 0)
    arguments.wrong("events must be of EPOLLIN, EPOLLOUT, EPOLLPRI");
  if (arguments.thrown()) return info.Env().Undefined();
  return start_watch(info, fd, events, false, on_ready);
}

// An advisory lock. flock(2) cannot be waited for by epoll, and a thread that blocks in it cannot be called
// back: so it is tried, and tried again by a timer with growing pauses. The first try costs no turn of the
// event loop.
class Lock : public LoopHandle {
 public:
  Lock(Instance& instance, Napi::Env env, std::string path, uint64_t deadline)
      : instance_(instance),
        path_(std::move(path)),
        deadline_(deadline),
        deferred_(Napi::Promise::Deferred::New(env)) {}
  static Napi::Value start(Instance& instance, Napi::Env env, const std::string& path, uint64_t timeout_ms) {
    auto* lock = new Lock(instance, env, path, uv_now(instance.loop()) + timeout_ms);
    const Napi::Value promise = lock->deferred_.Promise();
    if (lock->attempt(env)) {
      delete lock;
      return promise;
    }
    uv_timer_init(instance.loop(), &lock->timer_);
    lock->timer_.data = lock;
    instance.add(lock);
    lock->wait();
    return promise;
  }
  uv_handle_t* handle() override { return reinterpret_cast<uv_handle_t*>(&timer_); }
  void forget() override { uv_timer_stop(&timer_); }

 private:
  static constexpr uint64_t longest_pause_ms = 16;

  void wait() {
    uv_timer_start(&timer_, on_timer, pause_ms_, 0);
    pause_ms_ = std::min(pause_ms_ * 2, longest_pause_ms);
  }
  static void on_timer(uv_timer_t* timer) {
    auto* self = static_cast<Lock*>(timer->data);
    Instance& instance = self->instance_;
    instance.enter([&] {
      if (self->attempt(self->deferred_.Env()))
        instance.close(self);
      else
        self->wait();
    });
  }
  // True when the promise is settled.
  bool attempt(Napi::Env env) {
    sys::Status failed = try_lock();
    if (!failed) {
      deferred_.Resolve(Napi::Number::New(env, fd_.take()));
      return true;
    }
    if (failed->error == EAGAIN && uv_now(instance_.loop()) < deadline_) return false;
    deferred_.Reject(error_object(env, *failed).Value());
    return true;
  }
  sys::Status try_lock() {
    for (;;) {
      if (!fd_)
        if (auto failed = sys::open_file(fd_, path_, flags(), 0600)) return failed;
      if (::flock(fd_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EINTR) continue;
        sys::Failure failed = sys::failure("flock", sys::quoted(path_) + ", LOCK_EX", path_);
        // The file may have been removed by who held it; the next try opens what is there then.
        if (replaced()) fd_.reset();
        return failed;
      }
      if (!replaced()) return {};
      // Locked a file that nobody else will find: who removed it held the lock when we opened it.
      fd_.reset();
    }
  }
  // A directory is never made: that of a container that is gone must not come back.
  int flags() const { return path_.ends_with('/') ? O_RDONLY | O_DIRECTORY : O_RDWR | O_CREAT | O_NOFOLLOW; }
  bool replaced() const {
    struct stat ours {};
    struct stat there {};
    if (::fstat(fd_.get(), &ours) != 0 || ::stat(path_.c_str(), &there) != 0) return true;
    return ours.st_ino != there.st_ino || ours.st_dev != there.st_dev;
  }

  Instance& instance_;
  uv_timer_t timer_{};
  std::string path_;
  uint64_t deadline_;
  uint64_t pause_ms_ = 1;
  sys::Fd fd_;
  Napi::Promise::Deferred deferred_;
};

Napi::Value lock(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  const std::string path = arguments.path(info[0], "path");
  const int64_t timeout_ms = arguments.integer(info[1], "timeoutMs", 0, 0x7fffffff);
  if (arguments.thrown()) return info.Env().Undefined();
  return Lock::start(Instance::of(info.Env()), info.Env(), path, static_cast<uint64_t>(timeout_ms));
}

}  // namespace

void export_watch(Napi::Env env, Napi::Object& exports) {
  add<pidfd_watch>(env, exports, "pidfdWatch");
  add<watch>(env, exports, "watch");
  add<lock>(env, exports, "lock");
}

}  // namespace binding
