# SPDX-License-Identifier: Apache-2.0
"""Which columns the list of each noun has. Ranks say what goes first on a narrow terminal."""

from __future__ import annotations

from typing import Any

from vnetctl.table import Column, Row
from vnetctl.units import UNKNOWN, Units


def _count(key: str) -> Any:
    return lambda row, units: units.count(row.get(key))


def _short(key: str) -> Any:
    return lambda row, units: units.short(row.get(key))


def _bits(key: str) -> Any:
    return lambda row, units: units.bits_per_s(row.get(key))


def _bytes(key: str) -> Any:
    return lambda row, units: units.bytes(row.get(key))


def _ratio(key: str) -> Any:
    return lambda row, units: units.ratio(row.get(key))


def _delay(key: str) -> Any:
    return lambda row, units: units.delay_us(row.get(key))


def _seconds(key: str) -> Any:
    return lambda row, units: units.duration(row.get(key))


def socket_address(address: Any, port: Any) -> str:
    """An address with its port: 10.0.0.11:5432, [2001:db8::1]:443; without one just the address."""
    if not port:
        return str(address or UNKNOWN)
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _source(row: Row, _: Units) -> str:
    return socket_address(row.get("source"), row.get("source_port"))


def _destination(row: Row, _: Units) -> str:
    return socket_address(row.get("destination"), row.get("destination_port"))


def _action(row: Row, _: Units) -> str:
    reason = f" {row['reason']}" if row.get("reason") else ""
    return f"{row.get('action') or UNKNOWN}{reason}"


def _revision(row: Row, _: Units) -> str:
    if row.get("revision") is None:
        return UNKNOWN
    return f"{row['revision']}{' stale' if row.get('stale') else ''}"


def _hops(row: Row, _: Units) -> str:
    names = [
        str(hop.get("port")) if isinstance(hop, dict) else str(hop) for hop in row.get("next_hops") or ()
    ]
    return " ".join(names) or UNKNOWN


def _cycles(stage: str) -> Any:
    return lambda row, units: units.count((row.get("stage_cycles_per_packet") or {}).get(stage))


def _places(row: Row, _: Units) -> str:
    places = row.get("at") or row.get("places") or row.get("node")
    if isinstance(places, (list, tuple)):
        return ", ".join(place if isinstance(place, str) else _place(place) for place in places) or UNKNOWN
    return str(places or UNKNOWN)


def _place(place: Any) -> str:
    if not isinstance(place, dict):
        return str(place)
    vlan = f":{place['vlan']}" if place.get("vlan") else ""
    port = f"/{place['port']}" if place.get("port") else ""
    return f"{place.get('node')}{port}{vlan}"


def _list(key: str) -> Any:
    def text(row: Row, _: Units) -> str:
        value = row.get(key)
        if isinstance(value, (list, tuple)):
            return " ".join(str(item) for item in value) or UNKNOWN
        return UNKNOWN if value in (None, "") else str(value)

    return text


def _owner(row: Row, _: Units) -> str:
    return str(row.get("owner") or UNKNOWN)


def _node_problem(row: Row, _: Units) -> str:
    """A second gateway of that name, and locators that it says it has in vain."""
    conflicts = [one.get("problem") for one in row.get("conflicts") or () if isinstance(one, dict)]
    return "; ".join(str(text) for text in (row.get("second"), *conflicts) if text) or UNKNOWN


def _directory_problem(row: Row, _: Units) -> str:
    """Why it does not serve, as a gateway says; how its audit file is, as the directory itself says."""
    audit = row.get("audit")
    bad = f"audit: {audit}, {row.get('audit_missing')} missing" if audit not in (None, "ok", "off") else ""
    return "; ".join(str(text) for text in (row.get("problem"), bad) if text) or UNKNOWN


def _sites(row: Row, _: Units) -> str:
    return " ↔ ".join(str(site) for site in row.get("sites") or ()) or UNKNOWN


OWNED = (
    Column("revision", "revision", rank=8, right=True),
    Column("owner", "owner", _owner, rank=9, composed=True),
)

SCREENS: dict[str, tuple[Column, ...]] = {
    "tunnels": (
        Column("tunnel", "tunnel"),
        Column("local", "local_locator", rank=7),
        Column("remote", "remote_locator"),
        Column("node", "remote_node", rank=1),
        Column("profile", "profile", rank=5),
        Column("state", "state", state=True),
        Column("next hops", "next_hops", _hops, rank=2, composed=True),
        Column("inner mtu", "inner_mtu_bytes", _count("inner_mtu_bytes"), rank=4, right=True),
        Column("locations", "locations", _count("locations"), rank=6, right=True),
        Column("out packets/s", "tx_packets_per_s", _short("tx_packets_per_s"), rank=3, right=True),
        Column("in packets/s", "rx_packets_per_s", _short("rx_packets_per_s"), rank=3, right=True),
    ),
    "flows": (
        Column("vnet", "vnet"),
        Column("source", "source", _source, composed=True),
        Column("destination", "destination", _destination, composed=True),
        Column("proto", "protocol", rank=2),
        Column("action", "action", _action, state=True, composed=True),
        Column("tunnel", "tunnel", rank=4),
        Column("revision", "revision", _revision, rank=6),
        Column("idle", "idle_s", _seconds("idle_s"), rank=5, right=True),
        Column("packets/s", "packets_per_s", _short("packets_per_s"), rank=1, right=True),
        Column("bytes", "bytes", _bytes("bytes"), rank=3, right=True),
    ),
    "ports": (
        Column("port", "port"),
        Column("role", "role", rank=3),
        Column("state", "state", state=True),
        Column("mac", "mac", rank=4),
        Column("mtu", "mtu_bytes", _count("mtu_bytes"), rank=5, right=True),
        Column("in", "in_bits_per_s", _bits("in_bits_per_s"), right=True),
        Column("in packets/s", "in_packets_per_s", _short("in_packets_per_s"), rank=2, right=True),
        Column("out", "out_bits_per_s", _bits("out_bits_per_s"), right=True),
        Column("out packets/s", "out_packets_per_s", _short("out_packets_per_s"), rank=2, right=True),
        Column("tx full", "tx_full", _count("tx_full"), rank=6, right=True),
        Column("exception", "exception", rank=7),
        Column("device", "device", rank=8),
    ),
    "threads": (
        Column("thread", "thread"),
        Column("cpu", "cpu", rank=3),
        Column("packets/s", "packets_per_s", _short("packets_per_s"), right=True),
        Column("busy", "busy_ratio", _ratio("busy_ratio"), right=True),
        Column("per burst", "packets_per_burst", _short("packets_per_burst"), rank=2, right=True),
        Column("cycles/packet", "cycles_per_packet", _count("cycles_per_packet"), rank=1, right=True),
        *(
            Column(stage, "stage_cycles_per_packet", _cycles(stage), rank=4, right=True)
            for stage in ("rx", "parse", "lookup", "act", "tx", "other")
        ),
    ),
    "workers": (
        Column("thread", "thread"),
        Column("cpu", "cpu_ratio", _ratio("cpu_ratio"), rank=3, right=True),
        Column("misses/s", "misses_per_s", _short("misses_per_s"), right=True),
        Column("busy", "busy_ratio", _ratio("busy_ratio"), right=True),
        Column("batch", "misses_per_batch", _short("misses_per_batch"), rank=2, right=True),
        Column("directory p50", "directory_p50_us", _delay("directory_p50_us"), rank=1, right=True),
        Column("p99", "directory_p99_us", _delay("directory_p99_us"), rank=1, right=True),
    ),
    "counters": (
        Column("counter", "counter"),
        Column("value", "value", _count("value"), right=True),
        Column("per s", "per_s", _short("per_s"), rank=1, right=True),
    ),
    "directories": (
        Column("directory", "directory"),
        Column("endpoint", "endpoint", rank=2),
        Column("state", "state", state=True),
        Column("active", "active"),
        Column("revision", "revision", rank=1, right=True),
        Column("answers in", "rtt_us", _delay("rtt_us"), rank=3, right=True),
        Column("silent for", "silent_s", _seconds("silent_s"), rank=4, right=True),
        Column("failures", "failures", _count("failures"), rank=5, right=True),
        Column("problem", "problem", _directory_problem, rank=6, composed=True),
    ),
    "vnets": (
        Column("vnet", "name"),
        Column("vni", "vni", right=True),
        Column("prefixes", "prefixes", _list("prefixes"), rank=2),
        Column("endpoints", "endpoints", _count("endpoints"), rank=3, right=True),
        Column("flows", "flows", _count("flows"), rank=1, right=True),
        Column("in packets/s", "in_packets_per_s", _short("in_packets_per_s"), rank=4, right=True),
        Column("out packets/s", "out_packets_per_s", _short("out_packets_per_s"), rank=4, right=True),
        *OWNED,
    ),
    "endpoints": (
        Column("endpoint", "name"),
        Column("addresses", "addresses", _list("addresses")),
        Column("mac", "mac", rank=2),
        Column("at", "at", _places, rank=1, composed=True),
        Column("groups", "groups", _list("groups"), rank=3),
        *OWNED,
    ),
    "nodes": (
        Column("node", "name"),
        Column("kind", "kind", rank=2),
        Column("site", "site", rank=1),
        Column("locators", "locators", _list("locators")),
        Column("state", "state", rank=3, state=True),
        Column("applied", "applied_revision", rank=4, right=True),
        Column("problem", "problem", _node_problem, rank=5, composed=True),
        *OWNED,
    ),
    "sites": (Column("site", "name"), Column("kind", "kind", rank=1), *OWNED),
    "paths": (
        Column("path", "name"),
        Column("sites", "sites", _sites, composed=True),
        Column("trust", "trust", rank=1),
        Column("mtu", "mtu_bytes", _count("mtu_bytes"), rank=2, right=True),
        Column("nat", "nat", rank=4),
        Column("profile", "profile", rank=3),
        *OWNED,
    ),
    "profiles": (
        Column("profile", "name"),
        Column("protocol", "protocol"),
        Column("udp port", "udp_port", rank=1, right=True),
        Column("mtu", "mtu_bytes", _count("mtu_bytes"), rank=2, right=True),
        Column("ttl", "ttl", rank=3, right=True),
        Column("dscp", "dscp", rank=4),
        *OWNED,
    ),
    "documents": (
        Column("document", "name"),
        Column("vnets", "vnets", _list("vnets"), rank=2),
        Column("nodes", "nodes", _list("nodes"), rank=3),
        Column("records", "records", _count("records"), rank=1, right=True),
        Column("changed at", "revision", right=True),
    ),
    "rules": (
        Column("rule", "name"),
        Column("action", "action"),
        Column("from", "from"),
        Column("to", "to"),
        Column("proto", "proto", rank=1),
        Column("ports", "ports", _list("ports"), rank=1),
        Column("priority", "priority", right=True),
        *OWNED,
    ),
    "routes": (Column("route", "name"), Column("via", "via"), *OWNED),
    "attachments": (
        Column("attachment", "name"),
        Column("mtu", "mtu_bytes", _count("mtu_bytes"), rank=1, right=True),
        *OWNED,
    ),
    "peerings": (Column("peering", "name"), *OWNED),
    "ingresses": (
        Column("ingress", "ingress", right=True),
        Column("vnet", "vnet"),
        Column("kind", "kind"),
        Column("port", "port"),
        Column("vlan", "vlan", right=True),
        Column("from node", "remote_node"),
        Column("mtu", "mtu_bytes", _count("mtu_bytes"), rank=1, right=True),
        Column("locators", "references", _count("references"), rank=2, right=True),
    ),
    "clients": (
        Column("client", "client"),
        Column("pid", "pid", rank=2),
        Column("records in", "records_in", _count("records_in"), right=True),
        Column("records out", "records_out", _count("records_out"), right=True),
        Column("refused", "refused", _count("refused"), right=True),
        Column("overflows", "overflows", _count("overflows"), rank=1, right=True),
    ),
    "history": (
        Column("revision", "revision", right=True),
        Column("time", "time", lambda row, units: units.clock(row.get("time"))),
        Column("user", "user", rank=2),
        Column("document", "document", rank=2),
        Column("added", "added", _count("added"), rank=3, right=True),
        Column("changed", "changed", _count("changed"), rank=3, right=True),
        Column("removed", "removed", _count("removed"), rank=3, right=True),
        Column("comment", "comment", rank=1),
    ),
    "reload": (
        Column("key", "key"),
        Column("before", "before"),
        Column("after", "after"),
        Column("outcome", "outcome"),
        Column("processes", "processes", rank=1),
    ),
    "events": (
        Column("time", "time", lambda row, units: units.clock(row.get("time"))),
        Column("event", "event"),
        Column("text", "text"),
    ),
}

SINGULAR = {
    "tunnel": "tunnels",
    "flow": "flows",
    "port": "ports",
    "thread": "threads",
    "counter": "counters",
    "drop": "drops",
    "directory": "directories",
    "vnet": "vnets",
    "endpoint": "endpoints",
    "node": "nodes",
    "site": "sites",
    "path": "paths",
    "profile": "profiles",
    "rule": "rules",
    "route": "routes",
    "attachment": "attachments",
    "peering": "peerings",
    "document": "documents",
    "ingress": "ingresses",
    "client": "clients",
}
