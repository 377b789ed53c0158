# SPDX-License-Identifier: Apache-2.0
"""Control: its admin sockets and its metrics, whoever asks."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import time

import msgpack
import pytest
import zmq
from control_world import World, with_tunnel

pytest.importorskip("fastpath.rings")

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and TAP"),
]


def test_a_silent_data_plane_is_noticed_and_others_are_answered(world: World) -> None:
    plane = with_tunnel(world)
    plane.silent = True
    world.until(lambda: world.rows("overview")[0]["data_plane"] == "gone", "control gives up waiting")
    assert world.ask("events")["ok"]
    plane.silent = False
    world.until(lambda: world.rows("overview")[0]["data_plane"] == "up", "it is found again")


def test_hostile_bytes_at_the_admin_sockets_are_answered_and_counted(world: World) -> None:
    world.start_plane()
    world.start_control()
    for name in ("gateway.sock", "show.sock"):
        for frames in (
            [b""],
            [b"\xc1"],
            [b"\x81" * 10_000],
            [b"\x93\x01\x02\x03"],
            [b"a", b"b", b"c"],
            [os.urandom(5000)],
        ):
            answer = msgpack.unpackb(world.send(frames, name))
            assert (answer["ok"], answer["code"]) == (False, 2)
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(world.directory / name))
            raw.sendall(os.urandom(65_536)[:4096])
    counters = {row["counter"]: row["value"] for row in world.rows("counters")}
    assert (
        counters["requests_malformed"] >= 12
    )  # raw bytes may look like messages of ZeroMQ's oldest protocol
    assert world.ask("set", "show.sock", noun="site", name="a")["error"].endswith("only shows")


def test_a_client_that_never_reads_does_not_block_others(world: World) -> None:
    plane = world.start_plane()
    plane.dumps["vnets"] = []
    world.start_control()
    with zmq.Context() as context, context.socket(zmq.DEALER) as lazy:
        lazy.set(zmq.LINGER, 0)
        lazy.set(zmq.RCVHWM, 1)
        lazy.connect(f"ipc://{world.directory}/gateway.sock")
        for number in range(2000):
            with contextlib.suppress(zmq.Again):
                lazy.send(msgpack.packb({"v": 1, "id": number, "verb": "events"}), zmq.NOBLOCK)
        started_s = time.monotonic()
        assert world.ask("events")["ok"]
        assert time.monotonic() - started_s < 5


def test_sockets_are_for_their_owner_where_there_is_no_group(world: World) -> None:
    world.start_control()
    for name in ("gateway.sock", "show.sock", "control-inbox.sock"):
        assert stat.S_IMODE((world.directory / name).stat().st_mode) == 0o600


def test_vnetctl_shows_a_living_control(world: World) -> None:
    with_tunnel(world)
    shown = world.vnetctl("show")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("gw1   ")
    tunnels = world.vnetctl("show", "tunnels")
    assert "203.0.113.7" in tunnels.stdout
    events = world.vnetctl("events", "--json")
    assert {"exception_up", "tunnel_resolved"} <= {
        json.loads(line)["event"] for line in events.stdout.splitlines()
    }
    refused = world.vnetctl("show", "endpoints")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert refused.stderr.startswith("error: ")


def test_metrics_are_served_and_odd_requests_are_refused(world: World) -> None:
    with_tunnel(world)

    def fetch(request: str) -> str:
        code = (
            "import socket, sys\ns = socket.create_connection(('127.0.0.1', 9464), 5)\n"
            "s.sendall(sys.argv[1].encode())\n"
            "b = b''\n"
            "while d := s.recv(65536): b += d\n"
            "print(b.decode())"
        )
        command = ["ip", "netns", "exec", world.namespace, sys.executable, "-c", code, request]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        world.until(lambda: running.poll() is not None, "an HTTP answer")
        return running.communicate()[0]

    text = fetch("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert text.startswith("HTTP/1.1 200 OK")
    assert "vnet_data_plane_up 1.0" in text
    assert fetch("POST /metrics HTTP/1.1\r\n\r\n").startswith("HTTP/1.1 405")
    assert fetch("nonsense\r\n\r\n").startswith("HTTP/1.1 400")
    assert fetch("x" * 9000).startswith("HTTP/1.1 431")
