// SPDX-License-Identifier: Apache-2.0
//
// The bytes of a frame in its buffer: put in front, taken off the front, cut off the end. Lengths are changed
// by as much, never set, so that a frame of several segments keeps those behind the first; no stage knows where
// a buffer keeps them. Whoever calls has checked that there is as much: room before the first byte, bytes in the
// first segment, bytes in the last one. One poll thread.
#pragma once

#include <rte_mbuf.h>

// The room that there is before the first byte.
static inline uint32_t
frame_room_bytes(const struct rte_mbuf *mbuf)
{
	return mbuf->data_off;
}

// Returns the new first byte.
static inline uint8_t *
frame_push(struct rte_mbuf *mbuf, uint32_t bytes)
{
	mbuf->data_off = (uint16_t)(mbuf->data_off - bytes);
	mbuf->data_len = (uint16_t)(mbuf->data_len + bytes);
	mbuf->pkt_len += bytes;
	return rte_pktmbuf_mtod(mbuf, uint8_t *);
}

// Returns the new first byte.
static inline uint8_t *
frame_pull(struct rte_mbuf *mbuf, uint32_t bytes)
{
	mbuf->data_off = (uint16_t)(mbuf->data_off + bytes);
	mbuf->data_len = (uint16_t)(mbuf->data_len - bytes);
	mbuf->pkt_len -= bytes;
	return rte_pktmbuf_mtod(mbuf, uint8_t *);
}

// Padding, a trailer, what is not quoted.
static inline void
frame_trim(struct rte_mbuf *mbuf, uint32_t bytes)
{
	struct rte_mbuf *last = mbuf->nb_segs == 1 ? mbuf : rte_pktmbuf_lastseg(mbuf);

	last->data_len = (uint16_t)(last->data_len - bytes);
	mbuf->pkt_len -= bytes;
}
