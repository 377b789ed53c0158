// SPDX-License-Identifier: Apache-2.0
//
// The tables, followed inline: NULL for an index out of range. Poll threads.
#pragma once

#include "thread.h"

static inline const struct fp_vnet *
vnet_at(const struct fp_thread *t, uint32_t i)
{
	return likely(i < t->view.vnets) ? &t->view.vnet[i] : NULL;
}

static inline const struct fp_ingress *
ingress_at(const struct fp_thread *t, uint32_t i)
{
	return likely(i < t->view.ingresses) ? &t->view.ingress[i] : NULL;
}

// Flags and states are the writer's to change while we look.
static inline bool
ingress_live(const struct fp_ingress *ingress)
{
	return __atomic_load_n(&ingress->flags, __ATOMIC_RELAXED) & FP_INGRESS_LIVE;
}

// A gateway of ours has checked what comes from there: the sum of the inner IPv4 header, that its
// addresses are unicast, that the source MAC is not zero. Lengths are checked all the same, memory
// rests on them (docs/security.md).
static inline bool
ingress_believed(const struct fp_ingress *ingress)
{
	return ingress->kind == FP_INGRESS_NODE && !(__atomic_load_n(&ingress->flags, __ATOMIC_RELAXED) &
						     (FP_INGRESS_FOREIGN | FP_INGRESS_CHECK));
}

static inline bool
vnet_live(const struct fp_vnet *vnet)
{
	return __atomic_load_n(&vnet->flags, __ATOMIC_RELAXED) & FP_VNET_LIVE;
}

// NULL: gone.
static inline const struct fp_location *
location_at(const struct fp_thread *t, uint32_t i)
{
	const struct fp_location *location;

	if (unlikely(i >= t->view.locations)) // 0 is never live
		return NULL;
	location = &t->view.location[i];
	return likely(__atomic_load_n(&location->state, __ATOMIC_RELAXED) == 1) ? location : NULL;
}

// The half that is valid now.
static inline const struct fp_location_half *
location_now(const struct fp_location *location)
{
	return &location->half[__atomic_load_n(&location->selector, __ATOMIC_ACQUIRE) & 1];
}

static inline const struct fp_location_half *
location_half(const struct fp_thread *t, uint32_t i)
{
	const struct fp_location *location = location_at(t, i);

	return likely(location != NULL) ? location_now(location) : NULL;
}
