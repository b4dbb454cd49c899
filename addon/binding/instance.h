// SPDX-License-Identifier: Apache-2.0
// The addon in one environment (main thread or Worker): its spawner, its handles in the event loop, and their
// end.
#pragma once

#include <napi.h>
#include <uv.h>

#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "binding/spawner.h"

namespace binding {

// A libuv handle that the instance closes when its environment ends. Deleted by `on_closed`, never directly.
class LoopHandle {
 public:
  virtual ~LoopHandle() = default;
  virtual uv_handle_t* handle() = 0;
  // Drops everything that belongs to JavaScript; nothing is called back afterwards.
  virtual void forget() = 0;
};

class Instance {
 public:
  explicit Instance(Napi::Env env);
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  static Instance& of(Napi::Env env) { return *env.GetInstanceData<Instance>(); }

  uv_loop_t* loop() const { return loop_; }
  const std::shared_ptr<Spawner>& spawner();
  // nullptr with a JavaScript exception pending when the thread cannot be started.
  std::shared_ptr<Job> spawn(JobRequest request, Napi::Function on_event);
  void reference(Job* job, bool referenced);

  // Calls JavaScript from the event loop: microtasks run once at the end, an exception is uncaught.
  template <typename Call>
  void enter(Call call) {
    const Napi::HandleScope handles(env_);
    const Napi::CallbackScope callbacks(env_, async_context());
    call();
  }
  void call(Napi::Function function, std::initializer_list<napi_value> arguments);

  void add(LoopHandle* handle) { handles_.insert(handle); }
  bool has(LoopHandle* handle) const { return handles_.count(handle) != 0; }
  void close(LoopHandle* handle);

  Napi::FunctionReference spawn_handle;
  Napi::FunctionReference watch;

 private:
  struct Listener {
    Napi::FunctionReference on_event;
    bool referenced = true;
  };
  static void on_cleanup(napi_async_cleanup_hook_handle hook, void* self);
  void drain();
  void deliver(Event& event);
  void count(int change);
  napi_async_context async_context();
  void closed_one();

  Napi::Env env_;
  uv_loop_t* loop_ = nullptr;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  napi_async_context async_context_ = nullptr;
  uv_async_t async_{};
  std::shared_ptr<Spawner> spawner_;
  std::unordered_map<Job*, Listener> listeners_;
  int references_ = 0;
  std::unordered_set<LoopHandle*> handles_;
  size_t closing_ = 0;
  bool ended_ = false;
};

}  // namespace binding
