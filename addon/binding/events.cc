// SPDX-License-Identifier: Apache-2.0
#include "binding/events.h"

namespace binding {

namespace {

constexpr const char* type_names[] = {"sync", "ready", "waiting", "running", "fd", "failed", "exit"};
constexpr const char* stage_names[] = {"prepare", "spawn", "init", "died"};

void set_process(Napi::Env env, Napi::Object& out, const Event& event) {
  out.Set("pid", Napi::Number::New(env, event.pid));
  out.Set("startTime", Napi::BigInt::New(env, event.start_time));
}

void set_durations(Napi::Env env, Napi::Object& out, const Event& event) {
  auto list = Napi::Array::New(env, event.durations.size());
  for (uint32_t i = 0; i < event.durations.size(); i++)
    list.Set(i, Napi::Number::New(env, static_cast<double>(event.durations[i])));
  out.Set("durationsNs", list);
}

void set_failure(Napi::Env env, Napi::Object& out, const Event& event) {
  out.Set("stage", stage_names[static_cast<int>(event.stage)]);
  out.Set("index", Napi::Number::New(env, static_cast<double>(event.index)));
  out.Set("step", event.step);
  out.Set("syscall", event.failure.syscall);
  out.Set("args", event.failure.args);
  out.Set("errno", Napi::Number::New(env, event.failure.error));
  out.Set("reason", event.failure.reason);
  out.Set("detail", event.detail);
}

}  // namespace

Napi::Object event_object(Napi::Env env, Event& event) {
  auto out = Napi::Object::New(env);
  out.Set("type", type_names[static_cast<int>(event.type)]);
  switch (event.type) {
    case EventType::sync:
      out.Set("name", event.name);
      set_process(env, out, event);
      break;
    case EventType::ready:
      set_process(env, out, event);
      break;
    case EventType::waiting:
    case EventType::running:
      set_process(env, out, event);
      set_durations(env, out, event);
      break;
    case EventType::fd:
      out.Set("name", event.name);
      out.Set("fd", Napi::Number::New(env, event.fd.take()));
      break;
    case EventType::failed:
      set_failure(env, out, event);
      break;
    case EventType::exit:
      out.Set("kind", event.unknown ? "unknown" : event.signaled ? "signaled" : "exited");
      out.Set("status", Napi::Number::New(env, event.status));
      out.Set("coreDumped", Napi::Boolean::New(env, event.core_dumped));
      break;
  }
  return out;
}

}  // namespace binding
