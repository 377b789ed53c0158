# SPDX-License-Identifier: Apache-2.0
"""What stands between a client and a directory: each obstacle its sentence and its remedy."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from directory_client.approach import Approach, Probe, Stage, describe, event_of
from directory_client.client import DirectoryClient
from directory_client.endpoint import parse_endpoint
from directory_client.keys import ClientKeys, KeyPair
from directory_client.wire.messages import DirectoryError

TCP = parse_endpoint("tcp://192.0.2.9:7460")


def reached(*events: int) -> Approach:
    approach = Approach()
    for event in events:
        approach.heard(event)
    return approach


def test_each_obstacle_has_a_sentence_and_a_remedy_of_its_own() -> None:
    found = {}
    for stage in Stage:
        if stage is not Stage.UNKNOWN:
            found[stage] = describe(Approach(stage), TCP, "KEY")
    assert all(text and fix for text, fix in found.values())
    assert found.pop(Stage.REACHED) == found[Stage.SERVED]
    assert len({text for text, _ in found.values()}) == len(found)
    assert len({fix for _, fix in found.values()}) == len(found)
    assert describe(Approach(), TCP, "KEY") == ("", "")


def test_one_handshake_that_ends_is_no_other_key_two_in_a_row_are() -> None:
    ended = (zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED)
    assert reached(*ended).stage is Stage.UNKNOWN  # it was just being stopped
    assert reached(*ended, *ended).stage is Stage.OTHER_KEY
    between = (zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert reached(*ended, *between, *ended).stage is Stage.UNKNOWN


def test_where_another_key_is_tried_the_one_before_is_no_obstacle() -> None:
    ended = (zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED)
    approach = reached(*ended, *ended)
    approach.try_again(has_untried=True)
    assert (approach.stage, approach.is_other_key) == (Stage.UNKNOWN, False)
    approach = reached(*ended, *ended)
    approach.try_again(has_untried=False)
    assert (approach.stage, approach.is_other_key) == (Stage.OTHER_KEY, False)


def test_what_was_wrong_is_over_once_a_handshake_succeeds() -> None:
    approach = reached(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    assert approach.stage is Stage.KEY_REFUSED
    approach.heard(zmq.EVENT_CONNECTED)
    assert approach.stage is Stage.KEY_REFUSED  # until it is known better
    approach.heard(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    assert approach.stage is Stage.SERVED


def test_a_connection_that_was_lost_is_asked_why_after_a_moment() -> None:
    approach = reached(zmq.EVENT_CONNECTED, zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED)
    assert not approach.wants_probe(10.0)
    assert approach.wants_probe(11.0)


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (errno.ECONNREFUSED, Stage.NO_LISTENER),
        (errno.ENOENT, Stage.NO_LISTENER),
        (errno.EACCES, Stage.NOT_ALLOWED),
        (errno.EHOSTUNREACH, Stage.NO_HOST),
        (errno.ENETUNREACH, Stage.NO_HOST),
        (errno.ETIMEDOUT, Stage.NO_HOST),
        (0, Stage.UNKNOWN),
    ],
)
def test_what_a_connection_of_our_own_found(number: int, stage: Stage) -> None:
    approach = Approach()
    approach.probed(number)
    assert approach.stage is stage


@pytest.fixture
def dead_host() -> Iterator[str]:
    """Give a place whose queue is full: what comes now is neither taken nor refused, as where no host is."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        place = listener.getsockname()
        crowd = [socket.socket() for _ in range(4)]
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(place)
        yield f"tcp://127.0.0.1:{place[1]}"
        for one in crowd:
            one.close()


def test_a_probe_that_hears_nothing_ends_with_a_time_out_and_blocks_nobody(dead_host: str) -> None:
    probe = Probe(parse_endpoint(dead_host))
    now, found = 0.0, None
    while found is None and now < 10.0:
        found = probe.look(now)
        now += 0.5
    assert found == errno.ETIMEDOUT
    probe.close()


def ask_as_a_tool(server: str, timeout_s: float) -> tuple[DirectoryError, float]:
    """Return how a tool's question ends, and after how many seconds."""
    keys = ClientKeys(KeyPair(*zmq.curve_keypair()), zmq.curve_keypair()[0])
    client = DirectoryClient([server], keys=keys)
    begun = time.monotonic()
    with pytest.raises(DirectoryError) as failed:
        client.call("list", timeout_s=timeout_s, kind="vnets")
    client.close()
    return failed.value, time.monotonic() - begun


def test_a_tool_is_told_of_a_dead_host_long_before_an_answer_would_be_late(dead_host: str) -> None:
    error, took_s = ask_as_a_tool(dead_host, 120.0)
    assert "host 127.0.0.1 does not answer" in error.error
    assert took_s < 60


def test_a_tool_is_told_of_a_name_that_nobody_knows() -> None:
    error, took_s = ask_as_a_tool("tcp://a-name.invalid:7460", 120.0)
    assert "no address is known for the name a-name.invalid" in error.error
    assert took_s < 60


def test_a_host_that_takes_connections_and_is_slow_has_the_time_of_an_answer() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        error, took_s = ask_as_a_tool(f"tcp://127.0.0.1:{listener.getsockname()[1]}", 4.0)
    assert "it takes connections, but does not answer" in error.error
    assert took_s > 3.9


def test_a_probe_finds_who_listens_and_who_does_not(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        endpoint = parse_endpoint(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        assert ended(endpoint) == 0
    assert ended(endpoint) == errno.ECONNREFUSED
    assert Probe(parse_endpoint(f"ipc://{tmp_path}/none")).look(0.0) == errno.ENOENT
    assert Probe(parse_endpoint("tcp://a-name.invalid:7460")).look(0.0) is None  # names are not looked up


def ended(endpoint: object) -> int | None:
    probe = Probe(endpoint)  # type: ignore[arg-type]
    return next((n for n in (probe.look(at / 1000) for at in range(2_900)) if n is not None), None)


def test_what_is_no_monitor_message_is_no_event() -> None:
    assert event_of([]) == 0
    assert event_of([b"x"]) == 0
