// SPDX-License-Identifier: Apache-2.0
//
// enum fp_drop_reason, and its names and sentences, from drop_reasons.def. Any thread.
#pragma once

#include <stddef.h>

enum fp_drop_reason {
	FP_DROP_NONE = 0,
#define REASON(number, name, sentence, next) FP_DROP_##name = number,
#include "../drop_reasons.def"
#undef REASON
	FP_DROP_MAX = 128,
};

const char *fp_drop_name(enum fp_drop_reason reason); // "unknown" for a number that is none
const char *fp_drop_sentence(enum fp_drop_reason reason);
