// SPDX-License-Identifier: Apache-2.0
// One wrapper per system call or small file idiom that the addon needs: CLOEXEC added, EINTR retried (never
// for close).
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "sys/error.h"
#include "sys/fd.h"

namespace sys {

Status open_file(Fd& out, const std::string& path, int flags, mode_t mode = 0);
// A whole small file; bounded, for procfs and state files.
Status read_file(std::string& out, const std::string& path);
// One write of all: cgroup and procfs files take a value in one call or not at all.
Status write_once(const std::string& path, std::string_view data);
// As often as needed.
Status write_all(int fd, std::string_view data, const std::string& path);
// Replaces a file in two steps: everything is written to a temporary file beside it, then a rename publishes
// it. A reader sees the old or the new file, never a part. `sync` adds fsync of file and directory, unless
// they are on tmpfs, which does not survive a crash of the machine anyway. What is not published is removed.
class NewFile {
 public:
  NewFile() = default;
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile() { discard(); }
  Status write(const std::string& path, std::string_view data, mode_t mode, bool sync);
  Status publish();
  void discard();

 private:
  std::string path_;
  std::string temporary_;  // empty: nothing is there to remove
  bool durable_ = false;
};
// Both steps at once.
Status put_file(const std::string& path, std::string_view data, mode_t mode, bool sync);
// A memfd nobody can change any more (F_SEAL_*): what runs with our privilege cannot be overwritten through
// /proc/PID/exe or a descriptor that leaked (CVE-2019-5736).
Status sealed_memfd(Fd& out, const char* name, std::string_view content, bool executable);

Status pidfd_open(Fd& out, pid_t pid);
// Of another process, which we may trace (Linux 5.6).
Status pidfd_getfd(Fd& out, int pidfd, int number);
int pidfd_send_signal(int pidfd, int signal);
// How a process has ended that is nobody's child here, as wait(2) tells it: Linux 6.15 (PIDFD_GET_INFO). The
// kernel tells when it is reaped, by whoever is its parent.
enum class ExitKnown { yes, not_yet, never };
ExitKnown exit_status(int pidfd, int& status);
// Field 22 of /proc/pid/stat in clock ticks; 0 when the process is gone or (unless `zombies`) a zombie.
// proc_pid_stat(5).
uint64_t start_time(pid_t pid, bool zombies);

}  // namespace sys
