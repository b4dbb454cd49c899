// SPDX-License-Identifier: Apache-2.0
// From JavaScript values to ours. Types are checked, descriptors are duplicated; the first mistake is kept
// and thrown as a TypeError at the edge.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "binding/job.h"

namespace binding {

class Arguments {
 public:
  explicit Arguments(Napi::Env env) : env_(env) {}

  bool ok() const { return error_.empty(); }
  // Throws what went wrong into JavaScript; true when something did.
  bool thrown();
  void wrong(const std::string& what);

  std::string string(const Napi::Value& value, const std::string& name);
  // Text for the kernel: without NUL.
  std::string path(const Napi::Value& value, const std::string& name);
  int64_t integer(const Napi::Value& value, const std::string& name, int64_t low, int64_t high);
  bool boolean(const Napi::Value& value, const std::string& name);
  std::string bytes(const Napi::Value& value, const std::string& name);
  uint64_t bigint(const Napi::Value& value, const std::string& name);
  int fd(const Napi::Value& value, const std::string& name);
  int signal(const Napi::Value& value);
  Napi::Function function(const Napi::Value& value, const std::string& name);
  std::vector<FileOperation> operations(const Napi::Value& value, const std::string& name);
  JobRequest job(const Napi::Value& value);

 private:
  FileOperation operation(const Napi::Value& value, const std::string& name);
  Slot slot(const Napi::Value& value, const std::string& name);
  StateFile state_file(const Napi::Value& value);
  sys::Fd duplicate(const Napi::Value& value, const std::string& name);

  Napi::Env env_;
  std::string error_;
};

}  // namespace binding
