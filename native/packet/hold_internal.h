// SPDX-License-Identifier: Apache-2.0
//
// What the hold's two files share: hold.c has who waits, hold_timer.c when who is asked and what ends. One poll thread.
#pragma once

#include "thread.h"

struct hold_packet {
	struct packet packet;
	struct rte_mbuf *mbuf;
	uint64_t received_ns;
	uint32_t next;
};

#pragma GCC visibility push(hidden)
// hold.c. All that waits there ends; the slot is free afterwards.
// Whether what it came by is still there. Else it is neither asked about nor decided, but ends: ingress_gone.
bool hold_slot_current(const struct fp_thread *t, uint32_t slot);
void hold_slot_end(struct fp_thread *t, uint32_t slot, enum fp_drop_reason reason);
// What the table says of a key now.
fp_action_word hold_word_now(struct fp_thread *t, const struct fp_flow_key *key);

// hold_timer.c
void hold_slot_ask(struct fp_thread *t, uint32_t slot);
void hold_slot_time(struct fp_thread *t, uint32_t slot);
void hold_slot_untime(struct fp_thread *t, uint32_t slot); // it has no timer any more
#pragma GCC visibility pop
