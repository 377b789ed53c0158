# SPDX-License-Identifier: Apache-2.0
"""Arguments for DPDK programs of a benchmark: memory, and the ports between which they forward.

The source is a looping pcap port, which every DPDK program can use: `net_pcap` with `infinite_rx` keeps the
file's frames in memory, one buffer a frame, and copies each into a buffer of its own for every receipt. The
sink is a null port that receives nothing. With PORTS= both are NICs and the packets come from a tester."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.subject import Bed

# Data room, headroom, rte_mbuf and the pool's own head take 2368; without hugepages none crosses a page.
BUFFER_BYTES = {True: 2432, False: 4096}
SPARE_BUFFERS = 16_384  # in rings, caches and bursts under way
SINK = "net_null0,no-rx=1"


@dataclass(frozen=True)
class Wiring:
    """`source` and `sink` as device arguments; `virtual` says whether they are vdevs."""

    source: str
    sink: str = SINK
    virtual: bool = True

    def arguments(self) -> list[str]:
        """EAL arguments that make port 0 the source and port 1 the sink."""
        if not self.virtual:
            return ["-a", self.source, "-a", self.sink]
        return ["--no-pci", "--vdev", self.source, "--vdev", self.sink]


def wiring(bed: Bed, frames: Path) -> Wiring:
    """Source and sink on this bed. Raises ValueError if PORTS= names not exactly two."""
    if not bed.ports:
        return Wiring(looping(frames))
    if len(bed.ports) != 2:
        raise ValueError(
            f"PORTS={','.join(bed.ports)}: name two PCI addresses, the port that receives and the one that "
            "sends, as in PORTS=0000:01:00.0,0000:01:00.1"
        )
    return Wiring(bed.ports[0], bed.ports[1], virtual=False)


def looping(frames: Path, number: int = 0) -> str:
    """A port that receives the frames of a file for ever; what is sent to it is dropped."""
    return f"net_pcap{number},rx_pcap={frames},infinite_rx=1"


def buffers(frames: int) -> int:
    """How many packet buffers a program needs for a source of so many frames."""
    return frames + SPARE_BUFFERS


def memory(hugepages: bool, buffer_count: int) -> list[str]:
    """EAL arguments for memory that holds so many buffers, shared with nobody."""
    megabytes = 96 + buffer_count * BUFFER_BYTES[hugepages] // 1_000_000
    if hugepages:
        return ["--in-memory"]
    return ["--no-huge", "--no-shconf", "-m", str(megabytes)]


def lcores(other_cpus: Sequence[int], poll_cpus: Sequence[int]) -> list[str]:
    """EAL arguments: lcore 0 floats over the other processors, lcores 1 and up have one each."""
    places = [f"0@({','.join(map(str, other_cpus))})"]
    places += [f"{number}@{cpu}" for number, cpu in enumerate(poll_cpus, start=1)]
    return ["--lcores", ",".join(places), "--main-lcore", "0"]
