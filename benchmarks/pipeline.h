// SPDX-License-Identifier: Apache-2.0
//
// What pipeline.c measures: a gateway in process, in one of several shapes, and the frames that are
// sent through it.
#pragma once

#include "rig.h"

#include <rte_mbuf.h>

#define PLACES 10000 // endpoints at most: locations
#define NOW_NS 1000000000000ull
#define INNER_BYTES 60
#define OUTER_BYTES 50
#define TAG_BYTES 4

enum direction { ENCAP, DECAP };

// How it is deployed. The first of each direction is the plain one, with which the others are
// compared.
struct shape {
	const char *scenario;
	enum direction direction;
	uint16_t vlan;    // of the attachment; 0: untagged
	uint8_t hops;     // of each tunnel
	bool sets;        // locations lead to sets of one tunnel
	uint16_t tunnels; // that members are behind
};
extern const struct shape shapes[];
extern const uint32_t shapes_count;

// One of them with its tables full.
struct bed {
	const struct shape *shape;
	struct rig *rig;
	uint32_t flows, places;
	uint8_t template[128];
	uint32_t template_bytes, ip_at; // the inner IP header
	uint32_t inner_sum, outer_sum;  // of headers without addresses and checksum, wire order
};

void bed_make(struct bed *bed, const struct shape *shape, uint32_t flows);
void bed_destroy(struct bed *bed);
// FP_BURST frames of flows.
void burst_make(const struct bed *bed, struct rte_mbuf **mbufs, const uint32_t *flows);
// Sends a burst of these flows and looks at every byte that matters. Ends the program if one is
// wrong.
void burst_verify(const struct bed *bed, const uint32_t *flows);

static inline const struct fp_port *
bed_source(const struct bed *bed)
{
	return rig_port(bed->rig, bed->shape->direction == ENCAP ? 0 : 1);
}
static inline const struct fp_port *
bed_sink(const struct bed *bed)
{
	return rig_port(bed->rig, bed->shape->direction == ENCAP ? 1 : 0);
}
