// SPDX-License-Identifier: Apache-2.0
// moveNetDevices: host devices into the network namespace of a container that is being started.
#include <fcntl.h>
#include <napi.h>

#include <algorithm>
#include <memory>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/work.h"
#include "sys/calls.h"
#include "sys/route.h"

namespace binding {

namespace {

struct Device {
  std::string name;
  std::string target;
  int index = 0;
  bool pattern() const { return target.find('%') != std::string::npos; }
};

struct Task {
  pid_t pid = 0;
  uint64_t start_time = 0;
  std::vector<Device> devices;
  size_t at = 0;
  sys::Status failed;
};

// Everything that can be found out before is: a device that has been moved and is then in the way of an error
// is lost with the namespace when it is a virtual one.
sys::Status check(Task& task, sys::Route& host, sys::Route& container) {
  for (task.at = 0; task.at < task.devices.size(); task.at++) {
    Device& device = task.devices[task.at];
    if (auto failed = host.find(device.name, device.index)) return failed;
    if (device.index == 0) {
      errno = ENODEV;
      return sys::failure("RTM_GETLINK", sys::quoted(device.name));
    }
    int taken = 0;
    if (!device.pattern())
      if (auto failed = container.find(device.target, taken)) return failed;
    if (taken != 0) {
      errno = EEXIST;
      return sys::failure("RTM_GETLINK", sys::quoted(device.target));
    }
  }
  return {};
}

sys::Status move(const Device& device, int namespace_fd, sys::Route& host, sys::Route& container) {
  std::vector<sys::Address> addresses;
  std::vector<int> before;
  // Before the move, which takes the device down and its addresses away.
  if (auto failed = host.addresses(device.index, addresses)) return failed;
  if (auto failed = container.indexes(before)) return failed;
  if (auto failed = host.move(device.index, namespace_fd, device.target)) return failed;
  int index = 0;
  if (!device.pattern()) {
    if (auto failed = container.find(device.target, index)) return failed;
  } else {
    // The kernel has chosen the number: it is the one that was not there.
    std::vector<int> after;
    if (auto failed = container.indexes(after)) return failed;
    for (const int one : after)
      if (std::find(before.begin(), before.end(), one) == before.end()) index = one;
  }
  for (const sys::Address& address : addresses)
    if (auto failed = container.add(index, address)) return failed;
  return container.up(index);
}

sys::Status run(Task& task) {
  sys::Fd name_space;
  if (auto failed =
          sys::open_file(name_space, "/proc/" + std::to_string(task.pid) + "/ns/net", O_RDONLY | O_CLOEXEC))
    return failed;
  // After the open: the namespace is that of the process which we mean.
  if (sys::start_time(task.pid, true) != task.start_time) {
    errno = ESRCH;
    return sys::failure("open", "/proc/PID/ns/net");
  }
  sys::Route host;
  sys::Route container;
  if (auto failed = host.open()) return failed;
  if (auto failed = container.open_in(name_space.get())) return failed;
  if (auto failed = check(task, host, container)) return failed;
  for (task.at = 0; task.at < task.devices.size(); task.at++)
    if (auto failed = move(task.devices[task.at], name_space.get(), host, container)) return failed;
  return {};
}

Napi::Value move_net_devices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  auto task = std::make_shared<Task>();
  task->pid = static_cast<pid_t>(arguments.integer(info[0], "pid", 1, 0x7fffffff));
  task->start_time = arguments.bigint(info[1], "startTime");
  if (info[2].IsArray()) {
    const auto list = info[2].As<Napi::Array>();
    for (uint32_t i = 0; i < list.Length() && arguments.ok(); i++) {
      const Napi::Value row = list.Get(i);
      if (!row.IsArray() || row.As<Napi::Array>().Length() != 2) {
        arguments.wrong("devices must be pairs of names");
        break;
      }
      const auto pair = row.As<Napi::Array>();
      task->devices.push_back({arguments.path(pair.Get(0U), Place("devices", i)),
                               arguments.path(pair.Get(1U), Place("devices", i))});
    }
  } else {
    arguments.wrong("devices must be an array");
  }
  if (arguments.thrown()) return env.Undefined();
  auto finish = [task](Napi::Env settled, Napi::Promise::Deferred& promise) {
    if (!task->failed) {
      promise.Resolve(settled.Undefined());
      return;
    }
    const Napi::Error error = error_object(settled, *task->failed);
    error.Set("index", Napi::Number::New(settled, static_cast<double>(task->at)));
    promise.Reject(error.Value());
  };
  return run_in_pool(
      env, [task] { task->failed = run(*task); }, std::move(finish));
}

}  // namespace

void export_net_devices(Napi::Env env, Napi::Object& exports) {
  add<move_net_devices>(env, exports, "moveNetDevices");
}

}  // namespace binding
