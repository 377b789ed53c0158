# SPDX-License-Identifier: Apache-2.0
"""VPP: whichever `vpp` binary is there, a process of our own with its files in a directory of the run.

One worker on the poll processor, the main thread beside it on another, hugepages if there are any, only the
plugins that the work takes. Packets come from the looping pcap port and go to the null port, as everybody's,
if VPP's DPDK plugin has these drivers; as VPP builds it, it has no pcap. Then VPP's packet generator repeats
the same file from memory: a source and a sink of its own, whose clocks are read in each sample and stand in
for the floor."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.machine import output_of
from benchmarks.scenario import Scenario
from benchmarks.sources import eal, output, pcap_file, traffic
from benchmarks.sources.feed import Feed, fed
from benchmarks.sources.output import Judge
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed, CannotMeasure, Sample, Setup, not_root
from benchmarks.subjects import vpp_configuration as configuration
from benchmarks.subjects.child import Child
from benchmarks.subjects.vpp_configuration import GENERATED, NAMED, PCAP_MAC, Ports
from benchmarks.subjects.vpp_control import Control, Counters, listens, parse_clocks

USUAL_PLACE = Path("/usr/bin/vpp")
CAPTURED = 2000  # packets looked at
CAPTURED_BYTES = 2048
CAPTURES = Path("/tmp")  # VPP writes captures nowhere else


class Vpp:
    """VXLAN tunnels in a bridge domain with static entries."""

    name = "vpp"

    def missing(self) -> str | None:
        if program() is None:
            return f"there is no vpp binary in PATH nor at {USUAL_PLACE}; Debian has no package of it"
        return not_root()

    def versions(self) -> Mapping[str, str]:
        return {"vpp": version(output_of([str(program()), "--version"]))}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[RunningVpp]:
        if scenario.outer != "ipv4":
            raise CannotMeasure("its tunnels are configured for an IPv4 underlay")
        if scenario.source == "testpmd":
            raise CannotMeasure(
                "its DPDK plugin sets an MTU, which DPDK's memif cannot, and receives nothing then"
            )
        return _started(traffic.of(scenario), scenario.source, bed)


def program() -> Path | None:
    """Where the binary is."""
    found = shutil.which("vpp")
    return Path(found) if found else USUAL_PLACE if USUAL_PLACE.exists() else None


def version(said: str) -> str:
    """The version in "vpp v26.06-release built by …"."""
    words = said.split()
    return words[1] if len(words) > 1 and words[0] == "vpp" else "unknown"


@contextmanager
def _started(sent: Traffic, source: str, bed: Bed) -> Iterator[RunningVpp]:
    with TemporaryDirectory(prefix="vpp-", dir=bed.directory) as name, ExitStack() as stack:
        directory = Path(name)
        file = directory / "source.pcap"
        frames = pcap_file.write(file, _frames(sent, bed))
        feed = stack.enter_context(fed(source, bed, directory, file, frames))
        stack = stack.enter_context(ExitStack())  # of VPP alone: it may be started twice
        try:
            process = stack.enter_context(_process(bed, directory, feed.wiring, frames))
            ports = dpdk_ports(process.control.counters()[0])
        except (RuntimeError, LookupError) as why:
            # No DPDK plugin, or not these drivers in it: the row will say what it was fed by instead.
            if bed.ports or feed.process:
                raise CannotMeasure(f"its DPDK plugin does not take the ports: {why}") from why
            stack.close()
            process = stack.enter_context(_process(bed, directory, None, frames))
            process.control.order(*configuration.generator(file))
            ports = GENERATED
        script = directory / "commands"
        script.write_text("".join(f"{line}\n" for line in configuration.commands(sent, ports)))
        process.control.order(f"exec {script}")
        feed.begin()
        running = RunningVpp(process, feed, sent, ports)
        if not bed.ports:
            process.child.until(running.forwards, "packets are forwarded")
        running.pause()
        yield running


def _frames(sent: Traffic, bed: Bed) -> list[tuple[traffic.Numbers, traffic.Rows]]:
    """The frames; those for the VTEP have the MAC that it has on a pcap port."""
    groups = traffic.frames(sent)
    if sent.direction == "decap" and not bed.ports:
        for _, rows in groups:
            rows[:, 0:6] = np.frombuffer(PCAP_MAC, np.uint8)
    return groups


def dpdk_ports(counters: Counters) -> Ports:
    """Source and sink: those that were given these names, or else the first two interfaces beside VPP's own.
    Raises LookupError if there are none."""
    found = [name for name in counters.received if name != "local0"]
    if NAMED.source in found and NAMED.sink in found:
        return NAMED
    if len(found) < 2:
        raise LookupError(f"no two DPDK ports among its interfaces: {', '.join(found) or 'none'}")
    return Ports(found[0], found[1])


@dataclass(frozen=True)
class _Process:
    child: Child
    control: Control


@contextmanager
def _process(bed: Bed, directory: Path, wiring: eal.Wiring | None, frames: int) -> Iterator[_Process]:
    """A VPP that listens. Raises RuntimeError if it ends before."""
    file = directory / "startup.conf"
    file.write_text(configuration.startup(bed, directory, wiring, frames))
    path = directory / "cli.sock"
    with Child(
        [str(program()), "-c", str(file)],
        directory / "vpp.log",
        [*bed.other_cpus, bed.poll_cpu],
        environment={"RUNTIME_DIRECTORY": str(directory)},
    ) as child:
        child.until(lambda: listens(path), "VPP listens")
        control = Control(path)
        try:
            yield _Process(child, control)
        finally:
            control.close()


class RunningVpp:
    """A VPP that forwards unless stopped."""

    def __init__(self, process: _Process, feed: Feed, sent: Traffic, ports: Ports) -> None:
        self._child, self._control, self._feed = process.child, process.control, feed
        self._sent, self._ports = sent, ports

    def resume(self) -> None:
        self._feed.resume()
        self._child.signal(signal.SIGCONT)

    def pause(self) -> None:
        self._child.signal(signal.SIGSTOP)
        self._feed.pause()

    def forwards(self) -> bool:
        return bool(self._control.counters()[0].sent[self._ports.sink])

    def flows(self) -> int:
        """None: its tables hold destinations, and no packet changes them."""
        return 0

    def sample(self, seconds: float) -> Sample:
        if self._ports.own_nodes:
            self._control.ask("clear runtime")
        before, start_s = self._control.counters()
        time.sleep(seconds)
        after, end_s = self._control.counters()
        floor_cycles = None
        if self._ports.own_nodes:
            floor_cycles = parse_clocks(self._control.ask("show runtime"), self._ports.own_nodes)
        packets = after.sent[self._ports.sink] - before.sent[self._ports.sink]
        return Sample(packets, end_s - start_s, after.lost - before.lost, floor_cycles)

    def setup(self, seconds: float) -> Setup:
        raise LookupError("VPP has no flows to set up; take it out of the scenario's subjects")

    def forget(self) -> None:
        raise LookupError("VPP has no flows to forget; take it out of the scenario's subjects")

    def source_says(self) -> str | None:
        return self._feed.says()

    def verify(self) -> None:
        """Capture what the sink is sent."""
        file = CAPTURES / f"vnet-bench-{self._child.pid}.pcap"
        try:
            self._control.ask(
                f"pcap trace tx max {CAPTURED} max-bytes-per-pkt {CAPTURED_BYTES} "
                f"intfc {self._ports.sink} file {file.name}"
            )
            self._child.until(self._captured, "packets are captured")
            self._control.ask("pcap trace off")
            Judge(self._sent).check(output.first(pcap_file.read(file), CAPTURED), CAPTURED)
        finally:
            file.unlink(missing_ok=True)

    def _captured(self) -> bool:
        return f"{CAPTURED} of {CAPTURED}" in self._control.ask("pcap trace status")
