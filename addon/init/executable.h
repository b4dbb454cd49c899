// SPDX-License-Identifier: Apache-2.0
// Why a program can or cannot be executed, in words that errno does not have.
#pragma once
#include "init.h"

namespace init {

// Looks at the file as execve would: kind, permission, #! interpreter, ELF loader and machine. ok: nothing is
// wrong with it as far as can be seen; failed: Init::failure says what. `error` is what execve said, 0 before
// it was tried.
Result diagnose(Init& init, const char* path, int error);

}  // namespace init
