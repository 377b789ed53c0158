# SPDX-License-Identifier: Apache-2.0
"""Scopes must be true: of a refusal (it holds for every key in it), of a change (nothing differs outside)."""

from random import Random
from unittest.mock import patch

from hypothesis import event, given, settings
from hypothesis import strategies as st

from directory_client.vocabulary.numbers import Action, ChangeKind, KeyClass, KeyFlag
from directory_client.vocabulary.scopes import PORT_MAX, Scope, covers_change, covers_refusal
from directory_service.decide.decide import decide
from directory_service.decide.question import Asker, Decision, Query
from directory_service.model.holes import Holes
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings
from directory_service.views.scope import _stronger, common_prefix, find_changes
from topologies import (
    ENDPOINTS,
    PORTS,
    VNI,
    draw_edit,
    draw_end,
    draw_query,
    draw_sightings,
    draw_topology,
    make_snapshot,
)

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


def test_what_is_said_of_several_links_does_not_depend_on_their_order() -> None:
    kinds = [None, *ChangeKind]
    for one in kinds:
        for other in kinds:
            assert _stronger(one, other) == _stronger(other, one)
    assert _stronger(ChangeKind.LOOSEN, ChangeKind.MOVE) == ChangeKind.MOVE
    assert all(_stronger(ChangeKind.TIGHTEN, other) == ChangeKind.TIGHTEN for other in kinds)


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
    before = draw_sightings(random, before, NOW_MS - 500)
    after = make_snapshot(draw_edit(random, topology), before, NOW_MS) if random.random() < 0.8 else before
    after = draw_sightings(random, after, NOW_MS)
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
            was = ask(before, query, node)
            cached = was.destination_location  # asked again, the data plane says whom it goes to
            again = query._replace(current_object=cached.object_id if cached else 0)
            now = ask(after, again, node)
            if what(was) == what(now):
                continue
            told = (change for change in changes if change.node in ("", node))
            touching = [change for change in told if is_touched(change.scope, query)]
            kinds = {change.kind for change in touching if not change.located}
            if any(change.located for change in touching):
                kinds.add(ChangeKind.LOOSEN)
                if cached and cached.object_id not in ids:
                    kinds.add(ChangeKind.TIGHTEN)  # nothing goes to a location that is removed
            assert kinds, (node, query, what(was), what(now))
            event(f"{was.reason or 'allowed'} → {now.reason or 'allowed'}")
            had_right = was.action not in (Action.DROP, Action.NARROW)  # narrow says nothing about rights yet
            if had_right and now.action == Action.DROP and now.reason not in PLACE_REASONS:
                assert ChangeKind.TIGHTEN in kinds, (node, query, what(was), what(now), kinds)


def is_touched(scope: Scope, key: Query) -> bool:
    return covers_change(
        scope,
        key.key_class,
        key.key_flags,
        key.source,
        key.destination,
        key.protocol,
        key.source_port,
        key.destination_port,
    )


@MANY
@given(seed=SEEDS)
def test_a_change_of_rules_leaves_alone_what_can_be_told_apart(seed: int) -> None:
    random = Random(seed)
    topology = draw_topology(random)
    edited = draw_edit(random, topology)
    after_rules = {key: values for key, values in topology.items() if not key.startswith("rule/")}
    for key, values in edited.items():  # rules that name an endpoint of the other topology stay away
        selected = {values.get("from"), values.get("to")} & set(ENDPOINTS)
        if key.startswith("rule/") and all(f"endpoint/red/{name}" in topology for name in selected):
            after_rules[key] = values
    before = make_snapshot(topology, time_ms=NOW_MS - 1000)
    after = make_snapshot(after_rules, before, NOW_MS)
    changed = {key for key in {*topology, *after_rules} if topology.get(key) != after_rules.get(key)}
    rules = [one[key] for key in changed for one in (topology, after_rules) if key in one]
    with patch("directory_service.views.scope.SCOPES_MAX", 10_000):  # none are drawn together
        scopes = [change.scope for change in find_changes(before, after, "red")]
    for _ in range(80):
        query = draw_query(random, before)
        touched = any(is_touched(scope, query) for scope in scopes)
        if query.key_class == KeyClass.NEIGHBOR:
            assert not touched, query
        if query.key_class == KeyClass.MAC and all(rule.get("proto", "any") != "any" for rule in rules):
            assert not touched, query
        if query.key_flags & KeyFlag.CONNECTION and not any(speaks_of(rule, query) for rule in rules):
            assert not touched, (query, rules)


def speaks_of(rule: dict, key: Query) -> bool:
    """Tell whether a rule's protocol and ports are those of a connection, in one of its directions."""
    protocols = {"tcp": 6, "udp": 17, "icmp": 1, "any": key.protocol}
    if protocols[rule.get("proto", "any")] != key.protocol:
        return False
    if not rule.get("ports"):
        return True
    ports = [key.destination_port] + ([key.source_port] if rule.get("direction") != "forward" else [])
    for text in rule["ports"]:
        low, _, high = str(text).partition("-")
        if any(int(low) <= port <= int(high or low) for port in ports):
            return True
    return False


def test_a_deny_of_one_udp_port_closes_neither_other_ports_nor_pairs_nor_arp() -> None:
    base: dict = {
        "site/s": {},
        "node/g1": {"kind": "gateway", "site": "s", "locators": ["192.0.2.1"]},
        "vnet/red": {"vni": VNI},
        "attachment/red/g1/rack:1": {},
        "attachment/red/g1/rack:2": {},
        "endpoint/red/a": {"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1"], "at": ["g1/rack:1"]},
        "endpoint/red/b": {"mac": "02:00:00:00:00:02", "addresses": ["10.0.0.2"], "at": ["g1/rack:2"]},
        "rule/red/udp": {
            "action": "allow",
            "from": "any",
            "to": "any",
            "proto": "udp",
            "ports": ["7000-7999"],
        },
    }
    deny = {"action": "deny", "from": "any", "to": "any", "proto": "udp", "ports": [7150], "priority": 200}
    before = make_snapshot(base)
    after = make_snapshot({**base, "rule/red/no": deny}, before)
    a, b = (bytes(12) + bytes([10, 0, 0, number]) for number in (1, 2))
    scopes = [change.scope for change in find_changes(before, after, "red")]

    def closed(key_class: int, flags: int, source_port: int = 0, destination_port: int = 0) -> bool:
        protocol = 17 if flags else 0
        return any(
            covers_change(one, key_class, flags, a, b, protocol, source_port, destination_port)
            for one in scopes
        )

    assert closed(KeyClass.BRIDGED, KeyFlag.CONNECTION, 40000, 7150)
    assert closed(KeyClass.BRIDGED, KeyFlag.CONNECTION, 7150, 40000)
    assert not closed(KeyClass.BRIDGED, KeyFlag.CONNECTION, 40000, 7400)
    assert not closed(KeyClass.BRIDGED, KeyFlag.CONNECTION, 7400, 40000)
    assert not closed(KeyClass.BRIDGED, 0)  # "look at the ports", as before
    assert not closed(KeyClass.NEIGHBOR, 0)


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
