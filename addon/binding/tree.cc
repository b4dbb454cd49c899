// SPDX-License-Identifier: Apache-2.0
// treeMake, treeFinish, treeRemove, openBeneath: what an archive is unpacked with (lib/rootfs).
#include "sys/tree.h"

#include <napi.h>

#include <algorithm>
#include <array>
#include <memory>

#include "binding/arguments.h"
#include "binding/exports.h"
#include "binding/work.h"

namespace binding {

namespace {

// In the order of TreeKind; the names are those of lib/native/binding.ts.
constexpr std::array<const char*, 7> kinds = {"file", "directory", "symlink", "link",
                                              "fifo", "char",      "block"};
constexpr int64_t highest_id = 0xfffffffe;
constexpr int64_t highest_time_ms = 8640000000000000;

sys::TreeEntry entry_of(Arguments& arguments, const Napi::Value& value) {
  sys::TreeEntry entry;
  if (!value.IsObject()) {
    arguments.wrong("entry must be an object");
    return entry;
  }
  const auto object = value.As<Napi::Object>();
  const Place place("entry");
  const std::string kind = arguments.string(object.Get("kind"), Place(place, "kind"));
  const auto found = std::find(kinds.begin(), kinds.end(), kind);
  if (found == kinds.end()) arguments.wrong("entry.kind is not known");
  entry.kind = static_cast<sys::TreeKind>(found - kinds.begin());
  entry.path = arguments.bytes(object.Get("path"), Place(place, "path"));
  entry.target = arguments.bytes(object.Get("target"), Place(place, "target"));
  if (entry.target.find('\0') != std::string::npos)
    arguments.wrong("entry.target must not contain a null byte");
  entry.mode = static_cast<mode_t>(arguments.integer(object.Get("mode"), Place(place, "mode"), 0, 07777));
  entry.uid = arguments.integer(object.Get("uid"), Place(place, "uid"), -1, highest_id);
  entry.gid = arguments.integer(object.Get("gid"), Place(place, "gid"), -1, highest_id);
  entry.mtime_ms = arguments.integer(object.Get("mtimeMs"), Place(place, "mtimeMs"), 0, highest_time_ms);
  entry.major =
      static_cast<unsigned>(arguments.integer(object.Get("major"), Place(place, "major"), 0, 0xffffffff));
  entry.minor =
      static_cast<unsigned>(arguments.integer(object.Get("minor"), Place(place, "minor"), 0, 0xffffffff));
  const Napi::Value attributes = object.Get("attributes");
  if (!attributes.IsArray()) {
    arguments.wrong("entry.attributes must be an array");
    return entry;
  }
  const auto pairs = attributes.As<Napi::Array>();
  for (uint32_t i = 0; i < pairs.Length() && arguments.ok(); i++) {
    const Napi::Value pair = pairs.Get(i);
    if (!pair.IsArray()) {
      arguments.wrong("entry.attributes must hold pairs");
      return entry;
    }
    const auto both = pair.As<Napi::Array>();
    entry.attributes.emplace_back(arguments.path(both.Get(0U), "entry.attributes"),
                                  arguments.bytes(both.Get(1U), "entry.attributes"));
  }
  return entry;
}

struct Job {
  sys::Fd root;
  sys::TreeEntry entry;
  sys::TreeMade made;
  std::vector<std::string> refused;
  sys::Status failed;
};

// The caller may close its own descriptor of the root meanwhile.
std::shared_ptr<Job> job_of(const Napi::CallbackInfo& info, Arguments& arguments) {
  auto job = std::make_shared<Job>();
  const int root = arguments.fd(info[0], "root");
  if (arguments.ok()) job->root = sys::Fd::duplicate(root);
  if (arguments.ok() && !job->root) arguments.wrong("root is not an open descriptor");
  return job;
}

bool rejected(Napi::Env env, Napi::Promise::Deferred& promise, const Job& job) {
  if (job.failed) promise.Reject(error_object(env, *job.failed).Value());
  return job.failed.has_value();
}

Napi::Value tree_make(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  auto job = job_of(info, arguments);
  job->entry = entry_of(arguments, info[1]);
  if (arguments.thrown()) return info.Env().Undefined();
  return run_in_pool(
      info.Env(), [job] { job->failed = sys::make_entry(job->made, job->root.get(), job->entry); },
      [job](Napi::Env env, Napi::Promise::Deferred& promise) {
        if (rejected(env, promise, *job)) return;
        auto made = Napi::Object::New(env);
        made.Set("fd", Napi::Number::New(env, job->made.fd.take()));
        made.Set("inode", Napi::BigInt::New(env, job->made.inode));
        promise.Resolve(made);
      });
}

Napi::Value tree_finish(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  auto job = job_of(info, arguments);
  job->entry = entry_of(arguments, info[1]);
  const bool open = !info[2].IsNull();
  if (open) {
    const int fd = arguments.fd(info[2], "fd");
    if (arguments.ok()) job->made.fd = sys::Fd::duplicate(fd);
    if (arguments.ok() && !job->made.fd) arguments.wrong("fd is not an open descriptor");
  }
  job->made.inode = arguments.bigint(info[3], "inode");
  if (arguments.thrown()) return info.Env().Undefined();
  return run_in_pool(
      info.Env(),
      [job] {
        job->failed = sys::finish_entry(job->root.get(), job->entry, std::move(job->made.fd), job->made.inode,
                                        job->refused);
      },
      [job](Napi::Env env, Napi::Promise::Deferred& promise) {
        if (rejected(env, promise, *job)) return;
        auto names = Napi::Array::New(env);
        for (uint32_t i = 0; i < job->refused.size(); i++)
          names.Set(i, Napi::String::New(env, job->refused[i]));
        promise.Resolve(names);
      });
}

Napi::Value tree_remove(const Napi::CallbackInfo& info) {
  Arguments arguments(info.Env());
  auto job = job_of(info, arguments);
  job->entry.path = arguments.bytes(info[1], "path");
  const bool keep = arguments.boolean(info[2], "keep");
  if (arguments.thrown()) return info.Env().Undefined();
  return run_in_pool(
      info.Env(), [job, keep] { job->failed = sys::remove_entry(job->root.get(), job->entry.path, keep); },
      [job](Napi::Env env, Napi::Promise::Deferred& promise) {
        if (!rejected(env, promise, *job)) promise.Resolve(env.Undefined());
      });
}

Napi::Value open_beneath(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(env);
  const int directory = arguments.fd(info[0], "directory");
  const std::string path = arguments.path(info[1], "path");
  const int flags = static_cast<int>(arguments.integer(info[2], "flags", 0, 0x7fffffff));
  if (arguments.thrown()) return env.Undefined();
  sys::Fd fd;
  if (const auto failed = sys::open_beneath(fd, directory, path, flags)) {
    throw_failure(env, *failed);
    return env.Undefined();
  }
  return Napi::Number::New(env, fd.take());
}

}  // namespace

void export_tree(Napi::Env env, Napi::Object& exports) {
  add<tree_make>(env, exports, "treeMake");
  add<tree_finish>(env, exports, "treeFinish");
  add<tree_remove>(env, exports, "treeRemove");
  add<open_beneath>(env, exports, "openBeneath");
}

}  // namespace binding
