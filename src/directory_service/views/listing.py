# SPDX-License-Identifier: Apache-2.0
"""Rows for `vnetctl show` of the directory's nouns: what the records say, in the words of topology.toml."""

from typing import Any

from directory_client.vocabulary.addresses import looks_ipv6, unpack_address
from directory_client.vocabulary.names import format_mac, parse_place, suggest
from directory_service.documents.diff import describe_rule
from directory_service.kinds.fields import DEFAULT_PRIORITY, TRUST
from directory_service.kinds.records import Record, to_path, to_profile
from directory_service.model.snapshot import Snapshot
from directory_service.refused import Refused

PLURALS = {
    "vnets": "vnet",
    "endpoints": "endpoint",
    "nodes": "node",
    "sites": "site",
    "paths": "path",
    "profiles": "profile",
    "rules": "rule",
    "routes": "route",
    "attachments": "attachment",
    "peerings": "peering",
}


def list_rows(
    snapshot: Snapshot, kind: str, vnet: str | None = None, name: str | None = None
) -> list[dict[str, Any]]:
    """Return one row per record of a kind (plural or singular), in order of names. Raises Refused."""
    if kind in ("document", "documents"):
        return _documents(snapshot, name)
    singular = PLURALS.get(kind, kind)
    if singular not in PLURALS.values():
        raise Refused(f"there are no {kind}", suggest(kind, PLURALS), 2)
    if vnet is not None and vnet not in snapshot.vnets:
        raise Refused(f"there is no V-net {vnet}", suggest(vnet, snapshot.vnets))
    records = [
        record
        for record in snapshot.records.values()
        if record.kind == singular and (vnet is None or record.vnet == vnet)
    ]
    if name is not None:
        known = [record.name for record in records]
        records = [record for record in records if name in (record.name, record.local_name if vnet else None)]
        if not records:
            raise Refused(f"there is no {singular} {name}", suggest(name, known))
    return [_row(snapshot, record) for record in sorted(records, key=lambda record: record.name)]


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


def _row(snapshot: Snapshot, record: Record) -> dict[str, Any]:
    row: dict[str, Any] = {"name": record.name, "object_id": record.id}
    if record.vnet and record.kind != "vnet":
        row["vnet"] = record.vnet
    row |= record.values  # a route's `id` is the peer's number on the wire
    row |= _more(snapshot, record)
    row |= {"revision": record.revision, "owner": record.document or record.owner}
    return row


def _more(snapshot: Snapshot, record: Record) -> dict[str, Any]:
    """What a screen shows beside the record's own words."""
    state = snapshot.vnets.get(record.vnet) if record.vnet else None
    if record.kind == "vnet" and state is not None and state.vnet is not None:
        return {
            "gateway_mac": format_mac(state.vnet.gateway_mac),
            "min_trust": TRUST[state.vnet.min_trust],
            "endpoints": len(state.members),
            "routes": len(state.routes),
            "rules": len(state.rules),
            "nodes": sorted(state.nodes_concerned()),
        }
    if record.kind == "endpoint" and state is not None:
        member = state.members.get(record.local_name)
        spots = member.spots if member else ()
        places = []
        for spot in spots:
            attachment = state.attachments_by_id.get(spot.attachment)
            places.append(str(attachment.place) if attachment else spot.node)
        return {"at": places, "nodes": [spot.node for spot in spots]}
    if record.kind == "node":
        node = snapshot.fabric.nodes[record.name]
        vnets = sorted(name for name, one in snapshot.vnets.items() if record.name in one.nodes_concerned())
        return {
            "locators": [unpack_address(locator, looks_ipv6(locator)) for locator in node.locators],
            "ports": list(node.ports),
            "vnets": vnets,
        }
    if record.kind == "site":
        return {"kind": record.values.get("kind", "datacenter")}
    if record.kind == "path":
        path = to_path(record)
        return {"mtu_bytes": path.mtu_bytes, "nat": path.nat}
    if record.kind == "profile":
        profile = to_profile(record)
        dscp = "copy" if profile.dscp_copy else profile.dscp
        return {"udp_port": profile.udp_port or None, "ttl": profile.ttl, "dscp": dscp}
    if record.kind == "rule":
        return {
            "priority": record.values.get("priority", DEFAULT_PRIORITY),
            "text": describe_rule(record.values),
        }
    if record.kind == "attachment":
        place = parse_place(record.local_name)
        return {"node": place.node, "port": place.port, "vlan": place.vlan}
    return {}
