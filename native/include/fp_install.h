// SPDX-License-Identifier: Apache-2.0
//
// Applies records that clients wrote into their install rings: checks every one (range, V-net of every
// reference, revision, incarnation) and changes the tables. Isolation is kept here: an action whose
// locations are of another V-net than its key's is refused unless that ordered pair is peered.
// Each type of record is allowed to one kind of client (next hops to control, all else to workers).
// The writer's thread only. Needs no DPDK: what concerns poll threads and rings goes through callbacks.
//
//	struct fp_installer *in;
//	fp_installer_create(arena, &hooks, &in);
//	while ((n = fp_ring_read(ring, records, 64)) > 0)
//		for (i...) fp_installer_apply(in, client, &records[i], now_ns);
//	fp_installer_tick(in, now_ns);     // scans, refresh, expiry, sweeps; bounded work
//
// A client's records for one V-net, in order: SNAPSHOT_BEGIN, VNET_SET (either may be first), what stands in the
// V-net, SNAPSHOT_END; then changes as they come. What a record forbids no reader acts on from then on: readers
// compare what they find with what is closed (core/closing.h), and passes take it out in slices.
//
// A worker that was asked for refreshes and sends nothing for 3 s counts as silent: its flows are extended up
// to stale_max_s, as if it had sent DIRECTORY_STATE 0. Whoever sees its connection end may apply that record for it.
#pragma once

#include "fp_arena.h"
#include "fp_flow_table.h"
#include "fp_records.h"

struct fp_installer;

enum fp_counted { FP_COUNTED_VNET, FP_COUNTED_TUNNEL }; // whose packets are counted by index

// A decision for a held key, on its way to the thread that holds it, by a private ring. By the time that it is
// looked at, the flow may be evicted and the indexes in the action be others': so it says which objects they were.
struct fp_release {
	uint64_t token;
	struct fp_flow_key key;
	uint32_t closings;     // of the key's V-net and, if it is another one, the destination's
	fp_action_word action; // NONE: ask again
	uint64_t source_object, destination_object; // of the locations in the action, 0 where it has none
};
static_assert(sizeof(struct fp_release) == 80, "fp_release");

struct fp_installer_hooks {
	void *context;
	// Hand it to the thread of the token.
	void (*release)(void *context, const struct fp_release *release);
	// To the worker of a V-net (worker index), or to control (worker 0xff).
	void (*emit)(void *context, uint8_t worker, const struct fp_record *record);
	// Port index of a configured name, -1 if there is none; *mtu_bytes of it.
	int (*port_by_name)(void *context, const char *name, uint16_t *mtu_bytes);
	// A frame to send: complete inner frame, to an attachment or a tunnel (indexes).
	void (*send)(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
		     uint32_t len_bytes);
	// An index is given out, and not published yet: its counters begin at zero. May be NULL.
	void (*counters_begin)(void *context, enum fp_counted what, uint32_t index);
	// Any clock that does not stand still: a slice of a pass ends by it too, where the estimate of what it costs is too
	// low (cold caches, a slow machine, another thread on the processor). May be NULL: by the estimate alone.
	uint64_t (*clock_ns)(void);
};

int fp_installer_create(struct fp_arena *arena, const struct fp_installer_hooks *hooks,
			struct fp_installer **installer);
// How many workers share the V-nets: worker w has those with vni % workers == w, and records of others are refused
// from it. 0, as at first: no V-net is anybody's own.
void fp_installer_share(struct fp_installer *installer, uint32_t workers);
void fp_installer_destroy(struct fp_installer *installer);

// 0: applied. -EAGAIN: keep it at the head of its ring and try again after the next tick. -EINPROGRESS: keep it
// there and apply it again, others in between: it has spent what one record may.
// Any other negative: refused, counted, and told to the client by a REFUSED record (by emit).
int fp_installer_apply(struct fp_installer *installer, uint8_t client_worker, const struct fp_record *record,
		       uint64_t now_ns);

// The client is gone or another one has taken its place: what it has begun and not ended is forgotten.
void fp_installer_leave(struct fp_installer *installer, uint8_t client_worker);

// Asks for the memory that these records will touch, so that their misses overlap; changes nothing.
void fp_installer_foresee(const struct fp_installer *installer, const struct fp_record *records, uint32_t n);

// Once a tick (about 10 ms when busy, 100 ms when idle): reclaims, goes on with change scans, asks refreshes
// again at a bounded rate, expires. Returns true if there is more to do at once.
bool fp_installer_tick(struct fp_installer *installer, uint64_t now_ns);

// A pass is under way or due: tick again at once.
bool fp_installer_due(const struct fp_installer *installer);

// Answers SYNC records whose changes no reader can have missed. Cheap; after every round of records, and with
// the tick; records may spend their time anew from then on. Returns true while something waits for a reader.
bool fp_installer_sync(struct fp_installer *installer);

// V-net whose record is being applied, or was last. In a signal handler too.
uint32_t fp_installer_at_work(const struct fp_installer *installer);

uint64_t fp_installer_refused(const struct fp_installer *installer, enum fp_refusal why);
