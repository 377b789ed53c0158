# SPDX-License-Identifier: Apache-2.0
"""Hostile messages of the right shape: every one is answered, none makes the real directory fail inside."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_directory_service import DOCUMENT, Bench

from directory_client.wire import rows
from directory_client.wire.limits import DEPTH_MAX
from directory_client.wire.messages import encode
from directory_service.protocol.audit import AuditFile
from directory_service.protocol.authentication import LOCAL
from directory_service.protocol.dry_run import rows_of_flows
from directory_service.protocol.outbox import Audit, Peer, Reply

SOME_WORDS = """
gw1 gw2 red red/web-1 web-1 two any 10.0.0.11 10.0.0.0/24 tcp icmp show all vnet endpoint endpoints rule rules
node nodes route attachments peering documents red/gw1/rack:101 02:00:5e:00:00:11 allow group:web rack fe80::1
directories 192.0.2.1 vxlan gateway s1 profile fabric path ü
"""
SOME_FIELDS = """
node kind name values text dry_run take_over comment user document limit revision vnet source destination
protocol port request id answer wait_ms vnis local remote wire_id locators ports load role worker workers
node_capabilities explain sent_us
"""
SOME_KEYS = """
vni prefixes addresses mac node at groups action from to proto ports via kind site locators sites trust
mtu_bytes profile protocol udp_port ttl dscp priority quota min_trust ids
"""
WORDS = st.sampled_from([*SOME_WORDS.split(), "", "x" * 300, "\x00"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 70_000)
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | WORDS
)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS | st.sampled_from(["vni", "at", "addresses"]), inner, max_size=4)
    ),
    max_leaves=6,
)
FIELDS = st.sampled_from(SOME_FIELDS.split())
RECORDS = st.dictionaries(
    st.sampled_from(SOME_KEYS.split()),
    VALUES | st.lists(WORDS, max_size=2),
    max_size=5,
)
KINDS = st.sampled_from(["vnet", "endpoint", "rule", "route", "node", "site", "path", "profile"])
NAMES = st.sampled_from(["red/x", "x", "red", "gw1", "red/10.0.0.0/24", "s1"])
ADDRESSES = st.binary(min_size=16, max_size=16)


def served(bench: Bench, channel: str, frames: list[Any]) -> None:
    outs = bench.dispatcher.handle(Peer(channel, b"c", LOCAL), frames, bench.now)
    outs += bench.dispatcher.work(bench.now)
    for out in outs:
        if isinstance(out, Reply):
            assert "ok" in msgpack.unpackb(out.frames[0], strict_map_key=False) or out.connection != b"c"
        elif isinstance(out, Audit):
            assert bench.audit is not None
            bench.audit.write(out.record)
    assert bench.dispatcher.counters["internal_errors"] == 0


def written(path: Path, bench: Bench) -> list[dict[str, Any]]:
    """What stands in the audit file: every line is whole, and none is missing."""
    assert bench.audit is not None
    bench.audit.close()
    assert (bench.audit.problem, bench.audit.missing) == ("", 0)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(st.data())
def test_no_message_makes_it_fail_inside(data):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "audit.jsonl"
        bench = Bench(AuditFile(path))
        ask_at_random(bench, data)
        written(path, bench)


def ask_at_random(bench: Bench, data: Any) -> None:
    bench.ask("write", "apply", text=DOCUMENT, name="two.toml", wait_ms=0)
    for _ in range(data.draw(st.integers(1, 6))):
        channel = data.draw(st.sampled_from(["resolve", "write", "write"]))
        kinds = sorted(bench.dispatcher._channels[channel].handlers)
        head = {"id": 1, **data.draw(st.dictionaries(FIELDS, VALUES, max_size=6))}
        head["type"] = data.draw(st.sampled_from(kinds))
        if channel == "resolve":
            head["node"] = data.draw(st.sampled_from(["gw1", "gw2", "gw1", "nobody"]))
        if head["type"] == "set" and data.draw(st.booleans()):
            head |= {"kind": data.draw(KINDS), "name": data.draw(NAMES), "values": data.draw(RECORDS)}
        if head["type"] == "explain" and data.draw(st.booleans()):
            head |= {"vnet": "red", "source": data.draw(WORDS), "destination": data.draw(WORDS)}
        if head["type"] == "locator" and data.draw(st.booleans()):
            head |= {"local": data.draw(ADDRESSES), "remote": bytes(16), "protocol": 1, "wire_id": 7001}
        parts = data.draw(st.lists(st.binary(max_size=130), max_size=2))
        served(bench, channel, encode(head, *parts))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=64, max_size=64 * 8), st.booleans())
def test_no_query_makes_it_fail_inside(body, explain):
    bench = Bench()
    bench.ask("write", "apply", text=DOCUMENT, name="two.toml", wait_ms=0)
    table = np.frombuffer(body[: len(body) // 64 * 64], rows.QUERY).copy()
    table["vni"][::2] = 7001
    table["key_class"][::2] %= 7
    head = {"id": 1, "type": "resolve", "node": "gw1", "node_capabilities": ["vxlan"], "explain": explain}
    served(bench, "resolve", encode(head, table.tobytes()))


DEPTHS = (DEPTH_MAX, DEPTH_MAX + 1, 300, 900, 1_500, 60_000)


def deep(depth: int, key: bool) -> bytes:
    """The msgpack of lists, or of maps, in one another."""
    return (b"\x81\xa1x" if key else b"\x91") * depth + b"\x01"


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize(
    ("channel", "type", "field"),
    [
        ("write", "set", "values"),
        ("write", "forward", "request"),
        ("write", "answer", "answer"),
        ("write", "apply", "take_over"),
        ("resolve", "heartbeat", "load"),
        ("resolve", "snapshot", "vnis"),
        ("resolve", "locator", "unheard_of"),
    ],
)
def test_nothing_nested_is_too_deep_for_it(tmp_path, channel, type, field, key, depth):
    bench = Bench(AuditFile(tmp_path / "audit"))
    said = {"v": 1, "id": 1, "type": type, "node": "gw1", "kind": "site", "name": "s1", "text": ""}
    said |= {"local": bytes(16), "remote": bytes(16), "protocol": 1, "wire_id": 1}
    head = bytes([0xDE, 0, len(said) + 1]) + b"".join(
        msgpack.packb(one) for pair in said.items() for one in pair
    )
    value = deep(depth, key)
    if field == "values":
        value = b"\x81\xa1x" + value
    served(bench, channel, [head + msgpack.packb(field) + value])
    assert all(line["stage"] in ("asked", "done") for line in written(tmp_path / "audit", bench))


def test_flows_that_are_nested_are_unreadable_and_no_more():
    flat = {"vnet": "red", "source": "10.0.0.1"}
    rows_, unseen, failed = rows_of_flows([(0, "gw1", {"ok": True, "rows": [flat, {"x": [[]]}, 7]})])
    assert rows_ == [{**flat, "node": "gw1"}, {"node": "gw1"}]
    assert (unseen, failed) == (0, set())
