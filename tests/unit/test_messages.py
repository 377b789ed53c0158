# SPDX-License-Identifier: Apache-2.0
"""Framing and checking of the directory's messages, with golden bytes and hostile ones."""

from __future__ import annotations

import contextlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory_client.decoding import read_push, read_resolved, read_snapshot
from directory_client.endpoint import parse_endpoint
from directory_client.keys import check_public_key, load_key_file, make_key_file
from directory_client.wire import rows
from directory_client.wire.answers import Answer
from directory_client.wire.greeting import Greeted, Heartbeat
from directory_client.wire.messages import (
    DirectoryError,
    MalformedMessage,
    decode,
    encode,
    read,
    read_envelope,
    topic_of,
    unpack,
)
from directory_client.wire.pushes import PushHead
from directory_client.wire.questions import LocatorAnswer, SnapshotHead
from directory_client.wire.requests import REQUESTS, Ask, ListRequest, SetRequest


def test_a_head_has_the_bytes_of_the_specification():
    # {"v": 1, "id": 7, "type": "list"} by the msgpack specification, written by hand
    golden = bytes.fromhex("83 a176 01 a26964 07 a474797065 a46c697374")
    assert encode({"id": 7, "type": "list"}) == [golden]
    assert decode([golden, b"part"]) == ({"v": 1, "id": 7, "type": "list"}, [b"part"])


def test_a_topic_is_node_and_vni_in_network_order():
    assert topic_of(0x0102030405060708, 0x1B59) == bytes.fromhex("0102030405060708 00001b59")


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b""],
        [b"\xc1"],
        [b"\x81"],
        [b"\x93\x01\x02"],
        [msgpack.packb([1, 2])],
        [msgpack.packb({"id": 1})],
        [msgpack.packb({"v": 2, "id": 1})],
        [msgpack.packb({"v": True, "id": 1})],
        [msgpack.packb({"v": 1, "id": "x"})],
        [msgpack.packb({"v": 1, "id": True})],
        [msgpack.packb({"v": 1}) + b"x"],
        [b"\x91" * 5_000],
        [b"\xdd\xff\xff\xff\xff"],
        [b"\xdf\xff\xff\xff\xff"],
        [b"\xc6\xff\xff\xff\xff"],
        [b"\xc7\x04\xff\0\0\0\0"],
        [b"\x81\xa1v\xa2\xff\xfe"],
        [b"\x81\x90\x01"],
    ],
)
def test_bytes_that_are_no_message_are_malformed(frames):
    with pytest.raises(MalformedMessage):
        decode(frames)


def test_another_version_is_named_and_keeps_its_id():
    with pytest.raises(MalformedMessage, match="version 2 of the protocol, this side speaks 1") as raised:
        decode([msgpack.packb({"v": 2, "id": 12, "type": "list"})])
    assert raised.value.id == 12


ANSWER = Answer(incarnation=1, revision=1, epoch=1)


def snapshot_of(frames):
    head = SnapshotHead(incarnation=1, revision=1, epoch=1, node_id=1, seq=[])
    return read_snapshot(head, frames)


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_never_raise_anything_else(frames):
    for each in (decode, read_push, snapshot_of, lambda f: read_resolved(1, ANSWER, f)):
        with contextlib.suppress(MalformedMessage):
            each(frames)


@given(
    st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary() | st.booleans(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_well_formed_msgpack_of_any_shape_never_raises_anything_else(value):
    packed = msgpack.packb(value)
    for each in (
        lambda: decode([packed]),
        lambda: read_push([topic_of(1, 2), encode({"seq": 1})[0], packed]),
        lambda: read_push([topic_of(1, 2), packed, packed]),
        lambda: read(packed, SnapshotHead),
        lambda: read(encode({"seq": value, "node_id": value})[0], SnapshotHead),
        lambda: snapshot_of([packed]),
        lambda: read_resolved(1, ANSWER, [b"", b"", b"", b"", packed]),
    ):
        with contextlib.suppress(MalformedMessage):
            each()


def test_a_part_beyond_the_limit_is_refused_unread():
    with pytest.raises(MalformedMessage, match="at most 10 are taken"):
        unpack(b"\x00" * 11, "the head", 10)


def test_rows_are_views_of_the_frame():
    queries = np.zeros(3, rows.QUERY)
    queries["vni"] = [1, 2, 3]
    frame = queries.tobytes()
    view = rows.rows_of(frame, rows.QUERY, "queries")
    assert view["vni"].tolist() == [1, 2, 3]
    assert not view.flags.owndata
    assert not view.flags.writeable
    with pytest.raises(MalformedMessage, match="queries: 191 bytes are no whole number of 64-byte rows"):
        rows.rows_of(frame[:-1], rows.QUERY, "queries")


@pytest.mark.parametrize(
    ("said", "kind", "sentence"),
    [
        ({"type": "list"}, ListRequest, "list: kind: missing"),
        (
            {"type": "list", "kind": 3},
            ListRequest,
            "list: kind: expected str, got int",
        ),
        (
            {"type": "heartbeat", "node": "gw1", "worker": True},
            Heartbeat,
            "heartbeat: worker: expected int, got bool",
        ),
        (
            {"type": "heartbeat", "node": "gw1", "locators": ["x"] * 65},
            Heartbeat,
            "heartbeat: locators: expected array of length <= 64",
        ),
        (
            {"type": "heartbeat", "node": "gw1", "locators": ["a", 1]},
            Heartbeat,
            r"heartbeat: locators\[1\]: expected str, got int",
        ),
        (
            {"type": "heartbeat", "node": "x" * 64},
            Heartbeat,
            "heartbeat: node: expected str of length <= 63",
        ),
        (
            {"type": "set", "kind": "vnet", "name": "red", "values": []},
            SetRequest,
            "set: values: expected object, got array",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_with_which_field(said, kind, sentence):
    (frame,) = encode({"id": 3, **said})
    with pytest.raises(MalformedMessage, match=f"^{sentence}$") as raised:
        read(frame, kind, said["type"], 3)
    assert raised.value.id == 3


@pytest.mark.parametrize(
    ("head", "id"),
    [
        ({"v": 1, "id": 9, "type": 5}, 9),
        ({"v": "1", "id": 9}, 9),
        ({"id": 9}, 9),
        ({"v": 1, "id": "9"}, None),
        ({"v": 1, "id": 1.5}, None),
    ],
)
def test_who_sends_a_wrong_head_is_told_so_by_its_id(head, id):
    with pytest.raises(MalformedMessage) as raised:
        read_envelope([msgpack.packb(head)])
    assert raised.value.id == id


HOSTILE = {
    "deep": b"\x91" * 50_000 + b"\x01",
    "deep maps": b"\x81\xa1a" * 20_000 + b"\x01",
    "an array that is not there": b"\xdd\xff\xff\xff\xff",
    "a time": b"\xd6\xff\0\0\0\0",
    "an extension": b"\xc7\x04\x05abcd",
    "no text": b"\xa2\xff\xfe",
    "no msgpack": b"\xc1",
    "a map with numbers for keys": b"\x81\x01\x02",
}


ANSWERS = {one.__name__: one for one in (Answer, Greeted, SnapshotHead, LocatorAnswer, Ask, PushHead)}
KINDS = {**REQUESTS, **ANSWERS}


@pytest.mark.parametrize("what", HOSTILE)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_no_value_of_any_field_raises_anything_else(kind, what):
    for name in (*kind.__struct_fields__, "unknown", "values"):
        pairs = {"v": b"\x01", "type": msgpack.packb(kind.__struct_config__.tag), name: HOSTILE[what]}
        frame = bytes([0x80 + len(pairs)])
        frame += b"".join(msgpack.packb(key) + value for key, value in pairs.items())
        with contextlib.suppress(MalformedMessage):
            read(frame, kind, "head", None)


def test_an_endpoint_names_three_sockets():
    assert parse_endpoint("ipc:///run/vnet/").write == "ipc:///run/vnet/directory-write.sock"
    tcp = parse_endpoint("tcp://10.80.0.11:7460")
    assert (tcp.resolve, tcp.write, tcp.push) == tuple(
        f"tcp://10.80.0.11:{port}" for port in (7460, 7461, 7462)
    )
    assert parse_endpoint("tcp://[2001:db8::1]:7460").push == "tcp://[2001:db8::1]:7462"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tcp://host",
        "tcp://host:0",
        "tcp://host:65535",
        "ipc://relative",
        "udp://h:1",
        "ipc:///" + "x" * 100,
        "tcp://a b:1",
        "tcp://h:1 ",
    ],
)
def test_an_impossible_endpoint_is_one_sentence_with_a_remedy(text):
    with pytest.raises(DirectoryError) as raised:
        parse_endpoint(text)
    assert raised.value.fix
    assert raised.value.code == 2


def test_a_key_file_is_private_and_read_back(tmp_path):
    made = make_key_file(tmp_path / "a.key")
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert load_key_file(tmp_path / "a.key") == made
    assert made.secret.decode() not in repr(made)
    with pytest.raises(DirectoryError, match="is there already"):
        make_key_file(tmp_path / "a.key")


def test_a_bad_key_file_is_refused_with_a_remedy(tmp_path):
    path = tmp_path / "a.key"
    with pytest.raises(DirectoryError, match="is missing"):
        load_key_file(path)
    make_key_file(path)
    path.chmod(0o640)
    with pytest.raises(DirectoryError, match="can be read by others") as raised:
        load_key_file(path)
    assert raised.value.fix == f"chmod 600 {path}"
    path.chmod(0o600)
    other = make_key_file(tmp_path / "b.key")
    path.write_text(f'public = "{other.public.decode()}"\nsecret = "{"0" * 40}"\n')
    with pytest.raises(DirectoryError, match="holds no key pair"):
        load_key_file(path)


def test_a_public_key_has_forty_characters_of_z85():
    good = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"
    assert check_public_key(good, "it") == good.encode()
    for bad in ("", good[:-1], good[:-1] + "~"):
        with pytest.raises(DirectoryError):
            check_public_key(bad, "it")
