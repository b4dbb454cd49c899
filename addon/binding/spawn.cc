// SPDX-License-Identifier: Apache-2.0
// configure, spawn, files.
#include <napi.h>
#include <sys/socket.h>

#include <memory>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/frames.h"
#include "binding/instance.h"
#include "binding/work.h"
#include "sys/calls.h"

namespace binding {

namespace {

class SpawnHandle : public Napi::ObjectWrap<SpawnHandle> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "SpawnHandle",
        {InstanceMethod<&SpawnHandle::answer>("answer"), InstanceMethod<&SpawnHandle::release>("release"),
         InstanceMethod<&SpawnHandle::abort>("abort"), InstanceMethod<&SpawnHandle::kill>("kill"),
         InstanceMethod<&SpawnHandle::pidfd>("pidfd"), InstanceMethod<&SpawnHandle::ref>("ref"),
         InstanceMethod<&SpawnHandle::unref>("unref")});
  }
  explicit SpawnHandle(const Napi::CallbackInfo& info) : Napi::ObjectWrap<SpawnHandle>(info) {
    if (info.Length() == 1 && info[0].IsExternal())
      job_ = *info[0].As<Napi::External<std::shared_ptr<Job>>>().Data();
    else
      Napi::TypeError::New(info.Env(), "handles come from spawn()").ThrowAsJavaScriptException();
  }

 private:
  Napi::Value answer(const Napi::CallbackInfo& info) {
    Arguments arguments(info.Env());
    const std::string state = arguments.string(info[0], "state");
    if (!arguments.thrown()) send(go_frame(state));
    return info.Env().Undefined();
  }
  Napi::Value release(const Napi::CallbackInfo& info) {
    std::string frame = "L";
    if (!info[0].IsUndefined()) {
      if (!info[0].IsBuffer()) {
        Napi::TypeError::New(info.Env(), "command must be a Buffer").ThrowAsJavaScriptException();
        return info.Env().Undefined();
      }
      const auto bytes = info[0].As<Napi::Buffer<char>>();
      frame.append(bytes.Data(), bytes.Length());
    }
    return Napi::Boolean::New(info.Env(), send(frame));
  }
  Napi::Value abort(const Napi::CallbackInfo& info) {
    Instance::of(info.Env()).spawner()->abort(job_);
    return info.Env().Undefined();
  }
  Napi::Value kill(const Napi::CallbackInfo& info) {
    Arguments arguments(info.Env());
    const int signal = arguments.signal(info[0]);
    if (arguments.thrown()) return info.Env().Undefined();
    const std::lock_guard<std::mutex> lock(job_->mutex);
    if (job_->pidfd) {
      if (sys::pidfd_send_signal(job_->pidfd.get(), signal) == 0) return Napi::Boolean::New(info.Env(), true);
      if (errno != ESRCH)
        throw_failure(info.Env(), sys::failure("pidfd_send_signal", std::to_string(signal)));
    }
    return Napi::Boolean::New(info.Env(), false);
  }
  Napi::Value pidfd(const Napi::CallbackInfo& info) {
    const std::lock_guard<std::mutex> lock(job_->mutex);
    if (!job_->pidfd) return Napi::Number::New(info.Env(), -1);
    const int copy = ::fcntl(job_->pidfd.get(), F_DUPFD_CLOEXEC, 3);
    if (copy < 0) throw_failure(info.Env(), sys::failure("fcntl", "pidfd, F_DUPFD_CLOEXEC"));
    return Napi::Number::New(info.Env(), copy);
  }
  Napi::Value ref(const Napi::CallbackInfo& info) {
    Instance::of(info.Env()).reference(job_.get(), true);
    return info.Env().Undefined();
  }
  Napi::Value unref(const Napi::CallbackInfo& info) {
    Instance::of(info.Env()).reference(job_.get(), false);
    return info.Env().Undefined();
  }
  // Straight from this thread: waking the spawner would cost more than the call. A pipe that is gone reports
  // itself by events.
  // False: it is too large for a packet.
  bool send(const std::string& frame) {
    const std::lock_guard<std::mutex> lock(job_->mutex);
    if (!job_->pipe) return true;
    return ::send(job_->pipe.get(), frame.data(), frame.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 ||
           errno != EMSGSIZE;
  }
  std::shared_ptr<Job> job_;
};

Napi::Value configure(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  if (!info[0].IsObject()) {
    arguments.wrong("paths must be an object");
  } else {
    const auto paths = info[0].As<Napi::Object>();
    std::string init = arguments.path(paths.Get("init"), "paths.init");
    const Napi::Value faults = paths.Get("initFaults");
    std::string init_faults =
        faults.IsUndefined() ? std::string() : arguments.path(faults, "paths.initFaults");
    if (arguments.ok())
      Instance::of(info.Env()).spawner()->configure(std::move(init), std::move(init_faults));
  }
  arguments.thrown();
  return info.Env().Undefined();
}

Napi::Value spawn(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  JobRequest request = arguments.job(info[0]);
  const Napi::Function on_event = arguments.function(info[1], "onEvent");
  if (arguments.thrown()) return env.Undefined();
  Instance& instance = Instance::of(env);
  if (instance.spawn_handle.IsEmpty()) instance.spawn_handle = Napi::Persistent(SpawnHandle::define(env));
  std::shared_ptr<Job> job = instance.spawn(std::move(request), on_event);
  if (!job) return env.Undefined();
  return instance.spawn_handle.New({Napi::External<std::shared_ptr<Job>>::New(env, &job)});
}

Napi::Value files(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  std::vector<FileOperation> operations = arguments.operations(info[0], "operations");
  const bool undo = arguments.boolean(info[1], "undo");
  if (arguments.thrown()) return env.Undefined();
  auto failed = std::make_shared<std::optional<OperationFailure>>();
  auto body = [failed, undo, operations = std::move(operations)] {
    Operations done;
    *failed = done.run(operations);
    if (*failed && undo) done.undo();
  };
  auto finish = [failed](Napi::Env settled, Napi::Promise::Deferred& promise) {
    if (!*failed) {
      promise.Resolve(settled.Undefined());
      return;
    }
    const Napi::Error error = error_object(settled, (*failed)->failure);
    error.Set("index", Napi::Number::New(settled, static_cast<double>((*failed)->index)));
    promise.Reject(error.Value());
  };
  return run_in_pool(env, std::move(body), std::move(finish));
}

}  // namespace

void export_spawn(Napi::Env env, Napi::Object& exports) {
  add<configure>(env, exports, "configure");
  add<spawn>(env, exports, "spawn");
  add<files>(env, exports, "files");
}

}  // namespace binding
