# SPDX-License-Identifier: Apache-2.0
"""Which directories a client listens to: those of its realm that keep the store in use. Pure.

Another realm is another world. Two directories of one realm with two stores that began no era of their own
are an original and a copy: the one that was used first is right, until it is silent for long.
"""

from __future__ import annotations

from directory_client.connection import Connection
from directory_client.realm import RealmPin, Version
from directory_client.wire.answers import Answer

OTHER_STORE_S = 30.0  # for so long the store in use must be silent before another one of its era is taken


class Allegiance:
    """`pin` knows the realm, and is told every version that is seen."""

    def __init__(self, pin: RealmPin) -> None:
        self.pin = pin
        self._store = 0  # that the server in use keeps; 0: not known yet
        self._era = 0  # of that store
        self._heard_at = 0.0

    def judge(self, server: Connection, said: Answer, now: float) -> str:
        """Return why a server is not listened to: "realm" (it serves another one), "store" (it keeps another
        one of this realm), or "" if it is."""
        if said.realm is None:
            return server.refused  # it does not say: what it said before holds
        server.realm, server.era = said.realm, said.era or 0
        if not self.pin.accepts(said.realm):
            return "realm"
        if said.store is None and server.refused:
            return server.refused
        if said.store is not None and not self._keeps(said.store, server.era, now):
            return "store"
        self.pin.pin(said.realm)
        if (version := _version_of(said)) is not None:
            self.pin.see(version, now)
        return ""

    def _keeps(self, store: int, era: int, now: float) -> bool:
        """Tell whether a server that keeps this store is listened to, and keep to it from now on if so."""
        is_ours = store == self._store or not self._store
        # A new era begins on purpose or because a store went back: who began it is right.
        if not is_ours and era <= self._era and now - self._heard_at < OTHER_STORE_S:
            return False
        self._store, self._era, self._heard_at = store, era, now
        return True


def _version_of(said: Answer) -> Version | None:
    """Return the version that an answer tells; None: it does not tell a whole one."""
    era, incarnation, revision, seal = said.era, said.incarnation, said.revision, said.seal
    if era is None or incarnation is None or revision is None or seal is None:
        return None
    return Version(era, incarnation, revision, seal)
