// SPDX-License-Identifier: Apache-2.0
//
// Peerings: ordered pairs of V-nets of which the first may send into the second. Only the writer looks here: the
// packet path needs no answer, since no action across V-nets is ever published without its pair.
//
// Each V-net speaks for itself, by its worker: one says that it sends, the other that it takes what the first sends.
// A pair is in force while both words stand, so no worker opens the way into another's V-net. Words are private and by
// VNI, and stand as long as the V-net that has said them. Pairs in force stand in the arena, by index: open addressing
// with backward shift. A stop in the middle of a shift leaves a pair twice, never a pair unreachable; opening and
// removing clear doubles.
#include "install_internal.h"

// A V-net may have said so many words for each that there is still room for.
#define SHARE_OF_FREE 4

enum side { SENDS = 0, TAKES = 1, SIDES = 2 };

static int word_find(const struct fp_installer *in, const struct fp_record_peering *record, uint32_t *vnet,
		     struct fp_peering_word *word, enum side *side, uint32_t *place);
static int word_add(struct fp_installer *in, const struct fp_peering_word *word, uint32_t vnet,
		    uint32_t *place);
static void word_unsay(struct fp_installer *in, uint32_t place, enum side side);
static void pair_weigh(struct fp_installer *in, const struct fp_peering_word *word);
static uint32_t home_of(const struct fp_arena *arena, uint32_t pair);
static uint32_t slot_of(const struct fp_arena *arena, uint32_t pair);
static void pair_put(struct fp_installer *in, uint32_t pair);
static bool pair_remove(struct fp_installer *in, uint32_t pair);

static inline uint32_t
pair_make(uint32_t from, uint32_t to)
{
	return from << 16 | to;
}

static inline uint64_t
name_of(const struct fp_peering_word *word)
{
	return (uint64_t)word->from << 24 | word->to;
}

uint32_t
fp_peering_words_max(const struct fp_arena *arena)
{
	return (arena->peering_mask + 1) / 2;
}

int
fp_peerings_open(struct fp_installer *in)
{
	struct fp_arena *arena = in->arena;
	uint32_t slots = arena->peering_mask + 1;
	uint32_t *found = calloc(slots, sizeof(*found));
	if (found == NULL)
		return -ENOMEM;
	uint32_t n = 0;
	for (uint32_t i = 0; i < slots; i++) {
		uint32_t pair = arena->peerings[i];
		if (pair && fp_index_live(&arena->pool[FP_POOL_VNET], pair >> 16) &&
		    fp_index_live(&arena->pool[FP_POOL_VNET], pair & 0xffff))
			found[n++] = pair;
	}
	fp_store_zero(arena->peerings, slots * sizeof(*arena->peerings));
	for (uint32_t i = 0; i < n; i++) {
		const uint32_t from = found[i] >> 16, to = found[i] & 0xffff;
		// In force, so both had said it; what they say now, the next snapshot of each tells.
		const struct fp_peering_word word = {.from = arena->view.vnet[from].vni,
						     .to = arena->view.vnet[to].vni,
						     .said = 1 << SENDS | 1 << TAKES};
		if (fp_id_map_find(&in->peered, name_of(&word), 0) ||
		    in->peering_words == fp_peering_words_max(arena))
			continue;
		in->peering_word[in->peering_words] = word;
		fp_id_map_put(&in->peered, name_of(&word), 0, ++in->peering_words);
		in->vnet[from].peerings++;
		in->vnet[to].peerings++;
		pair_put(in, found[i]);
	}
	free(found);
	return 0;
}

int
fp_peering_set(struct fp_installer *in, const struct fp_record_peering *record)
{
	struct fp_peering_word named;
	enum side side;
	uint32_t vnet, place;
	int rc = word_find(in, record, &vnet, &named, &side, &place);
	if (rc == 0 && place == 0)
		rc = word_add(in, &named, vnet, &place);
	if (rc != 0)
		return rc;
	struct fp_peering_word *word = &in->peering_word[place - 1];
	in->vnet[vnet].peerings += !(word->said & 1 << side);
	word->said |= (uint8_t)(1 << side);
	word->snapshot[side] = in->vnet[vnet].snapshot_number;
	pair_weigh(in, word);
	return 0;
}

int
fp_peering_remove(struct fp_installer *in, const struct fp_record_peering *record)
{
	struct fp_peering_word named;
	enum side side;
	uint32_t vnet, place;
	int rc = word_find(in, record, &vnet, &named, &side, &place);
	if (rc != 0)
		return rc;
	if (place == 0 || !(in->peering_word[place - 1].said & 1 << side))
		return FP_REFUSED_UNKNOWN_OBJECT;
	in->vnet[vnet].peerings--;
	word_unsay(in, place, side);
	fp_close_now(in);
	return 0;
}

bool
fp_peered(const struct fp_installer *in, uint32_t from, uint32_t to)
{
	return in->peerings && in->arena->peerings[slot_of(in->arena, pair_make(from, to))] != 0;
}

bool
fp_vnets_peered(const struct fp_arena *arena, uint32_t from, uint32_t to)
{
	const uint32_t pair = pair_make(from, to);
	uint32_t i = home_of(arena, pair);
	// Counted: what a stopped data plane left need not have a free slot.
	for (uint32_t n = 0; n <= arena->peering_mask && arena->peerings[i]; n++) {
		if (arena->peerings[i] == pair)
			return true;
		i = (i + 1) & arena->peering_mask;
	}
	return false;
}

void
fp_peerings_sweep(struct fp_installer *in, uint32_t vnet)
{
	struct fp_vnet_state *state = &in->vnet[vnet];
	const uint32_t vni = in->arena->view.vnet[vnet].vni;
	for (uint32_t place = in->peering_words; place && state->peerings; place--) {
		const struct fp_peering_word *word = &in->peering_word[place - 1];
		const enum side side = word->from == vni ? SENDS : TAKES;
		if ((side == SENDS || word->to == vni) && word->said & 1 << side &&
		    word->snapshot[side] != state->snapshot_number) {
			state->peerings--;
			word_unsay(in, place, side); // the last one moves here, which was looked at
		}
	}
}

void
fp_peerings_drop(struct fp_installer *in, uint32_t vnet)
{
	const uint32_t vni = in->arena->view.vnet[vnet].vni;
	for (uint32_t place = in->peering_words; place; place--) {
		const struct fp_peering_word *word = &in->peering_word[place - 1];
		if (word->from != vni && word->to != vni)
			continue;
		const enum side side = word->from == vni ? SENDS : TAKES;
		const uint32_t other = fp_vnet_by_vni(in, side == SENDS ? word->to : word->from);
		if (other)
			pair_remove(in, side == SENDS ? pair_make(vnet, other) : pair_make(other, vnet));
		if (word->said & 1 << side)
			word_unsay(in, place, side); // what the other one has said stands
	}
	in->vnet[vnet].peerings = 0;
}

// Which V-net speaks, and of what. Place 0: neither of the two has said anything yet.
static int
word_find(const struct fp_installer *in, const struct fp_record_peering *record, uint32_t *vnet,
	  struct fp_peering_word *word, enum side *side, uint32_t *place)
{
	const uint32_t other = record->to_vni | record->from_vni;
	if ((record->to_vni != 0) == (record->from_vni != 0) || other > FP_VNI_MAX ||
	    other == record->head.vni)
		return FP_REFUSED_MALFORMED;
	*vnet = fp_vnet_by_vni(in, record->head.vni);
	if (*vnet == 0)
		return FP_REFUSED_UNKNOWN_VNET;
	*side = record->to_vni ? SENDS : TAKES;
	*word = (struct fp_peering_word){.from = *side == SENDS ? record->head.vni : other,
					 .to = *side == SENDS ? other : record->head.vni};
	*place = fp_id_map_find(&in->peered, name_of(word), 0);
	return 0;
}

static int
word_add(struct fp_installer *in, const struct fp_peering_word *word, uint32_t vnet, uint32_t *place)
{
	const uint32_t free = fp_peering_words_max(in->arena) - in->peering_words;
	if (free == 0)
		return FP_REFUSED_NO_ROOM;
	if (in->vnet[vnet].peerings >= (uint64_t)free * SHARE_OF_FREE)
		return FP_REFUSED_QUOTA;
	in->peering_word[in->peering_words] = *word;
	*place = ++in->peering_words;
	fp_id_map_put(&in->peered, name_of(word), 0, *place);
	return 0;
}

static void
word_unsay(struct fp_installer *in, uint32_t place, enum side side)
{
	struct fp_peering_word *word = &in->peering_word[place - 1];
	const struct fp_peering_word *last = &in->peering_word[in->peering_words - 1];
	word->said &= (uint8_t) ~(1 << side);
	pair_weigh(in, word);
	if (word->said)
		return;
	fp_id_map_remove(&in->peered, name_of(word), 0);
	if (word != last) {
		*word = *last;
		fp_id_map_put(&in->peered, name_of(word), 0, place);
	}
	in->peering_words--;
}

// In force or no longer, by what is said now.
static void
pair_weigh(struct fp_installer *in, const struct fp_peering_word *word)
{
	const uint32_t from = fp_vnet_by_vni(in, word->from), to = fp_vnet_by_vni(in, word->to);
	if (from == 0 || to == 0)
		return;
	const bool of_one = fp_of_one_worker(in, word->from, word->to);
	const bool agreed = word->said & 1 << SENDS && (of_one || word->said & 1 << TAKES) &&
			    !in->vnet[from].leaving && !in->vnet[to].leaving;
	if (agreed)
		pair_put(in, pair_make(from, to));
	else if (pair_remove(in, pair_make(from, to)))
		fp_close_pair(in->arena, from, to);
}

static uint32_t
home_of(const struct fp_arena *arena, uint32_t pair)
{
	return (uint32_t)fp_hash_bytes(&arena->view.secret, &pair, sizeof(pair)) & arena->peering_mask;
}

static uint32_t
slot_of(const struct fp_arena *arena, uint32_t pair)
{
	const uint32_t *peerings = arena->peerings;
	uint32_t i = home_of(arena, pair);
	while (peerings[i] && peerings[i] != pair)
		i = (i + 1) & arena->peering_mask;
	return i;
}

static void
pair_put(struct fp_installer *in, uint32_t pair)
{
	uint32_t *place = &in->arena->peerings[slot_of(in->arena, pair)];
	if (*place)
		return;
	fp_store(place, pair); // there are never more pairs than words
	in->peerings++;
}

static bool
pair_remove(struct fp_installer *in, uint32_t pair)
{
	uint32_t *peerings = in->arena->peerings, mask = in->arena->peering_mask;
	uint32_t hole = slot_of(in->arena, pair);
	if (peerings[hole] == 0)
		return false;
	for (uint32_t i = (hole + 1) & mask; peerings[i]; i = (i + 1) & mask) {
		uint32_t home = home_of(in->arena, peerings[i]);
		if (((i - home) & mask) >= ((i - hole) & mask)) {
			fp_store(&peerings[hole], peerings[i]);
			hole = i;
		}
	}
	fp_store(&peerings[hole], 0);
	in->peerings--;
	return true;
}
