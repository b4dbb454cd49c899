// SPDX-License-Identifier: Apache-2.0
// A promise for something that blocks for a moment: done in libuv's pool.
#pragma once

#include <napi.h>

#include <functional>

#include "binding/throw.h"

namespace binding {

template <typename Body, typename Finish>
class Work : public Napi::AsyncWorker {
 public:
  // `body` runs in the pool and touches no JavaScript; `finish` settles the promise.
  static Napi::Value start(Napi::Env env, Body body, Finish finish) {
    auto* work = new Work(env, std::move(body), std::move(finish));
    const Napi::Value promise = work->deferred_.Promise();
    work->Queue();
    return promise;
  }
  void Execute() override { body_(); }
  void OnOK() override { finish_(Env(), deferred_); }

 private:
  Work(Napi::Env env, Body body, Finish finish)
      : Napi::AsyncWorker(env, "libcontainer"),
        deferred_(Napi::Promise::Deferred::New(env)),
        body_(std::move(body)),
        finish_(std::move(finish)) {}
  Napi::Promise::Deferred deferred_;
  Body body_;
  Finish finish_;
};

template <typename Body, typename Finish>
Napi::Value run_in_pool(Napi::Env env, Body body, Finish finish) {
  return Work<Body, Finish>::start(env, std::move(body), std::move(finish));
}

}  // namespace binding
