# SPDX-License-Identifier: Apache-2.0
"""`vnetctl show`: one row that says how this gateway is."""

from __future__ import annotations

from typing import Any

from gateway.show.attention import attention
from gateway.show.tunnels import tunnel_rows
from gateway.state.job import Answer, Job, Refused
from gateway.state.state import State


def overview(state: State) -> Job:
    """Return the overview's one row; what is not known (no data plane) is None."""
    tunnels: list[dict[str, Any]] = []
    try:
        tunnels = yield from tunnel_rows(state)
    except Refused:
        tunnels = []
    return {"rows": [overview_row(state, tunnels)]}


def overview_row(state: State, tunnels: list[dict[str, Any]]) -> Answer:
    statistics = state.statistics
    counters = statistics.last.counters if statistics.last and state.greeting else {}
    server = state.active_server()
    up = state.greeting is not None
    states = [str(tunnel.get("state")) for tunnel in tunnels]
    p50, p99 = statistics.delay_percentiles_us(0.5, 0.99) if up else (None, None)
    dropped = _drop_rates(state) if up else None
    return {
        "node": state.node,
        "uptime_s": counters.get("uptime_s"),
        "version": state.version,
        "site": state.configuration.site or None,
        "directory": (server.name or server.endpoint) if server else None,
        "directory_revision": server.revision if server else None,
        "directory_rtt_us": server.rtt_us if server else None,
        "data_plane": "up" if up else "gone",
        "packets_per_s": _rate(state, "received"),
        "in_bits_per_s": _port_rate(state, "rx_bytes", 8),
        "out_bits_per_s": _port_rate(state, "tx_bytes", 8),
        "flows": counters.get("flows"),
        "flows_max": counters.get("flows_max", state.configuration.capacity.flows),
        "misses_per_s": _rate(state, "misses"),
        "first_packet_p50_us": p50,
        "first_packet_p99_us": p99,
        "held_packets": counters.get("held_now"),
        "held_packets_max": state.configuration.hold.packets,
        "released_per_s": _rate(state, "released"),
        "expired_per_s": _rate(state, "expired"),
        "tunnels": len(tunnels) if up else None,
        "tunnels_up": states.count("up") if up else None,
        "tunnels_unresolved": states.count("unresolved") if up else None,
        "tunnels_down": states.count("down") if up else None,
        "threads": poll_threads(state) if up else None,
        "cycles_per_packet": _cycles_per_packet(state) if up else None,
        "dropped_per_s": sum(dropped.values()) if dropped is not None else None,
        "drops_per_s": dropped,
        "attention": attention(state, tunnels),
    }


def poll_threads(state: State) -> list[dict[str, Any]]:
    """Return name and busy ratio of each poll thread."""
    last = state.statistics.last
    return [
        {"thread": name, "busy_ratio": busy_ratio(state, name)} for name in (last.threads if last else ())
    ]


def busy_ratio(state: State, thread: str) -> float | None:
    """Return which part of the time a poll thread worked on packets. While it sleeps it counts no cycles: the
    whole is the time that passed, where the thread says how fast its cycles are."""
    statistics = state.statistics
    busy = statistics.row_difference("threads", thread, "cycles_busy")
    idle = statistics.row_difference("threads", thread, "cycles_idle")
    if busy is None or idle is None or statistics.last is None:
        return None
    hz = statistics.last.threads[thread].get("cycles_hz") or 0
    whole = max(busy + idle, int(hz * statistics.span_s))
    return min(1.0, busy / whole) if whole else 0.0


def _rate(state: State, counter: str) -> float | None:
    return state.statistics.per_s(counter) if state.greeting else None


def _port_rate(state: State, counter: str, factor: int) -> float | None:
    last = state.statistics.last
    if last is None or state.greeting is None:
        return None
    rates = [state.statistics.row_per_s("ports", name, counter) for name in last.ports]
    known = [rate for rate in rates if rate is not None]
    return sum(known) * factor if known else None


def _cycles_per_packet(state: State) -> float | None:
    last = state.statistics.last
    if last is None:
        return None
    cycles = packets = 0
    for name in last.threads:
        cycles += state.statistics.row_difference("threads", name, "cycles_busy") or 0
        packets += state.statistics.row_difference("threads", name, "packets") or 0
    return cycles / packets if packets else None


def _drop_rates(state: State) -> dict[str, float]:
    drops, seconds = state.statistics.drops_since(10.0)
    rates: dict[str, float] = {}
    for (reason, _), packets in drops.items():
        rates[reason] = rates.get(reason, 0.0) + packets / (seconds or 10.0)
    return dict(sorted(rates.items(), key=lambda item: -item[1]))
