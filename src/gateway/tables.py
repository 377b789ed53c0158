# SPDX-License-Identifier: Apache-2.0
"""Which locations and tunnels the data plane has been told of, and at which revision.

An answer's location or tunnel is sent once for each revision, before the flow that names it. What a push has
told at a later revision is not overwritten by an answer that it overtook. Pure; rows in, records out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastpath.records import RecordType, make

Rows = np.ndarray[Any, Any]

_LOCATION_KEY = np.dtype([("vni", "<u4"), ("way", "u1"), ("object_id", "<u8")])
_TUNNEL_FIELDS = (
    *("object_id", "profile_id", "node_id", "local", "remote", "udp_port"),
    *("mtu_bytes", "protocol", "ttl", "dscp", "dscp_copy", "backup_id"),
)
_LOCATION_FIELDS = ("object_id", "target_id", "node_id", "wire_id", "way", "kind", "mac")


class Tables:
    """What one data plane has. `clear` when it is another one."""

    def __init__(self) -> None:
        self._locations: dict[bytes, int] = {}  # told by answers: it has them
        self._tunnels: dict[int, int] = {}
        self._newest: dict[bytes, int] = {}  # told by pushes: it has them only where in use

    def answer(self, tunnels: Rows, locations: Rows) -> list[Rows]:
        """Return TUNNEL_SET and LOCATION_SET records for what the data plane does not have yet."""
        records = []
        if len(tunnels):
            new = self._new(self._tunnels, tunnels["object_id"].tolist(), tunnels["revision"].tolist())
            if new:
                rows = tunnels[new]
                columns = {name: rows[name] for name in _TUNNEL_FIELDS}
                records.append(make(RecordType.TUNNEL_SET, len(new), revision=rows["revision"], **columns))
        if len(locations):
            keys = _location_keys(locations["vni"], locations["way"], locations["object_id"])
            new = self._new(self._locations, keys, locations["revision"].tolist())
            if self._newest:
                new = [n for n in new if self._newest.get(keys[n], 0) <= int(locations["revision"][n])]
            if new:
                rows = locations[new]
                columns = {name: rows[name] for name in _LOCATION_FIELDS}
                records.append(
                    make(
                        RecordType.LOCATION_SET,
                        len(new),
                        vni=rows["vni"],
                        revision=rows["revision"],
                        **columns,
                    )
                )
        return records

    def pushed(self, record: Rows) -> None:
        """Note a record that a push was turned into."""
        kind = record["head"]["type"][0]
        if kind == RecordType.TUNNEL_SET:
            self._tunnels[int(record["object_id"][0])] = int(record["head"]["revision"][0])
        elif kind in (RecordType.LOCATION_SET, RecordType.LOCATION_REMOVE):
            key = _location_keys(record["head"]["vni"], record["way"], record["object_id"])[0]
            revision = int(record["head"]["revision"][0])
            if kind == RecordType.LOCATION_REMOVE:
                self._locations.pop(key, None)
                self._newest.pop(key, None)
                return
            self._newest[key] = revision
            if key in self._locations:
                self._locations[key] = revision

    def clear(self) -> None:
        """Forget everything: it is another data plane, or another snapshot."""
        self.clear_told()
        self._newest.clear()

    def clear_told(self) -> None:
        """Send everything anew when it is next named."""
        self._locations.clear()
        self._tunnels.clear()

    @staticmethod
    def _new(told: dict[Any, int], keys: list[Any], revisions: list[int]) -> list[int]:
        new = []
        for number, (key, revision) in enumerate(zip(keys, revisions, strict=True)):
            if told.get(key, -1) < revision:
                told[key] = revision
                new.append(number)
        return new


def _location_keys(vni: Rows, way: Rows, object_id: Rows) -> list[bytes]:
    keys = np.empty(len(object_id), _LOCATION_KEY)
    keys["vni"], keys["way"], keys["object_id"] = vni, way, object_id
    return keys.view(f"V{_LOCATION_KEY.itemsize}").tolist()  # type: ignore[no-any-return]
