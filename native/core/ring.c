// SPDX-License-Identifier: Apache-2.0
//
// Order, and why no wake-up is lost:
//
//	producer: record bytes; head (release)      consumer: sleeping = 1
//	          full fence                                  full fence
//	          sleeping? -> clear, ring                    head == own index? -> wait for the doorbell
//
// Whichever fence comes second sees the other side's store, so either the producer sees the sleeper or the
// sleeper sees the record. The producer's fence is in fp_ring_wanted(), and only if it has written since
// it last asked: a burst without a miss pays one test of a private byte. (Moving that fence to the
// sleeper too would take membarrier(2), which interrupts every poll thread at every sleep.)
// The producer clears `sleeping` before it rings, so a burst of writers rings once. A clear that crosses
// the consumer's next sleep is harmless: the ring that follows it wakes the consumer.
//
// Each side starts at index 0 and trusts its own copy alone; the other's index is accepted only if it went
// forward and not past what its owner can own. The record bytes may still change under the reader, hence
// the copy.
#include "fp_ring.h"

#include <errno.h>
#include <string.h>

#define RINGS_VERSION 1
#define SLOTS_MIN 16u
#define SLOTS_MAX (1u << 20)

struct fp_ring_shared {
	uint32_t head; // producer: next to write
	uint8_t pad0[FP_CACHE_LINE - 4];
	uint32_t tail; // consumer: next to read
	uint8_t pad1[FP_CACHE_LINE - 4];
	uint32_t sleeping; // consumer sets, either clears
	uint8_t pad2[FP_CACHE_LINE - 4];
	struct fp_record record[];
};
static_assert(sizeof(struct fp_ring_shared) == 3 * FP_CACHE_LINE, "fp_ring_shared");
static_assert(sizeof(struct fp_rings_header) == 4096, "fp_rings_header");

static bool shape_valid(uint32_t miss_rings, uint32_t miss_slots, uint32_t install_slots);
static bool slots_valid(uint32_t slots);
static size_t ring_bytes(uint32_t slots);
static bool other_advance(struct fp_ring_end *end);

size_t
fp_rings_bytes(uint32_t miss_rings, uint32_t miss_slots, uint32_t install_slots)
{
	if (!shape_valid(miss_rings, miss_slots, install_slots))
		return 0;
	return sizeof(struct fp_rings_header) + miss_rings * ring_bytes(miss_slots) +
	       ring_bytes(install_slots);
}

int
fp_rings_format(void *base, size_t len_bytes, uint32_t miss_rings, uint32_t miss_slots,
		uint32_t install_slots)
{
	size_t total = fp_rings_bytes(miss_rings, miss_slots, install_slots);
	if (total == 0 || len_bytes < total)
		return -EINVAL;
	memset(base, 0, total);
	struct fp_rings_header *header = base;
	header->version = RINGS_VERSION;
	header->miss_rings = miss_rings;
	header->miss_slots = miss_slots;
	header->install_slots = install_slots;
	header->total_bytes = total;
	__atomic_store_n(&header->magic, FP_RINGS_MAGIC, __ATOMIC_RELEASE);
	return 0;
}

int
fp_ring_attach(struct fp_ring_end *end, void *base, size_t len_bytes, uint32_t ring, enum fp_ring_side side)
{
	struct fp_rings_header *header = base;
	memset(end, 0, sizeof(*end));
	end->broken = 1;
	if (len_bytes < sizeof(*header) ||
	    __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE) != FP_RINGS_MAGIC)
		return -EINVAL;
	// Each member is read once: the other side may be writing.
	uint32_t version = __atomic_load_n(&header->version, __ATOMIC_RELAXED);
	uint32_t miss_rings = __atomic_load_n(&header->miss_rings, __ATOMIC_RELAXED);
	uint32_t miss_slots = __atomic_load_n(&header->miss_slots, __ATOMIC_RELAXED);
	uint32_t install_slots = __atomic_load_n(&header->install_slots, __ATOMIC_RELAXED);
	uint64_t total = __atomic_load_n(&header->total_bytes, __ATOMIC_RELAXED);
	if (version != RINGS_VERSION)
		return -EPROTO;
	if (!shape_valid(miss_rings, miss_slots, install_slots) ||
	    total != fp_rings_bytes(miss_rings, miss_slots, install_slots) || total > len_bytes)
		return -EINVAL;
	if (ring > miss_rings)
		return -ERANGE;
	uint32_t slots = ring == miss_rings ? install_slots : miss_slots;
	end->shared =
		(struct fp_ring_shared *)((uint8_t *)base + sizeof(*header) + ring * ring_bytes(miss_slots));
	end->mask = slots - 1;
	end->side = side;
	end->broken = 0;
	return 0;
}

uint32_t
fp_ring_write(struct fp_ring_end *end, const struct fp_record *records, uint32_t n)
{
	if (end->broken || end->side != FP_RING_PRODUCER) {
		end->overflows += n;
		return 0;
	}
	uint32_t slots = end->mask + 1;
	if (slots - (end->mine - end->other) < n && !other_advance(end)) {
		end->overflows += n;
		return 0;
	}
	uint32_t room = slots - (end->mine - end->other);
	uint32_t count = n < room ? n : room;
	end->overflows += n - count;
	if (count == 0)
		return 0;
	uint32_t at = end->mine & end->mask;
	uint32_t first = slots - at < count ? slots - at : count;
	memcpy(&end->shared->record[at], records, first * sizeof(*records));
	memcpy(&end->shared->record[0], records + first, (count - first) * sizeof(*records));
	end->mine += count;
	end->unrung = 1;
	__atomic_store_n(&end->shared->head, end->mine, __ATOMIC_RELEASE);
	return count;
}

uint32_t
fp_ring_room(struct fp_ring_end *end)
{
	if (end->broken || end->side != FP_RING_PRODUCER || !other_advance(end))
		return 0;
	return end->mask + 1 - (end->mine - end->other);
}

uint32_t
fp_ring_read(struct fp_ring_end *end, struct fp_record *records, uint32_t n)
{
	if (end->broken || end->side != FP_RING_CONSUMER)
		return 0;
	if (end->other - end->mine < n && !other_advance(end))
		return 0;
	uint32_t ready = end->other - end->mine;
	uint32_t count = n < ready ? n : ready;
	if (count == 0)
		return 0;
	uint32_t slots = end->mask + 1;
	uint32_t at = end->mine & end->mask;
	uint32_t first = slots - at < count ? slots - at : count;
	memcpy(records, &end->shared->record[at], first * sizeof(*records));
	memcpy(records + first, &end->shared->record[0], (count - first) * sizeof(*records));
	end->mine += count;
	__atomic_store_n(&end->shared->tail, end->mine, __ATOMIC_RELEASE);
	return count;
}

uint32_t
fp_ring_pending(struct fp_ring_end *end)
{
	if (end->broken || end->side != FP_RING_CONSUMER || !other_advance(end))
		return 0;
	return end->other - end->mine;
}

void
fp_ring_sleep(struct fp_ring_end *end, bool sleeping)
{
	if (end->broken || end->side != FP_RING_CONSUMER)
		return;
	__atomic_store_n(&end->shared->sleeping, sleeping, __ATOMIC_RELAXED);
	if (sleeping)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

bool
fp_ring_wanted(struct fp_ring_end *end)
{
	if (!end->unrung || end->broken)
		return false;
	end->unrung = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!__atomic_load_n(&end->shared->sleeping, __ATOMIC_RELAXED))
		return false;
	__atomic_store_n(&end->shared->sleeping, 0, __ATOMIC_RELAXED);
	return true;
}

// Reads the other side's index and takes it over if it is possible. Indexes run freely and wrap.
static bool
other_advance(struct fp_ring_end *end)
{
	bool producer = end->side == FP_RING_PRODUCER;
	uint32_t seen = __atomic_load_n(producer ? &end->shared->tail : &end->shared->head, __ATOMIC_ACQUIRE);
	// A tail moves from `other` to at most `mine`; a head from `other` to at most `mine` + slots.
	uint32_t limit = producer ? end->mine : end->mine + end->mask + 1;
	if (seen - end->other > limit - end->other) {
		end->broken = 1;
		return false;
	}
	end->other = seen;
	return true;
}

static bool
shape_valid(uint32_t miss_rings, uint32_t miss_slots, uint32_t install_slots)
{
	return miss_rings >= 1 && miss_rings < FP_RINGS_MAX && slots_valid(miss_slots) &&
	       slots_valid(install_slots);
}

static bool
slots_valid(uint32_t slots)
{
	return slots >= SLOTS_MIN && slots <= SLOTS_MAX && (slots & (slots - 1)) == 0;
}

static size_t
ring_bytes(uint32_t slots)
{
	return sizeof(struct fp_ring_shared) + (size_t)slots * FP_RECORD_BYTES;
}
