// SPDX-License-Identifier: Apache-2.0
// The file operations of a job (FileOperation in lib/native/binding.ts): done in order, taken back in
// reverse.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "sys/error.h"
#include "sys/fd.h"

namespace binding {

enum class OperationKind { mkdir, write, put, mkfifo, unlink, rmdir, device_program, lock, chown };

struct FileOperation {
  OperationKind kind = OperationKind::write;
  std::string path;
  std::string data;  // or the BPF program
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  bool existing_ok = false;
  bool sync = false;
  std::vector<int> tolerate;
};

// As in lib/native/binding.ts: "mkdir", "deviceProgram".
const char* name_of(OperationKind kind);

struct OperationFailure {
  size_t index;
  sys::Failure failure;
};

class Operations {
 public:
  // Stops at the first that fails.
  std::optional<OperationFailure> run(const std::vector<FileOperation>& operations);
  // Takes back what was done, last first. Its own failures have no reader: the operation's failure is what
  // gets reported.
  void undo();

 private:
  struct Done {
    bool directory;
    std::string path;
  };
  sys::Status run_one(const FileOperation& operation);
  sys::Status write(const FileOperation& operation);
  sys::Status lock(const FileOperation& operation);
  // Held until the operations are done.
  sys::Fd locked_;
  // The file of the last write: a list of device rules is many writes to one file.
  sys::Fd written_;
  std::string written_path_;
  std::vector<Done> done_;
  // Mode bits that a directory of ours has got as asked for.
  mode_t granted_ = 0;
};

}  // namespace binding
