// SPDX-License-Identifier: Apache-2.0
// rtnetlink(7): network devices and their addresses, as far as moving a device between namespaces needs it.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sys/error.h"
#include "sys/fd.h"

namespace sys {

struct Address {
  uint8_t family;
  uint8_t prefix;
  // Attributes IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST: raw, empty when absent.
  std::string local, address, broadcast;
};

// A socket in one network namespace; it stays in it, whoever uses it.
class Route {
 public:
  // In the namespace of the calling thread.
  Status open();
  // In the namespace behind the descriptor: made by a thread of its own, so that none of ours ever leaves its
  // namespace.
  Status open_in(int namespace_fd);

  // 0: there is none of this name.
  Status find(const std::string& name, int& index);
  Status indexes(std::vector<int>& out);
  // Permanent addresses of global scope: what the kernel would not make again by itself.
  Status addresses(int index, std::vector<Address>& out);
  // Move and new name in one request: when the move is refused nothing has changed.
  Status move(int index, int namespace_fd, const std::string& name);
  Status add(int index, const Address& address);
  Status up(int index);

 private:
  class Request;
  Status talk(Request& request, const char* what, const std::string& subject);
  template <typename Visit>
  Status dump(Request& request, const char* what, Visit visit);
  Fd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace sys
