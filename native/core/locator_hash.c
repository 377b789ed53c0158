// SPDX-License-Identifier: Apache-2.0
//
// Locator -> ingress, lock-free for readers. Nothing moves and there are no tombstones: each slot counts the
// keys that passed over it on the way to theirs, and a look-up ends where nobody passed. The table is at most
// a quarter full, so a hostile outer source costs about one line.
//
// A slot may be used again at once: a reader that compared a key while it was being replaced sees another
// ingress when it looks again, and goes on.
#include "locator_hash.h"

static uint32_t slot_next(const struct fp_arena *arena, uint32_t slot);
static bool key_equal(const struct fp_locator_slot *slot, const struct fp_locator_key *key);
static void passed_add(struct fp_arena *arena, const struct fp_locator_key *key, uint32_t slot, int one);

uint32_t
fp_locator_home(const struct fp_arena *arena, const struct fp_locator_key *key)
{
	return (uint32_t)fp_hash_bytes(&arena->view.secret, key, sizeof(*key)) & arena->locator_mask;
}

uint32_t
fp_ingress_by_locator(const struct fp_arena *arena, const struct fp_locator_key *key)
{
	uint32_t i = fp_locator_home(arena, key);
	for (uint32_t n = 0; n <= arena->locator_mask; n++, i = slot_next(arena, i)) {
		const struct fp_locator_slot *slot = &arena->locators[i];
		uint32_t ingress = fp_load(&slot->ingress);
		if (ingress && key_equal(slot, key)) {
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			if (__atomic_load_n(&slot->ingress, __ATOMIC_RELAXED) == ingress)
				return ingress;
		}
		if (__atomic_load_n(&slot->passed, __ATOMIC_RELAXED) == 0)
			break;
	}
	return 0;
}

int32_t
fp_locator_slot_of(const struct fp_arena *arena, const struct fp_locator_key *key)
{
	uint32_t i = fp_locator_home(arena, key);
	for (uint32_t n = 0; n <= arena->locator_mask; n++, i = slot_next(arena, i)) {
		const struct fp_locator_slot *slot = &arena->locators[i];
		if (slot->ingress && key_equal(slot, key))
			return (int32_t)i;
		if (slot->passed == 0)
			break;
	}
	return -1;
}

int32_t
fp_locator_add(struct fp_arena *arena, const struct fp_locator_key *key, uint32_t ingress, uint16_t udp_port)
{
	uint32_t i = fp_locator_home(arena, key);
	uint32_t n = 0;
	while (arena->locators[i].ingress) {
		if (n++ == arena->locator_mask)
			return -1;
		i = slot_next(arena, i);
	}
	struct fp_locator_slot *slot = &arena->locators[i];
	__atomic_thread_fence(__ATOMIC_RELEASE); // the slot was seen to be free before its key changes
	uint64_t words[5];
	memcpy(words, key, sizeof(words));
	for (size_t w = 0; w < 5; w++)
		fp_store((fp_key_word *)&slot->key + w, words[w]);
	fp_store(&slot->udp_port, udp_port);
	passed_add(arena, key, i, 1);
	fp_store(&slot->ingress, ingress);
	return (int32_t)i;
}

void
fp_locator_remove(struct fp_arena *arena, uint32_t slot)
{
	struct fp_locator_key key = arena->locators[slot].key;
	fp_store(&arena->locators[slot].ingress, 0);
	passed_add(arena, &key, slot, -1);
}

void
fp_locators_recount(struct fp_arena *arena)
{
	for (uint32_t i = 0; i <= arena->locator_mask; i++)
		if (arena->locators[i].passed)
			fp_store(&arena->locators[i].passed, (uint16_t)0);
	for (uint32_t i = 0; i <= arena->locator_mask; i++)
		if (arena->locators[i].ingress)
			passed_add(arena, &arena->locators[i].key, i, 1);
}

static uint32_t
slot_next(const struct fp_arena *arena, uint32_t slot)
{
	return (slot + 1) & arena->locator_mask;
}

// Word by word and atomically, since the writer may be replacing it.
static bool
key_equal(const struct fp_locator_slot *slot, const struct fp_locator_key *key)
{
	const fp_key_word *stored = (const fp_key_word *)&slot->key;
	uint64_t wanted[5], differs = 0;
	memcpy(wanted, key, sizeof(wanted));
	for (size_t w = 0; w < 5; w++)
		differs |= __atomic_load_n(&stored[w], __ATOMIC_RELAXED) ^ wanted[w];
	return differs == 0;
}

static void
passed_add(struct fp_arena *arena, const struct fp_locator_key *key, uint32_t slot, int one)
{
	for (uint32_t i = fp_locator_home(arena, key); i != slot; i = slot_next(arena, i))
		fp_store(&arena->locators[i].passed, (uint16_t)(arena->locators[i].passed + one));
}
