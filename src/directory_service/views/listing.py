# SPDX-License-Identifier: Apache-2.0
"""Rows for `vnetctl show` of the directory's nouns: what the records say, in the words of topology.toml."""

from collections.abc import Mapping
from typing import Any

from directory_client.kinds.nouns import NOUNS, find_noun
from directory_client.vocabulary.names import suggest
from directory_service.kinds.records import Record
from directory_service.kinds.registry import KIND_OF
from directory_service.model.snapshot import Snapshot
from directory_service.refused import Refused


def list_rows(
    snapshot: Snapshot, kind: str, vnet: str | None = None, name: str | None = None
) -> list[dict[str, Any]]:
    """Return one row per record of a kind (plural or singular), in order of names. Raises Refused."""
    if kind in ("document", "documents"):
        return _documents(snapshot, name)
    noun = find_noun(kind)
    if noun is None:
        raise Refused(f"there are no {kind}", suggest(kind, (noun.plural for noun in NOUNS)), 2)
    if vnet is not None and vnet not in snapshot.vnets:
        raise Refused(f"there is no V-net {vnet}", suggest(vnet, snapshot.vnets))
    records = [
        record
        for record in snapshot.records.values()
        if record.kind == noun.kind and (vnet is None or record.vnet == vnet)
    ]
    if name is not None:
        known = [record.name for record in records]
        records = [record for record in records if name in (record.name, record.local_name if vnet else None)]
        if not records:
            raise Refused(f"there is no {noun.kind} {name}", suggest(name, known))
    unreadable = snapshot.unreadable()
    return [_row(snapshot, record, unreadable) for record in sorted(records, key=lambda record: record.name)]


def _documents(snapshot: Snapshot, name: str | None) -> list[dict[str, Any]]:
    """Return one row per document that owns something: how much, in which V-nets, and when that changed."""
    owned: dict[str, list[Record]] = {}
    for record in snapshot.records.values():
        if record.document:
            owned.setdefault(record.document, []).append(record)
    if name is not None and name not in owned:
        raise Refused(f"there is no document {name}", suggest(name, owned))
    return [
        {
            "name": document,
            "vnets": sorted({record.vnet for record in records if record.vnet}),
            "nodes": sorted(record.name for record in records if record.kind == "node"),
            "records": len(records),
            "revision": max(record.revision for record in records),
        }
        for document, records in sorted(owned.items())
        if name in (None, document)
    ]


def _row(snapshot: Snapshot, record: Record, unreadable: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"name": record.name, "object_id": record.id}
    if record.vnet and record.kind != "vnet":
        row["vnet"] = record.vnet
    row |= record.values  # a route's `id` is the peer's number on the wire
    if record.key in unreadable:
        row["unreadable"] = unreadable[record.key]
    else:
        row |= KIND_OF[record.kind].more(snapshot, record)
    row |= {"revision": record.revision, "owner": record.document or record.owner}
    return row
