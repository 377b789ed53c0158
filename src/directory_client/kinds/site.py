# SPDX-License-Identifier: Apache-2.0
"""Sites, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option

SITE = Noun(
    "site",
    "sites",
    of_vnet=False,
    for_all=True,
    help="Sites: where nodes are.",
    example="vnetctl site add ber1",
    options=(Option("--kind", "kind", "datacenter, enterprise or third-party"),),
    columns=(Column("site", "name"), Column("kind", "kind", rank=1), *OWNED),
)
