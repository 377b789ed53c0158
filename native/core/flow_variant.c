// SPDX-License-Identifier: Apache-2.0
//
// Which of the look-up's variants this processor runs. DPDK's flags compile for processors of 2008; what came
// later is asked for when the arena is opened. All variants give the same answers.
#include "flow_internal.h"

void
fp_flow_variant_choose(struct fp_arena_view *view)
{
#ifdef FP_FLOW_VARIANTS
	// Not on processors that slow down for wide registers: those with VBMI2 do not.
	if (__builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi2") &&
	    __builtin_cpu_supports("aes")) {
		view->flow_lookup = &fp_flow_lookup_avx512;
		return;
	}
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
	    __builtin_cpu_supports("aes")) {
		view->flow_lookup = &fp_flow_lookup_avx2;
		return;
	}
#endif
	view->flow_lookup = &fp_flow_lookup_baseline;
}
