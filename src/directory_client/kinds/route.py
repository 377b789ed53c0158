# SPDX-License-Identifier: Apache-2.0
"""Routes, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

ROUTE = Noun(
    "route",
    "routes",
    of_vnet=True,
    help="Routes: prefixes behind a node or an endpoint, named VNET/PREFIX.",
    example="vnetctl route add red/192.168.0.0/16 --via acme-fw",
    options=(
        Option("--via", "via", "The node or endpoint it is behind"),
        Option("--router-mac", "router_mac", "MAC of the peer's router"),
        Option("--id", "id", "The peer's number on the wire", "number"),
    ),
    columns=(Column("route", "name"), Column("via", "via"), *OWNED),
)
