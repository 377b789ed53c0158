# SPDX-License-Identifier: Apache-2.0
"""Who speaks, and what they may do: ZAP (RFC 27) for CURVE keys, and the rights of each role. Pure.

On ipc the file permissions of the sockets have decided already: everybody there is LOCAL and may do
everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import zmq.utils.z85

from directory_service.configuration import Client

ZAP_ADDRESS = "inproc://zeromq.zap.01"
ZAP_DOMAIN = b"vnet-directory"
ZAP_LOCAL_DOMAIN = b"vnet-directory-local"  # ipc listeners: the socket's permissions have decided


@dataclass(frozen=True, slots=True)
class Identity:
    """A peer: `role` is "local", "operator" or "gateway" (whose name is its node's)."""

    name: str
    role: str

    def may_be_node(self, node: str) -> bool:
        """Say whether it may speak as this node."""
        return self.role != "gateway" or self.name == node

    def may_write(self) -> bool:
        """Say whether it may change what the directory holds."""
        return self.role != "gateway"


LOCAL = Identity("local", "local")


class Authenticator:
    """Knows the public keys that may connect."""

    def __init__(self, clients: Sequence[Client]) -> None:
        self._identities = _identities(clients)
        self.accepted = 0
        self.refused = 0

    def replace(self, clients: Sequence[Client]) -> frozenset[str]:
        """Take other clients, from now on also for connections that stand; returns the keys that are gone, or
        are somebody else's now."""
        before, self._identities = self._identities, _identities(clients)
        return frozenset(key for key, who in before.items() if self._identities.get(key) != who)

    def identify(self, user_id: str) -> Identity | None:
        """Return who a connection's User-Id (its public key) is."""
        return self._identities.get(user_id)

    def answer(self, frames: Sequence[bytes]) -> list[bytes] | None:
        """Answer a request on the ZAP socket (a ROUTER); None for what is no request."""
        if len(frames) < 8 or frames[1] != b"":
            return None
        connection, _, version, request, domain, _address, _routing, mechanism, *credentials = frames
        if version != b"1.0":
            return None
        user = ""
        if domain == ZAP_LOCAL_DOMAIN and mechanism == b"NULL":
            return [connection, b"", b"1.0", request, b"200", b"OK", b"", b""]
        if (
            domain == ZAP_DOMAIN
            and mechanism == b"CURVE"
            and len(credentials) == 1
            and len(credentials[0]) == 32
        ):
            user = zmq.utils.z85.encode(credentials[0]).decode()
        if user not in self._identities:
            self.refused += 1
            return [connection, b"", b"1.0", request, b"400", b"unknown key", b"", b""]
        self.accepted += 1
        return [connection, b"", b"1.0", request, b"200", b"OK", user.encode(), b""]


def _identities(clients: Sequence[Client]) -> dict[str, Identity]:
    return {client.public_key.decode(): Identity(client.name, client.role) for client in clients}
