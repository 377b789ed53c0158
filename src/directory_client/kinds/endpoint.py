# SPDX-License-Identifier: Apache-2.0
"""Endpoints, as operators know them."""

from typing import Any

from directory_client.kinds.noun import OWNED, Column, Noun, Option, Row


def _places(row: Row) -> str:
    places = row.get("at") or row.get("places") or row.get("node")
    if isinstance(places, (list, tuple)):
        return ", ".join(place if isinstance(place, str) else _place(place) for place in places)
    return str(places or "")


def _place(place: Any) -> str:
    if not isinstance(place, dict):
        return str(place)
    vlan = f":{place['vlan']}" if place.get("vlan") else ""
    port = f"/{place['port']}" if place.get("port") else ""
    return f"{place.get('node')}{port}{vlan}"


ENDPOINT = Noun(
    "endpoint",
    "endpoints",
    of_vnet=True,
    help="Endpoints: members of a V-net, named VNET/NAME.",
    example="vnetctl endpoint add red/web-3 --address 10.0.0.13 --mac 02:00:5e:00:00:13 --node ams1-gw1",
    options=(
        Option("--address", "addresses", "An address of its own", "many"),
        Option("--service", "services", "An address that it shares with others", "many"),
        Option("--mac", "mac", "Its MAC"),
        Option("--node", "node", "The node it is at, where that has one attachment of the V-net"),
        Option("--place", "at", "NODE/PORT:VLAN, the preferred one first", "many"),
        Option("--group", "groups", "A group it is in", "many"),
        Option("--preference", "preference", "Of a shared address: the highest is taken [100]", "number"),
    ),
    columns=(
        Column("endpoint", "name"),
        Column("addresses", "addresses", "list"),
        Column("mac", "mac", rank=2),
        Column("at", "at", say=_places, rank=1),
        Column("groups", "groups", "list", rank=3),
        *OWNED,
    ),
)
