# SPDX-License-Identifier: Apache-2.0
"""The greeting: what a gateway says of itself every second, or as seldom as it is told, and what the
directory answers.

Both ends say which versions of the protocol they read and which features they have, so that a release works
with the one before and the one after.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from directory_client.wire.answers import Answer
from directory_client.wire.limits import (
    EVERY_S_MAX,
    FACTS_MAX,
    FEATURES_MAX,
    HELD_S_MAX,
    INSTANCE_MAX,
    NAME_MAX,
    NOTICE_TEXT_MAX,
    ROLE_MAX,
    WORKERS_MAX,
)
from directory_client.wire.messages import VERSIONS, Request

# What a feature's name promises; a name is never used again for something else.
FEATURES = (
    "closes",  # a snapshot says what was forbidden since
    "fencing",  # one gateway for one name
    "pace",  # greets as seldom as it is told, and waits as long for the directory's heartbeats
    "pieces",  # a snapshot comes in pieces
    "progress",  # a request that takes long is told so, without being answered
    "resync",  # a push that would be too large says so instead
    "room",  # a heartbeat names V-nets that find no room
)

_FEATURES_UNSAID = frozenset({"closes", "fencing", "pieces", "progress", "resync", "room"})

Name = Annotated[str, Meta(max_length=NAME_MAX)]
Unsigned = Annotated[int, Meta(ge=0)]
Unsigned63 = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Features = Annotated[list[Name], Meta(max_length=FEATURES_MAX)]


class Claim(Request, kw_only=True):
    """What a gateway's messages say of who sent them. `instance`: the id of its life; `held_s`: for how long
    it has held its name, in seconds; `fenced`: it was refused before."""

    node: Name
    instance: Annotated[str, Meta(max_length=INSTANCE_MAX)] = ""
    held_s: Annotated[float, Meta(ge=0, lt=HELD_S_MAX)] = 0.0
    fenced: bool = False


class Load(Struct, omit_defaults=True):
    """How busy a worker is: misses of flows since it started, and how many wait."""

    misses: float | None = None
    waiting: float | None = None


class Heartbeat(Claim, tag="heartbeat", kw_only=True):
    """One process of a gateway lives. `revision` (of the era that `incarnation` is of) is in force at its
    node; `seen`: the newest version that it was told; `no_room`: V-nets that find no room in a table."""

    role: Annotated[str, Meta(max_length=ROLE_MAX)] = "slow-path"
    worker: Annotated[int, Meta(ge=0, lt=1 << 16)] = 0
    workers: Annotated[int, Meta(ge=1, le=WORKERS_MAX)] = 1
    revision: Unsigned = 0
    incarnation: Unsigned = 0
    load: Load | None = None
    locators: Annotated[list[str], Meta(max_length=FACTS_MAX)] | None = None
    ports: Annotated[list[str], Meta(max_length=FACTS_MAX)] | None = None
    node_capabilities: list[str] = field(default_factory=list)
    seen: tuple[Unsigned63, Unsigned63, Unsigned63, Unsigned63] | None = None
    no_room: Annotated[list[tuple[Unsigned, Name, Name]], Meta(max_length=FACTS_MAX)] | None = None
    speaks: tuple[int, int] | None = None
    features: Features | None = None


class Goodbye(Claim, tag="goodbye", kw_only=True):
    """A gateway stops: another may have its name."""


class Hello(Claim, tag="hello", kw_only=True):
    """A gateway's control may be asked over this connection."""

    role: Annotated[str, Meta(max_length=ROLE_MAX)] = "control"


class Notice(Struct, frozen=True, omit_defaults=True):
    """What a directory tells a gateway that it serves, or refuses: `why` is a word for programs."""

    why: str = ""
    text: str = ""
    fix: str = ""

    def cut(self) -> Notice:
        """Return it as long as it may be shown."""
        return Notice(*(text[:NOTICE_TEXT_MAX] for text in (self.why, self.text, self.fix)))


class Conflict(Struct, frozen=True):
    """A locator that a gateway says it has, and another node has."""

    locator: str
    node: str | None = None
    holder: str | None = None
    problem: str | None = None
    fix: str | None = None


class Greeted(Answer, kw_only=True):
    """The answer to a heartbeat. `node_id` 0: no such node is declared. `conflicts`: locators that were
    claimed in vain. `every_s`: a gateway that has "pace" may greet so seldom, and hears a heartbeat of the
    directory as often."""

    node_id: Unsigned
    revision: Unsigned
    incarnation: Unsigned
    name: str = ""
    era_began: str = ""
    notices: list[Notice] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    features: Features | None = None
    every_s: Annotated[int, Meta(ge=1, le=EVERY_S_MAX)] = 1


def common_version(theirs: tuple[int, int] | None, ours: tuple[int, int] = VERSIONS) -> int | None:
    """Return the highest version that both ends read; None: there is none. Who does not say which it reads is
    of the release that read the first one only."""
    least, most = theirs or (1, 1)
    found = min(most, ours[1])
    return found if found >= max(least, ours[0]) else None


def features_of(said: list[str] | None) -> frozenset[str]:
    """Return the features of who says these; who says none is of the release before they were said, and has
    those that there were."""
    return _FEATURES_UNSAID if said is None else frozenset(said)
