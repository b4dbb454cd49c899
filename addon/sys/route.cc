// SPDX-License-Identifier: Apache-2.0
#include "sys/route.h"

#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>

#include <cstring>

namespace sys {

class Route::Request {
 public:
  template <typename Body>
  Request(uint16_t type, uint16_t flags, const Body& body) {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    std::memcpy(bytes_ + NLMSG_HDRLEN, &body, sizeof body);
    header()->nlmsg_len = NLMSG_LENGTH(sizeof body);
  }
  // Values are names and addresses: the largest request has four of them.
  void attribute(uint16_t type, const void* data, size_t size) {
    const size_t at = NLMSG_ALIGN(header()->nlmsg_len);
    auto* attribute = reinterpret_cast<rtattr*>(bytes_ + at);
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(size));
    std::memcpy(RTA_DATA(attribute), data, size);
    header()->nlmsg_len = static_cast<uint32_t>(at + RTA_LENGTH(size));
  }
  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(bytes_); }

 private:
  alignas(nlmsghdr) char bytes_[512] = {};
};

namespace {

constexpr size_t answer_size = 64U * 1024U;

Status receive(int socket, std::vector<char>& buffer, const char* what) {
  ssize_t got = 0;
  buffer.resize(answer_size);
  do got = ::recv(socket, buffer.data(), buffer.size(), 0);
  while (got < 0 && errno == EINTR);
  if (got < 0) return failure("recv", what);
  buffer.resize(static_cast<size_t>(got));
  return {};
}

struct SocketRequest {
  int namespace_fd;
  Fd socket;
  Status failed;
};

Status route_socket(Fd& out) {
  out = Fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!out) return failure("socket", "AF_NETLINK, NETLINK_ROUTE");
  return {};
}

void* socket_in_namespace(void* argument) {
  auto& request = *static_cast<SocketRequest*>(argument);
  if (::setns(request.namespace_fd, CLONE_NEWNET) != 0)
    request.failed = failure("setns", "network namespace of the container, CLONE_NEWNET");
  else
    request.failed = route_socket(request.socket);
  return nullptr;
}

std::string attribute_bytes(const rtattr* attribute) {
  return {static_cast<const char*>(RTA_DATA(attribute)), RTA_PAYLOAD(attribute)};
}

}  // namespace

Status Route::open() {
  return route_socket(socket_);
}

Status Route::open_in(int namespace_fd) {
  SocketRequest request{namespace_fd, {}, {}};
  sigset_t all;
  sigset_t former;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &former);
  pthread_t thread{};
  const int error = pthread_create(&thread, nullptr, socket_in_namespace, &request);
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
  if (error != 0) {
    errno = error;
    return failure("pthread_create", "network namespace");
  }
  pthread_join(thread, nullptr);
  socket_ = std::move(request.socket);
  return request.failed;
}

Status Route::talk(Request& request, const char* what, const std::string& subject) {
  request.header()->nlmsg_flags |= NLM_F_ACK;
  request.header()->nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), request.header(), request.header()->nlmsg_len, 0) < 0)
    return failure("send", what);
  for (;;) {
    std::vector<char> buffer;
    if (auto failed = receive(socket_.get(), buffer, what)) return failed;
    size_t left = buffer.size();
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence_ || header->nlmsg_type != NLMSG_ERROR) continue;
      const int error = static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
      if (error == 0) return {};
      errno = -error;
      return failure(what, subject);
    }
  }
}

template <typename Visit>
Status Route::dump(Request& request, const char* what, Visit visit) {
  request.header()->nlmsg_flags |= NLM_F_DUMP;
  request.header()->nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), request.header(), request.header()->nlmsg_len, 0) < 0)
    return failure("send", what);
  for (;;) {
    std::vector<char> buffer;
    if (auto failed = receive(socket_.get(), buffer, what)) return failed;
    size_t left = buffer.size();
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_seq != sequence_) continue;
      if (header->nlmsg_type == NLMSG_DONE) return {};
      if (header->nlmsg_type == NLMSG_ERROR) {
        errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        return failure(what, "");
      }
      visit(header);
    }
  }
}

Status Route::find(const std::string& name, int& index) {
  index = 0;
  Request request(RTM_GETLINK, 0, ifinfomsg{});
  request.attribute(IFLA_IFNAME, name.c_str(), name.size() + 1);
  request.header()->nlmsg_seq = ++sequence_;
  if (::send(socket_.get(), request.header(), request.header()->nlmsg_len, 0) < 0)
    return failure("send", "RTM_GETLINK");
  std::vector<char> buffer;
  if (auto failed = receive(socket_.get(), buffer, "RTM_GETLINK")) return failed;
  const auto* header = reinterpret_cast<nlmsghdr*>(buffer.data());
  if (header->nlmsg_type == NLMSG_ERROR) {
    errno = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
    if (errno == ENODEV) return {};
    return failure("RTM_GETLINK", quoted(name));
  }
  index = static_cast<const ifinfomsg*>(NLMSG_DATA(header))->ifi_index;
  return {};
}

Status Route::indexes(std::vector<int>& out) {
  Request request(RTM_GETLINK, 0, ifinfomsg{});
  return dump(request, "RTM_GETLINK", [&](const nlmsghdr* header) {
    out.push_back(static_cast<const ifinfomsg*>(NLMSG_DATA(header))->ifi_index);
  });
}

Status Route::addresses(int index, std::vector<Address>& out) {
  Request request(RTM_GETADDR, 0, ifaddrmsg{});
  return dump(request, "RTM_GETADDR", [&](const nlmsghdr* header) {
    const auto* message = static_cast<const ifaddrmsg*>(NLMSG_DATA(header));
    if (message->ifa_index != static_cast<uint32_t>(index) || message->ifa_scope != RT_SCOPE_UNIVERSE) return;
    uint32_t flags = message->ifa_flags;
    Address address{message->ifa_family, message->ifa_prefixlen, {}, {}, {}};
    size_t left = header->nlmsg_len - NLMSG_LENGTH(sizeof *message);
    for (auto* attribute = IFA_RTA(message); RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
      if (attribute->rta_type == IFA_LOCAL) address.local = attribute_bytes(attribute);
      if (attribute->rta_type == IFA_ADDRESS) address.address = attribute_bytes(attribute);
      if (attribute->rta_type == IFA_BROADCAST) address.broadcast = attribute_bytes(attribute);
      if (attribute->rta_type == IFA_FLAGS && RTA_PAYLOAD(attribute) == sizeof flags)
        std::memcpy(&flags, RTA_DATA(attribute), sizeof flags);
    }
    if ((flags & IFA_F_PERMANENT) != 0) out.push_back(std::move(address));
  });
}

Status Route::move(int index, int namespace_fd, const std::string& name) {
  ifinfomsg body{};
  body.ifi_index = index;
  Request request(RTM_NEWLINK, 0, body);
  request.attribute(IFLA_NET_NS_FD, &namespace_fd, sizeof namespace_fd);
  request.attribute(IFLA_IFNAME, name.c_str(), name.size() + 1);
  return talk(request, "RTM_NEWLINK", "IFLA_NET_NS_FD, " + quoted(name));
}

Status Route::add(int index, const Address& address) {
  ifaddrmsg body{};
  body.ifa_family = address.family;
  body.ifa_prefixlen = address.prefix;
  body.ifa_index = static_cast<uint32_t>(index);
  Request request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body);
  if (!address.local.empty()) request.attribute(IFA_LOCAL, address.local.data(), address.local.size());
  if (!address.address.empty())
    request.attribute(IFA_ADDRESS, address.address.data(), address.address.size());
  if (!address.broadcast.empty())
    request.attribute(IFA_BROADCAST, address.broadcast.data(), address.broadcast.size());
  return talk(request, "RTM_NEWADDR", "index " + std::to_string(index));
}

Status Route::up(int index) {
  ifinfomsg body{};
  body.ifi_index = index;
  body.ifi_flags = IFF_UP;
  body.ifi_change = IFF_UP;
  Request request(RTM_NEWLINK, 0, body);
  return talk(request, "RTM_NEWLINK", "IFF_UP, index " + std::to_string(index));
}

}  // namespace sys
