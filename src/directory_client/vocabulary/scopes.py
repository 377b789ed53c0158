# SPDX-License-Identifier: Apache-2.0
"""Scopes: sets of keys, as two prefixes, a protocol and a range of destination ports.

A scope is used in two ways that differ for keys without ports (level pair):

- of a *change* it says what may have been touched: such a key is covered by any ports and protocol;
- of a *refusal* it says for which other keys the refusal holds: such a key is covered only by a scope that
  names neither. A refusal holds for keys of the same V-net, class, family and ingress as the question.
"""

from dataclasses import dataclass, replace

from directory_client.vocabulary.addresses import ZERO, prefix_contains
from directory_client.vocabulary.numbers import KeyClass, KeyFlag

PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class Scope:
    """A set of keys of one V-net. Prefix lengths count in the 16 bytes; protocol 0 is any.

    The last four are for changes only, never for refusals: the ports are those of the source; no pair is
    touched, only keys with ports; only what rules judge, so no ARP; only IP packets, so neither ARP nor MACs.
    """

    source: bytes = ZERO
    source_bits: int = 0
    destination: bytes = ZERO
    destination_bits: int = 0
    protocol: int = 0
    port_low: int = 0
    port_high: int = PORT_MAX
    either_direction: bool = False
    source_port: bool = False
    connections: bool = False
    judged: bool = False
    ip: bool = False

    def reversed(self) -> "Scope":
        """Return the scope with source and destination exchanged."""
        return replace(
            self,
            source=self.destination,
            source_bits=self.destination_bits,
            destination=self.source,
            destination_bits=self.source_bits,
        )


def covers_change(
    scope: Scope,
    key_class: int,
    key_flags: int,
    source: bytes,
    destination: bytes,
    protocol: int,
    source_port: int,
    destination_port: int,
) -> bool:
    """Tell whether a change with this scope may have touched the key."""
    if scope.judged and key_class == KeyClass.NEIGHBOR:
        return False
    if scope.ip and key_class not in (KeyClass.ROUTED, KeyClass.BRIDGED):
        return False
    if key_flags & KeyFlag.CONNECTION:
        if scope.protocol and scope.protocol != protocol:
            return False
        if not scope.port_low <= (source_port if scope.source_port else destination_port) <= scope.port_high:
            return False
    elif scope.connections:
        return False
    return _covers_addresses(scope, source, destination)


def covers_refusal(
    scope: Scope, key_flags: int, source: bytes, destination: bytes, protocol: int, destination_port: int
) -> bool:
    """Tell whether a refusal with this scope answers the key too (same V-net, class, family and ingress)."""
    if key_flags & KeyFlag.CONNECTION:
        if scope.protocol and scope.protocol != protocol:
            return False
        if not scope.port_low <= destination_port <= scope.port_high:
            return False
    elif scope.protocol or scope.port_low > 0 or scope.port_high < PORT_MAX:
        return False
    return _covers_addresses(scope, source, destination)


def _covers_addresses(scope: Scope, source: bytes, destination: bytes) -> bool:
    if prefix_contains(scope.source, scope.source_bits, source) and prefix_contains(
        scope.destination, scope.destination_bits, destination
    ):
        return True
    return (
        scope.either_direction
        and prefix_contains(scope.source, scope.source_bits, destination)
        and prefix_contains(scope.destination, scope.destination_bits, source)
    )
