# SPDX-License-Identifier: Apache-2.0
"""Which machine a node's name belongs to, where two call themselves the same. Pure.

A gateway draws an id for its life, its instance, which all its processes say. The first instance to send a
heartbeat holds the name, as a lease of `node_s` that heartbeats renew. Any other is fenced: nothing that it
asks is answered, and nothing that it says of itself counts, until the holder was silent for the whole lease
or said goodbye.

A directory that has just started remembers nobody. So gateways say for how long they have held their name:
during the first `node_s` the one that has held it longest has it, and one that was fenced gets nothing.

    holders.take(node, Claim(instance, address, held_s=12.0), now)     # a heartbeat; raises Fenced
    holders.check(node, Claim(instance, address), now)                 # any other question; raises Fenced
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from directory_client.wire.messages import DirectoryError

GOODBYE_S = 1.5  # so long, times how often it greets, a process that goes on may take the name again
TELL_S = 30.0  # how long after its last word a second one is told of
HOLDERS_MAX = 65_536


class Fenced(DirectoryError):
    """Another gateway holds the name."""

    why = "fenced"
    is_news = False  # the first refusal of this one


@dataclass(frozen=True, slots=True)
class Claim:
    """What a message says of who sent it. `held_s`: for how long it has held the name already; `is_fenced`:
    it was refused before."""

    instance: str
    address: str = ""
    held_s: float = 0.0
    is_fenced: bool = False


@dataclass(slots=True)
class _Holder:
    instance: str
    address: str
    since: float  # on the caller's clock; may lie before this directory's start
    since_text: str
    until: float


@dataclass(slots=True)
class _Rival:
    """Somebody who was fenced."""

    instance: str
    address: str
    since_text: str
    heard_at: float


class Holders:
    """Leases of names. `node_s`: how long a silent gateway keeps its name; `wall`: Unix time, for sentences
    only."""

    def __init__(self, node_s: float, wall: Callable[[], float] = time.time) -> None:
        self._node_s = node_s
        self._wall = wall
        self._started_at: float | None = None
        self._holders: dict[str, _Holder] = {}
        self._rivals: dict[str, _Rival] = {}

    def wait_for_silent(self, node_s: float) -> None:
        """Take another `node_s`; what is granted already ends as it was said."""
        self._node_s = node_s

    def take(self, node: str, claim: Claim, now: float, silent_s: float = 0.0) -> str:
        """Take or renew the lease of a name, which is good for `silent_s` at least. Returns a sentence where
        it went from one gateway to another, "" otherwise. Raises Fenced."""
        if not claim.instance:
            return ""  # of a release that does not say: it neither holds a name nor is kept from one
        holder = self._holders.get(node)
        if holder is not None and holder.instance == claim.instance:
            holder.since = min(holder.since, now - claim.held_s)
            holder.until = now + max(self._node_s, silent_s)
            holder.address = claim.address or holder.address
            return ""
        self._check(node, holder, claim, now, may_take=True)
        if len(self._holders) >= HOLDERS_MAX:
            self._holders = {name: one for name, one in self._holders.items() if now < one.until}
        self._holders[node] = _Holder(
            claim.instance, claim.address, now - claim.held_s, self._clock_text(), now + self._node_s
        )
        rival = self._rivals.get(node)
        if rival is not None and rival.instance == claim.instance:
            del self._rivals[node]
        if holder is None:
            return ""
        return f"the name {node} went from {_at(holder.address)} to {_at(claim.address)}"

    def check(self, node: str, claim: Claim, now: float) -> None:
        """Raise Fenced if the name belongs to another instance now."""
        if claim.instance:
            self._check(node, self._holders.get(node), claim, now, may_take=False)

    def goodbye(self, node: str, claim: Claim, now: float, every_s: int = 1) -> None:
        """Give a name back, unless another process of the same gateway, which greets every so many seconds,
        still uses it."""
        holder = self._holders.get(node)
        if holder is not None and claim.instance and holder.instance == claim.instance:
            holder.until = min(holder.until, now + GOODBYE_S * every_s)

    def second(self, node: str, now: float) -> str:
        """Return a sentence on another gateway that wants this name and does not get it; "": there is
        none."""
        rival = self._rivals.get(node)
        if rival is None or now - rival.heard_at > TELL_S:
            return ""
        return (
            f"a second gateway calls itself {node}, at {_at(rival.address)} since {rival.since_text};"
            " it is not served"
        )

    def _check(self, node: str, holder: _Holder | None, claim: Claim, now: float, may_take: bool) -> None:
        started_at = self._started_at = now if self._started_at is None else self._started_at
        fresh = now - started_at < self._node_s
        if holder is None:
            if fresh and claim.is_fenced:
                raise Fenced(
                    f"another gateway called {node} was served until now, and has {self._node_s:.0f} s to be"
                    f" heard: this one, at {_at(claim.address)}, is not served",
                    _fix(node, self._node_s),
                )
            return
        if holder.instance == claim.instance or (may_take and now >= holder.until):
            return
        if may_take and fresh and now - claim.held_s < holder.since - 1.0:
            return  # it held the name long before this directory knew anybody
        error = Fenced(
            f"a gateway called {node} is there already, at {_at(holder.address)} since {holder.since_text}:"
            f" this one, at {_at(claim.address)}, is not served",
            _fix(node, self._node_s),
        )
        error.is_news = self._note(node, claim, now)
        raise error

    def _note(self, node: str, claim: Claim, now: float) -> bool:
        """Remember who was fenced; returns whether that is news."""
        rival = self._rivals.get(node)
        if rival is None or rival.instance != claim.instance:
            if len(self._rivals) >= HOLDERS_MAX:
                self._rivals.clear()
            self._rivals[node] = _Rival(claim.instance, claim.address, self._clock_text(), now)
            return True
        rival.heard_at = now
        return False

    def _clock_text(self) -> str:
        return time.strftime("%H:%M:%S UTC", time.gmtime(self._wall()))


def _at(address: str) -> str:
    return address or "an unknown address"


def _fix(node: str, node_s: float) -> str:
    return (
        f"give it a name and a key of its own in gateway.toml, or stop the other {node}:"
        f" {node_s:.0f} s after that this one is served"
    )
