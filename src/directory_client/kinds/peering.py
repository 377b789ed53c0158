# SPDX-License-Identifier: Apache-2.0
"""Peerings, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun

PEERING = Noun(
    "peering",
    "peerings",
    of_vnet=True,
    help="Peerings: V-nets whose members are meant to talk to each other, named VNET/OTHER; one way each. "
    "Recorded only: this data plane carries no traffic between V-nets yet.",
    example="vnetctl peering add red/blue",
    columns=(Column("peering", "name"), *OWNED),
)
