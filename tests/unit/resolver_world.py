# SPDX-License-Identifier: Apache-2.0
"""A data plane and a directory in plain Python, to set the resolver between.

The data plane keeps what docs/architecture.md says of it: hold tokens, flows, the scopes of all changes; it
refuses an answer that a later change covers. The directory knows which pairs of addresses may talk; it
answers at the revision at which it is asked, however late the answer arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from directory_client.events import Changed, Resolved, Snapshot
from directory_client.wire import rows as wire
from fastpath.records import (
    MISS,
    RECORD,
    Action,
    ChangeKind,
    IngressKind,
    KeyClass,
    RecordType,
    Refusal,
    make,
)

VNI, INCARNATION, ATTACHMENT, INGRESS = 7001, 5, 900, 3
NO_RULE = 40
MAC = bytes.fromhex("02000a000001")

Pair = tuple[int, int]


def address(number: int) -> bytes:
    return bytes(12) + bytes([10, 0, 0, number])


def miss(pair: Pair, token: int = 0, record_type: int = RecordType.MISS, **columns: Any) -> np.ndarray:
    row = make(
        record_type,
        vni=columns.pop("vni", VNI),
        token=token,
        ingress_object=ATTACHMENT,
        ingress_kind=IngressKind.ATTACHMENT,
        **columns,
    )
    key = row["key"]
    key["source"], key["destination"] = (np.frombuffer(address(n), np.uint8) for n in pair)
    key["key_class"], key["ingress"] = KeyClass.ROUTED, INGRESS
    return row


def records(*rows: np.ndarray) -> np.ndarray:
    return np.concatenate([row.view(RECORD).reshape(-1) for row in rows])


def pair_of(key: Any) -> Pair:
    return int(key["source"][15]), int(key["destination"][15])


def identities(rows: np.ndarray) -> list[bytes]:
    """What tells keys apart: V-net and key."""
    return [row["head"]["vni"].tobytes() + row["key"].tobytes() for row in rows]


def scope_operation(source: int | None, destination: int | None, kind: int) -> dict[str, Any]:
    return {
        "op": "scope",
        "vni": VNI,
        "kind": kind,
        "source": address(source) if source is not None else bytes(16),
        "source_bits": 128 if source is not None else 0,
        "destination": address(destination) if destination is not None else bytes(16),
        "destination_bits": 128 if destination is not None else 0,
        "protocol": 0,
        "either_direction": False,
        "flags": 0,
        "port_low": 0,
        "port_high": 65_535,
    }


VNET_OPERATIONS: list[dict[str, Any]] = [
    {"op": "vnet", "vni": VNI, "object_id": 1, "name": "red", "gateway_mac": MAC, "gateway_address": None},
    {"op": "attachment", "vni": VNI, "object_id": ATTACHMENT, "port": "rack", "vlan": 101, "mtu_bytes": 1500},
]


def snapshot(revision: int = 1, incarnation: int = INCARNATION) -> Snapshot:
    return Snapshot(incarnation, revision, 77, [(VNI, VNET_OPERATIONS)])


@dataclass
class Directory:
    """What may talk to what, now. `sources` that may reach nothing are refused as a whole."""

    everyone: tuple[int, ...]
    allowed: set[Pair]
    revision: int = 1

    def answer(self, id: int, queries: np.ndarray) -> Resolved:
        decisions = np.zeros(len(queries), wire.DECISION)
        locations, scopes = [], []
        for decision, query in zip(decisions, queries, strict=True):
            source, destination = int(query["source"][15]), int(query["destination"][15])
            decision["granularity"], decision["lifetime_ms"] = 1, 5_000
            decision["revision"] = self.revision
            decision["source_location"] = decision["destination_location"] = decision["scope"] = -1
            if (source, destination) in self.allowed:
                decision["action"] = Action.DELIVER
                decision["destination_location"] = len(locations)
                locations.append(self._location(destination))
            else:
                decision["action"], decision["reason"] = Action.DROP, NO_RULE
                decision["scope"] = len(scopes)
                mute = not any((source, other) in self.allowed for other in self.everyone)
                scopes.append(self._scope(source, None if mute else destination))
        return Resolved(
            id,
            INCARNATION,
            self.revision,
            decisions,
            np.concatenate(locations) if locations else np.zeros(0, wire.LOCATION),
            np.zeros(0, wire.TUNNEL),
            np.concatenate(scopes) if scopes else np.zeros(0, wire.SCOPE),
            [],
        )

    def change(self, pair: Pair) -> Changed:
        """Allow what was not, revoke what was."""
        self.revision += 1
        kind = ChangeKind.TIGHTEN if pair in self.allowed else ChangeKind.LOOSEN
        self.allowed ^= {pair}
        return Changed(VNI, INCARNATION, self.revision, 0, [scope_operation(*pair, kind)])

    def _location(self, destination: int) -> np.ndarray:
        row = np.zeros(1, wire.LOCATION)
        row["vni"], row["kind"], row["object_id"] = VNI, 1, 1000 + destination
        row["target_id"], row["revision"] = ATTACHMENT, self.revision
        row["mac"] = np.frombuffer(MAC, np.uint8)
        return row

    def _scope(self, source: int, destination: int | None) -> np.ndarray:
        operation = scope_operation(source, destination, ChangeKind.TIGHTEN)
        row = np.zeros(1, wire.SCOPE)
        for name in row.dtype.names or ():
            if name in operation:
                value = operation[name]
                row[name] = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else value
        return row


@dataclass
class DataPlane:
    """Applies records as the installer does; says what it refuses. Of one V-net."""

    waiting: dict[int, Pair] = field(default_factory=dict)  # token -> key
    released: list[int] = field(default_factory=list)
    flows: dict[Pair, int] = field(default_factory=dict)  # key -> action
    decided: dict[Pair, int] = field(default_factory=dict)  # key -> revision
    locations: set[int] = field(default_factory=set)
    changes: list[tuple[int, Any]] = field(default_factory=list)  # revision, scope
    floor: int = 0
    has_vnet: bool = False
    snapshot_revision: int = 0  # of the last one that this process applied
    in_force: int = 0
    confirms: bool = True
    types: list[int] = field(default_factory=list)

    def apply(self, batches: list[np.ndarray]) -> list[np.ndarray]:
        """Apply records in order; return what it has to say."""
        said: list[np.ndarray] = []
        for batch in batches:
            for row in batch:
                self.types.append(int(row["head"]["type"]))
                said += self._apply_one(row)
        return said

    def _apply_one(self, row: Any) -> list[np.ndarray]:
        match row["head"]["type"]:
            case RecordType.LOCATION_SET:
                self.locations.add(int(row["object_id"]))
            case RecordType.VNET_SET if not self.has_vnet:
                self.has_vnet = True
                self.floor = self.in_force = int(row["head"]["revision"])
            case RecordType.SNAPSHOT_END if row["head"]["vni"]:
                self.floor = self.snapshot_revision = int(row["head"]["revision"])
                return [miss(pair, record_type=RecordType.REFRESH) for pair in self.flows]
            case RecordType.CHANGE:
                return self._change(row)
            case RecordType.FLOW_INSTALL:
                return self._install(row)
            case RecordType.SYNC:
                if self.confirms:
                    self.in_force = max(self.in_force, int(row["head"]["revision"]))
                    return [make(RecordType.SYNCED, number=row["number"])]
        return []

    def known(self) -> dict[int, tuple[int, int]]:
        """What it says of its V-nets to who connects: VNI -> (incarnation, revision in force)."""
        return {VNI: (INCARNATION, self.in_force)} if self.has_vnet else {}

    def replaced(self) -> None:
        """Another process takes over the tables."""
        self.snapshot_revision = 0

    def _change(self, row: Any) -> list[np.ndarray]:
        if int(row["head"]["revision"]) < self.snapshot_revision:
            return []
        self.changes.append((int(row["head"]["revision"]), row["scope"].copy()))
        touched = [pair for pair in self.flows if covers(row["scope"], pair)]
        if row["kind"] == ChangeKind.TIGHTEN:
            for pair in touched:
                del self.flows[pair]
            return []
        return [miss(pair, record_type=RecordType.REFRESH) for pair in touched]

    def _install(self, row: Any) -> list[np.ndarray]:
        pair, token, revision = pair_of(row["key"]), int(row["token"]), int(row["head"]["revision"])
        if revision < self.floor or any(r > revision and covers(s, pair) for r, s in self.changes):
            return [self._refuse(row, Refusal.LATE)]
        target = int(row["destination_object"])
        if row["action"] != Action.DROP and target not in self.locations:
            return [self._refuse(row, Refusal.UNKNOWN_OBJECT)]
        self.flows[pair], self.decided[pair] = int(row["action"]), revision
        if token in self.waiting:
            del self.waiting[token]
            self.released.append(token)
        return []

    def _refuse(self, row: Any, why: Refusal) -> np.ndarray:
        refused = make(
            RecordType.REFUSED,
            vni=VNI,
            revision=row["head"]["revision"],
            refused_type=RecordType.FLOW_INSTALL,
            why=why,
            object=row["destination_object"],
            token=row["token"],
        )
        refused["key"] = row["key"]
        return refused


def covers(scope: Any, pair: Pair) -> bool:
    return all(
        scope[f"{side}_bits"] == 0 or bytes(scope[side]) == address(number)
        for side, number in zip(("source", "destination"), pair, strict=True)
    )


assert MISS.itemsize == RECORD.itemsize
