# SPDX-License-Identifier: Apache-2.0
"""In a whole gateway: what is gone goes, whoever is away meanwhile; a move is announced where it began."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from gateway_lab import DOCUMENT, MEMBERS, RULE, Lab, running, until

from fastpath.rings import DataPlaneUnreachable, RingClient

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TAP ports"),
]
FAR = """
[node.far]
kind = "vtep"
site = "s1"
locators = ["{}"]
[vnet.red.endpoint.c]
addresses = ["10.0.0.3"]
mac = "02:00:00:00:00:0c"
node = "far"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab")) as made:
        yield made


def remotes(lab: Lab) -> set[str] | None:
    """The remote locators of the data plane's tunnels; None while nobody answers."""
    try:
        with RingClient(lab.run_dir / "dataplane.sock", "observer") as client:
            rows = client.ask({"dump": "tunnels", "cursor": 0, "limit": 512})["rows"]
            return {row["remote_locator"] for row in rows}
    except DataPlaneUnreachable:
        return None


def far(lab: Lab, *locators: str) -> None:
    lab.apply(DOCUMENT + "".join(FAR.format(one) for one in locators) + RULE)


def test_a_tunnel_to_a_locator_that_is_gone_goes(lab: Lab) -> None:
    far(lab, "203.0.113.7")
    until(lambda: remotes(lab) == {"203.0.113.7"}, "the tunnel is there")
    far(lab, "203.0.113.8")
    until(lambda: remotes(lab) == {"203.0.113.8"}, "the other one has taken its place")
    far(lab)
    until(lambda: remotes(lab) == set(), "it is gone with its node")


@pytest.mark.parametrize("names", [("slow-path-0",), ("data-plane",), ("slow-path-0", "data-plane")])
def test_what_goes_while_processes_are_away_is_gone_when_they_are_back(
    lab: Lab, names: tuple[str, ...]
) -> None:
    far(lab, "203.0.113.7")
    until(lambda: remotes(lab) == {"203.0.113.7"}, "the tunnel is there")
    slow_path = until(lambda: lab.pid("slow-path-0"), "a slow path lives")
    os.kill(slow_path, signal.SIGSTOP)  # it does not hear
    far(lab, "203.0.113.8")
    if "data-plane" in names:
        _, pid = lab.forwarding()
        os.kill(pid, signal.SIGKILL)
        until(lambda: remotes(lab) == {"203.0.113.7"} and lab.forwarding()[1] != pid, "the spare adopts it")
    os.kill(slow_path, signal.SIGKILL if "slow-path-0" in names else signal.SIGCONT)
    until(lambda: remotes(lab) == {"203.0.113.8"}, "the sweep has found it")


def test_the_segment_that_lost_a_member_hears_of_it_more_than_once(lab: Lab) -> None:
    far(lab)
    mac = bytes.fromhex(MEMBERS["a"][1].replace(":", ""))
    with lab.socket_at("a") as here, lab.socket_at("b") as there:
        lab.apply((DOCUMENT + RULE).replace('at = ["lab/pa"]', 'at = ["lab/pb"]'))
        heard: list[bytes] = []

        def announced(raw: socket.socket) -> list[bytes]:
            found = []
            try:
                while True:
                    frame = raw.recv(2048)
                    if frame[6:12] == mac and frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42]:
                        found.append(frame)
            except BlockingIOError:
                return found

        def twice() -> bool:
            heard.extend(announced(here))
            return len(heard) >= 2

        until(twice, "two announcements")
        assert {frame[:6] for frame in heard} == {b"\xff" * 6}
        assert {socket.inet_ntoa(frame[28:32]) for frame in heard} == {MEMBERS["a"][0]}
        assert announced(there) == []  # where it lives
