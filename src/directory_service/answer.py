# SPDX-License-Identifier: Apache-2.0
"""From QUERY rows to DECISION, LOCATION, TUNNEL and SCOPE rows: decide in a batch."""

import struct
from typing import NamedTuple

import numpy as np

from directory_client.reasons import all_reasons
from directory_client.rows import DECISION, LOCATION, QUERY, SCOPE, TUNNEL, Rows
from directory_client.scopes import Scope
from directory_service.decide import Asker, Decision, Query, decide
from directory_service.fabric import Tunnel
from directory_service.locate import Location
from directory_service.model import Snapshot
from directory_service.settings import Settings

_QUERY = struct.Struct("<IBBBB16s16s2s2s4xQ8x")
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
    reasons = {reason.name: reason.number for reason in all_reasons()}
    locations = _Table()
    tunnels = _Table()
    scopes = _Table()
    reasoned: list[Decision] = []
    out = bytearray()
    data = np.ascontiguousarray(rows).tobytes()
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
    ) in _QUERY.iter_unpack(data):
        query = Query(
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
        )
        decision = decide(snapshot, query, asker, now_ms, settings)
        reasoned.append(decision)
        rule = decision.rule
        out += _DECISION.pack(
            decision.action,
            decision.granularity,
            reasons[decision.reason] if decision.reason else 0,
            _add_location(locations, tunnels, decision.source_location, snapshot.revision),
            _add_location(locations, tunnels, decision.destination_location, snapshot.revision),
            -1
            if decision.scope is None
            else scopes.add((decision.scope, vni), _pack_scope(decision.scope, vni)),
            decision.lifetime_ms,
            decision.refresh_ms,
            decision.revision,
            rule.id if rule else 0,
        )
    return Answer(
        np.frombuffer(bytes(out), DECISION),
        locations.rows(LOCATION),
        tunnels.rows(TUNNEL),
        scopes.rows(SCOPE),
        reasoned,
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
        tunnels.add(location.tunnel.object_id, _pack_tunnel(location.tunnel, revision))
    row = _LOCATION.pack(
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
    return locations.add(key, row)


def _pack_tunnel(tunnel: Tunnel, revision: int) -> bytes:
    return _TUNNEL.pack(*tunnel, revision)


def _pack_scope(scope: Scope, vni: int) -> bytes:
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
