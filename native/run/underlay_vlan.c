// SPDX-License-Identifier: Apache-2.0
//
// In which VLANs of a port the underlay is: fp_port.h. Poll threads read it while it is written; a
// VLAN that is being added or taken away is seen a moment sooner or later.
#include "dataplane.h"

// Before control has said it: those of the next hops that are adopted. Without any, nothing is refused.
void
fp_underlay_vlans_adopt(struct fp_dataplane *dp)
{
	const struct fp_arena_view *view = fp_arena_tables(dp->arena);
	uint16_t vlans[FP_VLANS];

	for (uint32_t port = 0; port < dp->config.ports_n; port++) {
		uint64_t seen[FP_VLANS / 64] = {0};
		uint32_t n = 0;
		for (uint32_t i = 1; i < view->tunnels; i++) {
			uint32_t index = fp_tunnel_nexthops(view->tunnel[i]);
			const struct fp_nexthop_group *group = &view->nexthops[index];
			if (index == 0 || index >= view->nexthop_groups)
				continue;
			for (uint8_t hop = 0; hop < RTE_MIN(group->count, FP_NEXTHOPS_MAX); hop++) {
				const uint16_t vlan = group->hop[hop].vlan % FP_VLANS;
				if (group->hop[hop].port != port || seen[vlan / 64] >> vlan % 64 & 1)
					continue;
				seen[vlan / 64] |= 1ull << vlan % 64;
				vlans[n++] = vlan;
			}
		}
		if (n > 0)
			fp_port_set_underlay_vlans(&dp->ports[port], vlans, n);
	}
}

int
fp_dataplane_set_underlay_vlans(struct fp_dataplane *dp, uint32_t port, const uint16_t *vlans, uint32_t n)
{
	if (port >= dp->config.ports_n)
		return -ENODEV;
	fp_port_set_underlay_vlans(&dp->ports[port], vlans, n);
	return 0;
}

void
fp_port_set_underlay_vlans(struct fp_port *port, const uint16_t *vlans, uint32_t n)
{
	uint64_t all[FP_VLANS / 64] = {0};
	for (uint32_t i = 0; i < n; i++)
		all[vlans[i] % FP_VLANS / 64] |= 1ull << vlans[i] % 64;
	for (uint32_t i = 0; i < FP_VLANS / 64; i++)
		__atomic_store_n(&port->underlay_vlan[i], all[i], __ATOMIC_RELAXED);
	__atomic_store_n(&port->underlay_vlans_known, 1, __ATOMIC_RELEASE);
}
