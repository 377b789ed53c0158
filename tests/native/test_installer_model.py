# SPDX-License-Identifier: Apache-2.0
"""The installer against a model in plain Python: any sequence of records leads to the same tables."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from itertools import permutations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installing import (
    BLUE,
    RED,
    all_rows,
    attachment,
    attachment_remove,
    change,
    flow,
    flow_key,
    ingress,
    location,
    location_remove,
    open_arena,
    peering,
    snapshot_begin,
    snapshot_end,
    tunnel,
    tunnels_begin,
    tunnels_end,
    vnet,
    vnet_remove,
)

from fastpath import records
from fastpath.records import Action, ChangeKind, RecordType, join, make
from model_tables import FlowKey, Scope, Tables

VNIS = st.sampled_from([RED, BLUE, 7003])
ATTACHMENTS = st.sampled_from([100, 101, 102])
TUNNELS = st.sampled_from([500, 501])
ENDPOINTS = st.sampled_from([300, 301, 302])
REVISIONS = st.integers(0, 12)
INCARNATIONS = st.sampled_from([1, 1, 1, 2])
VLANS = st.sampled_from([10, 11])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.1.1"])
PREFIXES = st.sampled_from(["0.0.0.0/0", "10.0.0.0/24", "10.0.0.1/32", "10.0.1.0/24"])

STEPS = st.one_of(
    st.tuples(st.just("vnet"), VNIS, st.sampled_from([1, 1, 1, 2]), INCARNATIONS, st.integers(0, 3)),
    st.tuples(st.just("vnet_remove"), VNIS),
    st.tuples(st.just("begin"), VNIS, INCARNATIONS),
    st.tuples(st.just("end"), VNIS, INCARNATIONS, REVISIONS),
    st.tuples(st.just("attachment"), VNIS, ATTACHMENTS, VLANS),
    st.tuples(st.just("attachment_remove"), VNIS, ATTACHMENTS),
    st.tuples(st.just("ingress"), VNIS, TUNNELS),
    st.tuples(st.just("ingress_remove"), VNIS, TUNNELS),
    st.tuples(st.just("tunnel"), TUNNELS, REVISIONS),
    st.tuples(st.just("tunnel_remove"), TUNNELS),
    st.tuples(st.just("tunnels_begin")),
    st.tuples(st.just("tunnels_end")),
    st.tuples(st.just("location"), VNIS, ENDPOINTS, ATTACHMENTS | TUNNELS, REVISIONS, st.booleans()),
    st.tuples(st.just("location_remove"), VNIS, ENDPOINTS),
    st.tuples(st.just("peering"), VNIS, VNIS),
    st.tuples(st.just("peering_remove"), VNIS, VNIS),
    st.tuples(
        st.just("change"), VNIS, INCARNATIONS, REVISIONS, st.booleans(), PREFIXES, PREFIXES, st.booleans()
    ),
    *[
        st.tuples(st.just("flow"), VNIS, ATTACHMENTS, ADDRESSES, ADDRESSES,
                  st.sampled_from(["encapsulate", "drop"]), ENDPOINTS | st.just(0), ENDPOINTS,
                  VNIS | st.just(0), REVISIONS, INCARNATIONS)
    ] * 3,
)  # fmt: skip

# Enough to stand on: most sequences would otherwise be refused from end to end.
FOUNDATION = [
    ("vnet", RED, 1, 1, 0), ("vnet", BLUE, 1, 1, 0),
    ("attachment", RED, 100, 10), ("attachment", BLUE, 101, 11),
    ("ingress", RED, 500), ("ingress", RED, 501), ("ingress", BLUE, 500),
    ("tunnel", 500, 0), ("location", RED, 300, 500, 0, False), ("location", BLUE, 301, 500, 0, False),
    ("location", RED, 302, 100, 0, False),
]  # fmt: skip


def remote_of(tunnel: int) -> str:
    return f"192.0.2.{tunnel - 498}"


FAR_AWAY = join([
    vnet(RED), attachment(RED, 100, vlan=10), ingress(RED, 9, "192.0.2.2"), tunnel(500), location(RED, 300)
])  # fmt: skip


class Pair:
    """The installer and the model, fed with the same steps."""

    def __init__(self) -> None:
        self.arena = open_arena()
        self.model = Tables()

    def step(self, step: tuple) -> None:
        record, expected = getattr(self, step[0])(*step[1:])
        got = int(self.arena.apply(record, tries=3)[0])
        self.arena.settle()
        self.model.tunnels_settle()
        assert (got == 0) == expected, (step, got, self.arena.refused())

    def ingress_index(self, object_id: int) -> int:
        rows = all_rows(self.arena.dump.ingresses)
        return next((r["ingress"] for r in rows if r["object_id"] == object_id), 31)

    def vnet(self, vni, object_id, incarnation, revision):
        return vnet(vni, object_id, incarnation, revision), self.model.vnet_set(
            vni, object_id, incarnation, revision
        )

    def vnet_remove(self, vni):
        return vnet_remove(vni), self.model.vnet_remove(vni)

    def begin(self, vni, incarnation):
        return snapshot_begin(vni, incarnation), self.model.snapshot_begin(vni, incarnation)

    def end(self, vni, incarnation, revision):
        return snapshot_end(vni, revision, incarnation), self.model.snapshot_end(vni, incarnation, revision)

    def attachment(self, vni, object_id, vlan):
        return attachment(vni, object_id, vlan=vlan), self.model.attachment_set(vni, object_id, 0, vlan)

    def attachment_remove(self, vni, object_id):
        return attachment_remove(vni, object_id), self.model.attachment_remove(vni, object_id)

    def ingress(self, vni, object_id):
        remote = remote_of(object_id)
        return ingress(vni, 9, remote), self.model.ingress_set(vni, remote)

    def ingress_remove(self, vni, object_id):
        remote = remote_of(object_id)
        record = ingress(vni, 9, remote, record_type=RecordType.INGRESS_REMOVE)
        return record, self.model.ingress_remove(vni, remote)

    def tunnel(self, object_id, revision):
        remote = remote_of(object_id)
        return tunnel(object_id, remote, revision), self.model.tunnel_set(object_id, remote, revision)

    def tunnel_remove(self, object_id):
        return make(RecordType.TUNNEL_REMOVE, object_id=object_id), self.model.tunnel_remove(object_id)

    def tunnels_begin(self):
        return tunnels_begin(), self.model.tunnels_begin()

    def tunnels_end(self):
        return tunnels_end(), self.model.tunnels_end()

    def location(self, vni, object_id, target, revision, if_present):
        kind = "tunnel" if target >= 500 else "local"
        record = location(vni, object_id, kind, target, revision, flags=int(if_present))
        return record, self.model.location_set(vni, object_id, kind, target, revision, if_present)

    def location_remove(self, vni, object_id):
        return location_remove(vni, object_id), self.model.location_remove(vni, object_id)

    def peering(self, vni, to):
        return peering(vni, to), self.model.peering_set(vni, to)

    def peering_remove(self, vni, to):
        return peering(vni, to, RecordType.PEERING_REMOVE), self.model.peering_remove(vni, to)

    def change(self, vni, incarnation, revision, tighten, source, destination, either):
        kind = ChangeKind.TIGHTEN if tighten else ChangeKind.MOVE
        record = change(vni, revision, source, destination, kind, incarnation, int(either))
        scope = Scope(IPv4Network(source), IPv4Network(destination), either)
        return record, self.model.change(vni, incarnation, revision, tighten, scope)

    def flow(
        self, vni, ingress, source, destination, action, source_object, destination_object, to, revision, inc
    ):
        key = flow_key(self.ingress_index(ingress), source, destination)
        what = Action.DROP if action == "drop" else Action.ENCAPSULATE
        record = flow(
            vni, key, ingress, what, destination_object, source_object, revision, inc, destination_vni=to
        )
        name = FlowKey(vni, ingress, IPv4Address(source), IPv4Address(destination))
        return record, self.model.flow_install(
            name, action, source_object, destination_object, to or vni, revision, inc
        )

    def compare(self) -> None:
        dump, model = self.arena.dump, self.model
        ingresses = {r["ingress"]: r["object_id"] for r in all_rows(dump.ingresses)}
        flows = {
            (r["vni"], ingresses[r["ingress"]], r["source"], r["destination"]): (
                r["action"], r["source_object"] or 0, r["destination_object"] or 0,
                r["revision"] & 0xFFFFFFFF, r["stale"])
            for r in all_rows(dump.flows)
        }  # fmt: skip
        expected = {
            (k.vni, k.ingress, str(k.source), str(k.destination)): (
                f.action, f.source, f.destination if f.action != "drop" else 0, f.revision, f.stale)
            for k, f in model.flows.items()
        }  # fmt: skip
        assert flows == expected
        assert {(r["vni"], r["object_id"]) for r in all_rows(dump.locations)} == set(model.locations)
        attachments = [r for r in all_rows(dump.ingresses) if r["kind"] == "attachment"]
        assert {r["object_id"]: (r["vni"], r["vlan"]) for r in attachments} == {
            o: (vni, vlan) for o, (vni, _, vlan) in model.attachments.items()
        }
        assert {r["object_id"] for r in all_rows(dump.tunnels)} == set(model.tunnels)
        assert {(r["vni"], r["floor"], r["incarnation"]) for r in all_rows(dump.vnets)} == {
            (vni, v.floor, v.incarnation) for vni, v in model.vnets.items()
        }
        self.isolation()

    def isolation(self) -> None:
        """No action leads out of its key's V-net but over a peering."""
        places = {r["object_id"]: set() for r in all_rows(self.arena.dump.locations)}
        for row in all_rows(self.arena.dump.locations):
            places[row["object_id"]].add(row["vni"])
        for row in all_rows(self.arena.dump.flows):
            if row["destination_object"]:
                reachable = {row["vni"]} | self.model.vnets[row["vni"]].peers
                assert places[row["destination_object"]] & reachable


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=40))
def test_any_sequence_of_records_leads_where_the_model_does(steps) -> None:
    pair = Pair()
    with pair.arena:
        for step in FOUNDATION + steps:
            pair.step(step)
        pair.compare()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=30))
def test_adopted_tables_are_the_ones_that_were_left(tmp_path_factory, steps) -> None:
    path = tmp_path_factory.mktemp("arena") / "arena"
    pair = Pair()
    pair.arena.close()
    pair.arena = open_arena(path=path)
    with pair.arena:
        for step in FOUNDATION + steps:
            pair.step(step)
        before = [
            all_rows(d) for d in (pair.arena.dump.flows, pair.arena.dump.tunnels, pair.arena.dump.locations)
        ]
    pair.arena = open_arena(path=path)
    with pair.arena:
        assert pair.arena.adoption["how"] == "adopted"
        pair.compare()
        after = [
            all_rows(d) for d in (pair.arena.dump.flows, pair.arena.dump.tunnels, pair.arena.dump.locations)
        ]
        assert after == before


@pytest.mark.parametrize("now_s", [5, 1000, 300_000_000])
def test_adoption_goes_by_its_callers_clock_however_long_the_machine_is_up(tmp_path, now_s) -> None:
    path = tmp_path / "arena"
    now_ns = now_s * 1_000_000_000
    with open_arena(path=path, now_ns=now_ns) as arena:
        arena.apply(FAR_AWAY)
        arena.apply(flow(RED, flow_key(arena.ingress_by_vlan(0, 10)), 100, destination=300, revision=4))
        before = all_rows(arena.dump.flows)
    with open_arena(path=path, now_ns=now_ns) as arena:
        assert len(before) == 1
        assert all_rows(arena.dump.flows) == before


# ---- late answers


@pytest.mark.parametrize("order", list(permutations(range(5))))
def test_no_order_lets_a_late_answer_outlive_its_revocation(order) -> None:
    """Three answers (before, at, after), the revocation and a change elsewhere, in every order."""
    with open_arena() as arena:
        arena.apply(FAR_AWAY)
        key = flow_key(arena.ingress_by_vlan(0, 10))
        allow_old = flow(RED, key, 100, destination=300, revision=4, token=4)
        deny_at = flow(RED, key, 100, Action.DROP, destination=0, revision=5, token=5)
        deny_later = flow(RED, key, 100, Action.DROP, destination=0, revision=6, token=6)
        steps = [allow_old, deny_at, deny_later, change(RED, 5, destination="10.0.0.0/24"),
                 change(RED, 6, destination="10.9.0.0/16")]  # fmt: skip

        for i in order:
            arena.apply(steps[i])

        revoked_first = order.index(3) < order.index(0)
        word = int(arena.lookup(key)[0])
        assert word >> 56 != Action.ENCAPSULATE or not revoked_first
        released = {token: action >> 56 for token, action, _ in arena.taken()["released"]}
        assert released[4] == (Action.NONE if revoked_first else Action.ENCAPSULATE)
        assert released[5] == released[6] == Action.DROP
        # Whatever the order: once the revocation is in, nothing forwards unless asked again.
        if order.index(0) != 4:
            arena.apply(change(RED, 7, destination="10.0.0.0/24"))
        assert int(arena.lookup(key)[0]) >> 56 != Action.ENCAPSULATE


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_churn_elsewhere_does_not_starve_an_answer(order) -> None:
    with open_arena() as arena:
        arena.apply(FAR_AWAY)
        key = flow_key(arena.ingress_by_vlan(0, 10))
        steps = [flow(RED, key, 100, destination=300, revision=4), *[
            change(RED, 10 + i, destination=f"172.16.{i}.0/24") for i in range(3)]]  # fmt: skip

        results = [int(arena.apply(steps[i])[0]) for i in order]

        assert results == [0, 0, 0, 0]
        assert int(arena.lookup(key)[0]) >> 56 == Action.ENCAPSULATE


# ---- hostile records


TYPES = st.sampled_from([*map(int, RecordType), 0, 77, 0xFFFF])


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(TYPES, st.sampled_from([RED, 0, 0xFFFFFFFF]), st.binary(min_size=112, max_size=112)),
        max_size=8,
    )
)
def test_random_bytes_are_refused_or_sound(rows) -> None:
    pair = Pair()
    with pair.arena as arena:
        for step in FOUNDATION:
            pair.step(step)
        arena.apply(flow(RED, flow_key(arena.ingress_by_vlan(0, 10)), 100, destination=300))
        for kind, vni, body in rows:
            record = np.zeros(1, records.RECORD)
            record["head"]["type"], record["head"]["version"], record["head"]["vni"] = kind, 1, vni
            record["head"]["flags"] = body[0]
            record["body"] = np.frombuffer(body, np.uint8)
            arena.apply(record, worker=body[1])
        arena.settle()
        pair.isolation()


def test_a_hundred_thousand_random_records_change_nothing() -> None:
    generator = np.random.default_rng(1)
    with open_arena() as arena:
        arena.apply(FAR_AWAY)
        arena.apply(flow(RED, flow_key(arena.ingress_by_vlan(0, 10)), 100, destination=300))
        arena.taken()

        def tables():
            return [
                all_rows(d)
                for d in (arena.dump.vnets, arena.dump.ingresses, arena.dump.locations, arena.dump.flows)
            ]

        before = tables()
        hostile = generator.integers(0, 256, (100_000, 128), np.uint8).view(records.RECORD)[:, 0]
        hostile["head"]["version"] = 1
        hostile["head"]["type"] = generator.integers(32, 54, len(hostile))
        hostile = hostile[hostile["head"]["type"] != RecordType.DIRECTORY_STATE]
        for worker in (0, 0xFF, 200):
            arena.apply(hostile, worker)
        arena.settle()

        assert tables() == before
