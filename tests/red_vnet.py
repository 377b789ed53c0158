# SPDX-License-Identifier: Apache-2.0
"""A V-net of three gateways and a foreign VTEP, and how to ask decide about it."""

from collections.abc import Mapping
from typing import Any

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.names import parse_mac
from directory_client.vocabulary.numbers import IngressKind, KeyClass, KeyFlag
from directory_service.decide.decide import decide
from directory_service.decide.question import Asker, Decision, Query
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from topologies import make_snapshot

NOW_MS = 10_000_000
SETTINGS = Settings(jitter_ratio=0.0)
MAC = "02:00:5e:00:00:{:02x}"

TOPOLOGY: Mapping[str, Mapping[str, Any]] = {
    "site/ams": {},
    "site/ber": {},
    "path/ams-ber": {"sites": ["ams", "ber"], "trust": "carrier", "mtu_bytes": 9000, "profile": "fabric"},
    "profile/fabric": {"protocol": "vxlan", "udp_port": 4790, "ttl": 32, "dscp": 10},
    "node/gw1": {"kind": "gateway", "site": "ams", "locators": ["192.0.2.1"]},
    "node/gw2": {"kind": "gateway", "site": "ber", "locators": ["192.0.2.2"]},
    "node/gw3": {"kind": "gateway", "site": "ams", "locators": ["192.0.2.3"]},
    "node/leaf": {
        "kind": "vtep",
        "site": "ber",
        "locators": ["203.0.113.7", "203.0.113.8"],
        "ids": {"red": 99},
    },
    "vnet/red": {"vni": 7001, "gateway_addresses": ["10.0.0.1"]},
    "attachment/red/gw1/rack:101": {},
    "attachment/red/gw1/rack:102": {},
    "attachment/red/gw2/rack:101": {},
    "attachment/red/gw3/rack:101": {},
    "endpoint/red/web-1": {
        "addresses": ["10.0.0.11"],
        "mac": MAC.format(1),
        "at": ["gw1/rack:101"],
        "groups": ["web"],
    },
    "endpoint/red/web-2": {
        "addresses": ["10.0.0.12"],
        "mac": MAC.format(2),
        "at": ["gw1/rack:101"],
        "groups": ["web"],
    },
    "endpoint/red/web-3": {
        "addresses": ["10.0.0.13"],
        "mac": MAC.format(3),
        "at": ["gw1/rack:102"],
        "groups": ["web"],
    },
    "endpoint/red/db-1": {
        "addresses": ["10.0.0.21"],
        "mac": MAC.format(33),
        "at": ["gw2/rack:101"],
        "groups": ["db"],
    },
    "endpoint/red/db-2": {
        "addresses": ["10.0.0.22"],
        "mac": MAC.format(34),
        "node": "leaf",
        "groups": ["db"],
    },
    "endpoint/red/far": {"addresses": ["10.0.0.31"], "mac": MAC.format(49), "at": ["gw3/rack:101"]},
    "endpoint/red/router": {"addresses": ["10.0.0.41"], "mac": MAC.format(65), "at": ["gw2/rack:101"]},
    "route/red/192.168.0.0/16": {"via": "router"},
    "route/red/172.16.0.0/12": {"via": "leaf", "router_mac": "02:00:00:00:00:99"},
    "rule/red/inside": {"action": "allow", "from": "any", "to": "any"},
}


def topology(**changes: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """The topology with records changed: kind__vnet__name = values (None: without it)."""
    out = dict(TOPOLOGY)
    for key, values in changes.items():
        key = key.replace("__", "/").replace("_", "-")
        if values is None:
            del out[key]
        else:
            out[key] = values
    return out


def snapshot(**changes: Mapping[str, Any] | None) -> Snapshot:
    return make_snapshot(topology(**changes))


def id_of(model: Snapshot, key: str) -> int:
    return model.records[key].id


def ask(
    model: Snapshot,
    source: str,
    destination: str,
    node: str = "gw1",
    came: str = "attachment/red/gw1/rack:101",
    ports: tuple[int, int, int] | None = None,
    key_class: int = KeyClass.BRIDGED,
    now_ms: int = NOW_MS,
    vni: int = 7001,
    capabilities: tuple[str, ...] = ("vxlan",),
    current: int = 0,
) -> Decision:
    """Ask as `node` about a packet that came by an attachment or from a node; ports: (protocol, from, to)."""
    if key_class == KeyClass.MAC:
        one, other = (parse_mac(text).rjust(16, b"\0") for text in (source, destination))
    else:
        one, other = pack_address(source), pack_address(destination)
    kind = IngressKind.ATTACHMENT if came.startswith("attachment") else IngressKind.NODE
    protocol, source_port, destination_port = ports or (0, 0, 0)
    flags = int(KeyFlag.CONNECTION) if ports else 0
    query = Query(
        vni,
        key_class,
        flags,
        protocol,
        kind,
        one,
        other,
        source_port,
        destination_port,
        id_of(model, came),
        current,
    )
    return decide(model, query, Asker(model.fabric.nodes[node], frozenset(capabilities)), now_ms, SETTINGS)


def prefix(text: str) -> tuple[bytes, int]:
    address, _, bits = text.partition("/")
    return pack_address(address), 96 + int(bits)


TCP = 6
POSTGRES = {"action": "allow", "from": "group:web", "to": "group:db", "proto": "tcp", "ports": [5432]}


def ruled(**rules: Mapping[str, Any]) -> Snapshot:
    kept = {key: values for key, values in TOPOLOGY.items() if not key.startswith("rule/")}
    return make_snapshot({**kept, **{f"rule/red/{name}": values for name, values in rules.items()}})
