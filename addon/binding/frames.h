// SPDX-License-Identifier: Apache-2.0
// The frames on the init pipe (proto/init.proto), read with bounds: what init says is data of a process that
// is about to become someone else's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace binding {

struct Frame {
  char type = 0;
  std::string name;                 // S, F
  std::vector<uint64_t> durations;  // W, X
  uint64_t pid = 0;                 // P
  int32_t descriptor = -1;          // F: a number of the sender's
  uint32_t index = 0;               // E and below
  std::string step, syscall, args, reason, detail;
  int32_t error = 0;
};

// False: not a frame of ours.
bool decode_frame(std::string_view packet, Frame& out);
// 'G' with the OCI state for init's own hooks; an empty state is left out.
std::string go_frame(std::string_view state);

}  // namespace binding
