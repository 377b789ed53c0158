# SPDX-License-Identifier: Apache-2.0
"""Whatever is missed, restarted or adopted: in the end the data plane has the tunnels that V-nets name, and
no other. Two workers' resolvers and the real tables; the oracle is what the directory says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from installing import all_rows, ip, open_arena

from directory_client.events import Changed, Snapshot
from fastpath.records import join
from gateway.slow_path.operations import record_of
from gateway.slow_path.resolver import Resolver

VNIS = [7001, 7002, 7003]  # of workers 1, 0, 1
TUNNELS = [500, 501, 502]
NAMED = st.none() | st.frozensets(st.sampled_from(TUNNELS))
STEPS = st.one_of(
    st.tuples(st.just("change"), st.sampled_from(VNIS), NAMED),
    st.tuples(st.just("miss"), st.sampled_from(VNIS), NAMED),  # a push that is lost
    st.tuples(st.just("use"), st.sampled_from(VNIS)),
    st.tuples(st.just("snapshot"), st.sampled_from([0, 1])),
    st.tuples(st.just("restart_worker"), st.sampled_from([0, 1])),
    st.tuples(st.just("restart_data_plane")),
)


def operations(vni: int, named: frozenset[int]) -> dict[tuple, dict[str, Any]]:
    """What stands in a V-net: these tunnels, and an endpoint behind the first of them."""
    view: dict[tuple, dict[str, Any]] = {
        ("vnet",): {"op": "vnet", "vni": vni, "object_id": vni, "gateway_mac": bytes(6)}
    }
    for number in sorted(named):
        view["tunnel", number] = {
            **{"op": "tunnel", "object_id": number, "node_id": number, "local": ip("192.0.2.1")},
            **{"remote": ip(f"192.0.2.{number - 490}"), "udp_port": 4789, "mtu_bytes": 1500},
            **{"protocol": 1, "ttl": 64},
        }
    if named:
        view["location",] = {
            **{"op": "location", "vni": vni, "object_id": 10 * vni, "target_id": min(named), "kind": 2},
            **{"node_id": min(named), "wire_id": vni, "mac": bytes(6)},
        }
    return view


@dataclass
class House:
    path: Path
    revision: int = 1
    truth: dict[int, frozenset[int] | None] = field(default_factory=lambda: dict.fromkeys(VNIS))
    told: dict[int, dict[tuple, dict[str, Any]]] = field(default_factory=lambda: {vni: {} for vni in VNIS})

    def __post_init__(self) -> None:
        self.arena = open_arena(path=self.path)
        self.resolvers = [self.worker(number) for number in (0, 1)]

    def worker(self, number: int) -> Resolver:
        resolver = Resolver(number, 2, 1.0)
        resolver.connected(self.vnets_there(number))
        return resolver

    def vnets_there(self, number: int) -> dict[int, tuple[int, int]]:
        rows = [row for row in all_rows(self.arena.dump.vnets) if row["vni"] % 2 == number]
        return {row["vni"]: (row["incarnation"], row["in_force"]) for row in rows}

    def send(self) -> None:
        for number, resolver in enumerate(self.resolvers):
            records = resolver.take_records()
            if records:
                self.arena.apply(join(records), number, tries=3)
        self.arena.settle()

    def miss(self, vni: int, named: frozenset[int] | None) -> None:
        self.truth[vni] = named
        self.revision += 1

    def change(self, vni: int, named: frozenset[int] | None) -> None:
        before, self.truth[vni] = self.told[vni], named
        self.revision += 1
        after = {} if named is None else operations(vni, named)
        self.told[vni] = after
        if not after:
            ops = [{"op": "vnet_removed", "vni": vni, "object_id": vni}] if before else []
        else:
            ops = [op for key, op in after.items() if before.get(key) != op]
            gone = [op for key, op in before.items() if key not in after]
            ops += [{**op, "op": op["op"] + "_removed"} for op in gone if op["op"] == "location"]
            ops += [{**op, "op": op["op"] + "_removed"} for op in gone if op["op"] == "tunnel"]
        self.resolvers[vni % 2].changed(Changed(vni, 1, self.revision, 0, ops))
        self.send()

    def use(self, vni: int) -> None:
        """Somebody asks for the endpoint, so that its location is there."""
        location = self.told[vni].get(("location",))
        if location is not None:
            record = record_of(location, vni, self.revision, 1)
            assert record is not None
            record["head"]["flags"] = 0
            self.arena.apply(record, vni % 2)

    def snapshot(self, number: int) -> None:
        vnets = []
        for vni in VNIS:
            if vni % 2 == number:
                named = self.truth[vni]
                self.told[vni] = {} if named is None else operations(vni, named)
                if named is not None:
                    vnets.append((vni, list(self.told[vni].values())))
        self.resolvers[number].snapshot(Snapshot(1, self.revision, 77, vnets))
        self.send()

    def restart_worker(self, number: int) -> None:
        self.resolvers[number] = self.worker(number)
        self.snapshot(number)

    def restart_data_plane(self) -> None:
        self.arena.close()
        self.arena = open_arena(path=self.path)
        for number, resolver in enumerate(self.resolvers):
            resolver.connected(self.vnets_there(number))
        self.send()

    def tunnels(self) -> set[int]:
        return {row["object_id"] for row in all_rows(self.arena.dump.tunnels)}

    def named(self) -> set[int]:
        return {number for named in self.truth.values() for number in named or ()}


ADOPTED = (
    ("change", 7001, frozenset({500})),
    ("change", 7002, frozenset({500})),
    ("restart_data_plane",),
    ("change", 7001, None),  # the other worker has not yet said again that it names it
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@example(list(ADOPTED))
@given(st.lists(STEPS, max_size=25))
def test_in_the_end_the_tunnels_are_those_that_v_nets_name(tmp_path_factory, steps) -> None:
    house = House(tmp_path_factory.mktemp("house") / "arena")
    try:
        for step in steps:
            getattr(house, step[0])(*step[1:])
            told = {key[1] for view in house.told.values() for key in view if key[0] == "tunnel"}
            assert told <= house.tunnels()  # nothing that is named goes
        for number in (0, 1):
            house.snapshot(number)
        assert house.tunnels() == house.named()
    finally:
        house.arena.close()


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS.filter(lambda step: step[0] in ("change", "use", "restart_data_plane")), max_size=25))
def test_where_no_push_is_lost_they_are_so_at_any_time(tmp_path_factory, steps) -> None:
    house = House(tmp_path_factory.mktemp("house") / "arena")
    try:
        for number in (0, 1):
            house.snapshot(number)
        for step in steps:
            getattr(house, step[0])(*step[1:])
            assert house.tunnels() == house.named()
    finally:
        house.arena.close()
