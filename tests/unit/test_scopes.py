# SPDX-License-Identifier: Apache-2.0
"""Scopes must be true: of a refusal (it holds for every key in it), of a change (nothing differs outside)."""

from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st

from directory_client.numbers import Action, ChangeKind, KeyClass, KeyFlag
from directory_client.scopes import PORT_MAX, Scope, covers_change, covers_refusal
from directory_service.decide import Asker, Decision, Query, decide
from directory_service.holes import Holes
from directory_service.model import Snapshot
from directory_service.scope import common_prefix, find_changes
from directory_service.settings import Settings
from topologies import PORTS, VNI, draw_edit, draw_end, draw_query, draw_topology, make_snapshot

NOW_MS = 1_000_000
SETTINGS = Settings()
PLACE_REASONS = ("same_segment", "relay_loop", "not_here")
SEEDS = st.integers(0, 2**64 - 1)
MANY = settings(max_examples=100, deadline=None)


def ask(snapshot: Snapshot, query: Query, node: str) -> Decision:
    asker = Asker(snapshot.fabric.nodes[node], frozenset(["vxlan"]))
    return decide(snapshot, query, asker, NOW_MS, SETTINGS)


def hosts_of(snapshot: Snapshot) -> list[str]:
    return sorted(snapshot.by_vni[VNI].attachments_by_node)


@MANY
@given(seed=SEEDS)
def test_a_refusal_holds_for_every_key_in_its_scope(seed: int) -> None:
    random = Random(seed)
    topology = draw_topology(random)
    snapshot = make_snapshot(topology, time_ms=NOW_MS - 1000)
    if random.random() < 0.6:  # with endpoints that have just moved
        snapshot = make_snapshot(draw_edit(random, topology), snapshot, NOW_MS - 500)
    for _ in range(40):
        query = draw_query(random, snapshot)
        node = random.choice(hosts_of(snapshot))
        refusal = ask(snapshot, query, node)
        scope = refusal.scope
        if refusal.action != Action.DROP or scope is None:
            continue
        assert is_covered(scope, query)
        for _ in range(10):
            other = draw_key_like(random, query, scope)
            if is_covered(scope, other):
                again = ask(snapshot, other, node)
                assert (again.action, again.reason) == (Action.DROP, refusal.reason), (refusal, other)


def is_covered(scope: Scope, key: Query) -> bool:
    return covers_refusal(
        scope, key.key_flags, key.source, key.destination, key.protocol, key.destination_port
    )


def draw_key_like(random: Random, query: Query, scope: Scope) -> Query:
    """Draw a key of the same V-net, class, family and ingress: near the edges of the scope, or anywhere."""
    edges = [scope.port_low, scope.port_high, max(scope.port_low - 1, 0), min(scope.port_high + 1, PORT_MAX)]
    connection = random.random() < 0.6 and query.key_class in (KeyClass.BRIDGED, KeyClass.ROUTED)
    return query._replace(
        key_flags=int(KeyFlag.CONNECTION) if connection else 0,
        protocol=random.choice([query.protocol, query.protocol, 6, 17, 1, 0]) if connection else 0,
        source=draw_near(random, query.key_class, scope.source, scope.source_bits),
        destination=draw_near(random, query.key_class, scope.destination, scope.destination_bits),
        source_port=random.choice(PORTS) if connection else 0,
        destination_port=random.choice([*PORTS, *edges]) if connection else 0,
    )


def draw_near(random: Random, key_class: int, prefix: bytes, bits: int) -> bytes:
    """Draw the first or last address of a prefix, or one of the usual."""
    if random.random() < 0.4:
        return draw_end(random, key_class)
    low = int.from_bytes(prefix, "big")
    limit = (1 << 48) - 1 if key_class == KeyClass.MAC else (1 << 32) - 1
    high = min(low | ((1 << (128 - bits)) - 1), limit)
    return random.choice([low, high, random.randint(low, high)]).to_bytes(16, "big")


def what(decision: Decision) -> tuple:
    """What of a decision a gateway acts on."""
    location = decision.destination_location
    where = None
    if location is not None:
        where = (location.kind, location.target_id, location.mac, location.object_id, location.wire_id)
    return decision.action, decision.reason, decision.granularity, where


@MANY
@given(seed=SEEDS)
def test_every_key_whose_decision_changes_is_in_the_scope_of_a_change(seed: int) -> None:
    random = Random(seed)
    topology = draw_topology(random)
    before = make_snapshot(topology, time_ms=NOW_MS - 1000)
    if random.random() < 0.3:
        topology = draw_edit(random, topology)
        before = make_snapshot(topology, before, NOW_MS - 500)
    after = make_snapshot(draw_edit(random, topology), before, NOW_MS)
    changes = find_changes(before, after, "red")
    nodes = [
        node
        for node in hosts_of(before)
        if node in hosts_of(after) and before.fabric.nodes[node].id == after.fabric.nodes[node].id
    ]
    ids = {record.id for record in before.records.values()} & {record.id for record in after.records.values()}
    for _ in range(80):
        query = draw_query(random, random.choice([before, after]))
        if query.ingress_object not in ids:
            continue
        for node in nodes:
            was, now = ask(before, query, node), ask(after, query, node)
            if what(was) == what(now):
                continue
            kinds = {
                change.kind
                for change in changes
                if covers_change(
                    change.scope,
                    query.key_flags,
                    query.source,
                    query.destination,
                    query.protocol,
                    query.destination_port,
                )
            }
            assert kinds, (node, query, what(was), what(now))
            event(f"{was.reason or 'allowed'} → {now.reason or 'allowed'}")
            had_right = was.action not in (Action.DROP, Action.NARROW)  # narrow says nothing about rights yet
            if had_right and now.action == Action.DROP and now.reason not in PLACE_REASONS:
                assert ChangeKind.TIGHTEN in kinds, (node, query, what(was), what(now), kinds)


@MANY
@given(seed=SEEDS)
def test_nothing_changed_makes_no_scope(seed: int) -> None:
    topology = draw_topology(Random(seed))
    before = make_snapshot(topology)
    assert find_changes(before, make_snapshot(topology, before), "red") == []


@given(
    known=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted), max_size=6),
    address=st.integers(0, 255),
)
def test_a_hole_is_the_widest_prefix_without_a_known_address(known: list, address: int) -> None:
    taken = {number for low, high in known for number in range(low, high + 1)}
    check_hole(Holes((), [tuple(pair) for pair in known], 8), taken, address)


@given(
    known=st.sets(st.integers(0, 255), max_size=90),
    ranges=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted), max_size=2),
    steps=st.lists(st.sets(st.integers(0, 255), max_size=80), max_size=4),
    addresses=st.lists(st.integers(0, 255), min_size=5, max_size=5),
)
def test_holes_follow_what_becomes_known_and_unknown(
    known: set, ranges: list, steps: list, addresses: list
) -> None:
    holes = Holes(known, [tuple(pair) for pair in ranges], 8)
    always = {number for low, high in ranges for number in range(low, high + 1)}
    for touched in steps:
        holes = holes.changed(touched - known, touched & known)
        known = known ^ touched
        for address in addresses:
            check_hole(holes, known | always, address)


def check_hole(holes: Holes, taken: set, address: int) -> None:
    bits = holes.prefix_bits(address)

    def is_free(length: int) -> bool:
        low = address >> (8 - length) << (8 - length)
        return not taken & set(range(low, low + (1 << (8 - length))))

    expected = next((length for length in range(9) if is_free(length)), 8)
    assert bits == expected


@given(st.lists(st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)), min_size=1, max_size=5))
def test_the_common_prefix_contains_all_and_is_the_longest(prefixes: list) -> None:
    cut = [(number >> (128 - bits) << (128 - bits), bits) for number, bits in prefixes]
    packed, bits = common_prefix((number.to_bytes(16, "big"), length) for number, length in cut)
    assert bits <= min(length for _, length in cut)
    heads = {number >> (128 - bits) for number, _ in cut}
    assert heads == {int.from_bytes(packed, "big") >> (128 - bits)}
    if bits < min(length for _, length in cut):
        assert len({number >> (127 - bits) for number, _ in cut}) == 2
