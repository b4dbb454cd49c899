// SPDX-License-Identifier: Apache-2.0
// From JavaScript values to ours. Types are checked, descriptors are duplicated; the first mistake is kept
// and thrown as a TypeError at the edge.
#pragma once

#include <napi.h>

#include <string>
#include <utility>
#include <vector>

#include "binding/job.h"

namespace binding {

// Where in the arguments a value stands: put into words only when it is wrong, since a start has some hundred
// of them.
class Place {
 public:
  Place(const char* name) : key_(name) {}  // NOLINT: a plain name is a place
  Place(const std::string& name) : text_(&name) {}
  Place(const Place& parent, const char* key) : parent_(&parent), key_(key) {}
  Place(const Place& parent, uint32_t index) : parent_(&parent), index_(index) {}
  std::string text() const;

 private:
  const Place* parent_ = nullptr;
  const std::string* text_ = nullptr;
  const char* key_ = nullptr;
  uint32_t index_ = 0;
};

class Arguments {
 public:
  explicit Arguments(Napi::Env env) : env_(env) {}

  bool ok() const { return error_.empty(); }
  // Throws what went wrong into JavaScript; true when something did.
  bool thrown();
  void wrong(const std::string& what);

  std::string string(const Napi::Value& value, const Place& place);
  // Text for the kernel: without NUL.
  std::string path(const Napi::Value& value, const Place& place);
  int64_t integer(const Napi::Value& value, const Place& place, int64_t low, int64_t high);
  bool boolean(const Napi::Value& value, const Place& place);
  std::string bytes(const Napi::Value& value, const Place& place);
  uint64_t bigint(const Napi::Value& value, const Place& place);
  int fd(const Napi::Value& value, const Place& place);
  int signal(const Napi::Value& value);
  Napi::Function function(const Napi::Value& value, const Place& place);
  std::vector<FileOperation> operations(const Napi::Value& value, const Place& place);
  JobRequest job(const Napi::Value& value);

 private:
  FileOperation operation(const Napi::Value& value, const Place& place);
  // The errno names of an operation that are no failure.
  void tolerated(FileOperation& out, const Napi::Object& object, const Place& place);
  Slot slot(const Napi::Value& value, const Place& place);
  TreeRequest tree(const Napi::Object& object, const Place& place);
  UserNamespaceWork user_namespace(const Napi::Value& value);
  std::vector<EnteredNamespace> entered(const Napi::Value& value);
  StateFile state_file(const Napi::Value& value);
  sys::Fd duplicate(const Napi::Value& value, const Place& place);

  // A property's name is made a JavaScript string once for each call, not once for each object. By the
  // literal's address.
  Napi::Value get(const Napi::Object& object, const char* key);

  Napi::Env env_;
  std::string error_;
  std::vector<std::pair<const char*, napi_value>> keys_;
};

}  // namespace binding
