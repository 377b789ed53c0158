// SPDX-License-Identifier: Apache-2.0
#include "fp_drop_reasons.h"

static const char *const names[FP_DROP_MAX] = {
#define REASON(number, name, sentence, next) [number] = #name,
#include "../drop_reasons.def"
#undef REASON
};

static const char *const sentences[FP_DROP_MAX] = {
#define REASON(number, name, sentence, next) [number] = sentence,
#include "../drop_reasons.def"
#undef REASON
};

const char *
fp_drop_name(enum fp_drop_reason reason)
{
	if ((unsigned)reason >= FP_DROP_MAX || names[reason] == NULL)
		return "unknown";
	return names[reason];
}

const char *
fp_drop_sentence(enum fp_drop_reason reason)
{
	if ((unsigned)reason >= FP_DROP_MAX || sentences[reason] == NULL)
		return "no such reason";
	return sentences[reason];
}
