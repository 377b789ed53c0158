# SPDX-License-Identifier: Apache-2.0
"""Where endpoints that have several places were seen: the place by which their packets came in. Pure but for
the facts.

A question of a gateway says by which attachment a source came in, and from which MAC. That is a sighting: a
fact, not a record. It has no revision and no history, counts only at places that the endpoint's record names,
and ends `lease_s` after the last question. While the gateway that asked is silent the lease does not run,
for `silent_s` at most: that it says nothing is no sign that the endpoint has left.

Two places that both send would take turns. So an endpoint that has moved stays for MOVE_S at least, for twice
as long after each further move within FLAPS_S, and what was seen last counts then. After FLAPS moves
within FLAPS_S it is said to flap.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from directory_service.facts.contract import Facts

KEY = "seen"
MOVE_S = 5.0
STAYS_MAX_S = 160.0
FLAPS_S = 180.0
FLAPS = 4
SIGHTINGS_MAX = 65_536


class Flap(NamedTuple):
    """An endpoint that moves to and fro."""

    vnet: str
    endpoint: str
    place: str
    other: str
    moves: int


@dataclass(slots=True)
class _Sighting:
    place: str
    seen_s: float
    lease_from_s: float
    moved_s: list[float] = field(default_factory=list)  # when it was seen elsewhere, within FLAPS_S
    before: str = ""  # where it was before
    next: str = ""  # where it was seen since, while it has to stay


class Sightings:
    """All of a directory. `held` is by V-net and endpoint; what it holds is replaced, never changed. What
    `facts` has kept counts as just seen."""

    def __init__(self, facts: Facts, lease_s: float, silent_s: float, now_s: float) -> None:
        self._facts = facts
        self.take(lease_s, silent_s)
        self._known: dict[str, dict[str, _Sighting]] = {}  # V-net → endpoint
        for fact in facts.of_key(KEY):
            vnet, _, endpoint = fact.owner.partition("/")
            place = fact.value.decode("utf-8", "replace")
            self._known.setdefault(vnet, {})[endpoint] = _Sighting(place, now_s, now_s)
        self.held: Mapping[str, Mapping[str, str]] = {}
        self._hold(self._known)

    def take(self, lease_s: float, silent_s: float) -> None:
        """Take other durations."""
        self._lease_s, self._silent_s = lease_s, silent_s

    def see(self, vnet: str, endpoint: str, place: str, now_s: float, sent: bool = True) -> bool:
        """Take it that a packet of an endpoint came in at one of its places; returns whether its home is
        another one now. `sent` is False for a question about a flow that was in use some time ago: where
        that came in somebody was, but may have left."""
        known = self._known.get(vnet, {}).get(endpoint)
        if known is None:
            if sum(map(len, self._known.values())) >= SIGHTINGS_MAX:
                return False
            known = self._known.setdefault(vnet, {})[endpoint] = _Sighting(place, now_s, now_s)
            self._keep(vnet, endpoint, known)
            self._hold((vnet,))
            return True
        if known.place == place:
            known.seen_s = known.lease_from_s = now_s
            if sent:
                known.next = ""
            return False
        if not sent:
            return False
        known.next = place
        if not _may_move(known, now_s):
            return False
        self._move(vnet, endpoint, known, now_s)
        self._hold((vnet,))
        return True

    def settle(self, now_s: float, is_silent: Callable[[str], bool]) -> set[str]:
        """Let time pass: what was seen elsewhere counts once it may, and leases end. `is_silent` tells of a
        node. Returns the V-nets in which something is another one now."""
        changed: set[str] = set()
        ended: list[tuple[str, str]] = []
        everybody = [(vnet, *each) for vnet, inside in self._known.items() for each in inside.items()]
        for vnet, endpoint, known in everybody:
            if known.next and _may_move(known, now_s):
                self._move(vnet, endpoint, known, now_s)
                changed.add(vnet)
            elif now_s - known.seen_s < self._silent_s and is_silent(known.place.partition("/")[0]):
                known.lease_from_s = now_s
            elif now_s - known.lease_from_s >= self._lease_s:
                ended.append((vnet, endpoint))
        for vnet, endpoint in ended:
            del self._known[vnet][endpoint]
            self._facts.remove(f"{vnet}/{endpoint}", KEY)
            changed.add(vnet)
        self._hold(changed)
        return changed

    def flaps(self, vnets: Set[str], now_s: float) -> list[Flap]:
        """Return which endpoints of these V-nets flap, in order of names."""
        return sorted(
            Flap(vnet, endpoint, known.place, known.before, len(recent))
            for vnet in vnets & self._known.keys()
            for endpoint, known in self._known[vnet].items()
            if len(known.moved_s) >= FLAPS and len(recent := _recent(known, now_s)) >= FLAPS
        )

    def _move(self, vnet: str, endpoint: str, known: _Sighting, now_s: float) -> None:
        known.before, known.place, known.next = known.place, known.next, ""
        known.seen_s = known.lease_from_s = now_s
        known.moved_s = [*_recent(known, now_s), now_s]
        self._keep(vnet, endpoint, known)

    def _keep(self, vnet: str, endpoint: str, known: _Sighting) -> None:
        self._facts.put(f"{vnet}/{endpoint}", KEY, known.place.encode(), inf)

    def _hold(self, vnets: Iterable[str]) -> None:
        """Say anew what is held of these V-nets."""
        anew = {vnet: {name: one.place for name, one in self._known[vnet].items()} for vnet in vnets}
        if anew:
            self.held = {vnet: found for vnet, found in {**self.held, **anew}.items() if found}


def _recent(known: _Sighting, now_s: float) -> list[float]:
    return [at for at in known.moved_s if now_s - at < FLAPS_S]


def _may_move(known: _Sighting, now_s: float) -> bool:
    recent = _recent(known, now_s)
    return not recent or now_s - recent[-1] >= min(STAYS_MAX_S, MOVE_S * 2 ** (len(recent) - 1))
