// SPDX-License-Identifier: Apache-2.0
// A reader of protobuf's wire format, bounded on every step: a length is compared with what is left before it
// is used (CVE-2021-43784 was an overflow of such a length), nesting is by explicit calls only. And the
// little writer for frames. https://protobuf.dev/programming-guides/encoding/
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace init {

struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;
};

enum class Wire : uint8_t { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
  uint32_t number = 0;
  Wire type = Wire::varint;
  uint64_t value = 0;  // varint, fixed64, fixed32
  Bytes bytes;         // bytes
};

// Takes a varint from the front; false: it is cut off or longer than 10 bytes.
bool take_varint(Bytes& rest, uint64_t& value);
// Takes a field from the front; false: malformed. Only to be called while rest.size > 0.
bool take_field(Bytes& rest, Field& field);

// Fields of one message. `valid()` once, then every look-up is total: an absent field, or one of another wire
// type, has proto3's default value; of several the last one counts.
class Message {
 public:
  Message() = default;
  explicit Message(Bytes bytes) : bytes_(bytes) {}
  bool valid() const;
  bool has(uint32_t number) const;
  uint64_t number(uint32_t number) const;
  uint32_t u32(uint32_t number_) const { return static_cast<uint32_t>(number(number_)); }
  bool flag(uint32_t number_) const { return number(number_) != 0; }
  int32_t sint32(uint32_t number_) const {
    const uint32_t zigzag = u32(number_);
    return static_cast<int32_t>((zigzag >> 1) ^ (~(zigzag & 1) + 1));
  }
  Bytes bytes(uint32_t number) const;
  // Calls visit(Field) for each field in order.
  template <typename Visit>
  void each(Visit visit) const {
    Bytes rest = bytes_;
    Field field;
    while (rest.size > 0 && take_field(rest, field)) visit(field);
  }
  // Calls visit(Bytes) for each element of a repeated string, bytes or message field.
  template <typename Visit>
  void each_bytes(uint32_t number, Visit visit) const {
    each([&](const Field& field) {
      if (field.number == number && field.type == Wire::bytes) visit(field.bytes);
    });
  }
  // Calls visit(uint64_t) for each element of a repeated number, packed or not.
  template <typename Visit>
  void each_number(uint32_t number, Visit visit) const {
    each([&](const Field& field) {
      if (field.number != number) return;
      if (field.type == Wire::varint) visit(field.value);
      if (field.type != Wire::bytes) return;
      Bytes rest = field.bytes;
      uint64_t value = 0;
      while (rest.size > 0 && take_varint(rest, value)) visit(value);
    });
  }

 private:
  Bytes bytes_;
};

// Writes one frame: a type byte, then fields. What does not fit is left out, so a frame is always well
// formed.
template <size_t N>
class Frame {
 public:
  explicit Frame(char type) { data_[0] = static_cast<uint8_t>(type); }
  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  void number(uint32_t field, uint64_t value) {
    if (value == 0 || size_ + 16 > N) return;
    varint(field << 3);
    varint(value);
  }
  void text(uint32_t field, const char* text) {
    const size_t length = strlen(text);
    if (length == 0 || size_ + 16 > N || length > N - size_ - 16) return;
    varint((field << 3) | 2);
    varint(length);
    memcpy(data_ + size_, text, length);
    size_ += length;
  }
  void packed(uint32_t field, const uint64_t* values, size_t count) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++) length += width(values[i]);
    if (count == 0 || size_ + 16 > N || length > N - size_ - 16) return;
    varint((field << 3) | 2);
    varint(length);
    for (size_t i = 0; i < count; i++) varint(values[i]);
  }

 private:
  static size_t width(uint64_t value) {
    size_t bytes = 1;
    while ((value >>= 7) != 0) bytes++;
    return bytes;
  }
  void varint(uint64_t value) {
    for (; value > 0x7f; value >>= 7) data_[size_++] = static_cast<uint8_t>(value | 0x80);
    data_[size_++] = static_cast<uint8_t>(value);
  }
  size_t size_ = 1;
  uint8_t data_[N];
};

}  // namespace init
