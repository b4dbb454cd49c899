// SPDX-License-Identifier: Apache-2.0
#include "monitor_socket.h"

#include <string.h>
#include <sys/socket.h>

#include "calls.h"

namespace init {

using sys::monitor::Answer;
using sys::monitor::Kind;
using sys::monitor::Request;

long receive(int socket, void* buffer, size_t size, Received& received) {
  union {
    char bytes[CMSG_SPACE(sizeof(int) * 256)];
    cmsghdr align;
  } control;
  iovec part = {buffer, size};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  const long got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t at = 0; at < count; at++) {
      int fd;
      memcpy(&fd, CMSG_DATA(head) + at * sizeof(int), sizeof fd);
      if (received.count < sys::monitor::most_fds)
        received.fds[received.count++] = fd;
      else
        call(SYS_close, fd);
    }
  }
  return got;
}

Asked receive_request(int socket, char* buffer, size_t size, Request& request, Received& received) {
  received.count = 0;
  const long got = receive(socket, buffer, size, received);
  if (got < 0 && errno == EINTR) return Asked::again;
  if (got < static_cast<long>(sizeof request)) return Asked::ended;
  memcpy(&request, buffer, sizeof request);
  const uint32_t wanted = request.successor != 0 ? 0
                                                 : 2 + request.has_cgroup + request.has_pid_namespace +
                                                       request.entered + request.targets;
  for (uint32_t behind = sys::monitor::fds_per_packet; behind < wanted;
       behind += sys::monitor::fds_per_packet) {
    char byte;
    if (receive(socket, &byte, 1, received) != 1) return Asked::ended;
  }
  if (request.successor != 0 ||
      (received.count == wanted && got == static_cast<long>(sizeof request + request.orders_size)))
    return Asked::whole;
  // The kernel leaves descriptors out when the table is full: MSG_CTRUNC.
  Answer answer = {};
  answer.kind = Kind::failed;
  answer.token = request.token;
  answer.value = EMFILE;
  strncpy(answer.call, "recvmsg", sizeof answer.call - 1);
  (void)send(socket, answer, -1, 0);
  return Asked::incomplete;
}

void drop(Received& received) {
  for (uint32_t at = 0; at < received.count; at++)
    if (received.fds[at] >= 0) call(SYS_close, received.fds[at]);
  received.count = 0;
}

bool send(int socket, const Answer& answer, int fd, int flags) {
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    cmsghdr align;
  } control = {};
  iovec part = {const_cast<Answer*>(&answer), sizeof answer};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  return sendmsg(socket, &message, flags | MSG_NOSIGNAL) >= 0 || errno != EAGAIN;
}

}  // namespace init
