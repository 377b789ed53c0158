# SPDX-License-Identifier: Apache-2.0
"""Which rules of a V-net changed, for which ports, and whether what is cached for two addresses changed.

A rule that looks at ports changes what is cached for a *pair* only where the pair had no such rule
before, or has none left: its entry then says "look at the ports", or no longer says so. Elsewhere only
connections change, those to the rule's ports. To tell, all pairs of members that rules can tell apart are
looked at, before and after; where these are too many, pairs count as touched.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from directory_client.vocabulary.addresses import pack_network
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.kinds.rule import ALL_PORTS, Ranges, Rule
from directory_service.model.member import FAMILY_MAC, keys_of
from directory_service.model.rules import RuleSet, is_pair
from directory_service.model.vnet import VnetState

_LOOKED_AT_MAX = 200_000
_ADDRESSES_MAX = 20_000


class RuleChange(NamedTuple):
    """A rule that came or went, the ports for which it did, and whether it touched pairs. `answers`: it did
    on the way back only."""

    kind: ChangeKind
    rule: Rule
    state: VnetState
    ports: Ranges
    pairs: bool
    answers: bool = False


def find_rule_changes(old: VnetState, new: VnetState) -> list[RuleChange]:
    """Return what rules say no longer, and what they say now."""
    if old.rules is new.rules:
        return []
    changes: list[RuleChange] = []
    for name in old.rules.keys() | new.rules.keys():
        one, other = old.rules.get(name), new.rules.get(name)
        gone = one.ports if one is not None and one.ports else ALL_PORTS
        come = other.ports if other is not None and other.ports else ALL_PORTS
        if one is not None and other is not None and _differ_by_ports(one, other):
            changes += _compare_answers(one, old, other, new)
            gone, come = _without(gone, come), _without(come, gone)
        if one is not None and gone:
            kind = ChangeKind.LOOSEN if one.refuses else ChangeKind.TIGHTEN
            changes.append(RuleChange(kind, one, old, gone, one.plain))
        if other is not None and come:
            kind = ChangeKind.TIGHTEN if other.refuses else ChangeKind.LOOSEN
            changes.append(RuleChange(kind, other, new, come, other.plain))
    if all(change.pairs for change in changes):
        return changes
    touched = _rules_that_touch_pairs(old, new)
    return [
        change._replace(pairs=change.pairs or touched is None or change.rule.name in touched)
        for change in changes
    ]


def _compare_answers(one: Rule, old: VnetState, other: Rule, new: VnetState) -> Iterator[RuleChange]:
    """Yield the way back of a rule whose answers may lead elsewhere now; if it names ports, by those."""
    for kind, rule, state, ports in (
        (ChangeKind.TIGHTEN, one, old, _without(one.answer_ports, other.answer_ports)),
        (ChangeKind.LOOSEN, other, new, _without(other.answer_ports, one.answer_ports)),
    ):
        if ports and rule.both_directions:
            yield RuleChange(kind, rule, state, rule.ports or ports, rule.plain, answers=True)


def _differ_by_ports(one: Rule, other: Rule) -> bool:
    """Tell whether two versions of a rule are the same but for their ports (or wholly the same)."""
    return one.id == other.id and _without_ports(one) == _without_ports(other)


def _without_ports(rule: Rule) -> tuple[object, ...]:
    return (
        rule.allow,
        rule.source,
        rule.destination,
        rule.protocol,
        rule.both_directions,
        rule.priority,
        rule.needs,
    )


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    """Return the ports that are in some ranges and in none of the others."""
    left = list(ranges)
    for low, high in others:
        cut: list[tuple[int, int]] = []
        for first, last in left:
            if first < low:
                cut.append((first, min(last, low - 1)))
            if last > high:
                cut.append((max(first, high + 1), last))
        left = [(first, last) for first, last in cut if first <= last]
    return tuple(dict.fromkeys(left))


def _rules_that_touch_pairs(old: VnetState, new: VnetState) -> set[str] | None:
    """Return names of rules that are first between two sides, in one of two states of which only one looks at
    ports; None: too many to look at."""
    sides = _sides(old, new)
    rules = len(old.rules) + len(new.rules)
    if sides is None or len(sides) ** 2 * rules > _LOOKED_AT_MAX:
        return None
    touched: set[str] = set()
    for source_before, source_after in sides:
        for before, after in sides:
            was = old.rule_set.matches(source_before, before)
            now = new.rule_set.matches(source_after, after)
            if is_pair(was) != is_pair(now):
                touched.update(matches[0].rule.name for matches in (was, now) if matches)
    return touched


def _sides(old: VnetState, new: VnetState) -> set[tuple[int, int]] | None:
    """Return what the two rule sets can tell apart among members and what is behind routes, as their masks.
    Whose groups or addresses changed is told by changes of their own."""
    sets = (old.rule_set, new.rule_set)
    prefixes = sorted({one for rules in sets for one in _prefix_selectors(rules)})
    if prefixes and len(new.members) > _ADDRESSES_MAX:
        return None
    named = {
        selector for rules in sets for rule in rules.rules for selector in (rule.source, rule.destination)
    }
    found: set[tuple[int, int]] = set()
    kinds: set[tuple[str, frozenset[str]]] = set()
    for name, member in new.members.items():
        kind = (name if name in named else "", member.endpoint.groups)
        if not prefixes:
            kinds.add(kind)
            continue
        for family, address in keys_of(member.endpoint):
            if family != FAMILY_MAC:  # only rules without ports judge MACs
                found.add(_masks(sets, *kind, family, address))
    found.update(_masks(sets, *kind, 0, b"") for kind in kinds)
    for state in (old, new):
        for route in state.routes.values():
            for address in _addresses_told_apart(route.prefix, prefixes):
                found.add(_masks(sets, None, frozenset(), route.prefix.version, address))
    return found


def _masks(
    sets: tuple[RuleSet, RuleSet], name: str | None, groups: frozenset[str], family: int, address: bytes
) -> tuple[int, int]:
    old, new = sets
    masks = []
    for rules in (old, new):
        mask = rules.member_mask(name or "", frozenset() if name is None else groups)
        masks.append(mask | rules.address_mask(family, address) if address else mask)
    return masks[0], masks[1]


def _prefix_selectors(rules: RuleSet) -> Iterator[str]:
    for rule in rules.rules:
        yield from (one for one in (rule.source, rule.destination) if "/" in one)


def _addresses_told_apart(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, prefixes: Iterable[str]
) -> set[bytes]:
    """Return addresses of a prefix, one at least of each part that rules' prefixes cut it into."""
    packed, bits = pack_network(network)
    first = int.from_bytes(packed, "big")
    last = first + (1 << (128 - bits)) - 1
    found = {first}
    for text in prefixes:
        other = ipaddress.ip_network(text)
        if other.version == network.version:
            start, length = pack_network(other)
            low = int.from_bytes(start, "big")
            found |= {one for one in (low, low + (1 << (128 - length))) if first <= one <= last}
    return {number.to_bytes(16, "big") for number in found}
