// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include "init.h"

namespace init {

bool Arena::reserve(size_t bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  base_ = static_cast<uint8_t*>(memory);
  size_ = bytes;
  return true;
}

void* Arena::take(size_t bytes) {
  const size_t rounded = (bytes + 15) & ~size_t{15};
  if (rounded < bytes || rounded > size_ - used_) {
    // Not reachable for memory that is a function of the plan; a wrong guess must not write past the end.
    call(SYS_exit_group, 97);
    __builtin_unreachable();
  }
  void* memory = base_ + used_;
  used_ += rounded;
  return memory;
}

char* Arena::text(Bytes bytes) {
  char* copy = static_cast<char*>(take(bytes.size + 1));
  if (bytes.size > 0) memcpy(copy, bytes.data, bytes.size);
  copy[bytes.size] = 0;
  return copy;
}

}  // namespace init
