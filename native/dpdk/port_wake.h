// SPDX-License-Identifier: Apache-2.0
//
// The descriptors that say that a queue of a port has something: to be waited for.
#pragma once

#include "fp_port.h"

#define WAKE_FDS_MAX 4096

// What was open before a device was plugged in.
struct wake_fds {
	uint8_t open[WAKE_FDS_MAX];
};

void wake_fds_before(struct wake_fds *before);
// Fills port->wake_fd. interrupt: as configured.
void wake_fds_find(struct fp_port *port, const struct wake_fds *before, bool interrupt);
