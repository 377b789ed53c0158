# SPDX-License-Identifier: Apache-2.0
"""Which gateway has which locators and ports, from what gateways say of themselves. Pure but for the facts.

A locator that a document declares is its node's, whoever claims it. Any other belongs to the gateway that
claimed it first, for as long as that one is heard and goes on claiming it. A gateway gets whatever of its
claim is free; the rest is a conflict, which ends by itself once the other is silent or claims it no longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgpack

from directory_client.vocabulary.addresses import parse_address
from directory_client.vocabulary.names import PORT
from directory_service.facts.contract import Facts
from directory_service.model.fabric import Fabric, Presence
from directory_service.rates import Rates
from directory_service.refused import Refused

KEY = "presence"
KEPT_S = 7 * 86_400.0  # how long the locators of a silent gateway are known
CLAIMED_MAX = 64  # locators and ports of a node, together
CHANGES_PER_S = 4  # of a node; more are taken up a little later


class Conflict(NamedTuple):
    """A locator that a gateway claims and another node has; `declared`: by a document."""

    locator: str
    holder: str
    declared: bool

    def describe(self, node: str) -> dict[str, Any]:
        """Return the conflict in words: the problem names both nodes, the remedy what to type."""
        if self.declared:
            problem = f"{node} says it has locator {self.locator}, which is declared for {self.holder}"
            fix = f"correct locators in [node.{self.holder}] of the document, or the address on {node}"
        else:
            problem = (
                f"{node} and {self.holder} both say they have locator {self.locator}; {self.holder} keeps it"
            )
            fix = f"give one of them another address, or declare whose it is: locators in [node.{node}]"
        return {"locator": self.locator, "node": node, "holder": self.holder, "problem": problem, "fix": fix}


@dataclass(slots=True)
class _Claim:
    locators: tuple[str, ...]
    ports: tuple[str, ...]
    heard_s: float
    silent_s: float = 0.0  # it may be silent for so long


class Presences:
    """All gateways. `held` is replaced, never changed: snapshots keep it. `node_s`: silent for longer loses
    what another claims. What `facts` has kept counts as just heard."""

    def __init__(self, facts: Facts, node_s: float, now_s: float) -> None:
        self._facts = facts
        self._node_s = node_s
        self._rates = Rates(CHANGES_PER_S)
        self._claims: dict[str, _Claim] = {}
        self._holders: dict[str, str] = {}
        self._conflicts: dict[str, tuple[Conflict, ...]] = {}
        self._read: dict[str, tuple[list[str], list[str], list[str]]] = {}  # what was said, and read of it
        self._packed: dict[str, tuple[Presence, bytes]] = {}
        held: dict[str, Presence] = {}
        for fact in facts.of_key(KEY):
            try:
                locators, ports = msgpack.unpackb(fact.value)
                presence = Presence(tuple(locators), tuple(ports))
            except (ValueError, TypeError):  # of another version: it is said again soon
                continue
            held[fact.owner] = presence
            self._claims[fact.owner] = _Claim(presence.locators, presence.ports, now_s)
            for locator in presence.locators:
                self._holders[locator] = fact.owner
        self.held: Mapping[str, Presence] = held

    def wait_for_silent(self, node_s: float) -> None:
        """Take another `node_s`."""
        self._node_s = node_s

    def read(self, node: str, locators: Sequence[str], ports: Sequence[str]) -> list[str]:
        """Return the locators that a gateway says it has, as they are written here. It says the same once a
        second: that is read once. Raises Refused for what cannot be."""
        before = self._read.get(node)
        if before is not None and before[0] == locators and before[1] == ports:
            return before[2]
        try:
            said = list(dict.fromkeys(str(parse_address(text)) for text in locators))
        except ValueError as error:
            raise Refused(
                f"{node} announces a bad locator: {error}", "correct locators in gateway.toml", 2
            ) from None
        for port in ports:
            if PORT.fullmatch(port) is None:
                raise Refused(
                    f"{node} announces a bad port name {port!r}", "rename the port in gateway.toml", 2
                )
        if len(locators) + len(ports) > CLAIMED_MAX:
            raise Refused(
                f"{node} announces {len(locators)} locators and {len(ports)} ports; {CLAIMED_MAX} are the"
                " limit",
                "declare the locators that are meant: locators in gateway.toml",
                2,
            )
        self._read[node] = (list(locators), list(ports), said)
        return said

    def say(
        self,
        node: str,
        locators: Sequence[str],
        ports: Sequence[str],
        fabric: Fabric,
        now_s: float,
        silent_s: float = 0.0,
    ) -> set[str]:
        """Take what a gateway says of itself; returns the gateways whose `held` is another one now. It may be
        silent for `silent_s`, if that is more than `node_s`."""
        claim = self._claims.get(node)
        said = _Claim(tuple(locators), tuple(ports), now_s, silent_s)
        same = claim is not None and (claim.locators, claim.ports) == (said.locators, said.ports)
        if claim is not None and not same and not self._rates.take(node, 1, now_s):
            claim.heard_s, claim.silent_s = now_s, silent_s
            return set()
        self._claims[node] = said
        if same and node in self.held and not self._conflicts.get(node):
            self._keep(node, now_s)
            if self._is_free_of(fabric, node):
                return set()
        held = dict(self.held)
        changed = self._settle(node, fabric, held, now_s)
        if changed:
            for other in [name for name, found in self._conflicts.items() if found and name != node]:
                changed |= self._settle(other, fabric, held, now_s)
            self.held = held
            for name in changed:
                self._keep(name, now_s)
        return changed

    def expire(self, now_s: float) -> set[str]:
        """Forget gateways that have been silent for KEPT_S; returns them."""
        gone = {fact.owner for fact in self._facts.expire(now_s) if fact.key == KEY}
        if gone:
            self.held = {name: one for name, one in self.held.items() if name not in gone}
            self._holders = {at: name for at, name in self._holders.items() if name not in gone}
            for name in gone:
                self._claims.pop(name, None)
                self._conflicts.pop(name, None)
                self._read.pop(name, None)
                self._packed.pop(name, None)
        return gone

    def is_silent(self, node: str, now_s: float) -> bool:
        """Tell whether a gateway has said nothing of itself for longer than it may."""
        claim = self._claims.get(node)
        return claim is None or now_s - claim.heard_s >= max(self._node_s, claim.silent_s)

    def conflicts(self, node: str) -> list[dict[str, Any]]:
        """Return what a gateway claims in vain, and what to do about it."""
        return [conflict.describe(node) for conflict in self._conflicts.get(node, ())]

    def _is_free_of(self, fabric: Fabric, node: str) -> bool:
        """Tell whether no document has given away what the gateway holds."""
        return all(fabric.declared.get(locator, node) == node for locator in self.held[node].locators)

    def _settle(self, node: str, fabric: Fabric, held: dict[str, Presence], now_s: float) -> set[str]:
        claim = self._claims[node]
        changed: set[str] = set()
        mine: list[str] = []
        conflicts: list[Conflict] = []
        for locator in claim.locators:
            owner = fabric.declared.get(locator)
            holder = self._holders.get(locator)
            if owner is not None and owner != node:
                conflicts.append(Conflict(locator, owner, True))
            elif holder not in (None, node) and self._is_used(holder, locator, fabric, now_s):
                conflicts.append(Conflict(locator, str(holder), False))
            else:
                if holder is not None and holder != node and holder in held:
                    left = tuple(one for one in held[holder].locators if one != locator)
                    held[holder] = held[holder]._replace(locators=left)
                    changed.add(holder)
                self._holders[locator] = node
                mine.append(locator)
        before = held.get(node)
        for locator in before.locators if before is not None else ():
            if locator not in mine and self._holders.get(locator) == node:
                del self._holders[locator]
        held[node] = Presence(tuple(mine), claim.ports)
        self._conflicts[node] = tuple(conflicts)
        return changed | {node} if held[node] != before else changed

    def _is_used(self, holder: str | None, locator: str, fabric: Fabric, now_s: float) -> bool:
        claim = self._claims.get(holder or "")
        node = fabric.nodes.get(holder or "")
        return (
            claim is not None
            and node is not None
            and not node.foreign
            and locator in claim.locators
            and not self.is_silent(holder or "", now_s)
        )

    def _keep(self, node: str, now_s: float) -> None:
        presence = self.held[node]
        before = self._packed.get(node)
        if before is None or before[0] is not presence:
            packed: bytes = msgpack.packb([presence.locators, presence.ports])
            before = self._packed[node] = (presence, packed)
        self._facts.put(node, KEY, before[1], now_s + KEPT_S)
