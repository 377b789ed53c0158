# SPDX-License-Identifier: Apache-2.0
"""From QUERY rows to DECISION, LOCATION, TUNNEL and SCOPE rows: decide in a batch."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from directory_client.vocabulary.scopes import Scope
from directory_client.wire.rows import DECISION, LOCATION, QUERY, SCOPE, TUNNEL, Rows
from directory_service.decide.decide import decide
from directory_service.decide.locate import Location
from directory_service.decide.question import Asker, Decision, Query
from directory_service.model.fabric import Tunnel
from directory_service.model.snapshot import Snapshot
from directory_service.settings import Settings

_QUERY = struct.Struct("<IBBBB16s16s2s2s4xQQ")
_DECISION = struct.Struct("<BBHiiiIIQQ8x")
_LOCATION = struct.Struct("<IBB6sQQQI4xQ12x")
_TUNNEL = struct.Struct("<QQQ16s16sHHBBBBQQ8x8x")
_SCOPE = struct.Struct("<16s16sBBBBHHIB3x")

for _struct, _dtype in (
    (_QUERY, QUERY),
    (_DECISION, DECISION),
    (_LOCATION, LOCATION),
    (_TUNNEL, TUNNEL),
    (_SCOPE, SCOPE),
):
    if _struct.size != _dtype.itemsize:
        raise ImportError(f"{_struct.format} has {_struct.size} bytes, the rows {_dtype.itemsize}")


class Answer(NamedTuple):
    """Rows, and the decisions that they were made from."""

    decisions: Rows
    locations: Rows
    tunnels: Rows
    scopes: Rows
    reasoned: list[Decision]


def decide_rows(snapshot: Snapshot, rows: Rows, asker: Asker, now_ms: int, settings: Settings) -> Answer:
    """Decide every row; the answer's rows stand in the same order.

    Locations, tunnels and scopes are shared.
    """
    locations = _Table()
    tunnels = _Table()
    scopes = _Table()
    reasoned: list[Decision] = []
    out = bytearray()
    for query in queries_of(rows):
        decision = decide(snapshot, query, asker, now_ms, settings)
        reasoned.append(decision)
        row = decision_row(decision)
        source = _add_location(locations, tunnels, decision.source_location, snapshot.revision)
        destination = _add_location(locations, tunnels, decision.destination_location, snapshot.revision)
        scope = -1
        if decision.scope is not None:
            packed = pack_scope(decision.scope, query.vni)
            scope = scopes.add(packed, packed)
        out += _DECISION.pack(*row[:3], source, destination, scope, *row[6:10])
    return Answer(
        np.frombuffer(bytes(out), DECISION),
        locations.rows(LOCATION),
        tunnels.rows(TUNNEL),
        scopes.rows(SCOPE),
        reasoned,
    )


def queries_of(rows: Rows) -> Iterator[Query]:
    """Read QUERY rows one by one."""
    for (
        vni,
        key_class,
        flags,
        protocol,
        kind,
        source,
        destination,
        sport,
        dport,
        ingress,
        current,
    ) in _QUERY.iter_unpack(np.ascontiguousarray(rows).tobytes()):
        yield Query(
            vni,
            key_class,
            flags,
            protocol,
            kind,
            source,
            destination,
            sport[0] << 8 | sport[1],
            dport[0] << 8 | dport[1],
            ingress,
            current,
        )


def decision_row(decision: Decision) -> tuple[int, ...]:
    """Return the fields of a DECISION row; locations and scope are not numbered yet: -1."""
    return (
        decision.action,
        decision.granularity,
        decision.reason_number,
        -1,
        -1,
        -1,
        decision.lifetime_ms,
        decision.refresh_ms,
        decision.revision,
        decision.rule.id if decision.rule else 0,
        0,
    )


class _Table:
    """Rows without doubles."""

    def __init__(self) -> None:
        self._index: dict[object, int] = {}
        self._bytes = bytearray()

    def add(self, key: object, row: bytes) -> int:
        index = self._index.get(key)
        if index is None:
            index = self._index[key] = len(self._index)
            self._bytes += row
        return index

    def __contains__(self, key: object) -> bool:
        return key in self._index

    def __getitem__(self, key: object) -> int:
        return self._index[key]

    def rows(self, dtype: np.dtype) -> Rows:
        return np.frombuffer(bytes(self._bytes), dtype)


def _add_location(locations: _Table, tunnels: _Table, location: Location | None, revision: int) -> int:
    if location is None:
        return -1
    key = (location.vni, location.object_id)
    if key in locations:
        return locations[key]
    if location.tunnel is not None:
        tunnels.add(location.tunnel.object_id, pack_tunnel(location.tunnel, revision))
    return locations.add(key, pack_location(location, revision))


def pack_location(location: Location, revision: int = 0) -> bytes:
    """Return the bytes of a LOCATION row."""
    return _LOCATION.pack(
        location.vni,
        0,
        location.kind,
        location.mac,
        location.object_id,
        location.target_id,
        location.node_id,
        location.wire_id,
        revision,
    )


def pack_tunnel(tunnel: Tunnel, revision: int) -> bytes:
    """Return the bytes of a TUNNEL row."""
    return _TUNNEL.pack(*tunnel, revision)


def pack_scope(scope: Scope, vni: int) -> bytes:
    """Return the bytes of a SCOPE row."""
    return _SCOPE.pack(
        scope.source,
        scope.destination,
        scope.source_bits,
        scope.destination_bits,
        scope.protocol,
        scope.either_direction,
        scope.port_low,
        scope.port_high,
        vni,
        0,
    )
