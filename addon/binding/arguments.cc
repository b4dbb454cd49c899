// SPDX-License-Identifier: Apache-2.0
#include "binding/arguments.h"

#include <cmath>
#include <cstring>

#include "sys/error.h"

namespace binding {

namespace {

constexpr int64_t highest_fd = 0x7fffffff;
constexpr int64_t highest_mode = 07777;
constexpr int64_t highest_id = 0xfffffffe;
constexpr int highest_signal = 64;

std::string member(const std::string& name, const char* key) {
  return name.empty() ? key : name + "." + key;
}
std::string element(const std::string& name, uint32_t index) {
  return name + "[" + std::to_string(index) + "]";
}

}  // namespace

bool Arguments::thrown() {
  if (error_.empty()) return env_.IsExceptionPending();
  if (!env_.IsExceptionPending()) Napi::TypeError::New(env_, error_).ThrowAsJavaScriptException();
  return true;
}

void Arguments::wrong(const std::string& what) {
  if (error_.empty()) error_ = what;
}

std::string Arguments::string(const Napi::Value& value, const std::string& name) {
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  wrong(name + " must be a string");
  return {};
}

std::string Arguments::path(const Napi::Value& value, const std::string& name) {
  std::string text = string(value, name);
  if (ok() && text.empty()) wrong(name + " must not be empty");
  if (text.find('\0') != std::string::npos) wrong(name + " must not contain a null byte");
  return text;
}

int64_t Arguments::integer(const Napi::Value& value, const std::string& name, int64_t low, int64_t high) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (std::trunc(number) == number && number >= static_cast<double>(low) &&
        number <= static_cast<double>(high))
      return static_cast<int64_t>(number);
  }
  wrong(name + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return low;
}

bool Arguments::boolean(const Napi::Value& value, const std::string& name) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  wrong(name + " must be a boolean");
  return false;
}

std::string Arguments::bytes(const Napi::Value& value, const std::string& name) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto array = value.As<Napi::Uint8Array>();
    return std::string(reinterpret_cast<const char*>(array.Data()), array.ByteLength());
  }
  wrong(name + " must be a Uint8Array");
  return {};
}

uint64_t Arguments::bigint(const Napi::Value& value, const std::string& name) {
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return number;
  }
  wrong(name + " must be a bigint of 64 bits");
  return 0;
}

int Arguments::fd(const Napi::Value& value, const std::string& name) {
  return static_cast<int>(integer(value, name, 0, highest_fd));
}

int Arguments::signal(const Napi::Value& value) {
  return static_cast<int>(integer(value, "signal", 0, highest_signal));
}

Napi::Function Arguments::function(const Napi::Value& value, const std::string& name) {
  if (value.IsFunction()) return value.As<Napi::Function>();
  wrong(name + " must be a function");
  return {};
}

sys::Fd Arguments::duplicate(const Napi::Value& value, const std::string& name) {
  const int number = fd(value, name);
  if (!ok()) return {};
  sys::Fd copy = sys::Fd::duplicate(number);
  if (!copy) wrong(name + " " + std::to_string(number) + " cannot be duplicated: " + sys::errno_name(errno));
  return copy;
}

FileOperation Arguments::operation(const Napi::Value& value, const std::string& name) {
  FileOperation out;
  if (!value.IsObject()) {
    wrong(name + " must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  const std::string kind = string(object.Get("op"), member(name, "op"));
  out.path = path(object.Get("path"), member(name, "path"));
  const auto mode = [&] {
    return static_cast<mode_t>(integer(object.Get("mode"), member(name, "mode"), 0, highest_mode));
  };
  if (kind == "mkdir") {
    out.kind = OperationKind::mkdir;
    out.mode = mode();
    const std::string existing = string(object.Get("existing"), member(name, "existing"));
    if (existing != "ok" && existing != "error") wrong(member(name, "existing") + " must be 'ok' or 'error'");
    out.existing_ok = existing == "ok";
  } else if (kind == "write") {
    out.kind = OperationKind::write;
    out.data = string(object.Get("data"), member(name, "data"));
    const Napi::Value tolerate = object.Get("tolerate");
    if (tolerate.IsArray()) {
      const auto list = tolerate.As<Napi::Array>();
      for (uint32_t i = 0; i < list.Length(); i++) {
        const int number = sys::errno_number(string(list.Get(i), element(member(name, "tolerate"), i)));
        if (number == 0) wrong(element(member(name, "tolerate"), i) + " must be the name of an errno value");
        out.tolerate.push_back(number);
      }
    } else if (!tolerate.IsUndefined()) {
      wrong(member(name, "tolerate") + " must be an array");
    }
  } else if (kind == "put") {
    out.kind = OperationKind::put;
    out.data = string(object.Get("data"), member(name, "data"));
    out.mode = mode();
    out.sync = boolean(object.Get("sync"), member(name, "sync"));
  } else if (kind == "mkfifo") {
    out.kind = OperationKind::mkfifo;
    out.mode = mode();
    out.uid = static_cast<uid_t>(integer(object.Get("uid"), member(name, "uid"), 0, highest_id));
    out.gid = static_cast<gid_t>(integer(object.Get("gid"), member(name, "gid"), 0, highest_id));
  } else if (kind == "unlink") {
    out.kind = OperationKind::unlink;
  } else if (kind == "rmdir") {
    out.kind = OperationKind::rmdir;
  } else if (kind == "deviceProgram") {
    out.kind = OperationKind::device_program;
    out.data = bytes(object.Get("program"), member(name, "program"));
  } else if (kind == "lock") {
    out.kind = OperationKind::lock;
    out.data = string(object.Get("record"), member(name, "record"));
  } else {
    wrong(member(name, "op") + " is not an operation: " + kind);
  }
  return out;
}

std::vector<FileOperation> Arguments::operations(const Napi::Value& value, const std::string& name) {
  std::vector<FileOperation> out;
  if (!value.IsArray()) {
    wrong(name + " must be an array");
    return out;
  }
  const auto list = value.As<Napi::Array>();
  const uint32_t length = list.Length();
  out.reserve(length);
  for (uint32_t i = 0; i < length && ok(); i++) out.push_back(operation(list.Get(i), element(name, i)));
  return out;
}

Slot Arguments::slot(const Napi::Value& value, const std::string& name) {
  Slot out;
  if (value.IsNumber()) {
    out.fd = duplicate(value, name);
  } else if (value.IsObject()) {
    const auto object = value.As<Napi::Object>();
    out.path = path(object.Get("path"), member(name, "path"));
    out.flags = static_cast<int>(integer(object.Get("flags"), member(name, "flags"), 0, highest_fd));
  } else {
    wrong(name + " must be a descriptor or {path, flags}");
  }
  return out;
}

StateFile Arguments::state_file(const Napi::Value& value) {
  StateFile out;
  if (!value.IsObject()) {
    wrong("job.stateFile must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  out.path = path(object.Get("path"), "job.stateFile.path");
  out.mode = static_cast<mode_t>(integer(object.Get("mode"), "job.stateFile.mode", 0, highest_mode));
  out.sync = boolean(object.Get("sync"), "job.stateFile.sync");
  const Napi::Value text = object.Get("text");
  if (!text.IsArray() || text.As<Napi::Array>().Length() != out.text.size()) {
    wrong("job.stateFile.text must be an array of three strings");
    return out;
  }
  for (uint32_t i = 0; i < out.text.size(); i++)
    out.text[i] = string(text.As<Napi::Array>().Get(i), element("job.stateFile.text", i));
  return out;
}

JobRequest Arguments::job(const Napi::Value& value) {
  JobRequest out;
  if (!value.IsObject()) {
    wrong("job must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  out.before = operations(object.Get("before"), "job.before");
  out.plan = bytes(object.Get("plan"), "job.plan");
  out.clone_flags = static_cast<uint64_t>(integer(object.Get("cloneFlags"), "job.cloneFlags", 0, 0xffffffff));
  if (const Napi::Value cgroup = object.Get("cgroup"); !cgroup.IsUndefined())
    out.cgroup = path(cgroup, "job.cgroup");
  if (const Napi::Value entered = object.Get("pidNamespace"); entered.IsNumber())
    out.pid_namespace = duplicate(entered, "job.pidNamespace");
  else if (!entered.IsUndefined())
    out.pid_namespace_path = path(entered, "job.pidNamespace");
  const Napi::Value stdio = object.Get("stdio");
  if (stdio.IsArray() && stdio.As<Napi::Array>().Length() == out.stdio.size()) {
    for (uint32_t i = 0; i < out.stdio.size(); i++)
      out.stdio[i] = duplicate(stdio.As<Napi::Array>().Get(i), element("job.stdio", i));
  } else {
    wrong("job.stdio must be an array of three descriptors");
  }
  const Napi::Value preserved = object.Get("preserved");
  if (preserved.IsArray()) {
    const auto list = preserved.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length() && ok(); i++)
      out.preserved.push_back(duplicate(list.Get(i), element("job.preserved", i)));
  } else {
    wrong("job.preserved must be an array");
  }
  const Napi::Value slots = object.Get("slots");
  if (slots.IsArray()) {
    const auto list = slots.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length() && ok(); i++)
      out.slots.push_back(slot(list.Get(i), element("job.slots", i)));
  } else {
    wrong("job.slots must be an array");
  }
  if (const Napi::Value file = object.Get("stateFile"); !file.IsUndefined())
    out.state_file = state_file(file);
  out.ask_ready = boolean(object.Get("askReady"), "job.askReady");
  if (const Napi::Value state = object.Get("readyState"); !state.IsUndefined())
    out.ready_state = string(state, "job.readyState");
  out.faults = boolean(object.Get("faults"), "job.faults");
  return out;
}

}  // namespace binding
