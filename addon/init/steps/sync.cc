// SPDX-License-Identifier: Apache-2.0
// sync, ready, waitStart: where init waits for its parent, or for whoever starts the container.
#include "../frames.h"
#include "../procfs.h"
#include "steps.h"

namespace init {

Result steps::sync(Init& init, const Message& message) {
  Frame<128> frame('S');
  frame.text(1, init.text(message, 1));
  return send_or_exit(init, frame.data(), frame.size()) == Result::ok ? wait_frame(init, 'G')
                                                                      : Result::failed;
}

// The parent saves pid and start time before it answers; from then on the container is found again by
// anybody, so init need not die with its parent any more.
Result steps::ready(Init& init, const Message&) {
  if (send_or_exit(init, "R", 1) != Result::ok || wait_frame(init, 'G') != Result::ok) return Result::failed;
  init.answered = true;
  return Result::ok;
}

Result steps::wait_start(Init& init, const Message& message) {
  static Frame<16384> frame('W');
  frame.packed(1, init.durations, init.duration_count);
  if (send_or_exit(init, frame.data(), frame.size()) != Result::ok) return Result::failed;
  // A prepared exec belongs to its parent: its release comes from there, or never.
  if (!message.has(1)) return wait_frame(init, 'L');
  // Blocks until somebody opens the fifo to read: that is `start`.
  const Fd writer = reopen(init, init.fifo, O_WRONLY);
  if (!writer) return init.failed("openat", Raw{"exec.fifo"}, Raw{"O_WRONLY"});
  // EPIPE: who opened it has released us and was killed before it read. Its signal has a handler (main.cc).
  if (call(SYS_write, writer.get(), "0", 1) < 0 && errno != EPIPE)
    return init.failed("write", Raw{"exec.fifo"}, "0");
  return Result::ok;
}

static bool holds_no_nul(const Message& message) {
  bool none = true;
  message.each([&](const Field& field) {
    if (field.type == Wire::bytes) none &= memchr(field.bytes.data, 0, field.bytes.size) == nullptr;
  });
  return none;
}

// A container of a warm pool: it is ready but for its program, which its parent names. Belongs to its parent
// as a prepared exec does.
Result steps::wait_command(Init& init, const Message&) {
  static Frame<16384> frame('W');
  frame.packed(1, init.durations, init.duration_count);
  if (send_or_exit(init, frame.data(), frame.size()) != Result::ok || wait_frame(init, 'L') != Result::ok)
    return Result::failed;
  const Message command(init.command);
  if (!command.valid() || !command.has(1) || !command.has(2))
    return init.refused(EPROTO, "", "the release has no command");
  for (uint32_t part = 1; part <= 2; part++) {
    const Message message(command.bytes(part));
    if (!message.valid() || !holds_no_nul(message))
      return init.refused(EPROTO, "", "malformed command on the init pipe");
  }
  return Result::ok;
}

}  // namespace init
