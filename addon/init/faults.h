// SPDX-License-Identifier: Apache-2.0
// Fault injection by step name (Plan.fail_at), for tests; the class is empty unless built with
// -DLIBCONTAINER_FAULTS.
#pragma once
#include <signal.h>

#include "frames.h"

namespace init {

#ifdef LIBCONTAINER_FAULTS
class Faults {
 public:
  explicit Faults(const Message& plan)
      : fault_(plan.bytes(2)), set_(plan.has(2) && fault_.valid()), left_(fault_.u32(3)) {}
  Result before(Init& init, const char* step) {
    if (!set_ || !matches(fault_.bytes(1), step)) return Result::ok;
    if (left_-- != 0) return Result::ok;
    const Bytes mode = fault_.bytes(2);
    if (matches(mode, "exit")) leave(99);
    if (matches(mode, "stop")) stop(init);
    if (matches(mode, "killParent")) kill_parent(init);
    if (matches(mode, "error")) {
      errno = EIO;
      return init.failed("fault", step);
    }
    return Result::ok;
  }

 private:
  static bool matches(Bytes bytes, const char* text) {
    return bytes.size == strlen(text) && memcmp(bytes.data, text, bytes.size) == 0;
  }
  // PID 1 is immune to its own SIGSTOP (pid_namespaces(7)): it stands still until its parent is gone.
  static void stop(Init& init) {
    call(SYS_kill, call(SYS_getpid), SIGSTOP);
    if (call(SYS_getpid) == 1) wait_for_end(init);
  }
  // A parent outside our pid namespace cannot be signalled from here, so it is asked to do it: frame 'K',
  // which the spawner knows for jobs with faults only. Then the end of the pipe tells that it is dead.
  static void kill_parent(Init& init) {
    send_frame(init, "K", 1);
    wait_for_end(init);
  }
  static void wait_for_end(Init& init) {
    char byte;
    while (call(SYS_recvfrom, init.pipe, &byte, 1, 0, nullptr, nullptr) > 0) {
    }
  }
  Message fault_;
  bool set_;
  uint32_t left_;
};
#else
class Faults {
 public:
  explicit Faults(const Message&) {}
  Result before(Init&, const char*) { return Result::ok; }
};
#endif

}  // namespace init
