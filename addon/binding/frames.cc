// SPDX-License-Identifier: Apache-2.0
#include "binding/frames.h"

namespace binding {

namespace {

// Protobuf's wire format. Every read checks what is left; after a failure nothing more is read.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}
  bool more() const { return ok_ && !rest_.empty(); }
  bool ok() const { return ok_; }

  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) break;
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7fU) << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    ok_ = false;
    return 0;
  }
  std::string_view bytes() {
    const uint64_t size = varint();
    if (!ok_ || size > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view part = rest_.substr(0, static_cast<size_t>(size));
    rest_.remove_prefix(static_cast<size_t>(size));
    return part;
  }
  void skip(unsigned wire_type) {
    if (wire_type == 0)
      varint();
    else if (wire_type == 2)
      bytes();
    else if (wire_type == 1 || wire_type == 5) {
      const size_t size = wire_type == 1 ? 8 : 4;
      if (rest_.size() < size)
        ok_ = false;
      else
        rest_.remove_prefix(size);
    } else
      ok_ = false;
  }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

// Both forms of a repeated number: packed (what proto3 writes) and one by one.
void read_durations(Reader& reader, unsigned wire_type, std::vector<uint64_t>& out) {
  if (wire_type == 0) {
    out.push_back(reader.varint());
  } else if (wire_type == 2) {
    Reader packed(reader.bytes());
    while (packed.more()) out.push_back(packed.varint());
  } else {
    reader.skip(wire_type);
  }
}

void read_failed(Reader& reader, unsigned field, unsigned wire_type, Frame& out) {
  if (field == 1 && wire_type == 0)
    out.index = static_cast<uint32_t>(reader.varint());
  else if (field == 2 && wire_type == 2)
    out.step = reader.bytes();
  else if (field == 3 && wire_type == 2)
    out.syscall = reader.bytes();
  else if (field == 4 && wire_type == 2)
    out.args = reader.bytes();
  else if (field == 5 && wire_type == 0) {
    const uint64_t zigzag = reader.varint();
    out.error = static_cast<int32_t>((zigzag >> 1U) ^ (~(zigzag & 1U) + 1U));
  } else if (field == 6 && wire_type == 2)
    out.reason = reader.bytes();
  else if (field == 7 && wire_type == 2)
    out.detail = reader.bytes();
  else
    reader.skip(wire_type);
}

}  // namespace

bool decode_frame(std::string_view packet, Frame& out) {
  if (packet.empty()) return false;
  out = Frame{};
  out.type = packet.front();
  Reader reader(packet.substr(1));
  while (reader.more()) {
    const uint64_t key = reader.varint();
    const auto field = static_cast<unsigned>(key >> 3U);
    const auto wire_type = static_cast<unsigned>(key & 7U);
    switch (out.type) {
      case 'S':
      case 'F':
        if (field == 1 && wire_type == 2)
          out.name = reader.bytes();
        else if (field == 2 && wire_type == 0)
          out.descriptor = static_cast<int32_t>(reader.varint() & 0x7fffffffU);
        else
          reader.skip(wire_type);
        break;
      case 'W':
      case 'X':
        if (field == 1)
          read_durations(reader, wire_type, out.durations);
        else
          reader.skip(wire_type);
        break;
      case 'P':
        if (field == 1 && wire_type == 0)
          out.pid = reader.varint();
        else
          reader.skip(wire_type);
        break;
      case 'E':
        read_failed(reader, field, wire_type, out);
        break;
      default:
        reader.skip(wire_type);
    }
  }
  return reader.ok();
}

std::string go_frame(std::string_view state) {
  std::string frame = "G";
  if (state.empty()) return frame;
  frame += '\x0a';
  for (size_t size = state.size();; size >>= 7U) {
    const auto low = static_cast<unsigned char>(size & 0x7fU);
    if (size < 0x80U) {
      frame += static_cast<char>(low);
      break;
    }
    frame += static_cast<char>(low | 0x80U);
  }
  frame += state;
  return frame;
}

}  // namespace binding
