# SPDX-License-Identifier: Apache-2.0
"""A cable between a gateway and its directory that can be pulled: what is under way then waits, as with TCP
whose packets are lost, or is lost with the connection."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from pathlib import Path

SOCKETS = ("resolve", "write", "push")
PIECE_BYTES = 1 << 16
LOOK_S = 0.02  # how often the thread looks whether the cable was pulled


class Cable:
    """Passes bytes between the sockets in `near`, where a gateway connects, and those of a directory in
    `far`. One thread of its own."""

    def __init__(self, near: Path, far: Path) -> None:
        near.mkdir()
        self._far = far
        self._waiting = selectors.DefaultSelector()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._pulled = threading.Event()
        self._cut = threading.Event()
        self._ending = threading.Event()
        self.passed_bytes = 0
        for name in SOCKETS:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(near / f"directory-{name}.sock"))
            listener.listen(16)
            listener.setblocking(False)
            self._waiting.register(listener, selectors.EVENT_READ, name)
        self._thread = threading.Thread(target=self._run, name="cable")
        self._thread.start()

    def pull(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._pulled.set()

    def plug(self) -> None:
        """What waited goes on, and all else."""
        self._pulled.clear()

    def cut(self) -> None:
        """End all connections, with what is on its way in them."""
        self._cut.set()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.is_set():
            if self._cut.is_set():
                self._cut.clear()
                for side in list(self._peers):
                    self._hang_up(side)
            if self._pulled.is_set():
                self._ending.wait(LOOK_S)
                continue
            for key, _ in self._waiting.select(LOOK_S):
                side = key.fileobj
                assert isinstance(side, socket.socket)
                if key.data is not None:
                    self._accept(side, key.data)
                elif side in self._peers:
                    self._pass_on(side)
        for side in list(self._peers):
            self._hang_up(side)
        for key in list(self._waiting.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._waiting.close()

    def _accept(self, listener: socket.socket, name: str) -> None:
        near, _ = listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(str(self._far / f"directory-{name}.sock"))
        except OSError:  # no directory listens: neither do we
            near.close()
            far.close()
            return
        for one, other in ((near, far), (far, near)):
            one.settimeout(5.0)
            self._peers[one] = other
            self._waiting.register(one, selectors.EVENT_READ)

    def _pass_on(self, side: socket.socket) -> None:
        try:
            data = side.recv(PIECE_BYTES)
            self._peers[side].sendall(data)
        except OSError:
            data = b""
        self.passed_bytes += len(data)
        if not data:
            self._hang_up(side)

    def _hang_up(self, side: socket.socket) -> None:
        for one in (side, self._peers.get(side)):
            if one is not None and self._peers.pop(one, None) is not None:
                with contextlib.suppress(KeyError):
                    self._waiting.unregister(one)
                one.close()
