# SPDX-License-Identifier: Apache-2.0
"""What finds no room in the data plane's tables ([capacity]), and when it is told again. Pure.

What was refused for want of room is told again (registry.TOLD_AGAIN), at first after a second, later every
few seconds: it comes by itself once there is room. Of a V-net only its own record is told at first; all of it
follows when that was not refused. Locations and tunnels come again with the next
answer that names them; here it only stands for a while that there was no room for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastpath.records import Refusal
from gateway.processes.report import NoRoom
from gateway.slow_path.kinds.registry import LAPSING, TABLES

Rows = np.ndarray[Any, Any]

AGAIN_S = 1.0
AGAIN_MOST_S = 8.0
LAPSE_S = 10.0  # so long it is said of locations and tunnels
PROBES_MAX = 64  # V-nets that are tried at once
NAMES_MAX = 5

_WHY = (Refusal.NO_ROOM, Refusal.QUOTA)


@dataclass(slots=True)
class _Lack:
    due_s: float
    times: int = 0  # told in vain
    is_told: bool = False  # and not refused since


class Try(NamedTuple):
    """What is to be told to the data plane: of a V-net its own record, all of it once that found room; or
    what belongs into another table."""

    vni: int
    table: str
    has_room: bool


class Room:
    """One worker's. A lack is of a V-net in a table; of tunnels it is of none (VNI 0)."""

    def __init__(self) -> None:
        self._lacks: dict[tuple[int, str], _Lack] = {}

    def refused(self, rows: Rows, now_s: float) -> None:
        """Take REFUSED records; those that are not for want of room are left alone."""
        full = rows[np.isin(rows["why"], _WHY) & np.isin(rows["refused_type"], list(TABLES))]
        kinds, vnis = full["refused_type"].tolist(), full["head"]["vni"].tolist()
        for vni, table in {(vni, TABLES[kind]) for vni, kind in zip(vnis, kinds, strict=True)}:
            lack = self._lacks.setdefault((vni, table), _Lack(now_s))
            lack.times += lack.is_told
            lack.is_told = False
            wait_s = LAPSE_S if table in LAPSING else min(AGAIN_MOST_S, AGAIN_S * 2**lack.times)
            lack.due_s = now_s + wait_s

    def take_due(self, now_s: float) -> list[Try]:
        """Return what is to be told now. What was told and not refused since has found room."""
        found: list[Try] = []
        for (vni, table), lack in sorted(self._lacks.items(), key=lambda item: item[1].due_s):
            if lack.due_s > now_s or len(found) >= PROBES_MAX:
                break
            if lack.is_told or table in LAPSING:
                del self._lacks[vni, table]
            else:
                lack.is_told = True
                lack.due_s = now_s + AGAIN_S
            if table not in LAPSING:
                found.append(Try(vni, table, (vni, table) not in self._lacks))
        return found

    def due_s(self) -> float | None:
        """Return when `take_due` has something to do."""
        return min((lack.due_s for lack in self._lacks.values()), default=None)

    def gone(self, vni: int) -> None:
        """A V-net was removed: it lacks nothing, and others may find room now."""
        for key in [key for key in self._lacks if key[0] == vni]:
            del self._lacks[key]
        for (_, table), lack in self._lacks.items():
            if table not in LAPSING and not lack.is_told:
                lack.due_s = 0.0

    def clear(self) -> None:
        """All is told anew."""
        self._lacks.clear()

    def lacks_location(self, vnis: Iterable[int]) -> list[bool]:
        """Tell for each V-net whether one of its locations, or a tunnel, found no room lately."""
        tunnels = (0, "tunnels") in self._lacks
        return [tunnels or (vni, "locations") in self._lacks for vni in vnis]

    def lacking(self) -> Iterator[tuple[int, str]]:
        """Yield (VNI, table) of what finds no room, by table."""
        yield from sorted(self._lacks, key=lambda key: (key[1], key[0]))


def to_declare(lacking: Iterable[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    """Return what the directory is told, so that no change counts as applied meanwhile: V-nets that find no
    room, and that there is none for tunnels, which no V-net's records are told of. A location that finds none
    costs its own flows only, and comes again with them."""
    return sorted(row for row in lacking if row[2] not in LAPSING or not row[0])


def by_table(lacking: Iterable[tuple[int, str, str]]) -> dict[str, NoRoom]:
    """Return for each table how many V-nets find no room in it, and the names of a few."""
    tables: dict[str, NoRoom] = {}
    for _, name, table in lacking:
        found = tables.setdefault(table, NoRoom(0, []))
        found.count += 1
        if name and len(found.vnets) < NAMES_MAX:
            found.vnets.append(name)
    return tables
