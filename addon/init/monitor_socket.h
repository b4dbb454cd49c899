// SPDX-License-Identifier: Apache-2.0
// The receiving side of sys/monitor_protocol.h: a monitor's, and that of the front (addon/front).
#pragma once
#include <stddef.h>

#include "sys/monitor_protocol.h"

namespace init {

struct Received {
  int fds[sys::monitor::most_fds];  // -1: taken
  uint32_t count;
};

// recvmsg's result. Descriptors are added to `received`; what does not fit is closed.
long receive(int socket, void* buffer, size_t size, Received& received);

enum class Asked : uint8_t {
  whole,
  again,       // EINTR
  incomplete,  // descriptors are missing: answered with EMFILE
  ended        // nobody asks any more
};

// One request with all of its descriptors; its orders are behind it in the buffer. Waits for it.
Asked receive_request(int socket, char* buffer, size_t size, sys::monitor::Request& request,
                      Received& received);

// Closes what was not taken.
void drop(Received& received);

// False: not now (EAGAIN), try again. An owner that is gone needs no answer.
bool send(int socket, const sys::monitor::Answer& answer, int fd, int flags);

}  // namespace init
