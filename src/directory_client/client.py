# SPDX-License-Identifier: Apache-2.0
"""The client of the directory: used by the slow path, control and vnetctl.

No threads, no callbacks: the caller polls the sockets together with its own and then calls `receive`, which reads
what is there, runs the clock (time-outs, retries, heartbeats, fail-over) and returns events.

    client = DirectoryClient(["ipc:///run/vnet"], node="gw1", role="slow-path")
    for socket in client.sockets:                        # the same ones for the client's whole life
        poller.register(socket, zmq.POLLIN)
    client.subscribe(lambda vni: vni % workers == worker)
    while True:
        poller.poll(client.timeout_ms())
        for event in client.receive():                   # events.Resolved, Changed, Snapshot, Failed, …
            …
        id = client.send_resolve(rows)                   # rows: numpy array of rows.QUERY

Simple programs: `answer = client.call("list", kind="vnets")`, which raises DirectoryError or DirectorySilent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from .events import Asked, Event
from .keys import ClientKeys


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """What the client knows of one directory server (a row of `show directories`)."""

    endpoint: str
    name: str  # as it says itself, "" while unknown
    state: str  # "up", "late", "down", "unknown"
    active: bool
    rtt_us: int | None  # last heartbeat or answer
    revision: int
    incarnation: int
    silent_s: float | None  # since its last answer
    failures: int


class DirectoryClient:
    """A connection to a list of directory servers, the first of which that answers is used.

    `node`: speak as this node (heartbeats are sent once a second to every server); None: an operator's tool.
    `keys`: needed for tcp:// servers. `context`: an own one is made (and ended by `close`) when None.
    Not thread-safe: one thread owns it.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        node: str | None = None,
        role: str = "operator",
        capabilities: Sequence[str] = ("vxlan",),
        worker: int = 0,
        workers: int = 1,
        keys: ClientKeys | None = None,
        context: zmq.Context[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = 0.25,
        give_up_s: float = 1.0,
    ) -> None: ...

    @property
    def sockets(self) -> list[zmq.Socket[Any]]:
        """The sockets to poll for reading; never change."""

    def timeout_ms(self) -> int:
        """How long the caller may sleep in its poller before `receive` has to run (0..1000)."""

    def receive(self) -> list[Event]:
        """Read everything that has come, run what is due, return what happened; never blocks, never raises for bad bytes."""

    def send_resolve(self, rows: Any, *, explain: bool = False) -> int:
        """Ask for decisions on QUERY rows; a Resolved or Failed with this id follows. Repeated and failed over by itself."""

    def send_locator(self, local: bytes, remote: bytes, protocol: int, wire_id: int) -> int:
        """Ask who an unknown outer source is; Answered (operation in head["op"], or head["known"] False) or Failed follows."""

    def send(self, type: str, *, timeout_s: float = 10.0, **fields: Any) -> int:
        """Send any other message (apply, list, explain, …); Answered or Failed with this id follows. Never sent twice."""

    def call(self, type: str, *, timeout_s: float = 10.0, **fields: Any) -> dict[str, Any]:
        """Send and wait; returns the answer's head. Raises DirectoryError, or DirectorySilent when nobody answers.
        Events that come meanwhile are kept for the next `receive`."""

    def subscribe(self, accept: Callable[[int], bool] | None = None) -> None:
        """Follow the pushes for this node: a Snapshot comes, then Changed in order; after a gap, a restart or silence a
        Snapshot again. `accept(vni)` chooses V-nets (None: all)."""

    def applied(self, revision: int) -> None:
        """Say that everything up to this revision is installed here: the next heartbeat (at once) reports it, so that
        `apply` can tell the operator when every gateway has the change."""

    def set_heartbeat(self, **facts: Any) -> None:
        """Set what heartbeats say: locators=["192.0.2.1"], ports=["rack"], load={…}. A changed fact is sent at once."""

    def serve(self) -> None:
        """Say hello as this node's control on every server, once a second: Asked events follow."""

    def answer(self, asked: Asked, answer: dict[str, Any]) -> None:
        """Answer an Asked event; does nothing if that server is gone."""

    def servers(self) -> list[ServerHealth]:
        """Give the health of every server, in the configured order."""

    def close(self) -> None:
        """Close the sockets at once; what was not sent is dropped."""
