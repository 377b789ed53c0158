# SPDX-License-Identifier: Apache-2.0
"""Scopes must be true: of a refusal (it holds for every key in it) and of a change (nothing differs outside)."""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from directory_client.numbers import Action, ChangeKind, KeyClass, KeyFlag
from directory_client.scopes import PORT_MAX, Scope, covers_change, covers_refusal
from directory_service.decide import Asker, Decision, Query, decide
from directory_service.holes import Holes
from directory_service.scope import common_prefix, find_changes
from directory_service.settings import Settings
from topologies import VNI, edits, ends, fits, make_snapshot, port_pairs, queries, topologies

NOW_MS = 1_000_000
SETTINGS = Settings()
PLACE_REASONS = ("same_segment", "relay_loop", "not_here")
SLOW = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


def ask(snapshot, query: Query, node: str) -> Decision:
    asker = Asker(snapshot.fabric.nodes[node], frozenset(["vxlan"]))
    return decide(snapshot, query, asker, NOW_MS, SETTINGS)


def hosts_of(snapshot) -> set[str]:
    state = snapshot.by_vni.get(VNI)
    return set(state.attachments_by_node) if state else set()


@SLOW
@given(data=st.data())
def test_a_refusal_holds_for_every_key_in_its_scope(data: st.DataObject) -> None:
    first, second = data.draw(edits())
    snapshot = make_snapshot(first, time_ms=NOW_MS - 1000)
    assume(fits(snapshot))
    if data.draw(st.booleans()):  # with endpoints that have just moved
        snapshot = make_snapshot(second, snapshot, NOW_MS - 500)
        assume(fits(snapshot))
    node = data.draw(st.sampled_from(sorted(hosts_of(snapshot))))
    for _ in range(6):
        query = data.draw(queries(snapshot))
        refusal = ask(snapshot, query, node)
        if refusal.action != Action.DROP or refusal.scope is None:
            continue
        assert covers_refusal(
            refusal.scope,
            query.key_flags,
            query.source,
            query.destination,
            query.protocol,
            query.destination_port,
        )
        for _ in range(8):
            other = data.draw(keys_like(query, refusal.scope))
            if covers_refusal(
                refusal.scope,
                other.key_flags,
                other.source,
                other.destination,
                other.protocol,
                other.destination_port,
            ):
                again = ask(snapshot, other, node)
                assert (again.action, again.reason) == (Action.DROP, refusal.reason), (refusal, other)


@st.composite
def keys_like(draw: st.DrawFn, query: Query, scope: Scope) -> Query:
    """Draw a key of the same V-net, class, family and ingress: near the edges of the scope, or anywhere."""
    near = [scope.port_low, scope.port_high, max(scope.port_low - 1, 0), min(scope.port_high + 1, PORT_MAX)]
    source_port, destination_port = draw(port_pairs())
    destination_port = draw(st.sampled_from([destination_port, *near]))
    connection = draw(st.booleans()) and query.key_class in (KeyClass.BRIDGED, KeyClass.ROUTED)
    return query._replace(
        key_flags=int(KeyFlag.CONNECTION) if connection else 0,
        protocol=draw(st.sampled_from([query.protocol, 6, 17, 1, 0])) if connection else 0,
        source=draw(near_prefix(query.key_class, scope.source, scope.source_bits)),
        destination=draw(near_prefix(query.key_class, scope.destination, scope.destination_bits)),
        source_port=source_port if connection else 0,
        destination_port=destination_port if connection else 0,
    )


def near_prefix(key_class: int, prefix: bytes, bits: int) -> st.SearchStrategy[bytes]:
    """Draw the first or last address of a prefix, or any of the usual ones."""
    low = int.from_bytes(prefix, "big")
    high = low | ((1 << (128 - bits)) - 1)
    limit = (1 << 48) - 1 if key_class == KeyClass.MAC else (1 << 32) - 1
    edge = st.sampled_from([low, min(high, limit)]).map(lambda number: number.to_bytes(16, "big"))
    return st.one_of(edge, ends(key_class))


def what(decision: Decision) -> tuple:
    """What of a decision a gateway acts on."""
    location = decision.destination_location
    where = (
        (location.kind, location.target_id, location.mac, location.object_id, location.wire_id)
        if location
        else None
    )
    return decision.action, decision.reason, decision.granularity, where


@SLOW
@given(data=st.data())
def test_every_key_whose_decision_changes_is_in_the_scope_of_a_change(data: st.DataObject) -> None:
    first, second = data.draw(edits())
    before = make_snapshot(first, time_ms=NOW_MS - 1000)
    after = make_snapshot(second, before, NOW_MS)
    assume(fits(before) and fits(after) and VNI in before.by_vni and VNI in after.by_vni)
    changes = find_changes(before, after, "red")
    nodes = sorted(
        node
        for node in hosts_of(before) & hosts_of(after)
        if before.fabric.nodes[node].id == after.fabric.nodes[node].id
    )
    assume(nodes)
    ids = {record.id for record in before.records.values()} & {record.id for record in after.records.values()}
    for _ in range(12):
        query = data.draw(queries(before))
        if query.ingress_object not in ids:
            continue
        for node in nodes:
            was, now = ask(before, query, node), ask(after, query, node)
            if what(was) == what(now):
                continue
            covering = [
                change
                for change in changes
                if covers_change(
                    change.scope,
                    query.key_flags,
                    query.source,
                    query.destination,
                    query.protocol,
                    query.destination_port,
                )
            ]
            assert covering, (node, query, what(was), what(now), was.why, now.why)
            if was.action != Action.DROP and now.action == Action.DROP and now.reason not in PLACE_REASONS:
                kinds = {change.kind for change in covering}
                assert ChangeKind.TIGHTEN in kinds, (node, query, what(was), what(now), kinds)


@SLOW
@given(topology=topologies())
def test_nothing_changed_makes_no_scope(topology) -> None:
    before = make_snapshot(topology)
    after = make_snapshot(topology, before)
    assert find_changes(before, after, "red") == []


@given(
    known=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted), max_size=6),
    address=st.integers(0, 255),
)
def test_a_hole_is_the_widest_prefix_without_a_known_address(known: list, address: int) -> None:
    bits = Holes([tuple(pair) for pair in known], 8).prefix_bits(address)
    taken = {number for low, high in known for number in range(low, high + 1)}

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
