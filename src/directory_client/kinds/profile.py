# SPDX-License-Identifier: Apache-2.0
"""Profiles, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

PROFILE = Noun(
    "profile",
    "profiles",
    of_vnet=False,
    for_all=True,
    help="Profiles: reusable tunnel parameters.",
    example="vnetctl profile add fabric --protocol vxlan --udp-port 4789 --ttl 64",
    options=(
        Option("--protocol", "protocol", "vxlan"),
        Option("--udp-port", "udp_port", "Destination port [4789]", "number"),
        Option("--mtu", "mtu_bytes", "Bytes; default is the path's", "number"),
        Option("--ttl", "ttl", "Of the outer header [64]", "number"),
        Option("--dscp", "dscp", "copy, or 0 to 63", digits=True),
        Option("--check-inner", "check_inner", "Check again what our gateways have checked", "switch"),
    ),
    columns=(
        Column("profile", "name"),
        Column("protocol", "protocol"),
        Column("udp port", "udp_port", rank=1, right=True),
        Column("mtu", "mtu_bytes", "count", rank=2, right=True),
        Column("ttl", "ttl", rank=3, right=True),
        Column("dscp", "dscp", rank=4),
        *OWNED,
    ),
)
