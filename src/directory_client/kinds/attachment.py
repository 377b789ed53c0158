# SPDX-License-Identifier: Apache-2.0
"""Attachments, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

ATTACHMENT = Noun(
    "attachment",
    "attachments",
    of_vnet=True,
    help="Attachments: where a V-net touches a port, named VNET/NODE/PORT:VLAN.",
    example="vnetctl attachment add red/ams1-gw1/rack:101",
    options=(Option("--mtu", "mtu_bytes", "Bytes; default is the port's", "number"),),
    columns=(
        Column("attachment", "name"),
        Column("mtu", "mtu_bytes", "count", rank=1, right=True),
        *OWNED,
    ),
)
