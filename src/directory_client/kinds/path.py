# SPDX-License-Identifier: Apache-2.0
"""Paths, as operators know them."""

from directory_client.kinds.noun import OWNED, Column, Noun, Option, Row


def _sites(row: Row) -> str:
    return " ↔ ".join(str(site) for site in row.get("sites") or ())


PATH = Noun(
    "path",
    "paths",
    of_vnet=False,
    for_all=True,
    help="Paths: how two sites reach each other.",
    example="vnetctl path add ams1-ber1 --site ams1 --site ber1 --trust carrier --mtu 9000 --profile fabric",
    options=(
        Option("--site", "sites", "Two of them", "many"),
        Option("--trust", "trust", "internet, carrier or own"),
        Option("--mtu", "mtu_bytes", "Bytes of the largest packet", "number"),
        Option("--nat", "nat", "Addresses change on the way", "switch"),
        Option("--profile", "profile", "Tunnel parameters"),
    ),
    columns=(
        Column("path", "name"),
        Column("sites", "sites", say=_sites),
        Column("trust", "trust", rank=1),
        Column("mtu", "mtu_bytes", "count", rank=2, right=True),
        Column("nat", "nat", rank=4),
        Column("profile", "profile", rank=3),
        *OWNED,
    ),
)
