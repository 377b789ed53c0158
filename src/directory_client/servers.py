# SPDX-License-Identifier: Apache-2.0
"""The directory servers of a client, and which of them is used. Used by `client.py` only.

A server *answers* (up), or it was given up (lost): it missed two answers, is silent, takes no messages, or
says that it does not serve us. The first of the list that answers is used; another one as soon as that one is
lost; and the one in front again once it has answered for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from directory_client.allegiance import Allegiance
from directory_client.connection import Connection
from directory_client.events import Event, ServerChanged
from directory_client.wire.answers import Answer
from directory_client.wire.greeting import Notice, common_version

SILENT_S = 3.0
MISSES_MAX = 2
RETURN_S = 10.0  # for so long a server that is preferred must have answered before it is used again
REFUSALS = frozenset({"fenced", "key", "version"})  # why a server serves us nothing at all, whatever we ask


class Servers:
    """`tell` is given what becomes of them. `moved(before, now)` is called when another one is used,
    `is_known()` says whether the one that answers has a place for us."""

    def __init__(
        self,
        connections: Sequence[Connection],
        allegiance: Allegiance,
        tell: Callable[[Event], None],
        moved: Callable[[Connection, float], None],
        is_known: Callable[[], bool],
    ) -> None:
        self.all = connections
        self.foreign = 0  # messages of servers that are not listened to
        self._allegiance = allegiance
        self._tell = tell
        self._moved = moved
        self._is_known = is_known
        self._active = 0

    @property
    def active(self) -> Connection:
        """The one that is used, whether it answers or not."""
        return self.all[self._active]

    def is_active(self, server: Connection) -> bool:
        """Tell whether this one is used."""
        return server.index == self._active

    def name(self) -> str | None:
        """Name who answers; a directory that has no place for this node does not."""
        return self.active.endpoint.name if self.active.up and self._is_known() else None

    def listen(self, server: Connection, head: Answer, now: float) -> bool:
        """Take it that a server has said something; returns whether that is to be listened to."""
        server.refused = self._allegiance.judge(server, head, now)
        if server.refused:
            self.foreign += 1
            server.heartbeat_sent_at = None
            if server.up:
                self.lost(server, now)
            return False
        is_refused = head.ok is False and head.why in REFUSALS
        if is_refused and head.why == "version":
            version = common_version(head.speaks)
            server.version, is_refused = version or server.version, version is None
        if is_refused:
            self._denied(server, Notice(head.why, head.error, head.fix).cut(), now)
        else:
            self._heard(server, now)
        return True

    def missed(self, server: Connection, now: float) -> None:
        """Take it that a server has not answered in time."""
        server.failures += 1
        server.misses += 1
        if server.misses >= MISSES_MAX:
            self.lost(server, now)

    def lost(self, server: Connection, now: float) -> None:
        """Give a server up until it is heard again."""
        was_up, server.up = server.up, False
        server.every_s = 1  # what it is when it comes back it says then
        if self.is_active(server) and len(self.all) > 1:
            others = [*self.all[server.index + 1 :], *self.all[: server.index]]
            self._use(next((one for one in others if one.up), others[0]), now)
        if was_up is not False:
            why = server.refusal.text if server.refusal else server.obstacle[0]
            self._tell(ServerChanged(server.endpoint.name, False, self.name(), why))

    def tick(self, now: float, is_greeting: bool) -> None:
        """Let time pass. A client that greets its servers (`is_greeting`) hears of each."""
        for server in self.all:
            is_silent = server.heard_at is not None and now - server.heard_at > SILENT_S * server.every_s
            if server.up and is_silent and is_greeting:
                self.lost(server, now)
        preferred = (one for one in self.all[: self._active] if one.up and now - one.up_at >= RETURN_S)
        if (first := next(preferred, None)) is not None:
            self._use(first, now)
            self._tell(ServerChanged(first.endpoint.name, True, self.name()))

    def _heard(self, server: Connection, now: float) -> None:
        server.heard_at = now
        server.misses = 0
        if server.up:
            return
        server.refusal = None
        server.up = True
        server.up_at = now
        if not self.active.up and not self.is_active(server):
            self._use(server, now)
        self._tell(ServerChanged(server.endpoint.name, True, self.name()))

    def _denied(self, server: Connection, refusal: Notice, now: float) -> None:
        """Take it that a server lives and does not serve us: that is no answer, and another may do."""
        is_news = server.refusal is None or server.up is not False
        server.heard_at = now
        server.misses = 0
        server.refusal = refusal
        server.held_since = None
        if is_news:
            server.up = True if server.up is None else server.up  # so that it is told of
            self.lost(server, now)

    def _use(self, server: Connection, now: float) -> None:
        before, self._active = self.active, server.index
        self._moved(before, now)
