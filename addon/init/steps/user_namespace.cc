// SPDX-License-Identifier: Apache-2.0
// userNamespace, hostView: what the parent does for a process in a user namespace. user_namespaces(7).
#include <sys/prctl.h>
#include <sys/socket.h>

#include "../frames.h"
#include "../views.h"
#include "steps.h"

namespace init {

Result become_root(Init& init) {
  if (call(SYS_setresgid, 0, 0, 0) < 0) return init.failed("setresgid", 0, 0, 0);
  // Denied where setgroups is (user_namespaces(7)); then there is nothing to drop either.
  if (call(SYS_setgroups, 0, nullptr) < 0 && errno != EPERM) return init.failed("setgroups", 0);
  if (call(SYS_setresuid, 0, 0, 0) < 0) return init.failed("setresuid", 0, 0, 0);
  // A change of ids sets it to fs.suid_dumpable (prctl(2)), whatever that is on this host: others of this
  // user namespace may be in the pid namespace already.
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
  return Result::ok;
}

static Result ask(Init& init, const char* name) {
  Frame<128> frame('S');
  frame.text(1, name);
  return send_or_exit(init, frame.data(), frame.size());
}

// Until its ids are mapped this process is nobody, with the capabilities that the spawner let it keep; the
// first thing after it is to be root here.
Result steps::user_namespace(Init& init, const Message& message) {
  // The files of a process that is not dumpable belong to the host's root (proc_pid(5)): a parent without
  // privileges could not write the maps. Nobody else is in the namespaces of this process yet that could not
  // trace its parent as well.
  if (message.flag(1)) prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (ask(init, "userNamespace") != Result::ok || wait_frame(init, 'G') != Result::ok) return Result::failed;
  return become_root(init);
}

static Result receive_views(Init& init, uint32_t expected) {
  while (init.view_count < expected) {
    char type = 0;
    iovec part = {&type, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 253)];
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    long size;
    do size = call(SYS_recvmsg, init.pipe, &message, MSG_CMSG_CLOEXEC);
    while (size < 0 && errno == EINTR);
    // The parent has failed or is gone: it has told whoever asks.
    if (size == 0) leave(1);
    if (size < 0) return init.failed("recvmsg", Raw{"init pipe"});
    const cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (type != 'V' || header == nullptr || header->cmsg_level != SOL_SOCKET ||
        header->cmsg_type != SCM_RIGHTS || (message.msg_flags & MSG_CTRUNC) != 0)
      return init.refused(EPROTO, "", "unexpected answer on the init pipe");
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    if (count == 0 || count > expected - init.view_count)
      return init.refused(EPROTO, "", "unexpected answer on the init pipe");
    memcpy(init.views + init.view_count, CMSG_DATA(header), count * sizeof(int));
    init.view_count += static_cast<uint32_t>(count);
  }
  return Result::ok;
}

Result steps::host_view(Init& init, const Message& message) {
  const uint32_t count = message.u32(1);
  if (count > Init::max_views) return init.refused(EMFILE, "", "more bind mounts than descriptors");
  if (ask(init, "hostView") != Result::ok) return Result::failed;
  return receive_views(init, count);
}

Fd take_view(Init& init, uint32_t index) {
  if (index >= init.view_count) {
    errno = EBADF;
    return Fd();
  }
  const int fd = init.views[index];
  init.views[index] = -1;
  return Fd(fd);
}

}  // namespace init
