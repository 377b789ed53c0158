# SPDX-License-Identifier: Apache-2.0
"""Attachments and ingresses: told again when refused; arrivals are announced where they should be."""

from __future__ import annotations

import numpy as np
import pytest
from resolver_world import ATTACHMENT, INCARNATION, MAC, VNI, address, records, snapshot
from scapy.layers.l2 import ARP, Ether

from directory_client.events import Changed
from fastpath.records import RecordType, Refusal, make
from gateway.slow_path.resolver import CONFLICTS_MAX, Resolver


def refused(record_type: RecordType, why: Refusal) -> np.ndarray:
    return make(RecordType.REFUSED, vni=VNI, refused_type=record_type, why=why)


@pytest.fixture
def resolver() -> Resolver:
    made = Resolver(0, 1, 1.0)
    made.state(True)
    made.snapshot(snapshot())
    (sync,) = (row for row in made.take_records() if row["head"]["type"][0] == RecordType.SYNC)
    made.records(records(make(RecordType.SYNCED, number=sync["number"])), 0.0)
    return made


def kinds(resolver: Resolver) -> list[int]:
    return [int(row["head"]["type"]) for batch in resolver.take_records() for row in batch]


def test_attachment_whose_place_is_taken_is_told_again(resolver: Resolver) -> None:
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), 100.0)
    assert resolver.due_s() == pytest.approx(100.05)
    resolver.tick(100.04)
    assert kinds(resolver) == []
    resolver.tick(100.06)
    assert RecordType.ATTACHMENT_SET in kinds(resolver)
    assert resolver.due_s() is None
    resolver.tick(101.0)
    assert kinds(resolver) == []


def test_place_that_stays_taken_is_given_up_until_something_changes(resolver: Resolver) -> None:
    now_s, told = 100.0, 0
    for _ in range(3 * CONFLICTS_MAX):
        resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), now_s)
        now_s += 2.0
        resolver.tick(now_s)
        told += RecordType.ATTACHMENT_SET in kinds(resolver)
    assert told == CONFLICTS_MAX
    resolver.changed(Changed(VNI, INCARNATION, 9, 0, []))
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.CONFLICT)), now_s)
    resolver.tick(now_s + 2.0)
    assert RecordType.ATTACHMENT_SET in kinds(resolver)


def test_other_refusals_tell_nothing_again(resolver: Resolver) -> None:
    resolver.records(records(refused(RecordType.ATTACHMENT_SET, Refusal.MALFORMED)), 100.0)
    resolver.records(records(refused(RecordType.TUNNEL_SET, Refusal.CONFLICT)), 100.0)
    assert resolver.due_s() is None


def test_arrival_is_announced_to_other_attachments_and_foreign_vteps_only(resolver: Resolver) -> None:
    vtep, ours = 50, 51
    tunnel = {"op": "tunnel", "profile_id": 1, "local": address(9), "udp_port": 4789, "mtu_bytes": 1500}
    tunnel |= {"protocol": 1, "ttl": 64, "dscp": 0, "dscp_copy": 1}
    ingress = {"op": "ingress", "vni": VNI, "local": address(9), "protocol": 1, "udp_port": 4789}
    resolver.changed(
        Changed(
            VNI,
            INCARNATION,
            2,
            0,
            [
                {
                    "op": "attachment",
                    "vni": VNI,
                    "object_id": 901,
                    "port": "rack",
                    "vlan": 102,
                    "mtu_bytes": 0,
                },
                {**tunnel, "object_id": 70, "node_id": vtep, "remote": address(7)},
                {**tunnel, "object_id": 71, "node_id": ours, "remote": address(8)},
                {**ingress, "node_id": vtep, "remote": address(7), "wire_id": 99, "foreign": True},
                {**ingress, "node_id": ours, "remote": address(8), "wire_id": VNI, "foreign": False},
                {
                    **{"op": "location", "vni": VNI, "object_id": 2000, "kind": 1, "target_id": ATTACHMENT},
                    **{"node_id": 77, "wire_id": VNI, "mac": MAC},
                },
            ],
        )
    )
    resolver.take_records()

    arrival = {"op": "announce", "vni": VNI, "object_id": 2000, "mac": MAC, "addresses": [address(5)]}
    resolver.changed(Changed(VNI, INCARNATION, 3, 0, [arrival]))

    sent = [row for batch in resolver.take_records() for row in batch]
    assert [(int(r["kind"]), int(r["target_id"]), int(r["wire_id"])) for r in sent] == [
        (1, 901, 0),
        (2, 70, 99),
    ]
    frame = Ether(sent[0]["data"].tobytes()[: int(sent[0]["frame_bytes"])])
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", "02:00:0a:00:00:01")
    assert (frame[ARP].op, frame[ARP].psrc, frame[ARP].pdst) == (1, "10.0.0.5", "10.0.0.5")
    assert frame[ARP].hwsrc == "02:00:0a:00:00:01"
