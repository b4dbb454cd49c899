// SPDX-License-Identifier: Apache-2.0
#include "wire.h"

namespace init {

bool take_varint(Bytes& rest, uint64_t& value) {
  value = 0;
  for (unsigned i = 0; i < 10; i++) {
    if (i >= rest.size) return false;
    const uint8_t byte = rest.data[i];
    // The tenth byte carries one bit; more would be shifted out in silence.
    if (i == 9 && byte > 1) return false;
    value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) {
      rest.data += i + 1;
      rest.size -= i + 1;
      return true;
    }
  }
  return false;
}

static bool take_fixed(Bytes& rest, uint64_t& value, size_t width) {
  if (rest.size < width) return false;
  value = 0;
  memcpy(&value, rest.data, width);
  rest.data += width;
  rest.size -= width;
  return true;
}

bool take_field(Bytes& rest, Field& field) {
  uint64_t tag = 0;
  if (!take_varint(rest, tag)) return false;
  if (tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return false;
  field.number = static_cast<uint32_t>(tag >> 3);
  field.type = static_cast<Wire>(tag & 7);
  field.value = 0;
  field.bytes = {};
  switch (field.type) {
    case Wire::varint:
      return take_varint(rest, field.value);
    case Wire::fixed64:
      return take_fixed(rest, field.value, 8);
    case Wire::fixed32:
      return take_fixed(rest, field.value, 4);
    case Wire::bytes: {
      uint64_t length = 0;
      if (!take_varint(rest, length) || length > rest.size) return false;
      field.bytes = {rest.data, static_cast<size_t>(length)};
      rest.data += length;
      rest.size -= static_cast<size_t>(length);
      return true;
    }
  }
  return false;
}

bool Message::valid() const {
  Bytes rest = bytes_;
  Field field;
  while (rest.size > 0)
    if (!take_field(rest, field)) return false;
  return true;
}

bool Message::has(uint32_t number) const {
  bool found = false;
  each([&](const Field& field) { found |= field.number == number; });
  return found;
}

uint64_t Message::number(uint32_t number) const {
  uint64_t value = 0;
  each([&](const Field& field) {
    if (field.number == number && field.type == Wire::varint) value = field.value;
  });
  return value;
}

Bytes Message::bytes(uint32_t number) const {
  Bytes value;
  each_bytes(number, [&](Bytes bytes) { value = bytes; });
  return value;
}

}  // namespace init
