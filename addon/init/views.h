// SPDX-License-Identifier: Apache-2.0
// Descriptors that the parent opened for this process (hostView step): what the root of a user namespace may
// not reach by itself.
#pragma once
#include "init.h"

namespace init {

// The descriptor for a step's view, once; an empty one when the plan is wrong.
Fd take_view(Init& init, uint32_t index);
// In a user namespace the ids of the host have no meaning: become its root, with no groups.
Result become_root(Init& init);

}  // namespace init
