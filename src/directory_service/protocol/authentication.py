# SPDX-License-Identifier: Apache-2.0
"""Who speaks, and what they may do: ZAP (RFC 27) for CURVE keys, and the rights of each role. Pure.

On ipc the file permissions of the sockets have decided already: everybody there is LOCAL and may do
everything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import zmq.utils.z85

from directory_service.configuration import Client

EVERY_S = 1.0
AGAIN_S = 600.0
KEYS_MAX = 1_024
ADDRESS_MAX = 80

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
    """Knows the public keys that may connect. `on_refused` is called with the address and key of who may
    not; the key is "" where none was shown."""

    def __init__(
        self,
        clients: Sequence[Client],
        on_refused: Callable[[str, str], object] = lambda address, key: None,
    ) -> None:
        self._on_refused = on_refused
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
        connection, _, version, request, domain, address, _routing, mechanism, *credentials = frames
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
            said = address.decode("utf-8", "replace").removeprefix("::ffff:")
            self._on_refused(said[:ADDRESS_MAX], user)
            return [connection, b"", b"1.0", request, b"400", b"unknown key", b"", b""]
        self.accepted += 1
        return [connection, b"", b"1.0", request, b"200", b"OK", user.encode(), b""]


class Refusals:
    """Which refused keys are told: each at once, again after `AGAIN_S`, and one a second of all, whoever
    tries as often as they like."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}  # key → when
        self._told_at = float("-inf")
        self._untold = 0

    def take(self, key: str, now: float) -> int | None:
        """Return how many were not told since the last one that was; None: this one is not told either."""
        if now - self._told_at < EVERY_S or now - self._told.get(key, float("-inf")) < AGAIN_S:
            self._untold += 1
            return None
        if len(self._told) >= KEYS_MAX:
            self._told.clear()
        self._told[key] = self._told_at = now
        untold, self._untold = self._untold, 0
        return untold


def _identities(clients: Sequence[Client]) -> dict[str, Identity]:
    return {client.public_key.decode(): Identity(client.name, client.role) for client in clients}
