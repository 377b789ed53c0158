// SPDX-License-Identifier: Apache-2.0
//
// One frame through the pipeline, in a buffer of exactly its size: with AddressSanitizer a read
// beyond the end of a frame is found. The first byte of the input chooses the port. Tables have
// attachments, remote nodes, and flows of every action. After each input the accounting identity
// must hold and no buffer may be missing.
#pragma once

#include <stddef.h>
#include <stdint.h>

int pipeline_driver_start(void); // 0, or -errno; once a process
void pipeline_driver_run(const uint8_t *data, size_t size);
// Well-formed inputs to start from: length of the i-th, 0 past the last.
size_t pipeline_driver_seed(uint32_t i, uint8_t *data, size_t room);
// Frees everything; fails if some way through the pipeline was never taken.
void pipeline_driver_stop(void);
