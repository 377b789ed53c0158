# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show tunnels`: the data plane's tunnels with the directory's names and what Linux says of the
way."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from gateway.state.job import Job, Refused, Steps
from gateway.state.state import Names, State, Table, read_names, read_table
from gateway.underlay.nexthop import Pair


def show_tunnels(state: State, name: str | None, args: dict[str, Any]) -> Job:
    """Return all tunnels, or the one of that number."""
    rows = yield from tunnel_rows(state)
    if name is not None:
        rows = [row for row in rows if str(row["tunnel"]) == name]
        if not rows:
            raise Refused(f"there is no tunnel {name} at {state.node}", "vnetctl show tunnels", 2)
    wanted = args.get("state")
    if wanted is not None:
        rows = [row for row in rows if row["state"] == wanted]
    return {"rows": rows}


def tunnel_rows(state: State) -> Steps:
    table = yield from read_table(state, "tunnels", "tunnel")
    names = yield from read_names(state)
    return [tunnel_row(state, table, row, names) for _, row in sorted(table.rows.items())]


def tunnel_row(state: State, table: Table, row: dict[str, Any], names: Names) -> dict[str, Any]:
    pair = _pair(row)
    resolution = state.resolutions.get(pair) if pair else None
    unresolved = row.get("state") == "unresolved"
    number = row.get("tunnel")
    mtu = row.get("mtu_bytes") or 0
    return {
        "node": state.node,
        "tunnel": number,
        "local_locator": row.get("local_locator"),
        "remote_locator": row.get("remote_locator"),
        "remote_node": names.node(row.get("node_id")),
        "profile": names.profile(row.get("profile_id")),
        "protocol": row.get("protocol"),
        "udp_port": row.get("udp_port"),
        "ttl": row.get("ttl"),
        "state": row.get("state"),
        "since": state.unresolved_at.get(pair) if unresolved and pair else None,
        "why": resolution.why if unresolved and resolution and resolution.why else None,
        "fix": resolution.fix if unresolved and resolution and resolution.fix else None,
        "next_hops": row.get("next_hops") or [],
        "mtu_bytes": mtu or None,
        "inner_mtu_bytes": row.get("inner_mtu_bytes") or None,
        "locations": row.get("references"),
        "revision": row.get("revision"),
        "tx_packets": row.get("tx_packets"),
        "tx_bytes": row.get("tx_bytes"),
        "rx_packets": row.get("rx_packets"),
        "rx_bytes": row.get("rx_bytes"),
        "tx_packets_per_s": table.per_s(number, "tx_packets"),
        "rx_packets_per_s": table.per_s(number, "rx_packets"),
        "tx_bits_per_s": _bits(table.per_s(number, "tx_bytes")),
        "rx_bits_per_s": _bits(table.per_s(number, "rx_bytes")),
    }


def _pair(row: dict[str, Any]) -> Pair | None:
    try:
        return Pair(ip_address(row["local_locator"]), ip_address(row["remote_locator"]))
    except (KeyError, ValueError):
        return None


def _bits(bytes_per_s: float | None) -> float | None:
    return None if bytes_per_s is None else bytes_per_s * 8
