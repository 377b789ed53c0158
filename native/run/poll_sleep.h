// SPDX-License-Identifier: Apache-2.0
//
// A poll thread's sleep. It looks at its rings and queues once more between saying that it sleeps and waiting.
#pragma once

#include "poll_thread.h"

// Between the files of this directory only, and from the thread itself.
#pragma GCC visibility push(hidden)
void fp_poll_sleep_announce(struct fp_poll *poll);
// Until something comes, at most so long. The thread is offline for the arena.
void fp_poll_sleep_wait(struct fp_poll *poll, uint32_t sleep_us);
void fp_poll_sleep_end(struct fp_poll *poll);
#pragma GCC visibility pop
