// SPDX-License-Identifier: Apache-2.0
// tmpcopyup: a tmpfs that starts with what lies under it.
#pragma once
#include "init.h"

namespace init {

// Copies the tree below directory `from` into directory `to`: contents, modes, owners, times, links and
// nodes.
Result copy_up(Init& init, int from, int to, const char* path);

}  // namespace init
