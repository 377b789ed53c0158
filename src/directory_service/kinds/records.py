# SPDX-License-Identifier: Apache-2.0
"""The directory's records: as they stand in the store, and typed for those who read them.

A record is (kind, name, values) with a 64-bit id that is never reused, the revision of its last change, and
an owner. Its store key is kind/name; what lives in a V-net has the name VNET/NAME. Typed records are made
once from a record and never changed.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any

import msgpack

from directory_client.vocabulary.addresses import Network, pack_address, pack_mac, pack_network
from directory_client.vocabulary.names import Place, derive_gateway_mac, parse_mac, parse_place
from directory_service.kinds.fields import (
    DEFAULT_PREFERENCE,
    DEFAULT_PRIORITY,
    TRUST,
    port_range,
    proto_number,
)
from directory_service.store.contract import Item

OWNERS = ("document", "operator", "import")  # what stands before wins
FABRIC_KINDS = frozenset(("site", "path", "profile", "node"))
VNET_KINDS = frozenset(("vnet", "attachment", "endpoint", "route", "rule", "peering"))
UDP_PORTS = {"vxlan": 4789, "esp": 4500}


@dataclass(frozen=True, slots=True)
class Record:
    """One record. `document` is the owner's name if it is a document; `revision` is its last change's.

    A directory has a million of them, and looks at the values of few: they stay packed as the store has
    them, and are unpacked each time they are asked for.
    """

    kind: str
    key: str
    id: int
    revision: int
    owner: str
    document: str
    packed: bytes  # as `encode` returns it

    @property
    def name(self) -> str:
        """The name, VNET/NAME for what lives in a V-net."""
        return self.key.partition("/")[2]

    @property
    def values(self) -> Mapping[str, Any]:
        """The values: a mapping of the caller's own, one for each look."""
        values: Mapping[str, Any] = msgpack.unpackb(self.packed)[3]
        return values

    @property
    def vnet(self) -> str:
        """The V-net it belongs to, empty for what belongs to none."""
        return self.key.split("/", 2)[1] if self.kind in VNET_KINDS else ""

    @property
    def local_name(self) -> str:
        """The name inside its V-net."""
        inside = self.kind in VNET_KINDS and self.kind != "vnet"
        return self.key.split("/", 2)[2] if inside else self.name


def make_record(
    key: str, id_: int, revision: int, owner: str, document: str, values: Mapping[str, Any]
) -> Record:
    """Return a record of a key kind/name."""
    packed = msgpack.packb([id_, owner, document, dict(values)])
    return Record(intern(key.partition("/")[0]), key, id_, revision, intern(owner), intern(document), packed)


def encode(record: Record) -> bytes:
    """Return the store's value; the same record always gives the same bytes."""
    return record.packed


def decode(item: Item) -> Record:
    """Return the record of a store item."""
    id_, owner, document, _ = msgpack.unpackb(item.value)
    kind = intern(item.key.partition("/")[0])
    return Record(kind, item.key, id_, item.modified, intern(owner), intern(document), item.value)


def is_record_key(key: str) -> bool:
    """Tell records from the store's other keys."""
    kind = key.partition("/")[0]
    return kind in FABRIC_KINDS or kind in VNET_KINDS


@dataclass(frozen=True, slots=True)
class Path:
    record: Record
    name: str
    sites: frozenset[str]
    trust: int  # index in TRUST
    mtu_bytes: int
    nat: bool
    profile: str


@dataclass(frozen=True, slots=True)
class Profile:
    record: Record | None  # None: the built-in one
    id: int
    name: str
    protocol: str
    udp_port: int
    mtu_bytes: int  # 0: the path's
    ttl: int
    dscp: int
    dscp_copy: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Node:
    """`locators` are packed; those of a gateway may come from what it says of itself."""

    record: Record
    id: int
    name: str
    kind: str
    site: str
    locators: tuple[bytes, ...]
    ids: Mapping[str, int]
    ports: tuple[str, ...]
    revision: int

    @property
    def foreign(self) -> bool:
        return self.kind != "gateway"


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


@dataclass(frozen=True, slots=True)
class Attachment:
    record: Record
    id: int
    place: Place
    mtu_bytes: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """As declared: places are not yet resolved. Addresses and services are (is IPv6, packed)."""

    record: Record
    id: int
    name: str
    mac_key: bytes  # the MAC, as keys have it
    known_by: bytes | tuple[tuple[bool, bytes], ...]  # of one IPv4 address, which most have, only that
    services: tuple[tuple[bool, bytes], ...]
    node: str
    at: tuple[Place, ...]
    groups: frozenset[str]
    preference: int

    @property
    def mac(self) -> bytes:
        """Its MAC."""
        return self.mac_key[-6:]

    @property
    def addresses(self) -> tuple[tuple[bool, bytes], ...]:
        """Its addresses."""
        known = self.known_by
        return ((False, known),) if isinstance(known, bytes) else known


@dataclass(frozen=True, slots=True)
class Route:
    record: Record
    id: int
    prefix: Network
    packed: bytes
    bits: int
    via: str
    router_mac: bytes  # empty: none given
    wire_id: int  # 0: the node's


@dataclass(frozen=True, slots=True)
class Rule:
    record: Record
    id: int
    name: str
    allow: bool
    source: str
    destination: str
    protocol: int
    ports: tuple[tuple[int, int], ...]
    both_directions: bool
    priority: int
    needs: str  # what the data plane would have to have: "stateful rules" …; empty: nothing special

    @property
    def refuses(self) -> bool:
        """Whether what it matches is dropped."""
        return not self.allow or bool(self.needs)

    @property
    def plain(self) -> bool:
        """Whether it looks at addresses only."""
        return not self.protocol


def to_path(record: Record) -> Path:
    values = record.values
    return Path(
        record,
        record.name,
        frozenset(values["sites"]),
        TRUST.index(values["trust"]),
        values.get("mtu_bytes", 1500),
        values.get("nat", False),
        values.get("profile", ""),
    )


def to_profile(record: Record) -> Profile:
    values = record.values
    dscp = values.get("dscp", "copy")
    return Profile(
        record,
        record.id,
        record.name,
        values["protocol"],
        values.get("udp_port", UDP_PORTS.get(values["protocol"], 0)),
        values.get("mtu_bytes", 0),
        values.get("ttl", 64),
        0 if dscp == "copy" else dscp,
        dscp == "copy",
        record.revision,
    )


BUILT_IN_PROFILE = Profile(None, 0, "built-in", "vxlan", UDP_PORTS["vxlan"], 0, 64, 0, True, 0)


def to_node(record: Record, said_locators: Iterable[str] = (), ports: Iterable[str] = ()) -> Node:
    """Make a node of its record; what a gateway says of itself fills in what no document declares."""
    values = record.values
    locators = values.get("locators") or said_locators
    return Node(
        record,
        record.id,
        record.name,
        values["kind"],
        values.get("site", ""),
        tuple(pack_address(text) for text in locators),
        values.get("ids", {}),
        tuple(ports),
        record.revision,
    )


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


def to_attachment(record: Record) -> Attachment:
    return Attachment(record, record.id, parse_place(record.local_name), record.values.get("mtu_bytes", 0))


def to_endpoint(record: Record) -> Endpoint:
    values = record.values
    at, groups = values.get("at"), values.get("groups")
    addresses = _pack_all(values.get("addresses"))
    return Endpoint(
        record,
        record.id,
        record.local_name,
        pack_mac(bytes.fromhex(values["mac"].replace(":", ""))),
        addresses[0][1] if len(addresses) == 1 and not addresses[0][0] else addresses,
        _pack_all(values.get("services")),
        intern(values.get("node", "")),
        tuple([parse_place(text) for text in at]) if at else (),
        frozenset(groups) if groups else _NO_GROUPS,
        values.get("preference", DEFAULT_PREFERENCE),
    )


_NO_GROUPS: frozenset[str] = frozenset()


def _pack_all(texts: Sequence[str] | None) -> tuple[tuple[bool, bytes], ...]:
    return tuple([(":" in text, pack_address(text)) for text in texts]) if texts else ()


def to_route(record: Record) -> Route:
    prefix = ipaddress.ip_network(record.local_name)
    packed, bits = pack_network(prefix)
    mac = record.values.get("router_mac", "")
    return Route(
        record,
        record.id,
        prefix,
        packed,
        bits,
        record.values["via"],
        parse_mac(mac) if mac else b"",
        record.values.get("id", 0),
    )


def to_rule(record: Record) -> Rule:
    values = record.values
    needs = [
        words
        for key, words in (
            ("stateful", "stateful rules"),
            ("security", "encryption"),
            ("rate_mbps", "rate limits"),
        )
        if key in values
    ]
    return Rule(
        record,
        record.id,
        record.local_name,
        values["action"] == "allow",
        values["from"],
        values["to"],
        proto_number(values.get("proto", "any")),
        tuple(port_range(item) for item in values.get("ports", ())),
        values.get("direction", "both") == "both",
        values.get("priority", DEFAULT_PRIORITY),
        ", ".join(needs) if values["action"] == "allow" else "",
    )
