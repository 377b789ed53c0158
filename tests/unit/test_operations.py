# SPDX-License-Identifier: Apache-2.0
"""Operations: what the directory makes is what is declared, and a wrong one spoils no other."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import pytest
from directory_world import DOCUMENT

from directory_client.wire.operations import OPERATIONS
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.views.view import build_view
from gateway.slow_path.announcement import announcement
from gateway.slow_path.operations import MalformedOperation, read_operation, record_of
from whole_directory import WholeDirectory

VNI = 7001
GOOD: dict[str, dict[str, Any]] = {
    "vnet": {"object_id": 1, "gateway_mac": bytes(6)},
    "vnet_removed": {"object_id": 1},
    "attachment": {"object_id": 2, "port": "rack", "vlan": 101},
    "attachment_removed": {"object_id": 2},
    "ingress": {"node_id": 3, "local": "192.0.2.1", "remote": bytes(16), "protocol": 1, "wire_id": VNI},
    "ingress_removed": {"local": "192.0.2.1", "remote": bytes(16), "protocol": 1, "wire_id": VNI},
    "tunnel": {
        "object_id": 4,
        "node_id": 3,
        "local": "192.0.2.1",
        "remote": "192.0.2.2",
        "udp_port": 4789,
        "mtu_bytes": 1500,
        "protocol": 1,
        "ttl": 64,
    },
    "tunnel_removed": {"object_id": 4},
    "location": {
        "kind": 2,
        "mac": "02:00:5e:00:00:11",
        "object_id": 5,
        "target_id": 4,
        "node_id": 3,
        "wire_id": VNI,
    },
    "location_removed": {"object_id": 5},
    "peering": {"to_vni": 7002},
    "peering_removed": {"to_vni": 0, "from_vni": 7002},
    "scope": {"kind": 1},
    "announce": {"object_id": 5, "mac": bytes(6), "addresses": ["10.0.0.1"], "attachments": [2]},
    "announce_left": {"object_id": 5, "mac": bytes(6), "addresses": [bytes(16)]},
    "resync": {},
}
BAD = (None, True, -1, 1 << 64, 1.5, "x" * 70_000, b"x", [], [[]], {}, {"a": 1})


def apply(operation: dict[str, Any]) -> Any:
    if operation["op"] in ("announce", "announce_left"):
        return announcement(operation, VNI)
    return record_of(operation, VNI, 9, 7)


def test_every_operation_has_an_example():
    assert GOOD.keys() == OPERATIONS.keys()


@pytest.mark.parametrize("op", GOOD)
def test_an_operation_without_what_may_be_left_out_is_taken_and_more_is_passed_over(op):
    plain = apply({"op": op, **GOOD[op]})
    more = apply({"op": op, **GOOD[op], "vni": VNI, "unheard_of": [{"x": b""}]})
    assert (plain is None) == (op == "resync")
    assert plain is None or more == plain


@pytest.mark.parametrize("op", GOOD)
def test_a_value_that_cannot_be_is_the_fault_of_its_operation_and_named(op):
    for name in OPERATIONS[op].__struct_fields__:
        for value in BAD:
            with contextlib.suppress(MalformedOperation):
                apply({"op": op, **GOOD[op], name: value})
    for name in GOOD[op]:
        if op.endswith("_removed") or name == "attachments":
            continue
        with pytest.raises(MalformedOperation, match=f"^{op}: {name}: missing$"):
            apply({"op": op, **{key: value for key, value in GOOD[op].items() if key != name}})


def test_an_operation_of_another_v_net_is_refused():
    with pytest.raises(MalformedOperation, match="vnet_removed of V-net 5 in a message for 7001"):
        record_of({"op": "vnet_removed", "vni": 5, "object_id": 1}, VNI, 9, 7)


def test_an_operation_that_is_not_known_does_nothing():
    assert record_of({"op": "teleport", "vni": "x"}, VNI, 9, 7) is None


def test_what_the_directory_makes_is_as_declared_and_nothing_else():
    directory = WholeDirectory(MemoryStore(), Settings(), lambda: 0)
    directory.apply(DOCUMENT, "ams-ber.toml")
    for number, node in enumerate(("gw1", "gw2"), 1):
        directory.announce(node, [f"192.0.2.{number}"], ["rack"])
    made = [operation for push in directory.poll() for operation in push.ops]
    endpoint = {"addresses": ["10.0.0.40"], "mac": "02:00:5e:00:00:40", "node": "gw1"}
    directory.set_record("endpoint", "red/new", endpoint)
    directory.set_record("endpoint", "red/new", {**endpoint, "node": "gw2"})
    directory.remove_record("endpoint", "red/new")
    directory.apply(DOCUMENT.replace('action = "allow"', 'action = "deny"'), "ams-ber.toml")
    directory.announce("gw2", ["192.0.2.3"], ["rack"])
    made += [operation for push in directory.poll() for operation in push.ops]
    snapshot = directory.current
    for node in (snapshot.fabric.nodes[name] for name in ("gw1", "gw2")):
        for state in snapshot.vnets.values():
            made += build_view(snapshot, state, node, Settings())
    made += [{"op": "tunnel_removed", "object_id": 1}]
    for operation in made:
        sent = msgpack.unpackb(msgpack.packb(operation))
        read_operation(sent)
        assert sent.keys() - {"op"} <= {*OPERATIONS[sent["op"]].__struct_fields__}
        apply({**sent, "vni": VNI})
    seen = {operation["op"] for operation in made}
    assert seen >= {
        "vnet",
        "attachment",
        "ingress",
        "tunnel",
        "location",
        "scope",
        "announce",
        "announce_left",
    }
    assert seen >= {"ingress_removed", "location_removed"}
