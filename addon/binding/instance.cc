// SPDX-License-Identifier: Apache-2.0
#include "binding/instance.h"

#include "binding/events.h"
#include "binding/throw.h"

namespace binding {

Instance::Instance(Napi::Env env) : env_(env) {
  napi_get_uv_event_loop(env, &loop_);
  // Asynchronous, because libuv handles close asynchronously; it also keeps the environment (and this) until
  // then.
  napi_add_async_cleanup_hook(env, on_cleanup, this, &hook_);
}

const std::shared_ptr<Spawner>& Instance::spawner() {
  if (!spawner_) {
    uv_async_init(loop_, &async_, [](uv_async_t* async) { static_cast<Instance*>(async->data)->drain(); });
    async_.data = this;
    uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
    spawner_ = std::make_shared<Spawner>(&async_);
  }
  return spawner_;
}

napi_async_context Instance::async_context() {
  if (async_context_ == nullptr)
    napi_async_init(env_, nullptr, Napi::String::New(env_, "libcontainer"), &async_context_);
  return async_context_;
}

std::shared_ptr<Job> Instance::spawn(JobRequest request, Napi::Function on_event) {
  auto job = std::make_shared<Job>(std::move(request));
  // First, so that no event can be without its listener.
  listeners_[job.get()].on_event = Napi::Persistent(on_event);
  count(1);
  if (const auto failed = spawner()->submit(job)) {
    listeners_.erase(job.get());
    count(-1);
    throw_failure(env_, *failed);
    return {};
  }
  return job;
}

void Instance::reference(Job* job, bool referenced) {
  const auto found = listeners_.find(job);
  if (found == listeners_.end() || found->second.referenced == referenced) return;
  found->second.referenced = referenced;
  count(referenced ? 1 : -1);
}

void Instance::count(int change) {
  spawner();
  references_ += change;
  auto* handle = reinterpret_cast<uv_handle_t*>(&async_);
  if (references_ > 0)
    uv_ref(handle);
  else
    uv_unref(handle);
}

void Instance::call(Napi::Function function, std::initializer_list<napi_value> arguments) {
  function.Call(arguments);
  // One listener that throws must not keep the others from hearing: as if it had been thrown in a callback of
  // its own.
  if (env_.IsExceptionPending()) {
    const Napi::Error error = env_.GetAndClearPendingException();
    napi_fatal_exception(env_, error.Value());
  }
}

void Instance::drain() {
  if (ended_) return;
  std::vector<Event> events = spawner_->take_events();
  if (events.empty()) return;
  enter([&] {
    for (Event& event : events) deliver(event);
  });
}

void Instance::deliver(Event& event) {
  const Napi::HandleScope scope(env_);
  const auto found = listeners_.find(event.job.get());
  // process.exit() or a Worker's end in an earlier listener.
  if (found == listeners_.end() || ended_) return;
  const Napi::Function listener = found->second.on_event.Value();
  if (event.last) {
    const bool referenced = found->second.referenced;
    listeners_.erase(found);
    if (referenced) count(-1);
  }
  call(listener, {event_object(env_, event)});
}

void Instance::close(LoopHandle* handle) {
  if (handles_.erase(handle) == 0) return;
  handle->forget();
  closing_++;
  // The instance is found again through the loop handle's data, since the LoopHandle is deleted first.
  struct Closing {
    Instance* instance;
    LoopHandle* handle;
  };
  handle->handle()->data = new Closing{this, handle};
  uv_close(handle->handle(), [](uv_handle_t* closed) {
    const auto* closing = static_cast<Closing*>(closed->data);
    Instance* instance = closing->instance;
    delete closing->handle;
    delete closing;
    instance->closed_one();
  });
}

void Instance::closed_one() {
  closing_--;
  // Lets go of the environment, and with it of this instance: nothing may follow.
  if (ended_ && closing_ == 0) napi_remove_async_cleanup_hook(hook_);
}

// The environment ends: a Worker terminates, or the process exits.
void Instance::on_cleanup(napi_async_cleanup_hook_handle, void* self) {
  auto* instance = static_cast<Instance*>(self);
  instance->ended_ = true;
  instance->closing_++;  // this function, so that the last close cannot come first
  if (instance->spawner_) instance->spawner_->close();
  instance->listeners_.clear();
  instance->spawn_handle.Reset();
  instance->watch.Reset();
  if (instance->async_context_ != nullptr) napi_async_destroy(instance->env_, instance->async_context_);
  while (!instance->handles_.empty()) instance->close(*instance->handles_.begin());
  if (instance->spawner_) {
    instance->closing_++;
    uv_close(reinterpret_cast<uv_handle_t*>(&instance->async_),
             [](uv_handle_t* async) { static_cast<Instance*>(async->data)->closed_one(); });
  }
  instance->closed_one();
}

}  // namespace binding
