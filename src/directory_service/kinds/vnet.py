# SPDX-License-Identifier: Apache-2.0
"""V-nets themselves. What lives in one is kinds of its own."""

import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds import vnet
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.addresses import Network, pack_address, parse_network
from directory_client.vocabulary.names import check_name, derive_gateway_mac, format_mac, parse_mac
from directory_service.kinds.carried import doubt_address, doubt_prefix
from directory_service.kinds.kind import Kind, Reference, Values, World
from directory_service.kinds.path import TRUST
from directory_service.kinds.reading import read_addresses, without
from directory_service.kinds.records import Record
from directory_service.kinds.sections import Tables
from directory_service.kinds.together import Fault, Together

VNI_MAX = 2**24 - 1


@dataclass(frozen=True, slots=True)
class Vnet:
    record: Record
    id: int
    name: str
    vni: int
    min_trust: int
    gateway_mac: bytes
    gateway_addresses: tuple[bytes, ...]  # IPv4 and IPv6, packed
    relays: frozenset[str]
    quota_flows: int
    quota_misses_per_s: int
    stale_max_s: int  # -1: the directory's default
    prefixes: tuple[Network, ...]


def to_vnet(record: Record) -> Vnet:
    values = record.values
    quota = values.get("quota", {})
    return Vnet(
        record,
        record.id,
        record.name,
        values["vni"],
        TRUST.index(values.get("min_trust", "carrier")),
        parse_mac(values["gateway_mac"]) if "gateway_mac" in values else derive_gateway_mac(values["vni"]),
        tuple(pack_address(text) for text in values.get("gateway_addresses", ())),
        frozenset(values.get("relays", ())),
        quota.get("flows", 0),
        quota.get("misses_per_second", 0),
        values.get("stale_max_s", -1),
        tuple(ipaddress.ip_network(text) for text in values.get("prefixes", ())),
    )


def read_vnet(table: Table) -> Values:
    """Read the V-net's own keys of [vnet.NAME]; what lives in it is read by the others."""
    quota = table.table("quota")
    limits = without(
        {
            "flows": quota.integer("flows", 0, 1, 2**32 - 1),
            "misses_per_second": quota.integer("misses_per_second", 0, 1, 2**32 - 1),
        },
        flows=0,
        misses_per_second=0,
    )
    quota.finish()
    mac = table.string("gateway_mac", "", check=parse_mac)
    return without(
        {
            "vni": table.integer("vni", low=1, high=VNI_MAX),
            "prefixes": [
                str(parse_network(text)) for text in table.strings("prefixes", (), check=parse_network)
            ],
            "min_trust": table.string("min_trust", "carrier", TRUST),
            "gateway_mac": mac.lower(),
            "gateway_addresses": read_addresses(table, "gateway_addresses"),
            "relays": list(table.strings("relays", (), check=check_name)),
            "quota": limits,
            "stale_max_s": table.integer("stale_max_s", -1, 0, 30 * 86400),
        },
        prefixes=[],
        min_trust="carrier",
        gateway_mac="",
        gateway_addresses=[],
        relays=[],
        quota={},
        stale_max_s=-1,
    )


def _references(record: Record) -> Iterator[Reference]:
    for relay in record.values.get("relays", ()):
        yield Reference("relays", "node", relay)


def _check(together: Together) -> Iterator[Fault]:
    vnis: dict[int, str] = {}
    for record in together.of("vnet").values():
        values = record.values
        vni = values["vni"]
        if vni in vnis:
            problem = f"vni {vni} is already V-net {vnis[vni]}'s"
            free = next(number for number in range(vni + 1, vni + 2 + len(vnis)) if number not in vnis)
            yield Fault(record.key, "vni", problem, f"choose another, for example {free}")
        vnis[vni] = record.name
        for address in values.get("gateway_addresses", ()):
            yield from together.in_prefixes(record, record, "gateway_addresses", address)


def _check_change(before: Record, after: Record) -> Iterator[Fault]:
    old, new = before.values["vni"], after.values["vni"]
    if old != new:
        problem = f"the vni of {after.name} cannot change ({old} → {new})"
        fix = "remove the V-net first, and declare it again with the new vni"
        yield Fault(after.key, "vni", problem, fix)


def _doubts(record: Record, own: Mapping[str, Any]) -> Iterator[str]:
    values = record.values
    if values.get("relays"):
        yield f"vnet {record.name}: relays are not carried yet"
    prefixes = [ipaddress.ip_network(text) for text in values.get("prefixes", ())]
    for number, prefix in enumerate(prefixes):
        if prefix.prefixlen == 0:
            yield f"vnet {record.name}: prefix {prefix} is every address, the neighbours' of all sites too"
        else:
            yield from doubt_prefix(record, str(prefix))
        for other in prefixes[:number]:
            if prefix.version == other.version and prefix.overlaps(other):
                yield f"vnet {record.name}: prefixes {other} and {prefix} overlap"
    for address in values.get("gateway_addresses", ()):
        yield from doubt_address(record, address, values)


def _more(world: World, record: Record) -> Values:
    state = world.vnets.get(record.vnet)
    if state is None or state.vnet is None:
        return {}
    return {
        "gateway_mac": format_mac(state.vnet.gateway_mac),
        "min_trust": TRUST[state.vnet.min_trust],
        "endpoints": len(state.members),
        "routes": len(state.routes),
        "rules": len(state.rules),
        "nodes": sorted(state.nodes_concerned()),
    }


VNET = Kind(
    vnet.VNET,
    read_vnet,
    Tables(),
    to_typed=to_vnet,
    references=_references,
    check=_check,
    check_change=_check_change,
    doubts=_doubts,
    more=_more,
)
