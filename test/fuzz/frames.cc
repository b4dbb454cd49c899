// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: the frames that the spawner reads from init, a process that may be the container's by
// then, and the frame that it answers with.
#include "binding/frames.h"

#include <cstdint>
#include <cstdlib>

#include "binding/init_pipe.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view packet(reinterpret_cast<const char*>(data), size);
  binding::Frame frame;
  if (binding::decode_frame(packet, frame)) {
    // A frame never holds more than was sent, however it is nested.
    const size_t held = frame.name.size() + frame.step.size() + frame.syscall.size() + frame.args.size() +
                        frame.reason.size() + frame.detail.size() + frame.durations.size();
    if (held > size) std::abort();
  }
  const std::string text = binding::with_pid(std::string(packet), 4711);
  if (binding::go_frame(text).size() < text.size()) std::abort();
  return 0;
}
