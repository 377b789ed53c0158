// SPDX-License-Identifier: Apache-2.0
//
// Does a change touch a key? See struct fp_scope. Any thread.
#pragma once

#include <stdbool.h>

#include "fp_types.h"

bool fp_scope_valid(const struct fp_scope *scope);
bool fp_scope_covers(const struct fp_scope *scope, const struct fp_flow_key *key);
