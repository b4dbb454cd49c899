// SPDX-License-Identifier: Apache-2.0
#include "binding/init_pipe.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace binding {

std::string with_pid(const std::string& text, pid_t pid) {
  static constexpr std::string_view mark = "@PID@";
  std::string out;
  size_t from = 0;
  for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, from)) {
    out.append(text, from, at - from);
    out += std::to_string(pid);
    from = at + mark.size();
  }
  out.append(text, from);
  return out;
}

ssize_t receive_packet(int pipe, char* buffer, size_t size, sys::Fd& fd, pid_t& sender) {
  union {
    char bytes[CMSG_SPACE(sizeof(int) * 4) + CMSG_SPACE(sizeof(ucred))];
    cmsghdr align;
  } control;
  iovec part{buffer, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t got = 0;
  sender = 0;
  do got = ::recvmsg(pipe, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_CREDENTIALS) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(header), sizeof credentials);
      sender = credentials.pid;
      continue;
    }
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof number);
      // Protocol: one at most. Others are closed, not leaked.
      sys::Fd owned(number);
      if (!fd) fd = std::move(owned);
    }
  }
  if ((message.msg_flags & MSG_TRUNC) != 0) {
    errno = EMSGSIZE;
    return -1;
  }
  return got;
}

}  // namespace binding
