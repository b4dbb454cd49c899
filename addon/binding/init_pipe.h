// SPDX-License-Identifier: Apache-2.0
// Packets of the init pipe and what is put into them.
#pragma once

#include <sys/types.h>

#include <string>

#include "sys/fd.h"

namespace binding {

// Every "@PID@" replaced.
std::string with_pid(const std::string& text, pid_t pid);
// One packet without waiting. Returns recvmsg's result; a descriptor that came along is the caller's.
// `sender` is the pid that the kernel tells on a socket with SO_PASSCRED, else 0.
ssize_t receive_packet(int pipe, char* buffer, size_t size, sys::Fd& fd, pid_t& sender);

}  // namespace binding
