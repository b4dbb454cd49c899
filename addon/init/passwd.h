// SPDX-License-Identifier: Apache-2.0
// The home directory of a uid from the container's /etc/passwd, which is hostile input.
#pragma once
#include "init.h"

namespace init {

// Fills init.home; "/" when the file or the user is not there.
void find_home(Init& init, uint32_t uid);

}  // namespace init
