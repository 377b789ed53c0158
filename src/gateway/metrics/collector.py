# SPDX-License-Identifier: Apache-2.0
"""What control knows, in the Prometheus text format. The names are those of the screens; units are base
units.

A scrape reads what was sampled last: it costs the data plane nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from gateway.show.attention import attention
from gateway.state.state import State

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
GAUGES = {
    "flows": "flows",
    "flows_max": "flows_max",
    "held_now": "held_packets",
    "uptime_s": "uptime_seconds",
}
PORT_COUNTERS = (
    "rx_packets",
    "rx_bytes",
    "tx_packets",
    "tx_bytes",
    "tx_full",
    "rx_missed",
    "rx_errors",
    "exceptions",
)
THREAD_COUNTERS = ("packets", "bursts", "polls", "cycles_busy", "cycles_idle", "sleeps")
# Two to a power of two, 65.5 µs to 1.07 s: of the hold's own bounds, which are eight times as many.
DELAY_BOUNDS_NS = (*(half << power for power in range(15, 29) for half in (2, 3)), 1 << 30)
TRAFFIC = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")


class Collector:
    """Gives the metrics of a state; what prometheus_client calls a registry."""

    def __init__(self, state: State) -> None:
        self._state = state

    def render(self) -> bytes:
        """Return the text of a scrape."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        state = self._state
        up = GaugeMetricFamily("vnet_data_plane_up", "whether the data plane answers control")
        up.add_metric([], float(state.greeting is not None))
        yield up
        needs = GaugeMetricFamily("vnet_attention", "how many lines `vnetctl show` has under needs attention")
        tunnels = list(state.tunnels.rows.values()) if state.tunnels else []
        needs.add_metric([], len(attention(state, tunnels)))
        yield needs
        yield from self._directories()
        if state.greeting is None or state.statistics.last is None:
            return
        yield from self._counters()
        yield from self._tables()
        yield from self._traffic()

    def _directories(self) -> Iterator[Metric]:
        servers = self._state.servers()
        up = GaugeMetricFamily(
            "vnet_directory_up", "whether a directory server answers", labels=["directory"]
        )
        rtt = GaugeMetricFamily("vnet_directory_rtt_seconds", "its last answer's time", labels=["directory"])
        revision = GaugeMetricFamily("vnet_directory_revision", "its revision", labels=["directory"])
        for server in servers:
            label = [server.name or server.endpoint]
            up.add_metric(label, float(server.state in ("up", "late")))
            revision.add_metric(label, server.revision)
            if server.rtt_us is not None:
                rtt.add_metric(label, server.rtt_us / 1e6)
        yield from (up, rtt, revision)

    def _counters(self) -> Iterator[Metric]:
        last = self._state.statistics.last
        assert last is not None
        for name, value in last.counters.items():
            if name in GAUGES:
                gauge = GaugeMetricFamily(f"vnet_{GAUGES[name]}", f"{name} of the data plane")
                gauge.add_metric([], value)
                yield gauge
            else:
                counter = CounterMetricFamily(f"vnet_{name}", f"{name} since the data plane started")
                counter.add_metric([], value)
                yield counter
        dropped = CounterMetricFamily(
            "vnet_drops", "packets that ended, by reason and V-net", labels=["reason", "vnet"]
        )
        for (reason, vni), packets in last.drops.items():
            dropped.add_metric([reason, self._state.names.vnet(vni) if vni else ""], packets)
        yield dropped
        buckets = [(str(ns / 1e9), float(last.delay.packets_below(ns))) for ns in DELAY_BOUNDS_NS]
        buckets.append(("+Inf", float(last.delay.packets)))
        delay = HistogramMetricFamily(
            "vnet_first_packet_delay_seconds", "of first packets, from their receipt until their release"
        )
        delay.add_metric([], buckets, sum_value=last.delay.sum_ns / 1e9)
        yield delay

    def _tables(self) -> Iterator[Metric]:
        last = self._state.statistics.last
        assert last is not None
        for counter in PORT_COUNTERS:
            family = CounterMetricFamily(f"vnet_port_{counter}", f"{counter} of a port", labels=["port"])
            for port, row in last.ports.items():
                family.add_metric([port], row.get(counter) or 0)
            yield family
        for counter in THREAD_COUNTERS:
            family = CounterMetricFamily(
                f"vnet_thread_{counter}", f"{counter} of a poll thread", labels=["thread"]
            )
            for thread, row in last.threads.items():
                family.add_metric([thread], row.get(counter) or 0)
            yield family

    def _traffic(self) -> Iterator[Metric]:
        state = self._state
        if state.tunnels is not None:
            count = GaugeMetricFamily("vnet_tunnels", "tunnels by state", labels=["state"])
            for wanted in ("up", "unresolved", "down"):
                count.add_metric(
                    [wanted], sum(row.get("state") == wanted for row in state.tunnels.rows.values())
                )
            yield count
            for counter in TRAFFIC:
                family = CounterMetricFamily(
                    f"vnet_tunnel_{counter}",
                    f"{counter} of a tunnel",
                    labels=["tunnel", "remote_locator", "remote_node"],
                )
                for number, row in state.tunnels.rows.items():
                    labels = [
                        str(number),
                        str(row.get("remote_locator")),
                        state.names.node(row.get("node_id")),
                    ]
                    family.add_metric(labels, row.get(counter) or 0)
                yield family
        if state.vnets is not None:
            flows = GaugeMetricFamily("vnet_vnet_flows", "cached flows of a V-net", labels=["vnet"])
            for vni, row in state.vnets.rows.items():
                flows.add_metric([state.names.vnet(vni)], row.get("flows") or 0)
            yield flows
            for counter in TRAFFIC:
                family = CounterMetricFamily(f"vnet_vnet_{counter}", f"{counter} of a V-net", labels=["vnet"])
                for vni, row in state.vnets.rows.items():
                    family.add_metric([state.names.vnet(vni)], row.get(counter) or 0)
                yield family
