// SPDX-License-Identifier: Apache-2.0
//
// What the other files of this directory need from EAL beside fp_eal_start.
#pragma once

#include "fp_dataplane.h"

// Fills *error from a format, with DPDK's last complaint appended in brackets if there was one
// since fp_eal_log_forget. Returns rc.
__attribute__((format(printf, 4, 5))) int fp_error_set(struct fp_error *error, int rc, const char *fix,
						       const char *format, ...);
void fp_eal_log_forget(void);
