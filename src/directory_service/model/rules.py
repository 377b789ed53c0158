# SPDX-License-Identifier: Apache-2.0
"""The rules of one V-net, compiled: who is selected, and which rule decides a connection.

Order: higher priority first; of equal priority deny before allow, then by name. The first that matches
decides.

Rules keep no state. A rule speaks of connections from `from` to `to` and matches their packets both ways:
towards `to` by destination port, on the way back (source in `to`, destination in `from`) by source port, and
of an allow only towards the ports that clients open connections from (`answer_ports`): an answer cannot be
told from a first packet, so the way back must lead to no port at which somebody listens. An allow from A to B
for tcp 5432 lets B answer from port 5432 to ports 32768 to 65535 of A, and nothing else of B. An allow
without ports, or without protocol, is guarded likewise. `direction = "forward"` matches only the way there.
Non-IP traffic is matched by rules without protocol whose selectors are endpoints, groups or any; it has no
ports, and so has ICMP: they match both ways whole.

Each distinct selector has a bit. Who has the same bits is treated alike, so the rules that can matter for two
sides are found once for each pair of bit sets.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from directory_client.vocabulary.addresses import pack_network
from directory_service.kinds.rule import ALL_PORTS, WITH_PORTS, Ranges, Rule

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
    """A rule that can match two sides, and in which directions. `plain`: the two addresses decide."""

    rule: Rule
    forward: bool
    backward: bool
    plain: bool


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
                plain = rule.plain and (forward or rule.answer_ports == ALL_PORTS)
                yield Match(rule, forward, backward, plain)
                if plain:
                    return


def of_macs(matches: tuple[Match, ...]) -> tuple[Match, ...]:
    """Return those of the rules that judge non-IP traffic, which has no ports."""
    return tuple(replace(match, plain=True) for match in matches if match.rule.plain)


def matches_ports(match: Match, protocol: int, source_port: int, destination_port: int) -> bool:
    """Tell whether a rule matches a packet between its two sides."""
    if match.rule.protocol and match.rule.protocol != protocol:
        return False
    return matches_there(match, destination_port) or (
        match.backward and answers(match.rule, protocol, source_port, destination_port)
    )


def matches_there(match: Match, destination_port: int) -> bool:
    """Tell whether a rule matches a packet of its protocol as one of the way there, not of the way back."""
    return match.forward and (not match.rule.ports or in_ranges(match.rule.ports, destination_port))


def answers(rule: Rule, protocol: int, source_port: int, destination_port: int) -> bool:
    """Tell whether the ports of a packet of the way back are those of an answer."""
    if rule.ports and not in_ranges(rule.ports, source_port):
        return False
    return protocol not in WITH_PORTS or in_ranges(rule.answer_ports, destination_port)


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
    return not matches or matches[0].plain


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
        if match.forward and not rule.ports:
            break
        if match.backward and rule.ports:
            return None
        ranges = rule.ports
        if match.backward:
            ranges = rule.answer_ports if protocol in WITH_PORTS else ALL_PORTS
        for first, last in ranges:
            if last < destination_port:
                low = max(low, last + 1)
            elif first > destination_port:
                high = min(high, first - 1)
            else:
                low, high = max(low, first), min(high, last)
        if in_ranges(ranges, destination_port):
            break
    return low, high


def in_ranges(ranges: Ranges, port: int) -> bool:
    """Tell whether a port is in one of some ranges."""
    return any(low <= port <= high for low, high in ranges)
