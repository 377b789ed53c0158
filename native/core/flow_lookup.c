// SPDX-License-Identifier: Apache-2.0
//
// The readers' half: three passes over a burst, so that the cache misses of all its packets overlap. The
// first pass asks for the bucket lines, the second compares signatures and asks for the entry lines, the
// third compares keys.
//
// A slot may change under the reader's eyes. It is harmless: an index that does not belong to the signature
// leads to an entry with another key, that is, to a miss of a key that was being removed or inserted; and
// what an index leads to stays as it is until this thread's next quiescent state. A free slot leads to
// entry 0, whose key is zero and whose time is always over.
#include "flow_internal.h"

#if defined(__SANITIZE_THREAD__)
#define FP_FLOW_PLAIN_LOADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FP_FLOW_PLAIN_LOADS 1
#endif
#endif

#if defined(__SSE4_1__) && !defined(FP_FLOW_PLAIN_LOADS)
#include <smmintrin.h>

// Bit per way. One 16-byte load: each signature in it is old or new, which is all that is needed.
static inline uint32_t
ways_matching(const struct fp_flow_bucket *bucket, uint16_t signature)
{
	const __m128i all = _mm_load_si128((const __m128i *)bucket->signature);
	const __m128i equal = _mm_cmpeq_epi16(all, _mm_set1_epi16((short)signature));
	const uint32_t ways = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128()));
	__atomic_signal_fence(__ATOMIC_ACQUIRE); // loads are not reordered by this processor
	return ways;
}
#else
static inline uint32_t
ways_matching(const struct fp_flow_bucket *bucket, uint16_t signature)
{
	uint32_t ways = 0;
	for (uint32_t way = 0; way < FP_BUCKET_WAYS; way++)
		ways |= (uint32_t)(fp_load(&bucket->signature[way]) == signature) << way;
	return ways;
}
#endif

// Way 8 stands for none: it lies in the spare bytes, which are zero. Saves a branch that bursts with some
// misses would mispredict.
static inline uint32_t
entry_of(const struct fp_flow_bucket *bucket, uint32_t way)
{
	static_assert(offsetof(struct fp_flow_bucket, spare) ==
		      offsetof(struct fp_flow_bucket, entry) + FP_BUCKET_WAYS * sizeof(uint32_t));
	const uint8_t *bytes = (const uint8_t *)bucket + offsetof(struct fp_flow_bucket, entry);
	return fp_load((const uint32_t *)(const void *)(bytes + way * sizeof(uint32_t)));
}

typedef uint64_t v2u64 __attribute__((vector_size(16), aligned(1), may_alias));

static inline bool
key_equal(const struct fp_flow_key *a, const struct fp_flow_key *b)
{
	const uint8_t *x = (const uint8_t *)a, *y = (const uint8_t *)b;
	const v2u64 differ = (*(const v2u64 *)x ^ *(const v2u64 *)y) |
			     (*(const v2u64 *)(x + 16) ^ *(const v2u64 *)(y + 16)) |
			     (*(const v2u64 *)(x + 28) ^ *(const v2u64 *)(y + 28));
#if defined(__SSE4_1__) && !defined(FP_FLOW_PLAIN_LOADS)
	return _mm_testz_si128((__m128i)differ, (__m128i)differ);
#else
	return (differ[0] | differ[1]) == 0;
#endif
}

bool
fp_flow_key_equal(const struct fp_flow_key *a, const struct fp_flow_key *b)
{
	return key_equal(a, b);
}

// True if this entry answers for the key. Expiry is read before the action: the writer extends a life only
// after it stored the action that lives longer.
static inline bool
entry_answers(const struct fp_flow_entry *entry, const struct fp_flow_key *key, uint32_t now_s)
{
	return key_equal(&entry->key, key) && fp_load(&entry->expire_at_s) > now_s;
}

// The first way that matched was another key's (one in 8000 look-ups), or none did: try them all.
static __attribute__((noinline)) uint32_t
entry_search(const struct fp_arena_view *view, const struct fp_flow_key *key, uint64_t hash, uint32_t now_s)
{
	const struct fp_flow_bucket *bucket = &view->flow_bucket[fp_flow_bucket_of(view, hash)];

	for (uint32_t ways = ways_matching(bucket, fp_flow_signature_of(hash)); ways; ways &= ways - 1) {
		const uint32_t index = fp_load(&bucket->entry[__builtin_ctz(ways)]);
		if (entry_answers(&view->flow_entry[index], key, now_s))
			return index;
	}
	return 0;
}

uint64_t
fp_flow_lookup_bulk(const struct fp_arena *arena, const struct fp_flow_key *const *key, const uint64_t *hash,
		    uint32_t n, uint32_t now_s, fp_action_word *word, uint32_t *entry)
{
	const struct fp_arena_view *view = &arena->view;
	const struct fp_flow_bucket *buckets = view->flow_bucket;
	const struct fp_flow_entry *entries = view->flow_entry;
	const struct fp_flow_bucket *bucket[FP_FLOW_BULK_MAX];
	uint64_t hits = 0;

	if (n > FP_FLOW_BULK_MAX)
		n = FP_FLOW_BULK_MAX;
	for (uint32_t i = 0; i < n; i++) {
		bucket[i] = &buckets[fp_flow_bucket_of(view, hash[i])];
		__builtin_prefetch(bucket[i]);
	}
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t ways = ways_matching(bucket[i], fp_flow_signature_of(hash[i]));
		const uint32_t index = entry_of(bucket[i], (uint32_t)__builtin_ctz(ways | 1u << FP_BUCKET_WAYS));
		__builtin_prefetch(&entries[index]);
		entry[i] = index;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = entry[i];

		if (__builtin_expect(!entry_answers(&entries[index], key[i], now_s), 0)) {
			index = index ? entry_search(view, key[i], hash[i], now_s) : 0;
			entry[i] = index;
			if (index == 0) {
				word[i] = 0;
				continue;
			}
		}
		word[i] = fp_load(&entries[index].action);
		hits |= 1ull << i;
	}
	return hits;
}
