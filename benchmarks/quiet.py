# SPDX-License-Identifier: Apache-2.0
"""What the product costs when nothing happens, and how long it takes to be awake.

Two ports on veths (net_af_packet, which can wake a poll thread), threads that sleep as they do by default."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

import numpy as np

from benchmarks.gateway import Gateway, Limits
from benchmarks.miss_path import _dotted, _mac, _shares
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.sources import wire
from benchmarks.sources.wire import Wire
from benchmarks.subject import Bed, WrongOutput, not_root
from benchmarks.topology import Member, Vnet, write

IDLE_S, IDLE_QUICK_S = 10.0, 4.0
PROBES, PROBES_QUICK = 500, 100
GAP_S = 0.025  # between probes: long enough for every thread to sleep
_NUMBERS = count()


class Quiet:
    """Serves "idle" and "wake-up"."""

    name = "quiet"
    scenarios = ("idle", "wake-up")

    def missing(self) -> str | None:
        return not_root()

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        by_name = {one.name: one for one in scenarios}
        results = []
        with _gateway(bed) as (gateway, sender, receiver):
            if "wake-up" in by_name:
                progress("wakes up")
                results.append(wake_up(by_name["wake-up"], bed, sender, receiver))
            if "idle" in by_name:
                progress("does nothing")
                results.append(idle(by_name["idle"], bed, gateway))
        return results


@contextmanager
def _gateway(bed: Bed) -> Iterator[tuple[Gateway, Wire, Wire]]:
    number = next(_NUMBERS)
    directory = bed.directory / f"quiet-{number}"
    directory.mkdir()
    pid = os.getpid() % 1_000_000
    veths = {f"vb{pid}q{side}{number}": f"veth-{side}" for side in ("in", "out")}
    ports = {side: (f"net_af_packet{n},iface=veth-{side}", "inside") for n, side in enumerate(("in", "out"))}
    members = tuple(
        Member(f"{side}-{n}", _dotted(0x0A000001 + 65_536 * kind + n), _mac(kind, n), side)
        for kind, side in ((4, "in"), (5, "out"))
        for n in range(1 if side == "in" else PROBES)
    )
    document = write({}, [Vnet("blue", 100, "10.0.0.0/8", (("in", 0), ("out", 0)), members)])
    with Gateway(bed, directory, ports, limits=Limits(), veths=veths, idle="sleep") as gateway:
        gateway.apply(document)
        gateway.until(
            lambda: len(gateway.ask(dump="ingresses", limit=16)["rows"]) == 2, "both ports are known"
        )
        wires = [Wire(name) for name in veths]
        try:
            yield gateway, wires[0], wires[1]
        finally:
            for one in wires:
                one.close()


def wake_up(scenario: Scenario, bed: Bed, sender: Wire, receiver: Wire) -> Result:
    """Single packets after silence: first each of a flow of its own (everybody has to wake), then of flows
    that are cached (the poll thread alone)."""
    probes = PROBES_QUICK if bed.quick else PROBES
    targets = np.arange(probes)
    nobody = np.zeros(probes, np.int64)
    rows = wire.udp_frames(
        wire.mac(4, nobody), nobody + 0x0A040001, wire.mac(5, targets), 0x0A050001 + targets
    )
    new, cached = (_probe(sender, receiver, rows) for _ in range(2))
    found = {f"{share:g}": round(float(np.percentile(cached, share)), 1) for share in (50, 90, 99, 100)}
    note = (
        f"a packet of a cached flow through two veths after {GAP_S * 1000:.0f} ms of silence; of a new flow, "
        f"which wakes housekeeping, slow path and directory too: p50 {np.percentile(new, 50):.0f} us, "
        f"p99 {np.percentile(new, 99):.0f} us"
    )
    return Result(
        scenario=scenario.name,
        subject="vnet-gateway",
        flows=scenario.flows,
        p50_us=found["50"],
        p99_us=found["99"],
        percentiles_us=found,
        repeats=probes,
        hugepages=bed.hugepages,
        note=note,
    )


def _probe(sender: Wire, receiver: Wire, rows: wire.Rows) -> np.ndarray:
    sent_ns = sender.send(rows, 1 / GAP_S)
    time.sleep(0.2)
    received_ns = receiver.received(len(rows))
    if not received_ns.all():
        raise WrongOutput(f"{(received_ns == 0).sum()} of {len(rows)} single packets did not come out")
    return np.asarray((received_ns - sent_ns) / 1000)


def idle(scenario: Scenario, bed: Bed, gateway: Gateway) -> Result:
    """Processor time of all processes while no packet comes."""
    time.sleep(1.0)  # what the last packets left to be done
    before, start_s = gateway.cpu_seconds(), time.monotonic()
    time.sleep(IDLE_QUICK_S if bed.quick else IDLE_S)
    after, passed_s = gateway.cpu_seconds(), time.monotonic() - start_s
    shares = _shares(before, after, passed_s)
    return Result(
        scenario=scenario.name,
        subject="vnet-gateway",
        flows=scenario.flows,
        cpu_percent=round(100.0 * (sum(after.values()) - sum(before.values())) / passed_s, 2),
        cpu_shares=shares,
        hugepages=bed.hugepages,
        note="all processes, directory and control too; two ports that wake their thread",
    )
