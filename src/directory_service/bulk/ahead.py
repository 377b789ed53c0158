# SPDX-License-Identifier: Apache-2.0
"""Learn sides (sides.py) before anybody asks, while nobody does.

For each node that asks this server, the addresses of the V-nets that it hosts, a few at a time. A change of
endpoints brings up their addresses again, any other change of a V-net all of it, one of the fabric
everything. Where there are more than a share of the table holds, the rest is learned when it is asked about:
what is learned ahead saves time and changes no answer.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import numpy as np

from directory_service.bulk.sides import SIDES_MAX, Sides
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

ADDRESSES_MAX = 128  # at a time: 0.2 to 0.5 ms, for which a question waits at most
WORKS_MAX = 64  # V-nets of nodes at a time, where each has few addresses: some 8 µs each
SIDES_AHEAD_MAX = SIDES_MAX // 4

_FAMILIES = (FAMILY_IPV4, FAMILY_IPV6)  # questions about MACs are rare


class _Work(NamedTuple):
    """Addresses of a V-net to be learned as a node sees them."""

    node: str
    vni: int
    family: int
    addresses: Iterator[bytes]


class _Seen(NamedTuple):
    """A state of a V-net whose addresses are learned, or are work; and the nodes that hosted it then."""

    token: object
    hosts: frozenset[str]


_NOTHING_SEEN = _Seen(None, frozenset())


class Ahead:
    """See the module. `sides` are those of whoever calls, who has them follow each snapshot first."""

    def __init__(self, sides: Sides) -> None:
        self._sides = sides
        self._nodes: set[str] = set()
        self._new_nodes: set[str] = set()  # of which nothing is work yet
        self._work: deque[_Work] = deque()
        self._snapshot: Snapshot | None = None
        self._seen: dict[int, _Seen] = {}  # by VNI
        self._generation: object = None

    def expect(self, node: str) -> None:
        """Take note of a node that asks."""
        if node not in self._nodes:
            self._nodes.add(node)
            self._new_nodes.add(node)

    def waits(self, snapshot: Snapshot) -> bool:
        """Tell whether `learn` has something to do."""
        news = bool(self._new_nodes) or snapshot is not self._snapshot
        return bool(self._nodes) and (news or bool(self._work))

    def learn(self, snapshot: Snapshot) -> None:
        """Learn some addresses."""
        self._follow(snapshot)
        if self._work and self._sides.count + ADDRESSES_MAX > SIDES_AHEAD_MAX:
            self._work.clear()
        if not self._work:
            return
        found: list[bytes] = []
        tags: list[int] = []
        for _ in range(WORKS_MAX):
            while self._work and len(found) < ADDRESSES_MAX:
                work = self._work[0]
                some = list(islice(work.addresses, ADDRESSES_MAX - len(found)))
                state, here = snapshot.by_vni.get(work.vni), snapshot.fabric.nodes.get(work.node)
                if some and state is not None and here and work.node in state.attachments_by_node:
                    tags += [self._sides.tag(here, state, work.family)] * len(some)
                    found += some
                    break
                self._work.popleft()
        if found:
            high, low = np.frombuffer(b"".join(found), "<u8").reshape(-1, 2).T
            self._sides.find(np.array(tags, np.uint64), np.ascontiguousarray(high), np.ascontiguousarray(low))

    def _follow(self, snapshot: Snapshot) -> None:
        """Find out what may not be learned, or not any more."""
        if self._generation is not self._sides.generation:
            self._generation = self._sides.generation
            self._work.clear()
            self._seen.clear()
            self._snapshot = None
        self._follow_changes(snapshot)
        for vni, state in snapshot.by_vni.items() if self._new_nodes else ():
            self._add(vni, state, self._new_nodes, _everybody(state))
        self._new_nodes.clear()

    def _follow_changes(self, snapshot: Snapshot) -> None:
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        known = self._nodes - self._new_nodes
        for vni in self._seen.keys() - snapshot.by_vni.keys():
            del self._seen[vni]
        for vni, state in snapshot.by_vni.items():
            before = self._seen.get(vni, _NOTHING_SEEN)
            if before.token is state.token:
                continue
            self._seen[vni] = _Seen(state.token, frozenset(state.attachments_by_node))
            step, hosts = state.step, before.hosts
            if step is None or step.before is not before.token or step.routes:
                step, hosts = None, frozenset()
            self._add(vni, state, known - hosts, _everybody(state))
            if step is not None:
                by_family = {family: [key for one, key in step.keys if one == family] for family in _FAMILIES}
                self._add(vni, state, known & hosts, by_family)

    def _add(
        self, vni: int, state: VnetState, nodes: set[str], by_family: Mapping[int, Collection[bytes]]
    ) -> None:
        for node in sorted(nodes & state.attachments_by_node.keys()):
            for family, addresses in by_family.items():
                if addresses:
                    self._work.append(_Work(node, vni, family, iter(addresses)))


def _everybody(state: VnetState) -> dict[int, Collection[bytes]]:
    """Return all known addresses of a V-net."""
    return {family: state.by_address[family] for family in _FAMILIES}
