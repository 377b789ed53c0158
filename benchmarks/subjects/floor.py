# SPDX-License-Identifier: Apache-2.0
"""The floor: dpdk-testpmd moves packets from the source to the sink and looks at none of them."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import output_of
from benchmarks.scenario import Scenario
from benchmarks.sources import eal, pcap_file, traffic
from benchmarks.sources.feed import Feed, fed
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed, Sample, Setup, WrongOutput
from benchmarks.subjects.child import Child
from benchmarks.subjects.telemetry import Telemetry, listens, path_of

PROGRAM = "dpdk-testpmd"
PREFIX = "floor"
SOURCE, SINK = 0, 1


class Floor:
    """dpdk-testpmd in mode io, one forwarding core."""

    name = "floor"

    def missing(self) -> str | None:
        if shutil.which(PROGRAM):
            return None
        return f"{PROGRAM} is not installed; apt install dpdk-dev"

    def versions(self) -> Mapping[str, str]:
        return {PROGRAM: output_of(["dpkg-query", "-W", "-f=${Version}", "dpdk-dev"]) or "unpackaged"}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[RunningFloor]:
        return _started(traffic.of(scenario), scenario.source, bed)


def command(bed: Bed, wiring: eal.Wiring, frames: int) -> list[str]:
    """testpmd's command line: EAL's part, then its own."""
    count = eal.buffers(frames)
    return [
        PROGRAM,
        *eal.lcores(bed.other_cpus, [bed.poll_cpu]),
        *eal.memory(bed.hugepages, count),
        f"--file-prefix={PREFIX}",
        *wiring.arguments(),
        "--",
        "--forward-mode=io",
        "--nb-cores=1",
        "--no-lsc-interrupt",
        f"--total-num-mbufs={count}",
    ]


@contextmanager
def _started(sent: Traffic, source: str, bed: Bed) -> Iterator[RunningFloor]:
    with TemporaryDirectory(prefix="floor-", dir=bed.directory) as name:
        directory = Path(name)
        groups = traffic.frames(sent)
        file = directory / "source.pcap"
        frames = pcap_file.write(file, groups)
        mean_bytes = sum(rows.size for _, rows in groups) / frames
        with (
            fed(source, bed, directory, file, frames) as feed,
            Child(
                command(bed, feed.wiring, frames),
                directory / "testpmd.log",
                [*bed.other_cpus, bed.poll_cpu],
                environment={"RUNTIME_DIRECTORY": name},
            ) as child,
        ):
            socket = path_of(directory, PREFIX)
            child.until(lambda: listens(socket), "testpmd listens for telemetry")
            telemetry = Telemetry(socket)
            feed.begin()
            child.until(lambda: _forwards(telemetry, bed), "testpmd forwards")
            running = RunningFloor(child, feed, telemetry, mean_bytes)
            running.pause()
            yield running
            telemetry.close()


def _forwards(telemetry: Telemetry, bed: Bed) -> bool:
    if len(telemetry.ask("/ethdev/list")) != 2:
        return False
    return bool(bed.ports or telemetry.statistics(SINK)[0]["opackets"])


class RunningFloor:
    """A testpmd that forwards unless stopped."""

    def __init__(self, child: Child, feed: Feed, telemetry: Telemetry, mean_bytes: float) -> None:
        self._child, self._feed, self._telemetry, self._mean_bytes = child, feed, telemetry, mean_bytes

    def resume(self) -> None:
        self._feed.resume()
        self._child.signal(signal.SIGCONT)

    def pause(self) -> None:
        self._child.signal(signal.SIGSTOP)
        self._feed.pause()

    def sample(self, seconds: float) -> Sample:
        before, start_s = self._telemetry.statistics(SINK)
        time.sleep(seconds)
        after, end_s = self._telemetry.statistics(SINK)
        return Sample(
            after["opackets"] - before["opackets"], end_s - start_s, after["oerrors"] - before["oerrors"]
        )

    def flows(self) -> int:
        return 0

    def setup(self, seconds: float) -> Setup:
        raise LookupError("the floor has no flows to set up; take it out of the scenario's subjects")

    def forget(self) -> None:
        raise LookupError("the floor has no flows to forget; take it out of the scenario's subjects")

    def source_says(self) -> str | None:
        return self._feed.says()

    def verify(self) -> None:
        """It does nothing to packets: those received have the mean length of those of the source."""
        counters, _ = self._telemetry.statistics(SOURCE)
        mean_bytes = counters["ibytes"] / max(counters["ipackets"], 1)
        if abs(mean_bytes - self._mean_bytes) > 0.01 * self._mean_bytes:
            raise WrongOutput(f"floor: {mean_bytes:.1f} bytes a packet received, sent {self._mean_bytes:.1f}")
