# SPDX-License-Identifier: Apache-2.0
"""The rules of one V-net, compiled: who is selected, and which rule decides a connection.

Order: higher priority first; of equal priority deny before allow, then by name. The first that matches
decides.

Rules keep no state. A rule speaks of connections from `from` to `to` and matches their packets both ways:
towards `to` by destination port, on the way back (source in `to`, destination in `from`) by source port. So
an allow from A to B for tcp 5432 lets B answer from port 5432, and nothing else of B. `direction =
"forward"` matches only the way there. Non-IP traffic is matched by rules without protocol whose selectors
are endpoints, groups or any.

Each distinct selector has a bit. Who has the same bits is treated alike, so the rules that can matter for two
sides are found once for each pair of bit sets.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from directory_client.vocabulary.addresses import pack_network
from directory_service.kinds.rule import Rule

_MEMO_MAX = 100_000


class Side(NamedTuple):
    """One end of a connection as rules see it: a member (empty for what is behind a route) and an address.

    `family` is 4, 6, or 0 for a MAC."""

    endpoint: str
    groups: frozenset[str]
    family: int
    address: bytes


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that can match two sides, and in which directions."""

    rule: Rule
    forward: bool
    backward: bool


def sort_key(rule: Rule) -> tuple[int, bool, str]:
    """Return what rules are ordered by."""
    return -rule.priority, rule.allow, rule.name


class RuleSet:
    """The rules of a V-net. Never changes but for what it remembers of its own results."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(sorted(rules, key=sort_key))
        self._bits: dict[str, int] = {}
        self._prefixes: dict[int, dict[int, dict[int, int]]] = {}  # family → shift → network >> shift → bit
        self._group_masks: dict[frozenset[str], int] = {}
        for rule in self.rules:
            for selector in (rule.source, rule.destination):
                self._add_selector(selector)
        self._compiled = [
            (self._bits[rule.source], self._bits[rule.destination], rule) for rule in self.rules
        ]
        self._matches: dict[tuple[int, int], tuple[Match, ...]] = {}

    def mask(self, side: Side) -> int:
        """Return the bits of the selectors that select this side."""
        mask = self.member_mask(side.endpoint, side.groups) if side.endpoint else self._bits.get("any", 0)
        return mask | self.address_mask(side.family, side.address)

    def member_mask(self, endpoint: str, groups: frozenset[str]) -> int:
        """Return the bits of the selectors that select an endpoint, whatever its address."""
        mask = self._group_masks.get(groups)
        if mask is None:
            mask = self._bits.get("any", 0)
            for group in groups:
                mask |= self._bits.get("group:" + group, 0)
            if len(self._group_masks) >= _MEMO_MAX:
                self._group_masks.clear()
            self._group_masks[groups] = mask
        return mask | self._bits.get(endpoint, 0)

    def address_mask(self, family: int, address: bytes) -> int:
        """Return the bits of the prefixes that select an address."""
        mask = 0
        prefixes = self._prefixes.get(family)
        if prefixes:
            number = int.from_bytes(address, "big")
            for shift, bits in prefixes.items():
                mask |= bits.get(number >> shift, 0)
        return mask

    def matches(self, source: int, destination: int) -> tuple[Match, ...]:
        """Return the rules that can match between two masks, in order, up to the first that ignores ports."""
        found = self._matches.get((source, destination))
        if found is None:
            found = tuple(self._find(source, destination))
            if len(self._matches) >= _MEMO_MAX:
                self._matches.clear()
            self._matches[source, destination] = found
        return found

    def _add_selector(self, selector: str) -> None:
        if selector in self._bits:
            return
        bit = 1 << len(self._bits)
        self._bits[selector] = bit
        if "/" in selector:
            network = ipaddress.ip_network(selector)
            packed, bits = pack_network(network)
            shift, number = 128 - bits, int.from_bytes(packed, "big")
            by_shift = self._prefixes.setdefault(network.version, {})
            by_shift.setdefault(shift, {}).setdefault(number >> shift, 0)
            by_shift[shift][number >> shift] |= bit

    def _find(self, source: int, destination: int) -> Iterable[Match]:
        for from_bit, to_bit, rule in self._compiled:
            forward = bool(source & from_bit and destination & to_bit)
            backward = rule.both_directions and bool(source & to_bit and destination & from_bit)
            if forward or backward:
                yield Match(rule, forward, backward)
                if rule.plain:
                    return


def matches_ports(match: Match, protocol: int, source_port: int, destination_port: int) -> bool:
    """Tell whether a rule matches a packet between its two sides."""
    rule = match.rule
    if rule.protocol:
        if rule.protocol != protocol:
            return False
        if rule.ports:
            if match.forward and _in_ranges(rule.ports, destination_port):
                return True
            return match.backward and _in_ranges(rule.ports, source_port)
    return True


def first_match(
    matches: tuple[Match, ...], protocol: int, source_port: int, destination_port: int
) -> Rule | None:
    """Return the rule that decides a packet, None if there is none."""
    for match in matches:
        if matches_ports(match, protocol, source_port, destination_port):
            return match.rule
    return None


def is_pair(matches: tuple[Match, ...]) -> bool:
    """Tell whether the two addresses alone decide: nothing looks at ports before the first rule that does
    not."""
    return not matches or matches[0].rule.plain


def like_ports(matches: tuple[Match, ...], protocol: int, destination_port: int) -> tuple[int, int] | None:
    """Return the widest range of destination ports around one that gives the same result whatever the
    source port.

    None if a rule looks at the source port.
    """
    low, high = 0, 65535
    for match in matches:
        rule = match.rule
        if rule.protocol and rule.protocol != protocol:
            continue
        if not rule.ports:
            break
        if match.backward:
            return None
        for first, last in rule.ports:
            if last < destination_port:
                low = max(low, last + 1)
            elif first > destination_port:
                high = min(high, first - 1)
            else:
                low, high = max(low, first), min(high, last)
        if _in_ranges(rule.ports, destination_port):
            break
    return low, high


def _in_ranges(ranges: tuple[tuple[int, int], ...], port: int) -> bool:
    return any(low <= port <= high for low, high in ranges)
