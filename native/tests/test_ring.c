// SPDX-License-Identifier: Apache-2.0
#undef NDEBUG
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fp_ring.h"

#define MISS_SLOTS 16
#define INSTALL_SLOTS 64

static void *
rings_new(size_t *len)
{
	*len = fp_rings_bytes(2, MISS_SLOTS, INSTALL_SLOTS);
	void *base = aligned_alloc(4096, (*len + 4095) / 4096 * 4096);
	assert(base && fp_rings_format(base, *len, 2, MISS_SLOTS, INSTALL_SLOTS) == 0);
	return base;
}

// The three words of a ring's shared part, as the other side could scribble on them.
static uint32_t *
shared_word(struct fp_ring_end *end, int line)
{
	return (uint32_t *)end->shared + line * (FP_CACHE_LINE / 4);
}

static void
test_impossible_shapes_are_refused(void)
{
	assert(fp_rings_bytes(0, 16, 16) == 0);
	assert(fp_rings_bytes(FP_RINGS_MAX, 16, 16) == 0);
	assert(fp_rings_bytes(1, 24, 16) == 0);
	assert(fp_rings_bytes(1, 8, 16) == 0);
	assert(fp_rings_bytes(1, 16, 1u << 21) == 0);
	size_t len;
	void *base = rings_new(&len);
	struct fp_rings_header *h = base;
	struct fp_ring_end end;
	assert(fp_ring_attach(&end, base, len - 1, 0, FP_RING_CONSUMER) == -EINVAL);
	assert(fp_ring_attach(&end, base, 100, 0, FP_RING_CONSUMER) == -EINVAL);
	assert(fp_ring_attach(&end, base, len, 3, FP_RING_CONSUMER) == -ERANGE);
	assert(end.broken);
	h->miss_rings = 3;
	assert(fp_ring_attach(&end, base, len, 0, FP_RING_CONSUMER) == -EINVAL);
	h->miss_rings = 2;
	h->version++;
	assert(fp_ring_attach(&end, base, len, 0, FP_RING_CONSUMER) == -EPROTO);
	h->version--;
	h->magic++;
	assert(fp_ring_attach(&end, base, len, 0, FP_RING_CONSUMER) == -EINVAL);
	free(base);
}

static void
test_full_ring_takes_what_fits_and_counts_the_rest(void)
{
	size_t len;
	void *base = rings_new(&len);
	struct fp_ring_end out, in;
	struct fp_record r[40] = {0}, got[40];
	assert(fp_ring_attach(&out, base, len, 1, FP_RING_PRODUCER) == 0);
	assert(fp_ring_attach(&in, base, len, 1, FP_RING_CONSUMER) == 0);
	uint64_t next = 0, expected = 0;
	for (int round = 0; round < 1000; round++) {
		for (int i = 0; i < 40; i++)
			r[i].head.revision = next + (uint64_t)i;
		uint32_t n = (uint32_t)round % 40;
		uint64_t before = out.overflows;
		uint32_t done = fp_ring_write(&out, r, n);
		assert(done == (n < MISS_SLOTS ? n : MISS_SLOTS));
		assert(out.overflows - before == n - done);
		next += done;
		assert(fp_ring_pending(&in) == done);
		uint32_t read = fp_ring_read(&in, got, 7);
		read += fp_ring_read(&in, got + read, 33);
		assert(read == done);
		for (uint32_t i = 0; i < read; i++)
			assert(got[i].head.revision == expected++);
	}
	free(base);
}

static void
test_impossible_index_breaks_the_ring_and_nothing_else(void)
{
	static const uint32_t tails[] = {5, 0xffffffff, 1u << 31, MISS_SLOTS};
	for (size_t i = 0; i < sizeof(tails) / sizeof(*tails); i++) {
		size_t len;
		void *base = rings_new(&len);
		struct fp_ring_end out, fine;
		struct fp_record r[MISS_SLOTS + 1] = {0};
		assert(fp_ring_attach(&out, base, len, 0, FP_RING_PRODUCER) == 0);
		assert(fp_ring_attach(&fine, base, len, 1, FP_RING_PRODUCER) == 0);
		assert(fp_ring_write(&out, r, 4) == 4);
		*shared_word(&out, 1) = tails[i]; // more than was ever written
		assert(fp_ring_write(&out, r, MISS_SLOTS + 1) == 0 && out.broken);
		assert(fp_ring_write(&out, r, 1) == 0 && !fp_ring_wanted(&out));
		assert(fp_ring_write(&fine, r, 1) == 1);
		free(base);
	}
	static const uint32_t heads[] = {MISS_SLOTS + 3, 0xffffffff, 1, 1u << 30};
	for (size_t i = 0; i < sizeof(heads) / sizeof(*heads); i++) {
		size_t len;
		void *base = rings_new(&len);
		struct fp_ring_end in;
		struct fp_record got[MISS_SLOTS];
		assert(fp_ring_attach(&in, base, len, 0, FP_RING_CONSUMER) == 0);
		*shared_word(&in, 0) = 2;
		assert(fp_ring_read(&in, got, 2) == 2 && !in.broken);
		*shared_word(&in, 0) = heads[i]; // backwards, or more than there are slots
		assert(fp_ring_read(&in, got, MISS_SLOTS) == 0 && in.broken);
		assert(fp_ring_pending(&in) == 0);
		free(base);
	}
}

static void
test_doorbell_is_wanted_once_and_only_after_a_write(void)
{
	size_t len;
	void *base = rings_new(&len);
	struct fp_ring_end out, in;
	struct fp_record r = {0};
	assert(fp_ring_attach(&out, base, len, 0, FP_RING_PRODUCER) == 0);
	assert(fp_ring_attach(&in, base, len, 0, FP_RING_CONSUMER) == 0);
	fp_ring_sleep(&in, true);
	assert(!fp_ring_wanted(&out));
	assert(fp_ring_write(&out, &r, 1) == 1);
	assert(fp_ring_wanted(&out) && !fp_ring_wanted(&out));
	assert(fp_ring_write(&out, &r, 1) == 1);
	assert(!fp_ring_wanted(&out)); // awake now
	fp_ring_sleep(&in, true);
	fp_ring_sleep(&in, false);
	assert(fp_ring_write(&out, &r, 1) == 1);
	assert(!fp_ring_wanted(&out));
	free(base);
}

#define STRESS 300000
struct stress {
	void *base;
	size_t len;
	int doorbell;
};

static void *
stress_produce(void *p)
{
	struct stress *s = p;
	struct fp_ring_end out;
	assert(fp_ring_attach(&out, s->base, s->len, 0, FP_RING_PRODUCER) == 0);
	struct fp_record r[8];
	memset(r, 0, sizeof(r));
	for (uint64_t next = 0; next < STRESS;) {
		uint32_t n = 1 + (uint32_t)(next * 7 % 8);
		for (uint32_t i = 0; i < n; i++) {
			r[i].head.revision = next + i;
			memset(r[i].body, (int)((next + i) & 0xff), sizeof(r[i].body));
		}
		next += fp_ring_write(&out, r, n);
		if (fp_ring_wanted(&out))
			assert(eventfd_write(s->doorbell, 1) == 0);
		assert(!out.broken);
	}
	return NULL;
}

// Blocks for ever if a wake-up is lost: meson's timeout is the oracle.
static void
test_two_threads_lose_neither_record_nor_wake_up(void)
{
	struct stress s = {.doorbell = eventfd(0, 0)};
	s.base = rings_new(&s.len);
	struct fp_ring_end in;
	assert(fp_ring_attach(&in, s.base, s.len, 0, FP_RING_CONSUMER) == 0);
	pthread_t producer;
	assert(pthread_create(&producer, NULL, stress_produce, &s) == 0);
	struct fp_record got[5];
	uint64_t expected = 0, slept = 0;
	while (expected < STRESS) {
		uint32_t n = fp_ring_read(&in, got, 5);
		assert(!in.broken);
		for (uint32_t i = 0; i < n; i++) {
			assert(got[i].head.revision == expected);
			for (size_t b = 0; b < sizeof(got[i].body); b++)
				assert(got[i].body[b] == (expected & 0xff));
			expected++;
		}
		if (n > 0 || expected >= STRESS)
			continue;
		fp_ring_sleep(&in, true);
		if (fp_ring_pending(&in) == 0) {
			eventfd_t v;
			slept++;
			assert(eventfd_read(s.doorbell, &v) == 0);
		}
		fp_ring_sleep(&in, false);
	}
	pthread_join(producer, NULL);
	printf("%d records, slept %lu times\n", STRESS, (unsigned long)slept);
	close(s.doorbell);
	free(s.base);
}

int
main(void)
{
	test_impossible_shapes_are_refused();
	test_full_ring_takes_what_fits_and_counts_the_rest();
	test_impossible_index_breaks_the_ring_and_nothing_else();
	test_doorbell_is_wanted_once_and_only_after_a_write();
	test_two_threads_lose_neither_record_nor_wake_up();
	return 0;
}
