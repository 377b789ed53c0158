# SPDX-License-Identifier: Apache-2.0
"""The directory's state as gateways see it: the newest snapshot of a store, decisions, and what is pushed.

No sockets and no threads: one thread calls. What may take long is elsewhere: what operators ask is an
Editor's, and taking up what a store has committed can be left to `Apart`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from directory_client.vocabulary.names import suggest
from directory_client.wire.rows import Rows
from directory_service.bulk.bulk import Bulk
from directory_service.decide.answer import decide_rows
from directory_service.decide.explain import provenance
from directory_service.decide.question import Asker
from directory_service.documents.resting import NO_REPORTS, Number, Reports, Rests, read_readable, withheld
from directory_service.documents.writer import read_counter
from directory_service.editor import Editor
from directory_service.facts.contract import Facts
from directory_service.facts.memory import MemoryFacts
from directory_service.follower import PAGE, Follower
from directory_service.heard import Heard
from directory_service.kinds.node import Node
from directory_service.model.member import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC
from directory_service.model.sightings import Flap
from directory_service.model.snapshot import Snapshot
from directory_service.model.starts import Starts
from directory_service.model.vnet import VnetState
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Compacted, Seen, Store, StoreError, World
from directory_service.views.announcement import late_announcements
from directory_service.views.closings import Closings
from directory_service.views.pushes import Push, Told, push_commit, push_facts, push_reload
from directory_service.views.steps import Apart, Said, Step
from directory_service.views.view import Operation, build_slices, find_ingress

log = logging.getLogger(__name__)

HEARING_MS = 500


@dataclass(frozen=True, slots=True)
class Resolved:
    """Answer to a batch: rows as docs/protocol.md, section 2.1; provenance is empty unless asked for."""

    decisions: Rows
    locations: Rows
    tunnels: Rows
    scopes: Rows
    provenance: list[dict[str, Any]]
    revision: int
    facts: int = 0


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """All that a node needs to know: (VNI, operations) pairs that build it up, made as they are taken. A
    V-net comes in one or several, one after the other."""

    node_id: int
    revision: int
    slices: Iterator[tuple[int, list[dict[str, Any]]]]

    @property
    def vnets(self) -> dict[int, list[dict[str, Any]]]:
        """All of it at once, by VNI."""
        found: dict[int, list[dict[str, Any]]] = {}
        for vni, operations in self.slices:
            found.setdefault(vni, []).extend(operations)
        return found


class Directory(Follower):
    """See the module. `clock_ms` is Unix time in milliseconds: it is printed, and orders nothing.
    `steady_ms` measures durations: it never steps and goes on in suspend (None: `clock_ms` is such a one).
    `facts` keep what gateways say of themselves (None: in memory); one that is silent for `node_s` loses
    locators that another says it has.

    Every now and then, and after an announcement or an edit, call `poll` and send what it returns.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock_ms: Callable[[], int],
        steady_ms: Callable[[], int] | None = None,
        facts: Facts | None = None,
        node_s: float = 10.0,
    ) -> None:
        steady_ms = steady_ms or clock_ms
        self._settings = settings
        self._facts = facts or MemoryFacts()
        self.heard = Heard(self._facts, node_s, settings, steady_ms() / 1000)
        self._starts = Starts(self._facts, store.world.realm, read_counter(store).next_id)
        super().__init__(store, clock_ms, steady_ms)
        self._note_said(self.heard.first)
        self._snapshot = self.with_facts(self._snapshot)
        self._closings = Closings(self._snapshot.revision)
        self._bulk = Bulk()
        self._pushes: list[Push] = []
        # what rests at incarnation and revision, and what cannot be read of that
        self._rests: tuple[tuple[int, int], Rests, Mapping[Number, str]] = ((0, -1), {}, {})
        self._sealed: tuple[tuple[int, int, int], int] = ((0, 0, 0), 0)
        self._apart: Apart | None = None
        self._hearing_since_ms: int | None = None
        self._saying: Said | None = None  # what the step takes up that is being made
        self.unreadable: Mapping[str, str] = {}  # key of a record of a newer program → why
        self._find_unreadable()
        self.editor = Editor(self, settings, clock_ms, steady_ms)

    def take(self, settings: Settings, node_s: float) -> None:
        """Take other settings, from the next answer on."""
        self._settings = settings
        self.heard.take(settings, node_s)
        self.editor.take(settings)

    @property
    def world(self) -> World:
        """The realm and era that answers are given in."""
        return self.store.world

    @property
    def store_id(self) -> int:
        """Which store this is, among those of one realm that are in use at the same time."""
        return self.store.id

    @property
    def era_began(self) -> str:
        """Why this era began, empty for the first one."""
        return self.store.era_began

    def version(self, revision: int | None = None) -> dict[str, int]:
        """Return what stands in every answer and push: realm, era, incarnation, a revision (None: the one
        that answers are given at), and the seal of the last three."""
        realm, era, incarnation = self.store.world
        version = (era, incarnation, self._snapshot.revision if revision is None else revision)
        if self._sealed[0] != version:
            self._sealed = (version, self.store.seal(version))
        names = ("era", "incarnation", "revision")
        return {"realm": realm, **dict(zip(names, version, strict=True)), "seal": self._sealed[1]}

    def hear(self, seen: Seen) -> bool:
        """Compare with what a gateway has seen; begin a new era, and return True, if the store went back.

        A gateway is believed only if it shows the seal of that version. Raises StoreError.
        """
        world = self.store.world
        ahead = seen.era > world.era or (seen.era == world.era and seen.incarnation != world.incarnation)
        if not ahead and (seen.era < world.era or seen.revision <= self._snapshot.revision):
            return False
        if self.store.seal((seen.era, seen.incarnation, seen.revision)) != seen.seal:
            return False
        if not self._take_up_now():  # another server may have written it
            return False  # it is being taken up: the next heartbeat says the same
        world, newest = self.store.world, self._snapshot.revision
        if seen.incarnation == world.incarnation and seen.revision <= newest:
            return False
        if seen.era < world.era:
            return False
        why = (
            f"gateways have seen revision {seen.revision} of era {seen.era}, the store holds revision"
            f" {newest} of era {world.era}"
        )
        log.warning("era %d begins: %s", self.store.begin_era(why, seen.era).era, why)
        self.take_up()
        return True

    def node_id(self, node: str) -> int:
        """Return the id of a node. Raises Refused if there is none of that name."""
        return self._node(node).id

    def resolve(
        self, node: str, capabilities: Sequence[str], queries: Rows, explain: bool = False
    ) -> Resolved:
        """Decide every row of QUERY. Raises Refused for a node that is not known."""
        asker = Asker(self._node(node), frozenset(capabilities))
        snapshot = self._snapshot
        self._bulk.expect(node)
        in_bulk = decide_rows if explain else self._bulk.decide_rows
        steady_ms = self._steady_ms()
        answer = in_bulk(snapshot, queries, asker, steady_ms, self._settings)
        self.heard.see(snapshot, node, queries, steady_ms / 1000)
        reasons: list[dict[str, Any]] = []
        for row, decision in zip(queries, answer.reasoned, strict=True) if explain else ():
            state = snapshot.by_vni.get(int(row["vni"]))
            family = (
                FAMILY_MAC if row["key_class"] == 3 else FAMILY_IPV6 if row["key_flags"] & 1 else FAMILY_IPV4
            )
            reasons.append(provenance(snapshot, state, family, decision) if state else {})
        return Resolved(
            answer.decisions,
            answer.locations,
            answer.tunnels,
            answer.scopes,
            reasons,
            snapshot.revision,
            snapshot.facts,
        )

    @property
    def has_to_learn(self) -> bool:
        """Whether `learn_ahead` has something to do."""
        return not self.is_taking_up and self._bulk.has_to_learn(self._snapshot)

    def learn_ahead(self) -> None:
        """Use a quiet moment, some 0.4 ms of it, for what will be asked."""
        self._bulk.learn_ahead(self._snapshot)

    def snapshot(
        self, node: str, vnis: Sequence[int] | None = None, known: Mapping[int, int] | None = None
    ) -> NodeSnapshot:
        """Return what builds up a node's view; V-nets that it does not host are left out. `known`: VNI → the
        revision that is in force there: scopes of what was forbidden since come with it. Raises Refused."""
        found = self._node(node)
        self._bulk.expect(node)
        snapshot = self._snapshot
        wanted = None if vnis is None else frozenset(vnis)
        states = (snapshot.vnets[name] for name in snapshot.hosted_by(node))
        hosted = {
            state.vnet.vni: state
            for state in states
            if state.vnet is not None and (wanted is None or state.vnet.vni in wanted)
        }
        here = {vni: revision for vni, revision in (known or {}).items() if vni in hosted}
        closings = self._closings.operations(node, here, snapshot, self.store, self._steady_ms)
        return NodeSnapshot(found.id, snapshot.revision, self._slices(snapshot, found, hosted, closings))

    def _slices(
        self,
        snapshot: Snapshot,
        node: Node,
        hosted: Mapping[int, VnetState],
        closings: Mapping[int, list[Operation]],
    ) -> Iterator[tuple[int, list[Operation]]]:
        for vni, state in hosted.items():
            for operations in build_slices(snapshot, state, node, self._settings):
                yield vni, operations
            yield vni, late_announcements(state, node.name, self._steady_ms())
            yield vni, closings.get(vni, [])

    def locator(
        self, node: str, local: bytes, remote: bytes, protocol: int, wire_id: int
    ) -> Operation | None:
        """Return the ingress operation for an outer source, None if nobody of that kind is known."""
        return find_ingress(self._snapshot, self._node(node), local, remote, protocol, wire_id)

    def announce(
        self,
        node: str,
        locators: Sequence[str],
        ports: Sequence[str],
        reports: Callable[[], Reports] = lambda: NO_REPORTS,
        silent_s: float = 0.0,
    ) -> None:
        """Take note of what a gateway says of itself. Pushes only if it differs. A locator that rests is left
        out. It may say nothing for `silent_s`, if that is more than `node_s`. Raises Refused."""
        found = self._node(node)
        if found.foreign:
            raise Refused(
                f"{node} is declared as a {found.kind}", f'declare kind = "gateway" in [node.{node}]'
            )
        said = self.heard.presences.read(node, locators, ports)
        now_s = self._steady_ms() / 1000
        resting = self._withheld(node, said, reports)
        free = [locator for locator in said if locator not in resting]
        self._said(self.heard.presences.say(node, free, ports, self._snapshot.fabric, now_s, silent_s))
        for why in resting.values():
            raise why

    def _withheld(self, node: str, said: Sequence[str], reports: Callable[[], Reports]) -> dict[str, Refused]:
        now = self._snapshot
        if self._rests[0] != (now.incarnation, now.revision):
            self._rests = ((now.incarnation, now.revision), *read_readable(self.store))
        _, rests, unreadable = self._rests
        numbers = {locator: Number("locator", locator) for locator in said}
        found = {
            locator: Refused(f"whether locator {locator} rests cannot be known: {unreadable[number]}", "")
            for locator, number in numbers.items()
            if number in unreadable
        }
        if any(number in rests for number in numbers.values()):
            found |= withheld(rests, node, said, reports(), now)
        return found

    def conflicts(self, node: str) -> list[dict[str, Any]]:
        """Return the locators that a gateway says it has and that another node has: rows with locator, node,
        holder, problem, fix."""
        return self.heard.presences.conflicts(node)

    def flaps(self, node: str) -> list[Flap]:
        """Return which endpoints of the V-nets that a gateway hosts move to and fro."""
        return self.heard.sightings.flaps(self.hosted(node), self._steady_ms() / 1000)

    def note_heard(self, node: str) -> None:
        """Take it that a gateway has been heard, now or ever."""
        self._starts.heard(node)

    def never_heard(self, node: str) -> bool:
        """Tell whether a gateway has certainly never been heard: it forwards nothing."""
        return self._starts.never(self._snapshot.records.get(f"node/{node}"))

    @property
    def facts(self) -> int:
        """The serial of the newest change in what gateways say of themselves, since this server started."""
        return self._snapshot.facts

    @property
    def has_news(self) -> bool:
        """Whether gateways have said what `poll` would take up."""
        return self.heard.has_news

    def leave_to(self, apart: Apart) -> None:
        """Leave it to somebody to take up commits: `poll` asks them, and tells what they have made."""
        self._apart = apart

    @property
    def is_hearing(self) -> bool:
        """Whether it is being taken up what gateways say of themselves: a snapshot that is begun now is old
        in a moment. Never for longer than HEARING_MS."""
        since = self._hearing_since_ms
        return since is not None and self._steady_ms() - since < HEARING_MS

    @property
    def is_taking_up(self) -> bool:
        """Whether commits are being taken up that answers do not know yet."""
        return self._apart is not None and self._apart.busy

    def poll(self, look: bool = True) -> list[Push]:
        """Return what nodes must be told since the last time. With `look`, the store's commits are taken up
        first (where that is left to somebody: they are asked to). Raises StoreError."""
        if self._apart is None:
            self.take_up()
        else:
            self._go_over(self._apart)
        now_s = self._steady_ms() / 1000
        self._said(self.heard.settle(now_s, lambda node: self.heard.presences.is_silent(node, now_s)))
        if self._apart is None:
            self._take_said()
        elif (look or self.heard.has_news) and not self._apart.busy:
            self._saying = self.heard.take_news()
            self._apart.ask(self._snapshot, self._saying)
        pushes, self._pushes = self._pushes, []
        return pushes

    def take_up(self) -> None:
        """Take up what has been committed since, here and now. Raises StoreError."""
        self._take_said()
        self._install(self.follow(self.store, self._snapshot))

    def take_own(self, after: Snapshot) -> None:
        """Take it up as any other: nodes must be told of it. Raises StoreError."""
        self.take_up()

    def follow(self, store: Store, base: Snapshot, said: Said | None = None) -> Step:
        """Return what became of a snapshot, with what gateways have `said` since. Changes nothing: any thread
        may call it, with a store of its own, as long as nothing else is installed meanwhile. Raises
        StoreError."""
        made = Step(base, [], [])
        if said is None:
            return self._follow(store, made)
        now = said.put_on(base, self._steady_ms())
        made.snapshots.append(now)
        made.told.append(push_facts(base, now, self._clock_ms(), self._settings).packed())
        try:
            return self._follow(store, made)
        except StoreError as error:  # what gateways say does not depend on it; the next look says it again
            log.error("the store cannot be read: %s", error)
            return made

    def _follow(self, store: Store, made: Step) -> Step:
        """Go on with a step by what the store has since."""
        now = made.snapshots[-1] if made.snapshots else made.base
        if store.refresh_world().incarnation != now.incarnation:
            # Another era: gateways see it in the next message, and ask for everything.
            return Step(made.base, [self._load(store, now)], [], True, True)
        while True:
            try:
                commits = store.commits(now.revision, PAGE)
            except Compacted:
                before, now = now, self._load(store, now)
                made.snapshots.append(now)
                made.told.append(push_reload(before, now, self._clock_ms(), self._settings))
                return replace(made, skips=True)
            for one in commits:
                before, now = now, now.with_commit(one, self._steady_ms())
                made.snapshots.append(now)
                made.told.append(push_commit(before, now, one, self._settings).packed())
            if len(commits) < PAGE:
                return made

    def _install(self, step: Step) -> None:
        """Go over to what a step has led to."""
        if step.from_anew:
            self.store.refresh_world()
            self._pushes.clear()
        for snapshot in step.snapshots:
            self._snapshot = snapshot
            self._bulk.follow(snapshot)
        if step.snapshots:
            self._find_unreadable()
        if step.skips:
            self._closings = Closings(self._snapshot.revision)
        for told in step.told:
            self._tell(told)

    def _find_unreadable(self) -> None:
        """Take note of the records that a newer program has written, and say so of each once."""
        before, self.unreadable = self.unreadable, self._snapshot.unreadable()
        for key, why in self.unreadable.items():
            if key not in before:
                log.error("%s cannot be read, a newer program has written it: %s", key, why)

    def _take_up_now(self) -> bool:
        """Take up what has been committed; False if that is going on elsewhere."""
        if self.is_taking_up:
            return False
        self.take_up()
        return True

    def _node(self, name: str) -> Node:
        node = self._snapshot.fabric.nodes.get(name)
        if node is None:
            near = suggest(name, self._snapshot.fabric.nodes)
            near = near if near.startswith("did you mean") else ""
            fix = f"vnetctl node add {name} --kind gateway, or apply a document with [node.{name}]"
            raise Refused(f"no node is called {name}", f"{near}  {fix}".strip())
        return node

    def _said(self, changed: set[str]) -> None:
        """Take up that these gateways have other locators or ports: with the next step, where others make
        them. A fleet that starts says it all at once, and each alone costs as much as many."""
        self.heard.said_news |= changed
        if self._apart is None:
            self._take_said()
        elif changed and self._hearing_since_ms is None:
            self._hearing_since_ms = self._steady_ms()

    def _take_said(self) -> None:
        """Take up what gateways say, here and now."""
        said = self.heard.take_news()
        if said is None:
            return
        before = self._snapshot
        self._install_said(said)
        self._snapshot = said.put_on(before, self._steady_ms())
        self._bulk.follow(self._snapshot)
        self._tell(push_facts(before, self._snapshot, self._clock_ms(), self._settings))

    def _install_said(self, said: Said) -> None:
        """It stands in what answers are given from."""
        self._note_said(said)
        self.heard.install(said)

    def _go_over(self, apart: Apart) -> None:
        """Go over to what somebody has made; what came to nothing is made again. Raises StoreError."""
        step: Step | None = None
        try:
            step = apart.step()
        finally:
            if not apart.busy:
                said, self._saying = self._saying, None
                if step is not None and step.base is self._snapshot:
                    if said is not None:
                        self._install_said(said)
                    self._install(step)
                elif said is not None:
                    self.heard.give_back(said)
                if not self.heard.said_news:
                    self._hearing_since_ms = None

    def _tell(self, told: Told) -> None:
        self._pushes += told.pushes
        self._closings.add(told.tightened, self._snapshot.by_vni)


__all__ = ["Directory", "NodeSnapshot", "Push", "Refused", "Resolved", "Step"]
