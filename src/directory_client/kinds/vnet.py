# SPDX-License-Identifier: Apache-2.0
"""V-nets, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

VNET = Noun(
    "vnet",
    "vnets",
    of_vnet=False,
    help="V-nets: isolated virtual networks.",
    example="vnetctl vnet add green --vni 7003 --prefix 10.1.0.0/24",
    options=(
        Option("--vni", "vni", "Its number on the wire, 1 to 16777215", "number"),
        Option("--prefix", "prefixes", "A prefix of its addresses", "many"),
        Option("--min-trust", "min_trust", "Least trust of a path: internet, carrier or own"),
        Option("--gateway-mac", "gateway_mac", "MAC of its gateway"),
        Option("--gateway-address", "gateway_addresses", "An address of its gateway", "many"),
        Option("--relay", "relays", "A node that may relay for it; recorded only, not carried yet", "many"),
        Option("--stale-max", "stale_max_s", "Seconds that flows outlive a silent directory", "number"),
    ),
    columns=(
        Column("vnet", "name"),
        Column("vni", "vni", right=True),
        Column("prefixes", "prefixes", "list", rank=2),
        Column("endpoints", "endpoints", "count", rank=3, right=True),
        Column("flows", "flows", "count", rank=1, right=True),
        Column("in packets/s", "in_packets_per_s", "short", rank=4, right=True),
        Column("out packets/s", "out_packets_per_s", "short", rank=4, right=True),
        *OWNED,
    ),
)
