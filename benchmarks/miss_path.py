# SPDX-License-Identifier: Apache-2.0
"""What the product does with flows that it does not know: how many it sets up, how long their first packets
wait, and what one tenant's flood does to the others.

One poll thread spins on a processor of its own; directory, slow path, control, parent and housekeeping share
the others. First packets come over a veth and leave by another. How long they wait is stamped in the hold,
and once more outside: by the sender, and by the kernel when they arrive."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.gateway import UNDERLAY, Gateway, Limits
from benchmarks.result import Result
from benchmarks.scenario import Scenario
from benchmarks.sources import pcap_file, traffic, wire
from benchmarks.sources.traffic import Traffic
from benchmarks.sources.wire import Wire
from benchmarks.subject import Bed, WrongOutput, not_root
from benchmarks.subjects.vnet_gateway import RunningGateway, World, started
from benchmarks.topology import Member, Vnet, write
from gateway.state.delay import Delay, delay_of

REPEATS, REPEATS_QUICK = 5, 3
SETUP_S = 10.0
SOURCES, TARGETS = 256, 1_000
STEADY_FLOWS = 1_000
DELAY_S, DELAY_QUICK_S = 4.0, 1.0
FLOOD_ADDRESSES = 100_000
FLOOD_PER_S = 1_000
FLOOD_S = 2.0
SETTLE_S = 0.3
HELD, OUTSIDE = "first-packet-delay", "first-packet-delay-outside"
PERCENTS = (1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100)
DEFAULTS = Limits(packets_per_vnet=2_048, packets_per_ingress=1_024, misses_per_ingress_s=50_000)
_NUMBERS = count()


class MissPath:
    """Serves "miss-path", "first-packet-delay" and its like from outside and "flood"."""

    name = "miss-path"
    scenarios = ("miss-path", HELD, OUTSIDE, "flood")

    def missing(self) -> str | None:
        return not_root()

    def measure(
        self, scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]
    ) -> Sequence[Result]:
        results: list[Result] = []
        delays = {one.flows: one for one in scenarios if one.name in (HELD, OUTSIDE)}
        for scenario in scenarios:
            if scenario.name == "miss-path":
                progress(f"sets up {scenario.flows} flows, again and again")
                results.append(set_up(scenario, bed))
            elif scenario.name == "flood":
                progress("one tenant floods, another goes on")
                results += flood(scenario, bed)
        if delays:
            results += delay(list(delays.values()), bed, progress)
        return results


# -- set-up, again and again in one life ---------------------------------------------------------


def set_up(scenario: Scenario, bed: Bed) -> Result:
    """Set all flows up, forget them, and again: the directory knows the members from the second time on."""
    world = World(Traffic(scenario.flows, endpoints_there=traffic.ENDPOINTS_KNOWN))
    rates, cpu_rates, lost = [], [], 0
    shares: dict[str, float] = {}
    repeats = REPEATS_QUICK if bed.quick else REPEATS
    with started(world, bed) as running:
        running.setup(SETUP_S)
        for _ in range(repeats):
            lost_before = _lost(running)
            running.forget()
            before = running.gateway.cpu_seconds()
            done = running.setup(SETUP_S)
            after = running.gateway.cpu_seconds()
            if done.flows < scenario.flows * 0.999:
                raise WrongOutput(f"{done.flows} of {scenario.flows} flows were set up in {SETUP_S:.0f} s")
            rates.append(done.flows / done.seconds)
            used = {name: after[name] - before.get(name, 0.0) for name in after}
            cpu_rates.append(done.flows / sum(used.values()))
            for name, cpu_s in used.items():
                shares[name] = shares.get(name, 0.0) + 100.0 * cpu_s / done.seconds / repeats
            lost += _lost(running) - lost_before
    return Result(
        scenario=scenario.name,
        subject="vnet-gateway",
        flows=scenario.flows,
        per_second=round(figures.median(rates)),
        spread=round(figures.spread(rates)),
        per_cpu_second=round(figures.median(cpu_rates)),
        cpu_shares={name: round(share, 1) for name, share in shares.items() if share >= 0.05},
        source=scenario.source,
        repeats=repeats,
        hugepages=bed.hugepages,
        note=f"{round(1000 * scenario.flows / figures.median(rates))} ms until all {scenario.flows} stand; "
        f"{lost // repeats} packets of a source at full speed found no room in the hold meanwhile; "
        f"limits of the tenant: {Limits().words()}",
    )


def _lost(running: RunningGateway) -> int:
    return sum(row["packets"] for row in running.gateway.snapshot()["drops"] if row["vni"] == traffic.VNI)


# -- first packets -------------------------------------------------------------------------------


@contextmanager
def tenants(bed: Bed, limits: Limits, flooding: bool) -> Iterator[tuple[Gateway, Wire, Wire]]:
    """A gateway with steady traffic of tenant blue, and two cables of blue; red floods if it may."""
    number = next(_NUMBERS)
    directory = bed.directory / f"misses-{number}"
    directory.mkdir()
    pid = os.getpid() % 1_000_000
    veths = {f"vb{pid}{side}{number}": f"veth-{side}" for side in ("in", "out")}
    tunnels = {traffic.tunnel_address(0): traffic.tunnel_mac(0)}
    steady = Traffic(STEADY_FLOWS, tunnels=1)
    frames = pcap_file.write(directory / "steady.pcap", traffic.frames(steady))
    ports = {
        "steady": (f"net_pcap0,rx_pcap={directory}/steady.pcap,infinite_rx=1", "inside"),
        "in": ("net_af_packet0,iface=veth-in", "inside"),
        "out": ("net_af_packet1,iface=veth-out", "inside"),
        UNDERLAY: ("net_null0,no-rx=1", "underlay"),
    }
    if flooding:
        frames += _write_flood(directory / "flood.pcap")
        ports["flood"] = (f"net_pcap1,rx_pcap={directory}/flood.pcap,infinite_rx=1", "inside")
    gateway = Gateway(
        *(bed, directory, ports),
        flows=400_000,
        limits=limits,
        packet_buffers=frames,
        neighbours=tunnels,
        veths=veths,
    )
    with gateway:
        gateway.apply(_document(steady, tunnels, flooding))
        gateway.until(lambda: gateway.counters()["flows"] >= STEADY_FLOWS, "steady traffic flows")
        wires = [Wire(name) for name in veths]
        try:
            yield gateway, wires[0], wires[1]
        finally:
            for one in wires:
                one.close()


def _document(steady: Traffic, tunnels: Mapping[str, str], flooding: bool) -> str:
    members = [
        *(
            Member(f"s-{n}", traffic.address_here(4, n), traffic.mac_here(n), "steady")
            for n in range(steady.here)
        ),
        *(
            Member(f"t-{n}", traffic.address_there(4, n), traffic.mac_there(n), 0)
            for n in range(steady.there)
        ),
        *(Member(f"i-{n}", _dotted(0x0A400000 + n), _mac(4, n), "in") for n in range(SOURCES)),
        *(Member(f"o-{n}", _dotted(0x0A500000 + n), _mac(5, n), "out") for n in range(TARGETS)),
    ]
    places = (("steady", 0), ("in", 0), ("out", 0))
    vnets = [Vnet("blue", traffic.VNI, "10.0.0.0/8", places, tuple(members))]
    if flooding:
        red = (Member("flooder", "10.0.0.1", _mac(6, 0), "flood"), Member("far", "10.0.0.2", _mac(6, 1), 0))
        vnets.append(Vnet("red", traffic.VNI + 1, "10.0.0.0/8", (("flood", 0),), red))
    return write(tunnels, vnets)


def _write_flood(path: Path) -> int:
    random = np.random.default_rng(7)
    numbers = np.zeros(FLOOD_ADDRESSES, np.int64)
    targets = random.integers(0x0A010000, 0x0AFF0000, FLOOD_ADDRESSES)
    rows = wire.udp_frames(wire.mac(6, numbers), numbers + 0x0A000001, wire.mac(7, targets & 0xFFFF), targets)
    return pcap_file.write(path, [(np.arange(len(rows)), rows)])


def first_packets(sender: Wire, receiver: Wire, first: int, flows: int, per_s: float) -> np.ndarray:
    """Send the first packets of so many new flows; return how long each took, in microseconds; -1: lost."""
    number = first + np.arange(flows)
    source, target = number // TARGETS % SOURCES, number % TARGETS
    rows = wire.udp_frames(wire.mac(4, source), 0x0A400000 + source, wire.mac(5, target), 0x0A500000 + target)
    sent_ns = sender.send(rows, per_s)
    time.sleep(SETTLE_S)
    received_ns = receiver.received(flows)
    return np.where(received_ns > 0, (received_ns - sent_ns) / 1000, -1.0)


def delay(scenarios: Sequence[Scenario], bed: Bed, progress: Callable[[str], None]) -> list[Result]:
    """First-packet delay at rates of new flows (`flows` of a scenario: new flows a second): for each a row of
    what the hold stamped, and one of the same packets from the sender to the receiver."""
    seconds = DELAY_QUICK_S if bed.quick else DELAY_S
    results: list[Result] = []
    with tenants(bed, Limits(), flooding=False) as (gateway, sender, receiver):
        first_packets(sender, receiver, 0, SOURCES + TARGETS, 2_000)
        used = SOURCES + TARGETS
        for scenario in sorted(scenarios, key=lambda one: one.flows):
            progress(f"{scenario.flows} new flows a second beside steady traffic")
            flows = min(int(scenario.flows * seconds), SOURCES * TARGETS - used)
            before, hold_before, start_s = gateway.cpu_seconds(), gateway.snapshot(), time.monotonic()
            delays = first_packets(sender, receiver, used, flows, scenario.flows)
            after, hold_after = gateway.cpu_seconds(), gateway.snapshot()
            passed_s = time.monotonic() - start_s
            used += flows
            held = delay_of(hold_after).since(delay_of(hold_before))
            sent = f"{flows / (passed_s - SETTLE_S):.0f} new flows a second were sent"
            note = f"{sent}; {held.packets} first packets were stamped"
            results.append(
                _held_result(scenario, bed, held, note=note, cpu_shares=_shares(before, after, passed_s))
            )
            results.append(_outside_result(OUTSIDE, scenario, bed, delays, note=sent))
    return results


def flood(scenario: Scenario, bed: Bed) -> list[Result]:
    """What blue notices while red misses as fast as it can, with the limits that are the default."""
    with tenants(bed, DEFAULTS, flooding=True) as (gateway, sender, receiver):
        first_packets(sender, receiver, 0, SOURCES + TARGETS, FLOOD_PER_S)
        flows = int(FLOOD_PER_S * FLOOD_S)
        before, cpu_before, start_s = gateway.snapshot(), gateway.cpu_seconds(), time.monotonic()
        delays = first_packets(sender, receiver, SOURCES + TARGETS, flows, FLOOD_PER_S)
        after, cpu_after, passed_s = gateway.snapshot(), gateway.cpu_seconds(), time.monotonic() - start_s
        dropped = {vni: _drops(after, vni) - _drops(before, vni) for vni in (traffic.VNI, traffic.VNI + 1)}
        forwarded = after["counters"]["forwarded"] - before["counters"]["forwarded"]
    if dropped[traffic.VNI]:
        raise WrongOutput(f"blue lost {dropped[traffic.VNI]} packets while red flooded")
    return [
        _outside_result(
            scenario.name,
            scenario,
            bed,
            delays,
            note=f"blue: {forwarded / passed_s / 1e6:.2f} million packets/s of established flows, none lost, "
            f"and {FLOOD_PER_S} new flows a second; red: {dropped[traffic.VNI + 1] / passed_s / 1e6:.2f} "
            f"million packets/s to random addresses, all dropped by name; limits: {DEFAULTS.words()}",
            cpu_shares=_shares(cpu_before, cpu_after, passed_s),
        )
    ]


def _drops(snapshot: Mapping[str, Any], vni: int) -> int:
    return sum(row["packets"] for row in snapshot["drops"] if row["vni"] == vni)


def _outside_result(name: str, scenario: Scenario, bed: Bed, delays: np.ndarray, **more: Any) -> Result:
    """A row of delays stamped by the sender and by the kernel at the receiver; -1 is lost."""
    came = delays[delays >= 0]
    if not len(came):
        raise WrongOutput("no first packet came out")
    found = {f"{percent:g}": round(float(np.percentile(came, percent)), 1) for percent in PERCENTS}
    lost = 100.0 * (len(delays) - len(came)) / len(delays)
    return _delay_result(name, scenario, bed, found, lost_percent=round(lost, 4), **more)


def _held_result(scenario: Scenario, bed: Bed, delay: Delay, **more: Any) -> Result:
    """A row of the delays that the hold has stamped itself."""
    found = {f"{percent:g}": delay.percentile_us(percent / 100) for percent in PERCENTS}
    known = {percent: round(value, 1) for percent, value in found.items() if value is not None}
    if not known:
        raise WrongOutput("the hold has released no first packet")
    return _delay_result(HELD, scenario, bed, known, **more)


def _delay_result(name: str, scenario: Scenario, bed: Bed, found: dict[str, float], **more: Any) -> Result:
    return Result(
        scenario=name,
        subject="vnet-gateway",
        flows=scenario.flows,
        p50_us=found["50"],
        p99_us=found["99"],
        p999_us=found["99.9"],
        percentiles_us=found,
        source=scenario.source,
        hugepages=bed.hugepages,
        **more,
    )


def _shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    used = {name: 100.0 * (after[name] - before.get(name, 0.0)) / seconds for name in after}
    return {name: round(share, 1) for name, share in used.items() if share >= 0.05}


def _dotted(address: int) -> str:
    return ".".join(str(octet) for octet in address.to_bytes(4, "big"))


def _mac(kind: int, number: int) -> str:
    return bytes((2, kind, 0, *number.to_bytes(3, "big"))).hex(":")
