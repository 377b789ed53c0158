# SPDX-License-Identifier: Apache-2.0
"""Refusals that hold for whole prefixes, so that a scan asks the directory once and not once a key.

A refusal holds for keys of the V-net, class, family and ingress that were asked about, within its scope,
until it expires or a change touches it. Pure: state, rows and time in, row numbers and verdicts out.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastpath.records import KeyFlag, ScopeFlag

Rows = np.ndarray[Any, Any]

SCOPES_PER_GROUP = 64
CHANGES_KEPT = 256
PORT_MAX = 65_535


@dataclass(frozen=True)
class Refusal:
    """`scope` is a row of directory_client.rows.SCOPE (or what has its fields)."""

    scope: Any
    reason: int
    revision: int
    expires_s: float


@dataclass(frozen=True)
class Verdicts:
    """Rows that are refused: their numbers, and for each why, at which revision, and for how long."""

    rows: Rows
    reason: Rows
    revision: Rows
    lifetime_ms: Rows


Group = tuple[int, int, int, int]  # key class, IPv6 flag, ingress kind, ingress object


class Refusals:
    """All refusals that hold for one worker's V-nets."""

    def __init__(self) -> None:
        self._groups: dict[int, dict[Group, list[Refusal]]] = {}
        self._changes: dict[int, deque[tuple[int, Any]]] = defaultdict(lambda: deque(maxlen=CHANGES_KEPT))

    def __len__(self) -> int:
        return sum(len(refusals) for groups in self._groups.values() for refusals in groups.values())

    def add(self, vni: int, group: Group, refusal: Refusal) -> None:
        """Keep a refusal, unless a later change has touched its scope already: answers may be overtaken."""
        if not _is_possible(refusal.scope):
            return
        changes = self._changes[vni]
        if len(changes) == CHANGES_KEPT and refusal.revision < changes[0][0]:
            return
        if any(revision > refusal.revision and overlaps(scope, refusal.scope) for revision, scope in changes):
            return
        kept = self._groups.setdefault(vni, {}).setdefault(group, [])
        kept[:] = [old for old in kept if not _same(old.scope, refusal.scope)][-(SCOPES_PER_GROUP - 1) :]
        kept.append(refusal)

    def change(self, vni: int, revision: int, scope: Any) -> None:
        """Drop what a change touches; remember it for answers that it has overtaken."""
        if not _is_possible(scope):  # it cannot be said what it touches
            scope = scope.copy()
            for name in ("source_bits", "destination_bits", "protocol", "port_low"):
                scope[name] = 0
            scope["port_high"] = PORT_MAX
        self._changes[vni].append((revision, scope))
        for kept in self._groups.get(vni, {}).values():
            kept[:] = [r for r in kept if r.revision >= revision or not overlaps(scope, r.scope)]

    def forget(self, vni: int) -> None:
        """Drop everything about a V-net."""
        self._groups.pop(vni, None)
        self._changes.pop(vni, None)

    def match(self, rows: Rows, now_s: float) -> Verdicts | None:
        """Look MISS records up. None where nothing is refused."""
        if not self._groups:
            return None
        vnis = rows["head"]["vni"]
        hits: list[tuple[Rows, Refusal]] = []
        for vni in np.unique(vnis).tolist():
            groups = self._groups.get(vni)
            if groups:
                hits += self._match_vnet(rows, np.flatnonzero(vnis == vni), groups, now_s)
        if not hits:
            return None
        sizes = [len(numbers) for numbers, _ in hits]
        left_ms = [max(1, int((r.expires_s - now_s) * 1000)) for _, r in hits]
        return Verdicts(
            np.concatenate([numbers for numbers, _ in hits]),
            np.repeat([r.reason for _, r in hits], sizes),
            np.repeat(np.array([r.revision for _, r in hits], np.uint64), sizes),
            np.repeat(left_ms, sizes),
        )

    def _match_vnet(
        self, rows: Rows, numbers: Rows, groups: dict[Group, list[Refusal]], now_s: float
    ) -> list[tuple[Rows, Refusal]]:
        hits = []
        mine = rows[numbers]
        for group, kept in list(groups.items()):
            kept[:] = [r for r in kept if r.expires_s > now_s]
            if not kept:
                del groups[group]
                continue
            left = np.flatnonzero(_in_group(mine, group))
            for refusal in kept:
                if not len(left):
                    break
                covered = covers(refusal.scope, mine[left]["key"])
                if covered.any():
                    hits.append((numbers[left[covered]], refusal))
                    left = left[~covered]
        return hits


def covers(scope: Any, keys: Rows) -> Rows:
    """Tell for each key whether the refusal's scope covers it. A key without ports is covered only by a scope
    that names neither protocol nor ports."""
    names_ports = bool(scope["protocol"]) or scope["port_low"] > 0 or scope["port_high"] < PORT_MAX
    covered = _in_prefix(keys["source"], scope, "source") & _in_prefix(
        keys["destination"], scope, "destination"
    )
    if scope["flags"] & ScopeFlag.EITHER:
        covered |= _in_prefix(keys["destination"], scope, "source") & _in_prefix(
            keys["source"], scope, "destination"
        )
    if names_ports:
        port = keys["destination_port"].byteswap()  # wire order
        covered &= (keys["flags"] & KeyFlag.CONNECTION) != 0
        covered &= (port >= scope["port_low"]) & (port <= scope["port_high"])
        if scope["protocol"]:
            covered &= keys["protocol"] == scope["protocol"]
    return covered


def overlaps(a: Any, b: Any) -> bool:
    """Tell whether two scopes may have a key in common."""
    either = int(a["flags"]) | int(b["flags"])
    by_destination = not either & ScopeFlag.SOURCE_PORT
    if by_destination and (a["port_low"] > b["port_high"] or b["port_low"] > a["port_high"]):
        return False
    if a["protocol"] and b["protocol"] and a["protocol"] != b["protocol"]:
        return False
    if _meet(a, "source", b, "source") and _meet(a, "destination", b, "destination"):
        return True
    if not either & ScopeFlag.EITHER:
        return False
    return _meet(a, "source", b, "destination") and _meet(a, "destination", b, "source")


def _is_possible(scope: Any) -> bool:
    return bool(scope["source_bits"] <= 128 and scope["destination_bits"] <= 128)


def _meet(a: Any, side_a: str, b: Any, side_b: str) -> bool:
    bits = min(int(a[f"{side_a}_bits"]), int(b[f"{side_b}_bits"]))
    return _as_int(a[side_a]) >> (128 - bits) == _as_int(b[side_b]) >> (128 - bits)


def _in_prefix(addresses: Rows, scope: Any, side: str) -> Rows:
    bits = int(scope[f"{side}_bits"])
    whole, rest = divmod(bits, 8)
    prefix = np.asarray(scope[side])
    found = (addresses[:, :whole] == prefix[:whole]).all(axis=1)
    if rest:
        mask = 0xFF << (8 - rest) & 0xFF
        found &= (addresses[:, whole] & mask) == (prefix[whole] & mask)
    return np.asarray(found)


def _in_group(rows: Rows, group: Group) -> Rows:
    key_class, ipv6, kind, ingress = group
    keys = rows["key"]
    return np.asarray(
        (keys["key_class"] == key_class)
        & ((keys["flags"] & KeyFlag.IPV6) == ipv6)
        & (rows["ingress_kind"] == kind)
        & (rows["ingress_object"] == ingress)
    )


def _same(a: Any, b: Any) -> bool:
    return _identity(a) == _identity(b)


def _identity(scope: Any) -> Sequence[int]:
    names = ("source_bits", "destination_bits", "protocol", "flags", "port_low", "port_high")
    return [_as_int(scope["source"]), _as_int(scope["destination"]), *(int(scope[n]) for n in names)]


def _as_int(value: Any) -> int:
    return int.from_bytes(bytes(value), "big")
