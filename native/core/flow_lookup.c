// SPDX-License-Identifier: Apache-2.0
//
// The readers' half: three steps over a burst, so that the cache misses of all its packets overlap. The first
// hashes and asks for the bucket lines, the second compares signatures and asks for the entry lines, the third
// compares keys. Between two steps a poll thread does something else: what was asked for comes meanwhile.
//
// A slot may change under the reader's eyes. It is harmless: it is old or new, and what an old one leads to
// stays as it is until this thread's next quiescent state. A look-up without a matching slot goes to entry 0,
// whose key is zero and whose time is always over; what the second step did not find, the third looks for once
// more, since its slot may have come, or moved, in between.
//
// Compiled once for each variant (flow_variant.c says which one runs), with FP_FLOW_VARIANT as its name and
// the compiler's flags saying what may be used. A variant without AES hashes by a call.
#include "closing.h"
#include "flow_hash.h"
#include "flow_internal.h"

#if defined(__SANITIZE_THREAD__)
#define FP_FLOW_PLAIN_LOADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FP_FLOW_PLAIN_LOADS 1
#endif
#endif

// slots_matching: bit per slot of this signature. Vector loads: each slot in them is old or new, which is all that
// is needed, and loads are not reordered by this processor.
#if defined(FP_FLOW_PLAIN_LOADS) || !defined(__SSE4_1__)

static inline uint32_t
slots_matching(const struct fp_flow_bucket *bucket, uint32_t signature, uint32_t index_mask)
{
	uint32_t slots = 0;
	for (uint32_t slot = 0; slot < FP_BUCKET_SLOTS; slot++)
		slots |= (uint32_t)((fp_load(&bucket->slot[slot]) & ~index_mask) == signature) << slot;
	return slots;
}

#elif defined(__AVX512F__)
#define FP_FLOW_WIDE 1

static inline uint32_t
slots_matching(const struct fp_flow_bucket *bucket, uint32_t signature, uint32_t index_mask)
{
	const __m512i differ = _mm512_xor_si512(_mm512_load_si512(bucket), _mm512_set1_epi32((int)signature));
	const __mmask16 slots = _mm512_testn_epi32_mask(differ, _mm512_set1_epi32((int)~index_mask));
	__atomic_signal_fence(__ATOMIC_ACQUIRE);
	return slots;
}

#elif defined(__AVX2__)

static inline uint32_t
slots_matching(const struct fp_flow_bucket *bucket, uint32_t signature, uint32_t index_mask)
{
	const __m256i *half = (const __m256i *)(const void *)bucket;
	const __m256i wanted = _mm256_set1_epi32((int)signature), mask = _mm256_set1_epi32((int)~index_mask);
	const __m256i low = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_load_si256(half), mask), wanted);
	const __m256i high = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_load_si256(half + 1), mask), wanted);
	__atomic_signal_fence(__ATOMIC_ACQUIRE);
	return (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(low)) |
	       (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
}

#else

static inline __m128i
quarter_matching(const struct fp_flow_bucket *bucket, int quarter, __m128i wanted, __m128i mask)
{
	const __m128i slots = _mm_load_si128((const __m128i *)(const void *)bucket + quarter);
	return _mm_cmpeq_epi32(_mm_and_si128(slots, mask), wanted);
}

static inline uint32_t
slots_matching(const struct fp_flow_bucket *bucket, uint32_t signature, uint32_t index_mask)
{
	const __m128i wanted = _mm_set1_epi32((int)signature), mask = _mm_set1_epi32((int)~index_mask);
	const __m128i low = _mm_packs_epi32(quarter_matching(bucket, 0, wanted, mask),
					    quarter_matching(bucket, 1, wanted, mask));
	const __m128i high = _mm_packs_epi32(quarter_matching(bucket, 2, wanted, mask),
					     quarter_matching(bucket, 3, wanted, mask));
	__atomic_signal_fence(__ATOMIC_ACQUIRE);
	return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));
}

#endif

// Entry of the first slot that matches, or 0. Without a branch, which bursts with some misses would mispredict.
static inline uint32_t
entry_matching(const struct fp_flow_bucket *bucket, uint32_t signature, uint32_t index_mask)
{
	const uint32_t slots = slots_matching(bucket, signature, index_mask);
#if defined(FP_FLOW_WIDE)
	const __m512i first = _mm512_maskz_compress_epi32((__mmask16)slots, _mm512_load_si512(bucket));
	return (uint32_t)_mm_cvtsi128_si32(_mm512_castsi512_si128(first)) & index_mask;
#else
	const uint32_t slot = fp_load(&bucket->slot[__builtin_ctz(slots | 1u << (FP_BUCKET_SLOTS - 1))]);
	return slot & index_mask & -(uint32_t)(slots != 0);
#endif
}

static inline bool
key_equal(const struct fp_flow_entry *entry, const struct fp_flow_key *key)
{
#if defined(FP_FLOW_WIDE)
	// 32 bytes and the last 16: a line of 64 would lie across two where the caller has the key.
	const __m256i head = _mm256_loadu_si256((const __m256i *)(const void *)key);
	const __m128i tail = _mm_loadu_si128((const __m128i *)(const void *)((const uint8_t *)key + 28));
	const __m128i own = _mm_loadu_si128((const __m128i *)(const void *)((const uint8_t *)entry + 28));
	return (_mm256_cmpneq_epi32_mask(_mm256_load_si256((const __m256i *)(const void *)entry), head) |
		_mm_cmpneq_epi32_mask(own, tail)) == 0;
#else
	return fp_flow_key_equal(&entry->key, key);
#endif
}

// True if this entry answers for the key. Expiry is read before the action: the writer extends a life only
// after it stored the action that lives longer.
static inline bool
entry_answers(const struct fp_flow_entry *entry, const struct fp_flow_key *key, uint32_t now_s)
{
	return key_equal(entry, key) & (fp_load(&entry->expire_at_s) > now_s);
}

// No slot matched, or the first one was another key's (of a million flows one look-up in 300), or expired: try all.
static __attribute__((noinline)) uint32_t
entry_search(const struct fp_arena_view *view, const struct fp_flow_key *key, uint64_t hash, uint32_t now_s)
{
	const struct fp_flow_bucket *bucket = &view->flow_bucket[fp_flow_bucket_of(view, hash)];
	const uint32_t index_mask = view->flow_index_mask;

	for (uint32_t slots = slots_matching(bucket, fp_flow_signature_of(hash, index_mask), index_mask);
	     slots; slots &= slots - 1) {
		const uint32_t index = fp_load(&bucket->slot[__builtin_ctz(slots)]) & index_mask;
		if (entry_answers(&view->flow_entry[index], key, now_s))
			return index;
	}
	return 0;
}

// Into the second-level cache only: it can wait for more lines at a time than the first (of a million flows 39
// cycles a look-up instead of 47), and the loads that follow hide the way from there.
static inline void
prefetch(const void *line)
{
	__builtin_prefetch(line, 0, 2);
}

static void
start(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n, uint64_t *hash,
      uint32_t *entry)
{
	const struct fp_arena_view *view = &arena->view;
	const struct fp_flow_bucket *buckets = view->flow_bucket;
	const uint32_t bucket_count = view->flow_buckets;
#if defined(__AES__)
	const struct fp_flow_hash_keys keys = fp_flow_hash_keys(&view->secret);
#endif

	for (uint32_t i = 0; i < n; i++) {
#if defined(__AES__)
		hash[i] = fp_flow_hash_aes(keys, key[i]);
#else
		hash[i] = fp_hash_flow(&view->secret, key[i]);
#endif
		entry[i] = (uint32_t)((hash[i] >> 32) * bucket_count >> 32);
		prefetch(&buckets[entry[i]]);
	}
}

static void
find(const struct fp_arena *arena, uint32_t n, const uint64_t *hash, uint32_t *entry)
{
	const struct fp_arena_view *view = &arena->view;
	const struct fp_flow_bucket *buckets = view->flow_bucket;
	const struct fp_flow_entry *entries = view->flow_entry;
	const uint32_t index_mask = view->flow_index_mask;

	for (uint32_t i = 0; i < n; i++) {
		entry[i] = entry_matching(&buckets[entry[i]], fp_flow_signature_of(hash[i], index_mask),
					  index_mask);
		prefetch(&entries[entry[i]]);
	}
}

static uint32_t
finish(const struct fp_arena *arena, const struct fp_flow_key *const *key, uint32_t n, uint32_t now_s,
       const uint64_t *hash, fp_action_word *word, uint32_t *entry)
{
	const struct fp_arena_view *view = &arena->view;
	struct fp_flow_entry *entries = view->flow_entry;
	uint32_t misses = 0;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t index = entry[i];

		if (__builtin_expect(!entry_answers(&entries[index], key[i], now_s), 0)) {
			index = entry_search(view, key[i], hash[i], now_s);
			entry[i] = index;
			if (index == 0) {
				word[i] = 0;
				misses++;
				continue;
			}
		}
		word[i] = fp_load(&entries[index].action);
		__builtin_prefetch(&view->location[fp_action_destination(word[i])]);
		fp_flow_used(&entries[index], now_s);
	}
	if (__builtin_expect(fp_closings_pending(view->closings), 0))
		return fp_closings_compare(arena, n, word, entry);
	return n - misses;
}

#ifndef FP_FLOW_VARIANT
#define FP_FLOW_VARIANT baseline
#endif
#define LOOKUP_NAMED(name) fp_flow_lookup_##name = {#name, start, find, finish}
#define LOOKUP(name) LOOKUP_NAMED(name) // with what the name stands for
const struct fp_flow_lookup LOOKUP(FP_FLOW_VARIANT);
