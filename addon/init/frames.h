// SPDX-License-Identifier: Apache-2.0
// Frames of the init pipe (proto/init.proto): a SOCK_SEQPACKET socket, one frame per packet.
#pragma once
#include "init.h"

namespace init {

// False when the parent is gone; whether that matters is the caller's to say.
bool send_frame(Init& init, const void* data, size_t size, int fd = -1);
void send_failure(Init& init, uint32_t index, const char* step);
// Sends 'F' with the descriptor.
Result send_fd(Init& init, const char* name, int fd);
// The same where a filter may hold sendmsg up: the parent takes it by pidfd_getfd(2), and answers.
Result give_fd(Init& init, const char* name, int fd);
// Waits for a frame of this type; the init dies with its parent before the answer to ready.
Result wait_frame(Init& init, char type);
// Before the answer to ready, a broken pipe ends init.
Result send_or_exit(Init& init, const void* data, size_t size);
[[noreturn]] void leave(int status);

}  // namespace init
