// SPDX-License-Identifier: Apache-2.0
#include "frames.h"

#include <sys/mman.h>
#include <sys/socket.h>

namespace init {

void leave(int status) {
  for (;;) call(SYS_exit_group, status);
}

// Behind a filter with the one call that runc's init makes there too: profiles are written for it. A reader
// that has gone is SIGPIPE then (main.cc).
static bool write_frame(Init& init, const void* data, size_t size) {
  long sent;
  do sent = call(SYS_write, init.pipe, data, size);
  while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

bool send_frame(Init& init, const void* data, size_t size, int fd) {
  if (init.filtered && fd < 0) return write_frame(init, data, size);
  iovec part = {const_cast<void*>(data), size};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  long sent;
  do sent = call(SYS_sendmsg, init.pipe, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

Result send_or_exit(Init& init, const void* data, size_t size) {
  if (!send_frame(init, data, size) && !init.answered) leave(1);
  return Result::ok;
}

void send_failure(Init& init, uint32_t index, const char* step) {
  const Failure& failure = init.failure;
  static Frame<16384> frame('E');
  frame.number(1, index);
  frame.text(2, step);
  frame.text(3, failure.call);
  frame.text(4, failure.args.c_str());
  // sint32: zigzag of a positive number.
  frame.number(5, static_cast<uint64_t>(failure.error) << 1);
  frame.text(6, failure.reason);
  frame.text(7, failure.detail.c_str());
  send_frame(init, frame.data(), frame.size());
}

Result send_fd(Init& init, const char* name, int fd) {
  Frame<128> frame('F');
  frame.text(1, name);
  if (!send_frame(init, frame.data(), frame.size(), fd)) {
    if (!init.answered) leave(1);
    return init.failed("sendmsg", Raw{"init pipe"}, name);
  }
  return Result::ok;
}

Result give_fd(Init& init, const char* name, int fd) {
  Frame<128> frame('F');
  frame.text(1, name);
  frame.number(2, static_cast<uint64_t>(fd));
  if (!send_frame(init, frame.data(), frame.size())) {
    if (!init.answered) leave(1);
    return init.failed("write", Raw{"init pipe"}, name);
  }
  return wait_frame(init, 'G');
}

// Behind a filter every answer is a letter, and read(2) is what a profile allows sooner than recvfrom(2).
static Result read_answer(Init& init, char type) {
  char answer = 0;
  long size;
  do size = call(SYS_read, init.pipe, &answer, 1);
  while (size < 0 && errno == EINTR);
  if (size == 0) leave(1);
  if (size < 0) return init.failed("read", Raw{"init pipe"});
  return answer == type ? Result::ok : init.refused(EPROTO, "", "unexpected answer on the init pipe");
}

// The state of a container with large annotations; a packet of a UNIX socket cannot be larger by default.
static constexpr size_t max_frame = 1 << 20;

Result wait_frame(Init& init, char type) {
  if (init.filtered) return read_answer(init, type);
  char first = 0;
  long size;
  do size = call(SYS_recvfrom, init.pipe, &first, 1, MSG_PEEK | MSG_TRUNC, nullptr, nullptr);
  while (size < 0 && errno == EINTR);
  // The parent is gone before it has said Go: what was made so far is nobody's, so this process must end.
  if (size == 0) leave(1);
  if (size < 0) return init.failed("recvfrom", Raw{"init pipe"});
  const size_t length = static_cast<size_t>(size);
  if (length > max_frame) return init.refused(EMSGSIZE, "", "the answer on the init pipe is too large");
  void* memory = &first;
  if (length > 1) {
    memory = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return init.failed("mmap", length);
  }
  do size = call(SYS_recvfrom, init.pipe, memory, length, 0, nullptr, nullptr);
  while (size < 0 && errno == EINTR);
  if (size < 0 || static_cast<size_t>(size) != length)
    return init.failed("recvfrom", Raw{"init pipe"}, length);
  const uint8_t* data = static_cast<const uint8_t*>(memory);
  if (data[0] != static_cast<uint8_t>(type))
    return init.refused(EPROTO, "", "unexpected answer on the init pipe");
  if (length > 1 && type == 'G') {
    const Message go(Bytes{data + 1, length - 1});
    if (!go.valid()) return init.refused(EPROTO, "", "malformed answer on the init pipe");
    if (go.has(1)) init.state = go.bytes(1);
  }
  if (type == 'L') init.command = Bytes{data + 1, length - 1};
  return Result::ok;
}

}  // namespace init
