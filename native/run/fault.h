// SPDX-License-Identifier: Apache-2.0
//
// What the data plane was at work for when it ended by a fault of its own (SIGSEGV and its like): noted in the
// arena, so that whoever adopts the tables knows which V-nets to leave out if it comes again and again. A process
// that is killed notes nothing.
//
// One data plane a process. The signals are handled once, and end the process as they would have done.
#pragma once

#include "housekeeping.h"

void fp_fault_watch(struct fp_housekeeping *housekeeping); // before the threads begin
void fp_fault_unwatch(void);                               // after they have ended
// In a thread, before its loop: faults of it are faults of what it is at work for. NULL: housekeeping.
void fp_fault_thread(const struct fp_thread *thread);
