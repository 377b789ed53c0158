# SPDX-License-Identifier: Apache-2.0
"""A data plane's socket and rings without a data plane: greets, answers the V-net dump, keeps all records."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from fastpath.records import RECORD, RecordType, make, select
from fastpath.rings import RingMemory


class FakeDataPlane:
    """Serves one client at a time on `path`; `emit` writes into its miss ring."""

    def __init__(self, path: Path, vnis: tuple[int, ...] = ()) -> None:
        self.path = path
        self.vnis = vnis
        self.known = {"incarnation": 0, "revision": 0, "in_force": 0}  # of each V-net, as the dump says
        self.greetings: list[dict[str, Any]] = []
        self.records = np.zeros(0, RECORD)
        self._lock = threading.Lock()
        self._client: socket.socket | None = None
        self._memory: RingMemory | None = None
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self.confirms = True  # False: what is written is not said to be in force
        self._closed = threading.Event()
        self._confirmer = threading.Thread(target=self._confirm, daemon=True)
        self._confirmer.start()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def emit(self, *rows: np.ndarray) -> None:
        with self._lock:
            assert self._miss is not None
            for row in rows:
                assert self._miss.write(row) == len(row)
            if self._miss.wanted():
                os.eventfd_write(self._wake, 1)

    def of_type(self, record_type: RecordType) -> np.ndarray:
        """Return everything of a type that came so far."""
        with self._lock:
            self._read()
            return np.asarray(select(self.records, record_type))

    def _read(self) -> None:
        if self._memory is None:
            return
        found = self._install.read(8192).reshape(-1).view(RECORD)
        self.records = np.concatenate([self.records, found])
        for sync in select(found, RecordType.SYNC) if self.confirms else ():
            self._miss.write(make(RecordType.SYNCED, number=sync["number"]))
            if self._miss.wanted():
                os.eventfd_write(self._wake, 1)

    def _confirm(self) -> None:
        while not self._closed.wait(0.002):
            with self._lock:
                self._read()

    def close(self) -> None:
        self._closed.set()
        self._confirmer.join()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join()

    def hang_up(self) -> None:
        with self._lock:
            self._memory = None
            if self._client is not None:
                self._client.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._client = client
                self._talk(client)
                self._client = None

    def _talk(self, client: socket.socket) -> None:
        while message := client.recv(1 << 16):
            question = msgpack.unpackb(message)
            if "hello" in question:
                self._greet(client, question)
            elif question.get("dump") == "vnets":
                rows = [{"vni": vni, **self.known} for vni in self.vnis]
                client.send(msgpack.packb({"v": 1, "ok": True, "rows": rows, "cursor": None}))

    def _greet(self, client: socket.socket, question: dict[str, Any]) -> None:
        with self._lock:
            memory = RingMemory.create(1, 4096, 4096)
            self._miss, self._install = memory.end(0, True), memory.end(1, False)
            self._wake, kick = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
            self.records = np.zeros(0, RECORD)
            self._memory = memory
            self.greetings.append(question)
        answer = {"v": 1, "ok": True, "node": "gw1", "threads": 1, "miss_rings": 1, "ports": []}
        answer |= {"incarnation": 1, "adopted": False, "total_bytes": memory.len_bytes}
        socket.send_fds(client, [msgpack.packb(answer)], [memory.fd, self._wake, kick])


def until(condition: Callable[[], Any], what: str, timeout_s: float = 20.0) -> Any:
    """Wait for something that is true, and return it."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"never happened: {what}"
        time.sleep(0.002)
    return found
