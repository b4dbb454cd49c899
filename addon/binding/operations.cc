// SPDX-License-Identifier: Apache-2.0
#include "binding/operations.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "binding/device_program.h"
#include "sys/calls.h"

namespace binding {

namespace {

std::string with_mode(const std::string& path, mode_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, ", 0%o", mode);
  return sys::quoted(path) + text;
}

// A cgroup whose last process has just been reaped can be busy for a moment longer: tried again for 100 ms at
// most.
sys::Status remove_directory(const std::string& path) {
  constexpr long longest_pause_ns = 10'000'000;
  long waited_ns = 0;
  long pause_ns = 100'000;
  for (;;) {
    if (::rmdir(path.c_str()) == 0 || errno == ENOENT) return {};
    if (errno != EBUSY || waited_ns >= 100'000'000) return sys::failure("rmdir", sys::quoted(path), path);
    const timespec pause{0, pause_ns};
    ::nanosleep(&pause, nullptr);
    waited_ns += pause_ns;
    pause_ns = std::min(pause_ns * 2, longest_pause_ns);
  }
}

}  // namespace

const char* name_of(OperationKind kind) {
  switch (kind) {
    case OperationKind::mkdir:
      return "mkdir";
    case OperationKind::write:
      return "write";
    case OperationKind::put:
      return "put";
    case OperationKind::mkfifo:
      return "mkfifo";
    case OperationKind::unlink:
      return "unlink";
    case OperationKind::rmdir:
      return "rmdir";
    case OperationKind::device_program:
      return "deviceProgram";
    case OperationKind::lock:
      return "lock";
    case OperationKind::chown:
      return "chown";
  }
  return "";
}

std::optional<OperationFailure> Operations::run(const std::vector<FileOperation>& operations) {
  for (size_t index = 0; index < operations.size(); index++) {
    if (operations[index].kind != OperationKind::write) written_.reset();
    auto failed = run_one(operations[index]);
    if (!failed) continue;
    const auto& tolerate = operations[index].tolerate;
    if (std::find(tolerate.begin(), tolerate.end(), failed->error) != tolerate.end()) continue;
    written_.reset();
    locked_.reset();
    return OperationFailure{index, std::move(*failed)};
  }
  written_.reset();
  locked_.reset();
  return {};
}

sys::Status Operations::run_one(const FileOperation& operation) {
  const std::string& path = operation.path;
  switch (operation.kind) {
    case OperationKind::mkdir: {
      if (::mkdir(path.c_str(), operation.mode) != 0) {
        const int error = errno;
        struct stat found {};
        if (error == EEXIST && operation.existing_ok && ::stat(path.c_str(), &found) == 0 &&
            S_ISDIR(found.st_mode))
          return {};
        errno = error;
        return sys::failure("mkdir", with_mode(path, operation.mode), path);
      }
      done_.push_back({true, path});
      // The umask of the host process must not decide. Looked at first: a chmod in cgroupfs costs the kernel
      // memory for good. Bits that the umask let through a moment ago need no second look.
      if ((operation.mode & ~granted_) == 0) return {};
      struct stat made {};
      if (::stat(path.c_str(), &made) != 0) return sys::failure("stat", sys::quoted(path), path);
      if ((made.st_mode & 07777) != operation.mode && ::chmod(path.c_str(), operation.mode) != 0)
        return sys::failure("chmod", with_mode(path, operation.mode), path);
      if ((made.st_mode & 07777) == operation.mode) granted_ |= operation.mode;
      return {};
    }
    case OperationKind::write:
      return write(operation);
    case OperationKind::put: {
      auto failed = sys::put_file(path, operation.data, operation.mode, operation.sync);
      if (!failed) done_.push_back({false, path});
      return failed;
    }
    case OperationKind::mkfifo:
      if (::mkfifo(path.c_str(), operation.mode) != 0)
        return sys::failure("mkfifo", with_mode(path, operation.mode), path);
      done_.push_back({false, path});
      // mkfifo(3) goes through the umask: set the mode again, and the owner before it (chown clears set-id
      // bits).
      if (::lchown(path.c_str(), operation.uid, operation.gid) != 0)
        return sys::failure(
            "lchown",
            sys::quoted(path) + ", " + std::to_string(operation.uid) + ", " + std::to_string(operation.gid),
            path);
      if (::chmod(path.c_str(), operation.mode) != 0)
        return sys::failure("chmod", with_mode(path, operation.mode), path);
      return {};
    case OperationKind::unlink:
      if (::unlink(path.c_str()) != 0 && errno != ENOENT)
        return sys::failure("unlink", sys::quoted(path), path);
      return {};
    case OperationKind::rmdir:
      return remove_directory(path);
    case OperationKind::device_program:
      return attach_device_program(path, operation.data);
    case OperationKind::lock:
      return lock(operation);
    case OperationKind::chown:
      if (::lchown(path.c_str(), operation.uid, static_cast<gid_t>(-1)) == 0) return {};
      return sys::failure("lchown", sys::quoted(path) + ", " + std::to_string(operation.uid) + ", -1", path);
  }
  return {};
}

// At offset 0 each time: for a cgroup or proc file every write is an order of its own.
sys::Status Operations::write(const FileOperation& operation) {
  if (!written_ || written_path_ != operation.path) {
    written_.reset();
    if (auto failed = sys::open_file(written_, operation.path, O_WRONLY)) return failed;
    written_path_ = operation.path;
  }
  const std::string& data = operation.data;
  ssize_t count = -1;
  do count = ::pwrite(written_.get(), data.data(), data.size(), 0);
  while (count < 0 && errno == EINTR);
  if (count >= 0 && static_cast<size_t>(count) == data.size()) return {};
  if (count >= 0) errno = EIO;
  return sys::failure("write", sys::quoted(operation.path) + ", " + sys::quoted(data), operation.path);
}

// The lock of Binding.lock on a state directory, and who the directory belongs to: between the call and now
// it may have been removed and made again for another container.
sys::Status Operations::lock(const FileOperation& operation) {
  const std::string& path = operation.path;
  if (auto failed = sys::open_file(locked_, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)) return failed;
  if (::flock(locked_.get(), LOCK_EX | LOCK_NB) != 0)
    return sys::failure("flock", sys::quoted(path) + ", LOCK_EX|LOCK_NB", path);
  sys::Fd record(::openat(locked_.get(), "state.json", O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  const std::string file = path + "/state.json";
  if (!record) return sys::failure("openat", sys::quoted(file), file);
  std::string found(operation.data.size(), '\0');
  if (::pread(record.get(), found.data(), found.size(), 0) == static_cast<ssize_t>(found.size()) &&
      found == operation.data)
    return {};
  errno = ESTALE;
  return sys::failure("pread", sys::quoted(file), file);
}

void Operations::undo() {
  for (auto entry = done_.rbegin(); entry != done_.rend(); ++entry) {
    if (entry->directory)
      (void)remove_directory(entry->path);
    else
      ::unlink(entry->path.c_str());
  }
  done_.clear();
}

}  // namespace binding
