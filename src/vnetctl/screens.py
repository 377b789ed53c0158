# SPDX-License-Identifier: Apache-2.0
"""Which columns the list of each noun has. Ranks say what goes first on a narrow terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from directory_client.kinds import noun as kinds
from directory_client.kinds.nouns import NOUNS
from vnetctl.table import Column, Format, Row
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


def _list(key: str) -> Any:
    def text(row: Row, _: Units) -> str:
        value = row.get(key)
        if isinstance(value, (list, tuple)):
            return " ".join(str(item) for item in value) or UNKNOWN
        return UNKNOWN if value in (None, "") else str(value)

    return text


def _directory_problem(row: Row, _: Units) -> str:
    """Why it does not serve, as a gateway says; how its audit file is, as the directory itself says; why the
    store began an era anew."""
    audit = row.get("audit")
    bad = f"audit: {audit}, {row.get('audit_missing')} missing" if audit not in (None, "ok", "off") else ""
    newer = f"records of a newer program: {row['unreadable']}" if row.get("unreadable") else ""
    era = f"era {row.get('era')} began: {row['era_began']}" if row.get("era_began") else ""
    return "; ".join(str(text) for text in (row.get("problem"), bad, newer, era) if text) or UNKNOWN


def column_of(column: kinds.Column) -> Column:
    """Return how a column of a kind of record is written."""
    say = column.say
    format = FORMS[column.form](column.key) if say is None else lambda row, _: say(row) or UNKNOWN
    return Column(
        column.heading,
        column.key,
        format,
        column.rank,
        column.right,
        column.state,
        composed=say is not None,
    )


FORMS: dict[str, Callable[[str], Format | None]] = {
    "plain": lambda key: None,
    "list": _list,
    "count": _count,
    "short": _short,
}

SCREENS: dict[str, tuple[Column, ...]] = {
    **{noun.plural: tuple(column_of(column) for column in noun.columns) for noun in NOUNS},
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
    "documents": (
        Column("document", "name"),
        Column("vnets", "vnets", _list("vnets"), rank=2),
        Column("nodes", "nodes", _list("nodes"), rank=3),
        Column("records", "records", _count("records"), rank=1, right=True),
        Column("changed at", "revision", right=True),
    ),
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
    **{noun.kind: noun.plural for noun in NOUNS},
    "document": "documents",
    "ingress": "ingresses",
    "client": "clients",
}
