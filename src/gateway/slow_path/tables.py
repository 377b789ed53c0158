# SPDX-License-Identifier: Apache-2.0
"""Which locations and tunnels the data plane has been told of, and at which revision.

An answer's location or tunnel is sent once for each revision, before the flow that names it. What a push has
told at a later revision is not overwritten by an answer that it overtook. Pure; rows in, records out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from directory_client.wire.rows import LOCATION, TUNNEL
from fastpath.columns import Transcript
from fastpath.records import RECORD_VERSION, STRUCT_OF, RecordType
from fastpath.revisions import Revisions

Rows = np.ndarray[Any, Any]

GONE_MAX = 4_096  # tunnels; an answer that names an older one is asked again

_TUNNEL_FIELDS = (
    *("object_id", "profile_id", "node_id", "local", "remote", "udp_port"),
    *("mtu_bytes", "protocol", "ttl", "dscp", "dscp_copy", "backup_id"),
)
_LOCATION_FIELDS = ("object_id", "target_id", "node_id", "wire_id", "way", "kind", "mac")


def _records(record_type: RecordType, wire: np.dtype, fields: tuple[str, ...], *heads: str) -> Transcript:
    return Transcript(
        wire,
        STRUCT_OF[record_type],
        {**{name: name for name in fields}, **{f"head.{name}": name for name in heads}},
        constants={"head.type": record_type, "head.version": RECORD_VERSION},
    )


_TUNNELS = _records(RecordType.TUNNEL_SET, TUNNEL, _TUNNEL_FIELDS, "revision")
_LOCATIONS = _records(RecordType.LOCATION_SET, LOCATION, _LOCATION_FIELDS, "vni", "revision")


class Tables:
    """What one data plane has. `clear` when it is another one."""

    def __init__(self) -> None:
        self._locations = Revisions(LOCATION)  # told by answers: it has them
        self._tunnels = Revisions(TUNNEL)
        self._newest = Revisions(LOCATION)  # told by pushes: it has them only where in use
        self._gone: dict[int, int] = {}  # tunnels that were removed -> at which revision

    def answer(self, tunnels: Rows, locations: Rows, incarnation: int) -> list[Rows]:
        """Return TUNNEL_SET and LOCATION_SET records for what the data plane does not have yet.

        `incarnation`: of the store that the rows' revisions belong to.
        """
        records = []
        if len(tunnels):
            new = self._tunnels.newer(tunnels)
            if len(new) and self._gone:
                new = self._not_gone(tunnels, new)
            if len(new):
                records.append(_TUNNELS.rows(tunnels, new))
                records[-1]["incarnation"] = incarnation
        if len(locations):
            new = self._locations.newer(locations)
            if len(new) and len(self._newest):
                new = np.setdiff1d(new, self._newest.later(locations, new), assume_unique=True)
            if len(new):
                records.append(_LOCATIONS.rows(locations, new))
        return records

    def pushed(self, record: Rows) -> None:
        """Note a record that a push was turned into."""
        kind, revision = int(record["head"]["type"][0]), int(record["head"]["revision"][0])
        if kind == RecordType.TUNNEL_SET:
            self._tunnels.set(revision, int(record["object_id"][0]))
            self._gone.pop(int(record["object_id"][0]), None)
        elif kind in (RecordType.LOCATION_SET, RecordType.LOCATION_REMOVE):
            key = int(record["object_id"][0]), int(record["head"]["vni"][0]), int(record["way"][0])
            if kind == RecordType.LOCATION_REMOVE:
                self._locations.pop(*key)
                self._newest.pop(*key)
                return
            self._newest.set(revision, *key)
            if self._locations.get(*key) is not None:
                self._locations.set(revision, *key)

    def removed(self, tunnel: int, revision: int) -> None:
        """Note that the data plane was told to remove a tunnel."""
        self._tunnels.pop(tunnel)
        self._gone.pop(tunnel, None)
        self._gone[tunnel] = revision
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def clear(self) -> None:
        """Forget everything: it is another data plane, or another snapshot."""
        self.clear_told()
        self._newest.clear()
        self._gone.clear()

    def clear_told(self) -> None:
        """Send everything anew when it is next named."""
        self._locations.clear()
        self._tunnels.clear()

    def _not_gone(self, tunnels: Rows, new: Rows) -> Rows:
        """Return those of the numbers whose tunnel was not removed at a later revision than it was named."""
        gone = [
            number
            for number in new.tolist()
            if self._gone.get(int(tunnels["object_id"][number]), -1) > int(tunnels["revision"][number])
        ]
        for number in gone:
            self._tunnels.pop(int(tunnels["object_id"][number]))
        return np.setdiff1d(new, np.array(gone, np.intp), assume_unique=True)
