# SPDX-License-Identifier: Apache-2.0
"""The directory's state: a store, the newest snapshot of it, and what is asked and changed.

No sockets and no threads: one thread calls. Operators' mistakes raise Refused with a sentence and a remedy,
or TomlError with file and line.
"""

import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from directory_client.toml.strict_toml import Table, TomlError
from directory_client.vocabulary.addresses import parse_address
from directory_client.vocabulary.names import PORT, suggest
from directory_client.wire.rows import Rows
from directory_service.bulk.bulk import Bulk
from directory_service.decide.answer import decide_rows
from directory_service.decide.decide import Asker
from directory_service.decide.explain import Question, explain, find_vnet, provenance
from directory_service.decide.flows import judge_flows
from directory_service.documents.diff import describe_changes
from directory_service.documents.document import parse_document, write_document
from directory_service.documents.doubts import find_doubts_of
from directory_service.documents.endpoint_fit import are_endpoints, endpoints_fit
from directory_service.documents.history import find_author, list_history, newest_first, trim, want_revision
from directory_service.documents.writer import (
    Counter,
    Note,
    RecordChange,
    Wanted,
    check,
    check_key,
    check_owner,
    commit,
    make_note,
    plan,
    read_counter,
    want_document,
)
from directory_service.facts.contract import Facts
from directory_service.facts.memory import MemoryFacts
from directory_service.kinds import fields
from directory_service.kinds.records import FABRIC_KINDS, Node, is_record_key
from directory_service.model.fabric import nodes_between
from directory_service.model.presences import CLAIMED_MAX, Presences
from directory_service.model.snapshot import Snapshot, load_snapshot
from directory_service.model.vnet import FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.contract import Compacted, Conflict, Seen, Store, StoreError, World
from directory_service.views.listing import list_rows
from directory_service.views.scope import find_changes
from directory_service.views.view import Operation, build_view, compare_views, find_ingress, hosts

log = logging.getLogger(__name__)

_TRIES = 5
_PAGE = 256
_FLUSH_MS = 1_000


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
class Push:
    """What one (node, V-net) is told of a change: operations of docs/protocol.md, section 2.3, in order."""

    node_id: int
    vni: int
    revision: int
    time_ms: int
    ops: list[dict[str, Any]]
    facts: int = 0  # orders pushes and answers of one revision


@dataclass(frozen=True, slots=True)
class NodeSnapshot:
    """All that a node needs to know: per VNI the operations that build it up."""

    node_id: int
    revision: int
    vnets: dict[int, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply, rollback, set or remove did, or would do. `document` is empty for single changes."""

    document: str
    before: int
    revision: int
    added: int
    changed: int
    removed: int
    diff: list[dict[str, str]]
    warnings: list[str] = field(default_factory=list)
    flows: dict[str, Any] | None = None
    gateways: list[str] = field(default_factory=list)  # the gateways that host a V-net it touches


class Directory:
    """See the module. `clock_ms` is Unix time in milliseconds: it is printed, and orders nothing.
    `steady_ms` measures durations: it never steps and goes on in suspend (None: `clock_ms` is such a one).
    `facts` keep what gateways say of themselves (None: in memory); one that is silent for `node_s` loses
    locators that another says it has.

    After apply, rollback, set_record, remove_record or announce, and every now and then (other servers may
    write to the same store), call `poll` and send what it returns.
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
        self._store = store
        self._settings = settings
        self._clock_ms = clock_ms
        self._steady_ms = steady_ms or clock_ms
        self._facts = facts or MemoryFacts()
        self._presences = Presences(self._facts, node_s, self._steady_ms() / 1000)
        self._serial = 1
        self._flushed_ms = 0
        self._snapshot = self._load()
        self._bulk = Bulk()
        self._checked: Snapshot | None = None  # its records are known to fit together
        self._pushes: list[Push] = []
        self.trims_failed = 0
        self._sealed: tuple[tuple[int, int, int], int] = ((0, 0, 0), 0)
        self._scopes_of: Snapshot | None = None  # the next two are of this one
        self._hosted: dict[str, frozenset[str]] = {}
        self._vnets_of_document: dict[str, set[str]] = {}

    @property
    def revision(self) -> int:
        """The revision that answers are given at."""
        return self._snapshot.revision

    @property
    def world(self) -> World:
        """The realm and era that answers are given in."""
        return self._store.world

    @property
    def store_id(self) -> int:
        """Which store this is, among those of one realm that are in use at the same time."""
        return self._store.id

    @property
    def era_began(self) -> str:
        """Why this era began, empty for the first one."""
        return self._store.era_began

    def version(self, revision: int | None = None) -> dict[str, int]:
        """Return what stands in every answer and push: realm, era, incarnation, a revision (None: the one
        that answers are given at), and the seal of the last three."""
        realm, era, incarnation = self._store.world
        version = (era, incarnation, self._snapshot.revision if revision is None else revision)
        if self._sealed[0] != version:
            self._sealed = (version, self._store.seal(version))
        names = ("era", "incarnation", "revision")
        return {"realm": realm, **dict(zip(names, version, strict=True)), "seal": self._sealed[1]}

    def hear(self, seen: Seen) -> bool:
        """Compare with what a gateway has seen; begin a new era, and return True, if the store went back.

        A gateway is believed only if it shows the seal of that version. Raises StoreError.
        """
        world = self._store.world
        ahead = seen.era > world.era or (seen.era == world.era and seen.incarnation != world.incarnation)
        if not ahead and (seen.era < world.era or seen.revision <= self._snapshot.revision):
            return False
        if self._store.seal((seen.era, seen.incarnation, seen.revision)) != seen.seal:
            return False
        self._take_up()  # another server may have written it
        world, newest = self._store.world, self._snapshot.revision
        if seen.incarnation == world.incarnation and seen.revision <= newest:
            return False
        if seen.era < world.era:
            return False
        why = (
            f"gateways have seen revision {seen.revision} of era {seen.era}, the store holds revision"
            f" {newest} of era {world.era}"
        )
        log.warning("era %d begins: %s", self._store.begin_era(why, seen.era).era, why)
        self._take_up()
        return True

    @property
    def current(self) -> Snapshot:
        """The snapshot that answers are given from."""
        return self._snapshot

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
        answer = in_bulk(snapshot, queries, asker, self._steady_ms(), self._settings)
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
        return self._bulk.has_to_learn(self._snapshot)

    def learn_ahead(self) -> None:
        """Use a quiet moment, some 0.4 ms of it, for what will be asked."""
        self._bulk.learn_ahead(self._snapshot)

    def snapshot(self, node: str, vnis: Sequence[int] | None = None) -> NodeSnapshot:
        """Return what builds up a node's view; V-nets that it does not host are left out. Raises Refused."""
        found = self._node(node)
        self._bulk.expect(node)
        vnets: dict[int, list[dict[str, Any]]] = {}
        for vni, state in self._snapshot.by_vni.items():
            if (vnis is None or vni in vnis) and hosts(state, node):
                vnets[vni] = build_view(self._snapshot, state, found, self._settings)
        return NodeSnapshot(found.id, self._snapshot.revision, vnets)

    def locator(
        self, node: str, local: bytes, remote: bytes, protocol: int, wire_id: int
    ) -> Operation | None:
        """Return the ingress operation for an outer source, None if nobody of that kind is known."""
        return find_ingress(self._snapshot, self._node(node), local, remote, protocol, wire_id)

    def announce(self, node: str, locators: Sequence[str], ports: Sequence[str]) -> None:
        """Take note of what a gateway says of itself. Pushes only if it differs. Raises Refused."""
        found = self._node(node)
        if found.foreign:
            raise Refused(
                f"{node} is declared as a {found.kind}", f'declare kind = "gateway" in [node.{node}]'
            )
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
            many = f"{len(locators)} locators and {len(ports)} ports"
            raise Refused(
                f"{node} announces {many}; {CLAIMED_MAX} are the limit",
                "declare the locators that are meant: locators in gateway.toml",
                2,
            )
        now_s = self._steady_ms() / 1000
        self._said(self._presences.say(node, said, ports, self._snapshot.fabric, now_s))

    def conflicts(self, node: str) -> list[dict[str, Any]]:
        """Return the locators that a gateway says it has and that another node has: rows with locator, node,
        holder, problem, fix."""
        return self._presences.conflicts(node)

    @property
    def facts(self) -> int:
        """The serial of the newest change in what gateways say of themselves, since this server started."""
        return self._snapshot.facts

    def hosted(self, node: str) -> frozenset[str]:
        """Return the names of the V-nets that a node hosts."""
        self._remember_scopes()
        if node not in self._hosted:
            states = self._snapshot.vnets.items()
            self._hosted[node] = frozenset(name for name, state in states if hosts(state, node))
        return self._hosted[node]

    def document_vnets(self, document: str) -> frozenset[str]:
        """Return the names of the V-nets that a document has records in."""
        self._remember_scopes()
        return frozenset(self._vnets_of_document.get(document, ()))

    def _remember_scopes(self) -> None:
        """Begin anew with what is remembered of one snapshot."""
        if self._scopes_of is self._snapshot:
            return
        self._scopes_of = self._snapshot
        self._hosted = {}
        self._vnets_of_document = {}
        for record in self._snapshot.records.values():
            if record.document and record.vnet:
                self._vnets_of_document.setdefault(record.document, set()).add(record.vnet)

    def poll(self) -> list[Push]:
        """Take up the store's commits since the last time; return what nodes must be told."""
        self._take_up()
        steady_ms = self._steady_ms()
        if steady_ms - self._flushed_ms >= _FLUSH_MS:
            self._flushed_ms = steady_ms
            self._said(self._presences.expire(steady_ms / 1000))
            self._facts.flush()
        pushes, self._pushes = self._pushes, []
        return pushes

    def apply(
        self,
        text: str,
        file: str,
        dry_run: bool = False,
        take_over: Sequence[str] = (),
        comment: str = "",
        user: str = "",
        flows: Sequence[Mapping[str, Any]] = (),
        expect_revision: int | None = None,
    ) -> Applied:
        """Apply a document; with `dry_run` only say what it would do, and what becomes of the cached `flows`
        (rows of a flow dump with "node" added). With `expect_revision` only if the directory still stands
        there: what was previewed is what is applied. Raises Refused, TomlError."""
        document = parse_document(text, file)

        def want() -> dict[str, Wanted | None]:
            owners = {
                record.revision
                for key in document.declared
                if (record := self._snapshot.records.get(key)) and record.document != document.name
            }
            authors = {revision: find_author(self._store, revision) for revision in owners}
            return want_document(self._snapshot, document, take_over, authors)

        return self._write(
            want,
            "apply",
            user,
            comment,
            document.name,
            declared=document.declared,
            dry_run=dry_run,
            flows=flows,
            expect_revision=expect_revision,
        )

    def export(self, document: str) -> str:
        """Return a document's text. Raises Refused."""
        records = [
            record
            for record in self._snapshot.records.values()
            if record.owner == "document" and record.document == document
        ]
        if not records:
            known = {record.document for record in self._snapshot.records.values() if record.document}
            raise Refused(f"there is no document {document}", suggest(document, known))
        return write_document(document, records)

    def history(self, document: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """Return rows of docs/protocol.md, section 2.2, newest first."""
        return list_history(self._store, document, limit)

    def rollback(
        self,
        revision: int,
        user: str = "",
        dry_run: bool = False,
        flows: Sequence[Mapping[str, Any]] = (),
    ) -> Applied:
        """Make documents' and operators' records what they were at a revision; `dry_run` and `flows` as in
        `apply`. Raises Refused."""
        return self._write(
            lambda: want_revision(self._store, self._snapshot, revision),
            "rollback",
            user,
            f"back to revision {revision}",
            dry_run=dry_run,
            flows=flows,
        )

    def set_record(self, kind: str, name: str, values: Mapping[str, Any], user: str = "") -> Applied:
        """Add one record as operator, or change the given fields of one; None takes a field away.

        Raises Refused.
        """
        key = check_key(kind, name)

        def want() -> dict[str, Wanted | None]:
            before = self._snapshot.records.get(key)
            check_owner(before, "operator")
            merged = {**(before.values if before else {}), **values}
            if kind == "endpoint":  # at and node exclude each other: what is given replaces the other
                for given, other in (("at", "node"), ("node", "at")):
                    if values.get(given) and not values.get(other):
                        merged.pop(other, None)
            table = Table("", {}, (), {field: value for field, value in merged.items() if value is not None})
            try:
                read = fields.READERS[kind](table)
                table.finish()
            except TomlError as error:
                at = f"{error.key}: " if error.key else ""
                raise Refused(f"{kind} {name}: {at}{error.problem}", error.fix, 2) from None
            return {key: Wanted(read, "operator", "")}

        return self._write(want, "set", user, f"set {kind} {name}")

    def remove_record(self, kind: str, name: str, user: str = "") -> Applied:
        """Remove one record of an operator. Raises Refused."""
        key = check_key(kind, name)

        def want() -> dict[str, Wanted | None]:
            before = self._snapshot.records.get(key)
            if before is None:
                known = [record.name for record in self._snapshot.records.values() if record.kind == kind]
                raise Refused(f"there is no {kind} {name}", suggest(name, known))
            check_owner(before, "operator")
            wanted: dict[str, Wanted | None] = {key: None}
            if kind == "vnet":  # with all of it that operators own
                for other in self._snapshot.records.values():
                    if other.vnet == name and other.key != key:
                        check_owner(other, "operator")
                        wanted[other.key] = None
            return wanted

        return self._write(want, "remove", user, f"remove {kind} {name}")

    def list_records(
        self, kind: str, vnet: str | None = None, name: str | None = None
    ) -> list[dict[str, Any]]:
        """Return rows for `show`. Raises Refused for a kind, V-net or name that is not there."""
        return list_rows(self._snapshot, kind, vnet, name)

    def explain(
        self,
        vnet: str,
        source: str,
        destination: str,
        protocol: str = "",
        port: int | None = None,
        node: str | None = None,
        revision: int | None = None,
        source_port: int | None = None,
    ) -> dict[str, Any]:
        """Decide one connection and say why; see directory_service.explain. Raises Refused."""
        snapshot = self._snapshot
        if revision is not None and revision != snapshot.revision:
            try:
                snapshot = self._with_presences(load_snapshot(self._store, revision))
            except Compacted as error:
                kept = f"the history goes from {error.oldest} to {self._store.revision()}"
                raise Refused(f"revision {revision} is not kept: {kept}", "vnetctl history") from None
        commits = (one for one in newest_first(self._store) if one.revision <= snapshot.revision)
        question = Question(vnet, source, destination, protocol, port, node, source_port)
        return explain(snapshot, question, commits, self._steady_ms(), self._settings)

    def _node(self, name: str) -> Node:
        node = self._snapshot.fabric.nodes.get(name)
        if node is None:
            near = suggest(name, self._snapshot.fabric.nodes)
            near = near if near.startswith("did you mean") else ""
            fix = f"vnetctl node add {name} --kind gateway, or apply a document with [node.{name}]"
            raise Refused(f"no node is called {name}", f"{near}  {fix}".strip())
        return node

    def _write(
        self,
        want: Callable[[], dict[str, Wanted | None]],
        verb: str,
        user: str = "",
        comment: str = "",
        document: str = "",
        declared: Mapping[str, Any] | None = None,
        dry_run: bool = False,
        flows: Sequence[Mapping[str, Any]] = (),
        expect_revision: int | None = None,
    ) -> Applied:
        """Plan on the newest snapshot, check, and commit; again if somebody else wrote meanwhile."""
        for _ in range(_TRIES):
            counter: Counter = read_counter(self._store)
            self._take_up()
            before = self._snapshot
            if expect_revision is not None and before.revision != expect_revision:
                moved = f"the directory moved on from revision {expect_revision} to {before.revision}"
                raise Refused(f"{moved}: what was previewed is not what would change", "apply it again")
            wanted = want()
            changes, next_id = plan(before, wanted, counter)
            note = make_note(verb, changes, user, comment, document)
            now_ms = self._clock_ms()
            steady_ms = self._steady_ms()
            after = None
            if changes and before is self._checked and are_endpoints(changes):
                after = before.with_changes(before.revision + 1, changes, steady_ms)
            fits = after is not None and endpoints_fit(after, changes)
            warnings = find_doubts_of(before.records, changes) if fits else check(before, changes, declared)
            if after is None:
                after = before.with_changes(before.revision + 1, changes, steady_ms) if changes else before
            gateways = _gateways(before, after, changes)
            if dry_run or not changes:
                judged = judge_flows(before, after, flows, steady_ms, self._settings) if dry_run else None
                return _applied(note, before.revision, after.revision, changes, warnings, judged, gateways)
            try:
                revision = commit(self._store, changes, next_id, counter, note, now_ms)
            except Conflict:
                continue
            # The change is made: nothing that fails from here on makes it a failed one.
            self._after_commit(revision, after.revision)
            return _applied(note, before.revision, revision, changes, warnings, None, gateways)
        raise Refused("others keep writing to the directory", "try again")

    def _after_commit(self, revision: int, expected: int) -> None:
        """Take a commit up and forget old history. What fails here is tried again: by `poll`, and by the
        next change."""
        try:
            self._take_up()
            if self._snapshot.revision == revision == expected:
                self._checked = self._snapshot
        except StoreError as error:
            log.error("revision %d is committed, but cannot be read yet: %s", revision, error)
        try:
            trim(self._store, self._settings)
        except StoreError as error:
            self.trims_failed += 1
            log.error("old history could not be forgotten: %s", error)

    def _take_up(self) -> None:
        if self._store.refresh_world().incarnation != self._snapshot.incarnation:
            # Another era: gateways see it in the next message, and ask for everything.
            self._snapshot = self._load()
            self._pushes.clear()
        while True:
            try:
                commits = self._store.commits(self._snapshot.revision, _PAGE)
            except Compacted:
                before, self._snapshot = self._snapshot, self._load()
                names = {*before.vnets, *self._snapshot.vnets}
                self._push(before, self._snapshot, names, set(), self._clock_ms())
                return
            for one in commits:
                before, self._snapshot = self._snapshot, self._snapshot.with_commit(one, self._steady_ms())
                self._bulk.follow(self._snapshot)
                kinds = {change.key.partition("/")[0] for change in one.changes}
                touched = {
                    change.key.split("/")[1]
                    for change in one.changes
                    if is_record_key(change.key) and change.key.partition("/")[0] not in FABRIC_KINDS
                }
                nodes: frozenset[str] = frozenset()
                if kinds & FABRIC_KINDS:
                    nodes = nodes_between(before.fabric, self._snapshot.fabric)
                names = touched | _concerned(before, self._snapshot, nodes)
                self._push(before, self._snapshot, names, touched, one.time_ms, nodes)
            if len(commits) < _PAGE:
                return

    def _load(self) -> Snapshot:
        loaded = load_snapshot(self._store, None, self._clock_ms(), self._steady_ms())
        return self._with_presences(loaded)

    def _with_presences(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot as gateways stand now: what they say of themselves has no past."""
        held = self._presences.held
        return snapshot.with_presences(held, self._serial, held)

    def _said(self, changed: set[str]) -> None:
        """Take up that these gateways have other locators or ports."""
        if not changed:
            return
        self._serial += 1
        before = self._snapshot
        self._snapshot = after = before.with_presences(self._presences.held, self._serial, changed)
        if self._checked is before:
            self._checked = after
        self._bulk.follow(after)
        nodes = nodes_between(before.fabric, after.fabric)
        self._push(before, after, _concerned(before, after, nodes), set(), self._clock_ms(), nodes)

    def _push(
        self,
        before: Snapshot,
        after: Snapshot,
        names: set[str],
        touched: set[str],
        time_ms: int,
        nodes: frozenset[str] | None = None,
    ) -> None:
        """Queue what nodes must be told; `touched` V-nets tell every host, others those for whom something
        differs. `nodes`: the only ones of which a link may differ (None: any)."""
        for name in sorted(names):
            old, new = before.vnets.get(name), after.vnets.get(name)
            only = nodes if old is new else None
            scopes = find_changes(before, after, name, only)
            hosting = {*(old.attachments_by_node if old else ()), *(new.attachments_by_node if new else ())}
            for node in sorted(hosting):
                ops = compare_views(before, after, name, node, self._settings, scopes, only)
                found = after.fabric.nodes.get(node) or before.fabric.nodes.get(node)
                if ops is None or found is None or not (ops or name in touched):
                    continue
                state = new if new and new.vnet and hosts(new, node) else old
                if (
                    old
                    and new
                    and old.vnet
                    and new.vnet
                    and old.vnet.vni != new.vnet.vni
                    and hosts(old, node)
                ):
                    gone = {"op": "vnet_removed", "vni": old.vnet.vni, "object_id": old.vnet.id}
                    self._pushes.append(
                        Push(found.id, old.vnet.vni, after.revision, time_ms, [gone], after.facts)
                    )
                if state and state.vnet:
                    self._pushes.append(
                        Push(found.id, state.vnet.vni, after.revision, time_ms, ops, after.facts)
                    )


def _concerned(before: Snapshot, after: Snapshot, nodes: Set[str]) -> set[str]:
    """Return the names of the V-nets that links of these nodes concern."""
    if not nodes:
        return set()
    return {
        name
        for one in (before, after)
        for name, state in one.vnets.items()
        if not nodes.isdisjoint(state.nodes_concerned())
        or (state.vnet is not None and not nodes.isdisjoint(state.vnet.relays))
        or any(node in nodes for left in state.moves.values() for node, _ in left)
    }


def _gateways(before: Snapshot, after: Snapshot, changes: Sequence[RecordChange]) -> list[str]:
    """Return the gateways that host a V-net that the changes touch."""
    records = [record for change in changes for record in change if record is not None]
    every = any(record.kind in FABRIC_KINDS for record in records)
    names = {record.vnet for record in records}
    found: set[str] = set()
    for snapshot in (before, after):
        for name, state in snapshot.vnets.items():
            if every or name in names:
                found.update(state.attachments_by_node)
    return sorted(found)


def _applied(
    note: Note,
    before: int,
    revision: int,
    changes: Sequence[RecordChange],
    warnings: list[str],
    flows: dict[str, Any] | None,
    gateways: list[str],
) -> Applied:
    return Applied(
        note.document,
        before,
        revision,
        note.added,
        note.changed,
        note.removed,
        describe_changes(changes),
        warnings,
        flows,
        gateways,
    )


__all__ = ["Applied", "Directory", "NodeSnapshot", "Push", "Refused", "Resolved", "find_vnet"]
