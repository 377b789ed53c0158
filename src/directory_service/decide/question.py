# SPDX-License-Identifier: Apache-2.0
"""What decide is asked and answers: query, asker, decision; how a refusal ends one; scopes of addresses."""

from typing import NamedTuple

from directory_client.vocabulary.addresses import ZERO
from directory_client.vocabulary.numbers import KeyClass, KeyFlag
from directory_client.vocabulary.reasons import reason_number
from directory_client.vocabulary.scopes import Scope
from directory_service.decide.locate import Located, Location
from directory_service.kinds.node import Node
from directory_service.kinds.rule import Rule
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC, Holder

_IPV6, _MAC = int(KeyFlag.IPV6), int(KeyClass.MAC)  # faster
_IPV4_BITS = 96


class Query(NamedTuple):
    """A QUERY row; addresses are 16 bytes, ports numbers. `current_object`: whom a cached flow goes to."""

    vni: int
    key_class: int
    key_flags: int
    protocol: int
    ingress_kind: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    ingress_object: int
    current_object: int = 0


class Asker(NamedTuple):
    """The node that asks, and what its data plane can do ("vxlan")."""

    node: Node
    capabilities: frozenset[str]


class Decision(NamedTuple):
    """What happens, and all that led to it. `why` is a sentence where the reason says too little."""

    action: int
    granularity: int
    reason: str  # of a drop, else empty
    source_location: Location | None
    destination_location: Location | None
    scope: Scope | None
    lifetime_ms: int
    refresh_ms: int
    revision: int
    rule: Rule | None
    source: Holder | None
    destination: Holder | None
    located: Located | None
    why: str

    @property
    def reason_number(self) -> int:
        return reason_number(self.reason) if self.reason else 0


class Refusal(Exception):
    """Ends a decision with a drop."""

    def __init__(
        self,
        reason: str,
        scope: Scope | None,
        rule: Rule | None = None,
        source: Holder | None = None,
        destination: Holder | None = None,
        located: Located | None = None,
        why: str = "",
    ) -> None:
        self.reason = reason
        self.scope = scope
        self.rule = rule
        self.source = source
        self.destination = destination
        self.located = located
        self.why = why


def family_of(query: Query) -> int:
    """Return 4, 6, or 0 for MACs; -1 if the key contradicts itself."""
    if query.key_class == _MAC:
        return FAMILY_MAC if not (any(query.source[:10]) or any(query.destination[:10])) else -1
    if query.key_flags & _IPV6:
        return FAMILY_IPV6
    return FAMILY_IPV4 if not (any(query.source[:12]) or any(query.destination[:12])) else -1


def pair(query: Query) -> Scope:
    return Scope(query.source, 128, query.destination, 128)


def any_of(family: int) -> tuple[bytes, int]:
    return ZERO, _IPV4_BITS if family == FAMILY_IPV4 else 0


def everything(family: int) -> Scope:
    return Scope(*any_of(family), *any_of(family))


def scope_of(source: bytes, source_bits: int, destination: bytes, destination_bits: int) -> Scope:
    return Scope(cut(source, source_bits), source_bits, cut(destination, destination_bits), destination_bits)


def cut(address: bytes, bits: int) -> bytes:
    if bits >= 128:
        return address
    shift = 128 - bits
    return (int.from_bytes(address, "big") >> shift << shift).to_bytes(16, "big")
