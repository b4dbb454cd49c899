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

}  // namespace

std::string Place::text() const {
  std::string out = parent_ != nullptr ? parent_->text() : std::string();
  if (text_ != nullptr) return out + *text_;
  if (key_ == nullptr) return out + "[" + std::to_string(index_) + "]";
  return out.empty() ? key_ : out + "." + key_;
}

Napi::Value Arguments::get(const Napi::Object& object, const char* key) {
  for (const auto& [known, name] : keys_)
    if (known == key) return object.Get(Napi::Value(env_, name));
  const Napi::String name = Napi::String::New(env_, key);
  keys_.emplace_back(key, name);
  return object.Get(name);
}

bool Arguments::thrown() {
  if (error_.empty()) return env_.IsExceptionPending();
  if (!env_.IsExceptionPending()) Napi::TypeError::New(env_, error_).ThrowAsJavaScriptException();
  return true;
}

void Arguments::wrong(const std::string& what) {
  if (error_.empty()) error_ = what;
}

std::string Arguments::string(const Napi::Value& value, const Place& place) {
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  wrong(place.text() + " must be a string");
  return {};
}

std::string Arguments::path(const Napi::Value& value, const Place& place) {
  std::string text = string(value, place);
  if (ok() && text.empty()) wrong(place.text() + " must not be empty");
  if (text.find('\0') != std::string::npos) wrong(place.text() + " must not contain a null byte");
  return text;
}

int64_t Arguments::integer(const Napi::Value& value, const Place& place, int64_t low, int64_t high) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (std::trunc(number) == number && number >= static_cast<double>(low) &&
        number <= static_cast<double>(high))
      return static_cast<int64_t>(number);
  }
  wrong(place.text() + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return low;
}

bool Arguments::boolean(const Napi::Value& value, const Place& place) {
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value();
  wrong(place.text() + " must be a boolean");
  return false;
}

std::string Arguments::bytes(const Napi::Value& value, const Place& place) {
  if (value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto array = value.As<Napi::Uint8Array>();
    return std::string(reinterpret_cast<const char*>(array.Data()), array.ByteLength());
  }
  wrong(place.text() + " must be a Uint8Array");
  return {};
}

uint64_t Arguments::bigint(const Napi::Value& value, const Place& place) {
  if (value.IsBigInt()) {
    bool lossless = false;
    const uint64_t number = value.As<Napi::BigInt>().Uint64Value(&lossless);
    if (lossless) return number;
  }
  wrong(place.text() + " must be a bigint of 64 bits");
  return 0;
}

int Arguments::fd(const Napi::Value& value, const Place& place) {
  return static_cast<int>(integer(value, place, 0, highest_fd));
}

int Arguments::signal(const Napi::Value& value) {
  return static_cast<int>(integer(value, "signal", 0, highest_signal));
}

Napi::Function Arguments::function(const Napi::Value& value, const Place& place) {
  if (value.IsFunction()) return value.As<Napi::Function>();
  wrong(place.text() + " must be a function");
  return {};
}

sys::Fd Arguments::duplicate(const Napi::Value& value, const Place& place) {
  const int number = fd(value, place);
  if (!ok()) return {};
  sys::Fd copy = sys::Fd::duplicate(number);
  if (!copy)
    wrong(place.text() + " " + std::to_string(number) + " cannot be duplicated: " + sys::errno_name(errno));
  return copy;
}

void Arguments::tolerated(FileOperation& out, const Napi::Object& object, const Place& place) {
  const Napi::Value tolerate = get(object, "tolerate");
  if (tolerate.IsArray()) {
    const auto list = tolerate.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length(); i++) {
      const int number = sys::errno_number(string(list.Get(i), Place(Place(place, "tolerate"), i)));
      if (number == 0)
        wrong(Place(Place(place, "tolerate"), i).text() + " must be the name of an errno value");
      out.tolerate.push_back(number);
    }
  } else if (!tolerate.IsUndefined()) {
    wrong(Place(place, "tolerate").text() + " must be an array");
  }
}

FileOperation Arguments::operation(const Napi::Value& value, const Place& place) {
  FileOperation out;
  if (!value.IsObject()) {
    wrong(place.text() + " must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  const std::string kind = string(get(object, "op"), Place(place, "op"));
  out.path = path(get(object, "path"), Place(place, "path"));
  const auto mode = [&] {
    return static_cast<mode_t>(integer(get(object, "mode"), Place(place, "mode"), 0, highest_mode));
  };
  if (kind == "mkdir") {
    out.kind = OperationKind::mkdir;
    out.mode = mode();
    const std::string existing = string(get(object, "existing"), Place(place, "existing"));
    if (existing != "ok" && existing != "error")
      wrong(Place(place, "existing").text() + " must be 'ok' or 'error'");
    out.existing_ok = existing == "ok";
  } else if (kind == "write") {
    out.kind = OperationKind::write;
    out.data = string(get(object, "data"), Place(place, "data"));
    tolerated(out, object, place);
  } else if (kind == "chown") {
    out.kind = OperationKind::chown;
    out.uid = static_cast<uid_t>(integer(get(object, "uid"), Place(place, "uid"), 0, highest_id));
    tolerated(out, object, place);
  } else if (kind == "put") {
    out.kind = OperationKind::put;
    out.data = string(get(object, "data"), Place(place, "data"));
    out.mode = mode();
    out.sync = boolean(get(object, "sync"), Place(place, "sync"));
  } else if (kind == "mkfifo") {
    out.kind = OperationKind::mkfifo;
    out.mode = mode();
    out.uid = static_cast<uid_t>(integer(get(object, "uid"), Place(place, "uid"), 0, highest_id));
    out.gid = static_cast<gid_t>(integer(get(object, "gid"), Place(place, "gid"), 0, highest_id));
  } else if (kind == "unlink") {
    out.kind = OperationKind::unlink;
  } else if (kind == "rmdir") {
    out.kind = OperationKind::rmdir;
  } else if (kind == "deviceProgram") {
    out.kind = OperationKind::device_program;
    out.data = bytes(get(object, "program"), Place(place, "program"));
  } else if (kind == "lock") {
    out.kind = OperationKind::lock;
    out.data = string(get(object, "record"), Place(place, "record"));
  } else {
    wrong(Place(place, "op").text() + " is not an operation: " + kind);
  }
  return out;
}

std::vector<FileOperation> Arguments::operations(const Napi::Value& value, const Place& place) {
  std::vector<FileOperation> out;
  if (!value.IsArray()) {
    wrong(place.text() + " must be an array");
    return out;
  }
  const auto list = value.As<Napi::Array>();
  const uint32_t length = list.Length();
  out.reserve(length);
  for (uint32_t i = 0; i < length && ok(); i++) out.push_back(operation(list.Get(i), Place(place, i)));
  return out;
}

Slot Arguments::slot(const Napi::Value& value, const Place& place) {
  Slot out;
  if (value.IsNumber()) {
    out.fd = duplicate(value, place);
  } else if (value.IsObject()) {
    const auto object = value.As<Napi::Object>();
    if (const Napi::Value source = get(object, "source"); !source.IsUndefined()) {
      out.tree = tree(object, place);
      return out;
    }
    out.path = path(get(object, "path"), Place(place, "path"));
    out.flags = static_cast<int>(integer(get(object, "flags"), Place(place, "flags"), 0, highest_fd));
  } else {
    wrong(place.text() + " must be a descriptor or {path, flags}");
  }
  return out;
}

TreeRequest Arguments::tree(const Napi::Object& object, const Place& place) {
  TreeRequest out;
  out.source = path(get(object, "source"), Place(place, "source"));
  out.recursive = boolean(get(object, "recursive"), Place(place, "recursive"));
  out.map_recursive = boolean(get(object, "mapRecursive"), Place(place, "mapRecursive"));
  if (const Napi::Value joined = get(object, "userNamespace"); !joined.IsUndefined()) {
    out.user_namespace = path(joined, Place(place, "userNamespace"));
    return out;
  }
  out.uid_map = string(get(object, "uidMap"), Place(place, "uidMap"));
  out.gid_map = string(get(object, "gidMap"), Place(place, "gidMap"));
  return out;
}

// Calls take(object, place) for each element of an optional array of objects.
template <typename Take>
static void each_object(Arguments& arguments, const Napi::Value& value, const Place& place, Take take) {
  if (value.IsUndefined()) return;
  if (!value.IsArray()) {
    arguments.wrong(place.text() + " must be an array");
    return;
  }
  const auto list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length() && arguments.ok(); i++) {
    const Napi::Value element = list.Get(i);
    if (element.IsObject())
      take(element.As<Napi::Object>(), Place(place, i));
    else
      arguments.wrong(Place(place, i).text() + " must be an object");
  }
}

UserNamespaceWork Arguments::user_namespace(const Napi::Value& value) {
  UserNamespaceWork out;
  if (value.IsUndefined()) return out;
  if (!value.IsObject()) {
    wrong("job.userNamespace must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  each_object(*this, get(object, "files"), "job.userNamespace.files",
              [&](const Napi::Object& file, const Place& place) {
                out.files.push_back(
                    {path(get(file, "name"), Place(place, "name")), string(get(file, "data"), place)});
              });
  each_object(*this, get(object, "views"), "job.userNamespace.views",
              [&](const Napi::Object& view, const Place& place) {
                out.views.push_back({path(get(view, "path"), Place(place, "path")),
                                     boolean(get(view, "tree"), Place(place, "tree")),
                                     boolean(get(view, "recursive"), Place(place, "recursive"))});
              });
  each_object(*this, get(object, "limits"), "job.userNamespace.limits",
              [&](const Napi::Object& limit, const Place& place) {
                out.limits.push_back({static_cast<int>(integer(get(limit, "resource"),
                                                               Place(place, "resource"), 0, highest_fd)),
                                      bigint(get(limit, "soft"), Place(place, "soft")),
                                      bigint(get(limit, "hard"), Place(place, "hard"))});
              });
  return out;
}

std::vector<EnteredNamespace> Arguments::entered(const Napi::Value& value) {
  std::vector<EnteredNamespace> out;
  each_object(*this, value, "job.entered", [&](const Napi::Object& object, const Place& place) {
    out.push_back({static_cast<int>(integer(get(object, "type"), Place(place, "type"), 0, highest_fd)),
                   path(get(object, "path"), Place(place, "path"))});
  });
  return out;
}

StateFile Arguments::state_file(const Napi::Value& value) {
  StateFile out;
  if (!value.IsObject()) {
    wrong("job.stateFile must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  out.path = path(get(object, "path"), "job.stateFile.path");
  out.mode = static_cast<mode_t>(integer(get(object, "mode"), "job.stateFile.mode", 0, highest_mode));
  out.sync = boolean(get(object, "sync"), "job.stateFile.sync");
  const Napi::Value text = get(object, "text");
  if (!text.IsArray() || text.As<Napi::Array>().Length() != out.text.size()) {
    wrong("job.stateFile.text must be an array of three strings");
    return out;
  }
  for (uint32_t i = 0; i < out.text.size(); i++)
    out.text[i] = string(text.As<Napi::Array>().Get(i), Place("job.stateFile.text", i));
  return out;
}

JobRequest Arguments::job(const Napi::Value& value) {
  JobRequest out;
  if (!value.IsObject()) {
    wrong("job must be an object");
    return out;
  }
  const auto object = value.As<Napi::Object>();
  out.before = operations(get(object, "before"), "job.before");
  out.plan = bytes(get(object, "plan"), "job.plan");
  out.clone_flags =
      static_cast<uint64_t>(integer(get(object, "cloneFlags"), "job.cloneFlags", 0, 0xffffffff));
  if (const Napi::Value cgroup = get(object, "cgroup"); !cgroup.IsUndefined())
    out.cgroup = path(cgroup, "job.cgroup");
  if (const Napi::Value entered = get(object, "pidNamespace"); !entered.IsUndefined())
    out.pid_namespace_path = path(entered, "job.pidNamespace");
  out.entered = entered(get(object, "entered"));
  out.user_namespace = user_namespace(get(object, "userNamespace"));
  const Napi::Value stdio = get(object, "stdio");
  if (stdio.IsArray() && stdio.As<Napi::Array>().Length() == out.stdio.size()) {
    for (uint32_t i = 0; i < out.stdio.size(); i++)
      out.stdio[i] = duplicate(stdio.As<Napi::Array>().Get(i), Place("job.stdio", i));
  } else {
    wrong("job.stdio must be an array of three descriptors");
  }
  const Napi::Value preserved = get(object, "preserved");
  if (preserved.IsArray()) {
    const auto list = preserved.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length() && ok(); i++)
      out.preserved.push_back(duplicate(list.Get(i), Place("job.preserved", i)));
  } else {
    wrong("job.preserved must be an array");
  }
  const Napi::Value slots = get(object, "slots");
  if (slots.IsArray()) {
    const auto list = slots.As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length() && ok(); i++)
      out.slots.push_back(slot(list.Get(i), Place("job.slots", i)));
  } else {
    wrong("job.slots must be an array");
  }
  if (const Napi::Value file = get(object, "stateFile"); !file.IsUndefined())
    out.state_file = state_file(file);
  out.ask_ready = boolean(get(object, "askReady"), "job.askReady");
  if (const Napi::Value state = get(object, "readyState"); !state.IsUndefined())
    out.ready_state = string(state, "job.readyState");
  if (const Napi::Value forks = get(object, "forks"); !forks.IsUndefined())
    out.forks = boolean(forks, "job.forks");
  out.faults = boolean(get(object, "faults"), "job.faults");
  if (const Napi::Value unreaped = get(object, "unreaped"); !unreaped.IsUndefined())
    out.unreaped = boolean(unreaped, "job.unreaped");
  if (const Napi::Value monitor = get(object, "monitor"); monitor.IsObject()) {
    const auto asked = monitor.As<Napi::Object>();
    out.exit_file = path(get(asked, "exitFile"), "job.monitor.exitFile");
    out.orders = string(get(asked, "orders"), "job.monitor.orders");
  } else if (!monitor.IsUndefined()) {
    wrong("job.monitor must be an object");
  }
  if (const Napi::Value front = get(object, "front"); !front.IsUndefined())
    out.front = duplicate(front, "job.front");
  return out;
}

}  // namespace binding
