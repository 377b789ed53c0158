// SPDX-License-Identifier: Apache-2.0
//
// What is not for a tunnel: frames for this gateway itself go to housekeeping, which hands them to
// the kernel; an outer source that nobody announced makes one question.
#include "thread.h"

void
exception(struct fp_thread *t, const struct fp_port *port, struct rte_mbuf *mbuf)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	uint8_t *ip = rte_pktmbuf_mtod_offset(mbuf, uint8_t *, ETHERNET_BYTES);
	uint32_t len = mbuf->data_len, header_bytes, total_bytes;

	if (port->partial_checksums && len >= ETHERNET_BYTES + IPV4_BYTES &&
	    load16_be(frame + 12) == ETHERTYPE_IPV4) {
		header_bytes = (ip[0] & 15) * 4u;
		total_bytes = load16_be(ip + 2);
		if (ip[0] >> 4 == 4 && header_bytes >= IPV4_BYTES && total_bytes >= header_bytes &&
		    total_bytes <= len - ETHERNET_BYTES &&
		    !(load16_be(ip + 6) & (IPV4_MF | IPV4_OFFSET)))
			checksum_complete(ip, total_bytes);
	}
	mbuf->port = port->index;
	if (!rate_take(&t->exceptions_paid_ns, t->now_ns, t->exceptions_per_s) ||
	    rte_ring_sp_enqueue_elem(t->exceptions, &mbuf, sizeof(mbuf)) != 0) {
		drop(t, mbuf, 0, FP_DROP_exception_full);
		return;
	}
	t->counters.exceptions++;
	t->counters.port[port->index].exceptions++;
}

// One UNKNOWN_LOCATOR record, then silence about this locator for a while, and few in all.
void
locator_unknown(struct fp_thread *t, const struct fp_locator_key *key)
{
	struct locator_asked *asked;
	struct fp_record_locator record = {
		.head = {.type = FP_RECORD_UNKNOWN_LOCATOR, .version = FP_RECORD_VERSION},
		.key = *key,
	};

	asked = &t->locator[fp_hash_bytes(&t->secret, key, sizeof(*key)) % LOCATOR_SLOTS];
	if (asked->until_ns > t->now_ns && memcmp(&asked->key, key, sizeof(*key)) == 0)
		return;
	if (!rate_take(&t->locators_paid_ns, t->now_ns, LOCATORS_PER_S))
		return;
	if (!worker_write(t, 0, (const struct fp_record *)&record))
		return;
	asked->key = *key;
	asked->until_ns = t->now_ns + LOCATOR_QUIET_NS;
}
