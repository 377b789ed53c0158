# SPDX-License-Identifier: Apache-2.0
"""Where a directory listens: one name for its three sockets, `ipc://DIRECTORY` or `tcp://HOST:PORT`."""

from __future__ import annotations

import errno
import re
import socket
from dataclasses import dataclass

from directory_client.wire.messages import DirectoryError

_SOCKETS = ("resolve", "write", "push")
_UNIX_PATH_BYTES = 107  # sun_path
_TCP = re.compile(r"tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.*-]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The addresses of a directory's sockets."""

    name: str
    resolve: str
    write: str
    push: str

    @property
    def local(self) -> bool:
        """Say whether both ends are on one machine (ipc)."""
        return self.name.startswith("ipc://")

    @property
    def directory(self) -> str:
        """Give the directory in which the sockets of an ipc endpoint lie."""
        return self.name.removeprefix("ipc://")


def bind_errno(host: str, port: int) -> int:
    """Try to listen on a TCP port for a moment; returns the errno where that is not possible, else 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
            tried.listen(1)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def parse_endpoint(text: str) -> Endpoint:
    """Read an endpoint. Raises DirectoryError with the remedy."""
    if text.startswith("ipc://"):
        directory = text.removeprefix("ipc://").rstrip("/")
        if not directory.startswith("/"):
            raise DirectoryError(f"{text}: the directory has to be an absolute path", "ipc:///run/vnet", 2)
        paths = [f"{directory}/directory-{socket}.sock" for socket in _SOCKETS]
        if max(len(path.encode()) for path in paths) > _UNIX_PATH_BYTES:
            raise DirectoryError(
                f"{text}: socket paths would be longer than {_UNIX_PATH_BYTES} bytes", "use a shorter path", 2
            )
        return Endpoint(f"ipc://{directory}", *(f"ipc://{path}" for path in paths))
    match = _TCP.fullmatch(text)
    if not match or not 0 < int(match[2]) <= 65_533:
        raise DirectoryError(
            f"{text} is no endpoint", 'write "tcp://10.80.0.11:7460" or "ipc:///run/vnet"', 2
        )
    port = int(match[2])
    return Endpoint(text, *(f"tcp://{match[1]}:{port + offset}" for offset in range(3)))
