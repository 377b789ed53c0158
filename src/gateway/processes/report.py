# SPDX-License-Identifier: Apache-2.0
"""What a gateway's processes tell control (docs/protocol.md, section 3.1): events and statistics. Declared
for both ends, whose releases may differ while processes are renewed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from directory_client.wire.limits import (
    BUCKETS_MAX,
    COUNTERS_MAX,
    NAME_MAX,
    NAMES_TOLD_MAX,
    TABLES_MAX,
    VNETS_SHOWN_MAX,
)

VERSION = 1

Count = Annotated[float, Meta(ge=0)]
Name = Annotated[str, Meta(max_length=NAME_MAX, pattern=r"\A[a-z0-9][a-z0-9_-]*\Z")]


class NoRoom(Struct):
    """How many V-nets find no room in a table, and the names of a few."""

    count: Annotated[int, Meta(ge=0)]
    vnets: Annotated[list[str], Meta(max_length=VNETS_SHOWN_MAX)]


class DirectoryUse(Struct):
    """The directory that a worker uses."""

    name: str = ""
    endpoint: str = ""
    revision: int = 0
    incarnation: int = 0
    answering: bool = False
    p50_us: float | None = None
    p99_us: float | None = None


class WorkerStatistics(Struct):
    """What a slow-path worker has counted since it started. `cpu`: the share of one since the last report;
    bucket i of `directory_us_bucket` counts answers that took less than 2^i microseconds."""

    pid: int | None = None
    cpu: Count | None = None
    misses: Count = 0
    batches: Count = 0
    asked: Count = 0
    busy_s: Count = 0
    waiting: Count = 0
    backlog: Count = 0
    no_room: Annotated[dict[str, NoRoom], Meta(max_length=TABLES_MAX)] = field(default_factory=dict)
    directory_us_bucket: Annotated[list[Annotated[int, Meta(ge=0)]], Meta(max_length=BUCKETS_MAX)] = field(
        default_factory=list
    )
    directory: DirectoryUse | None = None
    counters: Annotated[dict[str, int], Meta(max_length=COUNTERS_MAX)] = field(default_factory=dict)  # all
    names: Annotated[list[tuple[int, str]], Meta(max_length=NAMES_TOLD_MAX)] = field(default_factory=list)
    names_of: int = 0  # the incarnation in which object ids have these names


class Report(Struct, kw_only=True, rename={"sender": "from"}, omit_defaults=True):
    """One message: an event with its text, or statistics."""

    v: int
    sender: Name
    event: Name | None = None
    text: str = ""
    statistics: WorkerStatistics | None = None


_DECODER = msgspec.msgpack.Decoder(Report)


def read_report(frames: list[bytes]) -> Report | None:
    """Read a hostile message; None: it is none of this version."""
    if len(frames) != 1:
        return None
    try:
        report = _DECODER.decode(frames[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_one = report.event is not None or report.statistics is not None
    return report if report.v == VERSION and is_one else None


def pack_report(report: Report) -> bytes:
    """Pack a message of ours."""
    return msgspec.msgpack.encode(report)
