// SPDX-License-Identifier: Apache-2.0
//
// Single-producer, single-consumer rings of 128-byte records in memory that two processes share and neither
// trusts: each side keeps its own index privately and checks the other's. One memfd per client holds a
// miss ring per poll thread (and one for housekeeping, the last) and an install ring.
//
// A ring's producer and its consumer are one thread each. Needs no DPDK.
//
//	struct fp_ring_end out;                       // private to this side
//	fp_ring_attach(&out, base, ring_number, FP_RING_PRODUCER);
//	if (fp_ring_write(&out, records, n) < n) ...  // full: counted by the caller
//	if (fp_ring_wanted(&out)) write(doorbell, ...); // the consumer said that it sleeps
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "fp_records.h"

#define FP_RINGS_MAGIC 0x76676e7772696e67ull
#define FP_RINGS_MAX 80

// At the start of the memfd, one page. Written once by the data plane.
struct fp_rings_header {
	uint64_t magic;
	uint32_t version;
	uint32_t miss_rings;    // poll threads + 1
	uint32_t miss_slots;    // power of two
	uint32_t install_slots; // power of two
	uint64_t total_bytes;
	uint8_t zero[4064];
};

enum fp_ring_side { FP_RING_PRODUCER, FP_RING_CONSUMER };

struct fp_ring_shared; // three cache lines (head, tail, sleeping), then the records

struct fp_ring_end {
	struct fp_ring_shared *shared;
	uint32_t mask;
	uint32_t mine;  // own index
	uint32_t other; // the other's, as last seen and checked
	uint8_t side;
	uint8_t broken;     // the other side's index was impossible: nothing is read or written any more
	uint8_t unrung;     // producer: something was written since fp_ring_wanted() was last asked
	uint64_t overflows; // records that found no room (producer)
};

// 0: impossible numbers (rings 1 .. FP_RINGS_MAX-1; slots a power of two, 16 .. 2^20).
size_t fp_rings_bytes(uint32_t miss_rings, uint32_t miss_slots, uint32_t install_slots);
int fp_rings_format(void *base, size_t len_bytes, uint32_t miss_rings, uint32_t miss_slots,
		    uint32_t install_slots);
// Each side attaches once to freshly formatted memory: both indexes start at 0.
// -EPROTO: another version; -EINVAL: no rings, or sizes that contradict len_bytes; -ERANGE: no such ring.
// ring: 0 .. miss_rings-1, or miss_rings for the install ring. Checks the header against len_bytes.
int fp_ring_attach(struct fp_ring_end *end, void *base, size_t len_bytes, uint32_t ring,
		   enum fp_ring_side side);

uint32_t fp_ring_write(struct fp_ring_end *end, const struct fp_record *records, uint32_t n);
uint32_t fp_ring_room(struct fp_ring_end *end); // producer: how many could be written now
uint32_t fp_ring_read(struct fp_ring_end *end, struct fp_record *records, uint32_t n);
uint32_t fp_ring_pending(struct fp_ring_end *end); // consumer: how many could be read now
// Consumer: wants a doorbell. After sleep(true) look at fp_ring_pending() once more, then wait.
void fp_ring_sleep(struct fp_ring_end *end, bool sleeping);
// Producer, after writing: the consumer sleeps, ring its doorbell now. Clears the wish. True at most once per write.
bool fp_ring_wanted(struct fp_ring_end *end);
