// SPDX-License-Identifier: Apache-2.0
// Bounded text: what does not fit is cut, never written past the end.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace init {

// Ways to print an argument of a call as strace does.
struct Hex {
  uint64_t value;
};
struct Octal {
  uint32_t value;
};
struct Raw {
  const char* text;
};

// An argument of a system call, of any of the kinds that calls have.
struct Argument {
  enum class Kind : uint8_t { text, raw, integer, number, hex, octal } kind;
  union {
    const char* text;
    uint64_t number;
  };
  Argument(const char* value) : kind(Kind::text), text(value) {}
  Argument(Raw raw) : kind(Kind::raw), text(raw.text) {}
  Argument(Hex hex) : kind(Kind::hex), number(hex.value) {}
  Argument(Octal octal) : kind(Kind::octal), number(octal.value) {}
  Argument(int value) : kind(Kind::integer), number(static_cast<uint64_t>(value)) {}
  Argument(long value) : kind(Kind::integer), number(static_cast<uint64_t>(value)) {}
  Argument(unsigned value) : kind(Kind::number), number(value) {}
  Argument(unsigned long value) : kind(Kind::number), number(value) {}
};

template <size_t N>
class Text {
 public:
  Text() { data_[0] = 0; }
  const char* c_str() const { return data_; }
  size_t size() const { return size_; }
  bool cut() const { return cut_; }
  void clear() {
    size_ = 0;
    cut_ = false;
    data_[0] = 0;
  }
  Text& add(const char* text, size_t length) {
    if (length > N - 1 - size_) {
      length = N - 1 - size_;
      cut_ = true;
    }
    memcpy(data_ + size_, text, length);
    size_ += length;
    data_[size_] = 0;
    return *this;
  }
  Text& add(const char* text) { return add(text, strlen(text)); }
  Text& add(char one) { return add(&one, 1); }
  Text& number(uint64_t value, unsigned base = 10) {
    char digits[24];
    size_t at = sizeof digits;
    do digits[--at] = "0123456789abcdef"[value % base];
    while ((value /= base) != 0);
    return add(digits + at, sizeof digits - at);
  }
  Text& integer(int64_t value) {
    if (value < 0) add('-');
    return number(value < 0 ? -static_cast<uint64_t>(value) : static_cast<uint64_t>(value));
  }

 private:
  size_t size_ = 0;
  bool cut_ = false;
  char data_[N];
};

}  // namespace init
