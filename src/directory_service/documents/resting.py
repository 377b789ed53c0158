# SPDX-License-Identifier: Apache-2.0
"""A number that was taken away rests: it is nobody else's until no gateway forwards by its old meaning. Pure.

Packets carry numbers: a VNI between gateways of ours, an id towards a foreign node, locators outside. A
gateway that has not taken up a removal, because it is cut off or hangs, still sends by the old meaning: were
the number another owner's by then, the packets of one tenant would arrive at another.

So the commit that takes a number away writes down, under `rest/` beside the records, whose it was and which
gateways knew it, each with the revision of the removal. The number may be another owner's once each of them

- has reported, in this era, a revision in force that is not below that one; or
- is not declared any more, and has been silent for so long that its flows have ended; or
- was released by an operator who knows that its machine is off.

Its old owner may have it back at any time. What no gateway knew does not rest. Between gateways of ours a
locator changes hands freely: a VNI means the same at both.

    rests = read_rests(store)
    coming, faults = judge(before, after, changes, rests, reports, settings)
    writes = rest_writes(rests, coming)                       # with the records, in one transaction
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgpack

from directory_client.vocabulary.addresses import looks_ipv6, unpack_address
from directory_client.vocabulary.names import suggest
from directory_service.kinds.node import Node
from directory_service.kinds.records import Record
from directory_service.kinds.together import Fault
from directory_service.model.fabric import Fabric
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Store, StoreError, Write

PREFIX = "rest/"
ALIVE_S = 10.0  # a gateway that was heard so lately is not off
MARGIN_S = 60  # a gateway notices a little later than the directory that they do not hear each other
NAMES_SHOWN = 5


class Number(NamedTuple):
    """What rests: ("vni", "7002"), ("id", "leaf/42") or ("locator", "203.0.113.7")."""

    kind: str
    name: str

    @property
    def key(self) -> str:
        """Its key in the store."""
        return f"{PREFIX}{self.kind}/{self.name}"

    def __str__(self) -> str:
        node, _, wire = self.name.partition("/")
        return f"id {wire} at {node}" if self.kind == "id" else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Rest:
    """Whose a number was (a V-net, or of a locator a node), and which gateways knew it: node → revision of
    the removal there. `quiet_s`: who was silent for so long does not forward by it any more. `foreign`: a
    locator's owner was a foreign node, where ids have meanings of their own."""

    owner: str
    quiet_s: int
    nodes: Mapping[str, int]
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Reports:
    """What gateways have reported. `revisions`: what is in force at each, reported in the era of
    `incarnation`; `silent_s`: since when each was not heard; `listened_s`: for how long this directory has
    listened at all."""

    incarnation: int = 0
    revisions: Mapping[str, int] = field(default_factory=dict)
    silent_s: Mapping[str, float] = field(default_factory=dict)
    listened_s: float = 0.0

    def of(self, incarnation: int) -> "Reports":
        """Return what counts in an era: revisions of another one mean nothing."""
        return self if incarnation == self.incarnation else replace(self, revisions={})

    def silence_s(self, node: str) -> float:
        """Return for how long a node was not heard, as far as this directory can know."""
        return self.silent_s.get(node, self.listened_s)


NO_REPORTS = Reports()
Rests = Mapping[Number, Rest]


def read_rests(store: Store) -> dict[Number, Rest]:
    """Return what rests. Raises StoreError for what cannot be read."""
    rests, unreadable = read_readable(store)
    if unreadable:
        raise StoreError(min(unreadable.values()))
    return rests


def read_readable(store: Store) -> tuple[dict[Number, Rest], dict[Number, str]]:
    """Return what rests, and of what cannot be read why: it is damaged, or a newer program has written it."""
    rests: dict[Number, Rest] = {}
    unreadable: dict[Number, str] = {}
    for item in store.range(PREFIX)[1]:
        kind, _, name = item.key.removeprefix(PREFIX).partition("/")
        try:
            owner, quiet_s, nodes, foreign = msgpack.unpackb(item.value)
            rests[Number(kind, name)] = Rest(owner, quiet_s, dict(nodes), foreign)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            unreadable[Number(kind, name)] = f"{item.key} of revision {item.modified} cannot be read: {error}"
    return rests, unreadable


def judge(
    before: Snapshot,
    after: Snapshot,
    changes: Iterable[tuple[Record | None, Record | None]],
    rests: Rests,
    reports: Reports,
    settings: Settings,
) -> tuple[Rests, list[Fault]]:
    """Return what rests after a change, and what the change gives to somebody else though it rests."""
    released = find_released(before, after, changes, rests, settings)
    reports = reports.of(before.incarnation)
    coming = merge(rests, released, reports, before.fabric)
    return coming, list(find_resting(before, after, coming, reports))


def release_refusal(node: str, rests: Rests, reports: Reports, fabric: Fabric) -> Refused | None:
    """Return why a node's word is not to be done without; None: an operator may answer for it."""
    owing = merge(rests, {}, reports, fabric)
    late = sorted({name for rest in owing.values() for name in rest.nodes})
    if node not in late:
        whose = f"numbers rest because of {_list(late)}" if late else "no number rests"
        return Refused(f"no number rests because of {node}: {whose}", suggest(node, late) if late else "")
    if node in reports.silent_s and reports.silence_s(node) < ALIVE_S:
        return Refused(
            f"{node} was heard {reports.silence_s(node):.0f} s ago: its machine is not off",
            f"wait until it has reported (vnetctl show nodes), or stop it; {ALIVE_S:.0f} s after that,"
            f" vnetctl release {node}",
        )
    return None


def find_released(
    before: Snapshot,
    after: Snapshot,
    changes: Iterable[tuple[Record | None, Record | None]],
    rests: Rests,
    settings: Settings,
) -> dict[Number, Rest]:
    """Return the numbers that a change takes away from gateways that knew them."""
    records = [record for change in changes for record in change if record is not None]
    names = {record.vnet for record in records if record.vnet}
    nodes = {record.name for record in records if record.kind == "node"}
    names |= _vnets_at(before, {name for name in nodes if _is_foreign(before.fabric.nodes.get(name))})
    released: dict[Number, Rest] = {}
    for name in names:
        old = before.vnets.get(name)
        if old is not None and old.vnet is not None:
            released |= _released_of(before, after, old, after.vnets.get(name), settings)
    for name in nodes:
        released |= _locators_of(before, after, name, rests, settings)
    return released


def merge(
    rests: Rests, released: Rests, reports: Reports, fabric: Fabric, release: str = ""
) -> dict[Number, Rest]:
    """Return what rests after a change: without what gateways have reported, and without the node `release`
    that an operator answers for."""
    merged: dict[Number, Rest] = {}
    for number in rests.keys() | released.keys():
        old, new = rests.get(number), released.get(number)
        nodes = dict(_owed(old, reports, fabric)) if old is not None else {}
        nodes.pop(release, None)
        if new is not None:
            quiet_s = max(new.quiet_s, old.quiet_s if old is not None and nodes else 0)
            merged[number] = replace(new, quiet_s=quiet_s, nodes={**nodes, **new.nodes})
        elif old is not None and nodes:
            merged[number] = replace(old, nodes=nodes)
    return merged


def find_resting(before: Snapshot, after: Snapshot, rests: Rests, reports: Reports) -> Iterator[Fault]:
    """Yield the numbers that a change gives to somebody else while they rest, as `merge` says."""
    for number in sorted(rests):
        rest = rests[number]
        holder = find_holder(after, number)
        if holder in (None, rest.owner, find_holder(before, number)):
            continue
        if number.kind != "locator" or rest.foreign or _is_foreign(after.fabric.nodes.get(str(holder))):
            yield _fault(number, rest, str(holder), before, after, rests, reports)


def rest_writes(rests: Rests, coming: Rests) -> list[Write]:
    """Return what a commit writes, so that `coming` rests instead of `rests`."""
    writes = []
    for number in sorted(rests.keys() | coming.keys()):
        rest = coming.get(number)
        if rest is None:
            writes.append(Write(number.key, None))
        elif rest != rests.get(number):
            value = [rest.owner, rest.quiet_s, dict(sorted(rest.nodes.items())), rest.foreign]
            writes.append(Write(number.key, msgpack.packb(value)))
    return writes


def withheld(
    rests: Rests, node: str, said: Iterable[str], reports: Reports, snapshot: Snapshot
) -> dict[str, Refused]:
    """Return which of the locators that a gateway says it has rest for another node yet, and why."""
    found: dict[str, Refused] = {}
    for locator in said:
        number = Number("locator", locator)
        rest = rests.get(number)
        if rest is None or not rest.foreign or node in (rest.owner, snapshot.fabric.declared.get(locator)):
            continue
        owed = dict(_owed(rest, reports.of(snapshot.incarnation), snapshot.fabric))
        if owed:
            rest = replace(rest, nodes=owed)
            fault = _fault(number, rest, node, snapshot, snapshot, rests, reports)
            found[locator] = Refused(fault.problem, fault.fix)
    return found


def find_holder(snapshot: Snapshot, number: Number) -> str | None:
    """Return whose a number is: a V-net's name, of a locator a node's; None: nobody's."""
    if number.kind == "locator":
        return snapshot.fabric.declared.get(number.name)
    if number.kind == "vni":
        state = snapshot.by_vni.get(int(number.name))
        return state.vnet.name if state is not None and state.vnet is not None else None
    node_name, _, wire = number.name.partition("/")
    node = snapshot.fabric.nodes.get(node_name)
    if node is None or not node.foreign:
        return None
    for vnet, id_ in node.ids.items():
        if id_ == int(wire):
            return vnet
    state = snapshot.by_vni.get(int(wire))
    if state is None or state.vnet is None or state.vnet.name in node.ids or node_name not in _others(state):
        return None
    return state.vnet.name


def _is_foreign(node: Node | None) -> bool:
    return node is not None and node.foreign


def _others(state: VnetState) -> frozenset[str]:
    """Return the nodes towards which a V-net is carried, as view.py has them."""
    relays = state.vnet.relays if state.vnet is not None else frozenset()
    return state.nodes_concerned() | relays if relays else state.nodes_concerned()


def _vnets_at(snapshot: Snapshot, nodes: set[str]) -> set[str]:
    if not nodes:
        return set()
    return {name for name, state in snapshot.vnets.items() if not nodes.isdisjoint(_others(state))}


def _wire(state: VnetState, node: Node) -> int:
    return node.ids.get(state.vnet.name, state.vnet.vni) if state.vnet is not None else 0


def _quiet_s(stale_max_s: int, settings: Settings) -> int:
    """Return how long flows may go on at a gateway that nobody reaches, in seconds."""
    stale_s = settings.stale_max_s if stale_max_s < 0 else stale_max_s
    return int(max(stale_s, settings.lifetime_s * (1 + settings.jitter_ratio))) + MARGIN_S


def _released_of(
    before: Snapshot, after: Snapshot, old: VnetState, new: VnetState | None, settings: Settings
) -> dict[Number, Rest]:
    """Return what gateways no longer know of one V-net: its VNI, and its ids at foreign nodes."""
    vnet = old.vnet
    if vnet is None:
        return {}
    here = new is not None and new.vnet is not None and new.vnet.vni == vnet.vni
    hosts = old.attachments_by_node.keys()
    gone = hosts - (new.attachments_by_node.keys() if here and new is not None else set())
    revision, quiet_s = after.revision, _quiet_s(vnet.stale_max_s, settings)

    def rest(nodes: Iterable[str]) -> Rest:
        return Rest(vnet.name, quiet_s, dict.fromkeys(nodes, revision))

    released = {Number("vni", str(vnet.vni)): rest(gone)} if gone else {}
    still = _others(new) if here and new is not None else frozenset()
    for name in _others(old):
        node, then = before.fabric.nodes.get(name), after.fabric.nodes.get(name)
        if node is None or not node.foreign:
            continue
        wire = _wire(old, node)
        same = name in still and then is not None and then.foreign and _wire(new or old, then) == wire
        if owing := gone if same else hosts:
            released[Number("id", f"{name}/{wire}")] = rest(owing)
    return released


def _locators_of(
    before: Snapshot, after: Snapshot, name: str, rests: Rests, settings: Settings
) -> dict[Number, Rest]:
    """Return the locators that a node loses. Tunnels to a node may be older than the V-nets that it shares
    now: every gateway that hosts anything counts, or might be late with something."""
    node, then = before.fabric.nodes.get(name), after.fabric.nodes.get(name)
    if node is None:
        return {}
    lost = [one for one in node.locators if then is None or one not in then.locators]
    if not lost:
        return {}
    owing = {late for rest in rests.values() for late in rest.nodes}
    if not node.foreign or any(name in _others(state) for state in before.vnets.values()):
        owing |= {host for state in before.vnets.values() for host in state.attachments_by_node}
    if not owing:
        return {}
    stale = (state.vnet.stale_max_s for state in before.vnets.values() if state.vnet is not None)
    quiet_s = max((_quiet_s(one, settings) for one in stale), default=_quiet_s(-1, settings))
    rest = Rest(name, quiet_s, dict.fromkeys(owing, after.revision), node.foreign)
    return {Number("locator", unpack_address(one, looks_ipv6(one))): rest for one in lost}


def _owed(rest: Rest, reports: Reports, fabric: Fabric) -> Iterator[tuple[str, int]]:
    """Yield the gateways that may still forward by a number, and the revision that each is to report."""
    for node, revision in rest.nodes.items():
        if reports.revisions.get(node, -1) >= revision:
            continue
        if node not in fabric.nodes and reports.silence_s(node) > rest.quiet_s:
            continue
        yield node, revision


def _fault(
    number: Number,
    rest: Rest,
    holder: str,
    before: Snapshot,
    after: Snapshot,
    rests: Rests,
    reports: Reports,
) -> Fault:
    key, field_ = _where(number, holder, after)
    was = f"node {rest.owner}'s" if number.kind == "locator" else f"V-net {rest.owner}'s"
    other = _another(number, after, rests)
    owed = rest.nodes
    if after is not before and after.revision in owed.values():
        problem = (
            f"{number} is {was} until this very change, and {_list(sorted(owed))} may forward by it for a"
            " moment longer"
        )
        first = f"without {rest.owner}" if number.kind == "vni" else f"without it for {rest.owner}"
        return Fault(key, field_, problem, f"apply {first} first, then give it to {holder}{other}")
    told = [_describe(node, rest, before, reports) for node in sorted(owed)]
    problem = (
        f"{number} was {was} until revision {max(owed.values())}, and may still be in use at {_list(told)}:"
        " that it is gone has not been reported there"
    )
    fix = (
        f"connect {_list(sorted(owed))} to the directory again{other}; only if the machine is off for good:"
        f"  vnetctl release {min(owed)}"
    )
    return Fault(key, field_, problem, fix)


def _where(number: Number, holder: str, after: Snapshot) -> tuple[str, str]:
    """Return the key of the record, and its field, that gives a number to its new holder."""
    if number.kind == "locator":
        return f"node/{holder}", "locators"
    if number.kind == "id":
        name = number.name.partition("/")[0]
        node = after.fabric.nodes.get(name)
        if node is not None and holder in node.ids:
            return f"node/{name}", "ids"
    return f"vnet/{holder}", "vni"


def _another(number: Number, after: Snapshot, rests: Rests) -> str:
    if number.kind != "vni":
        return ", or choose another"
    taken = {int(one.name) for one in rests if one.kind == "vni"} | after.by_vni.keys()
    first = int(number.name) + 1
    free = next(number for number in range(first, first + len(taken) + 1) if number not in taken)
    return f", or choose another, for example {free}"


def _describe(node: str, rest: Rest, before: Snapshot, reports: Reports) -> str:
    silence_s = reports.silence_s(node)
    if node not in before.fabric.nodes:
        left_s = max(1, round(rest.quiet_s - silence_s))
        return f"{node} (not declared any more: {left_s} s more of silence from it are needed)"
    if node not in reports.silent_s:
        return f"{node} (not heard since this directory began, {silence_s:.0f} s ago)"
    return f"{node} (heard {silence_s:.0f} s ago)" if silence_s > 1.5 else node


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
