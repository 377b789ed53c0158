# SPDX-License-Identifier: Apache-2.0
"""Where a subject's packets come from, by a scenario's `source`.

    pcap     a looping pcap port within the subject's own process (`eal.looping`)
    testpmd  dpdk-testpmd in a process of its own: it sends the same looping file over memif
    pktgen   Pktgen-DPDK in a process of its own, told over its Lua socket to send the same file over virtio

A source process polls on the other processors, beside the subject's handlers: with two processors it has one
to share, so throughput is what both together reach. Pktgen insists on setting its port's MTU: memif of DPDK
22.11 cannot, a virtio port can, and vhost in the subject's process reads from that. With PORTS= packets come
from a tester."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sources import eal
from benchmarks.sources.pktgen import Pktgen
from benchmarks.subject import Bed, CannotMeasure
from benchmarks.subjects.child import Child

TESTPMD = "dpdk-testpmd"
PKTGEN = "pktgen"
WHOLE_SECONDS_S = 2.5


@dataclass(frozen=True)
class Feed:
    """`wiring` are the subject's ports; `process` the source, if it has one of its own."""

    wiring: eal.Wiring
    process: Child | None = None
    pktgen: Pktgen | None = None

    def begin(self) -> None:
        """Let packets come, now that the subject's ports are there: what a source over virtio waits for."""
        if self.pktgen and self.process:
            self.pktgen.connect(self.process)
            self.pktgen.start()

    def says(self) -> str | None:
        """What Pktgen says that it sends: it counts by the second, and was stopped before."""
        if not self.pktgen:
            return None
        time.sleep(WHOLE_SECONDS_S)
        found = self.pktgen.statistics()
        sent, unsent = found["rate.pkts_tx"] / 1e6, found["tx_failed"]
        return f"Pktgen says that it sends {sent:.2f} million packets/s; {unsent:.0f} could not be sent"

    def resume(self) -> None:
        if self.process:
            self.process.signal(signal.SIGCONT)

    def pause(self) -> None:
        if self.process:
            self.process.signal(signal.SIGSTOP)


def memif(socket: Path, role: str) -> str:
    """A memif port of 1024 descriptors. The source is the server, since a client without one does not start.
    A server refuses clients with more queues than it has, one here: Open vSwitch, which always has two."""
    return f"net_memif0,role={role},id=0,socket={socket},socket-abstract=no,bsize=2048,rsize=10"


def virtio(socket: Path) -> str:
    """A source's virtio port of 1024 descriptors: its process goes on once somebody has connected."""
    return f"net_virtio_user0,path={socket},server=1,queue_size=1024"


def vhost(socket: Path) -> str:
    """A subject's port, which connects to `virtio`."""
    return f"net_vhost0,iface={socket},client=1"


def testpmd_command(bed: Bed, file: Path, frames: int, socket: Path) -> list[str]:
    """testpmd from the looping file to a memif port."""
    count = eal.buffers(frames)
    return [
        TESTPMD,
        *eal.lcores(bed.other_cpus, bed.other_cpus[-1:]),
        *eal.memory(False, count),  # memif shares memory of its own making
        "--file-prefix=source",
        *eal.Wiring(eal.looping(file), memif(socket, "server")).arguments(),
        "--",
        "--forward-mode=io",
        "--nb-cores=1",
        "--no-lsc-interrupt",
        f"--total-num-mbufs={count}",
    ]


@contextmanager
def fed(source: str, bed: Bed, directory: Path, file: Path, frames: int) -> Iterator[Feed]:
    """Start the source if it is a process. Raises CannotMeasure if its program is not there."""
    if bed.ports or source not in ("testpmd", "pktgen"):
        yield Feed(eal.wiring(bed, file))
        return
    program = TESTPMD if source == "testpmd" else PKTGEN
    if not shutil.which(program):
        remedy = (
            "apt install dpdk-dev" if source == "testpmd" else "build Pktgen-DPDK 23.06, put it into PATH"
        )
        raise CannotMeasure(f"source {program} is not installed; {remedy}")
    environment = {"RUNTIME_DIRECTORY": str(directory)}
    if source == "testpmd":
        socket = directory / "memif.sock"
        command = testpmd_command(bed, file, frames, socket)
        with Child(command, directory / "source.log", bed.other_cpus, environment=environment) as child:
            child.until(socket.exists, "testpmd offers its memif socket")
            yield Feed(eal.Wiring(memif(socket, "client")), child)
        return
    socket = directory / "virtio.sock"
    pktgen = Pktgen(bed, directory, file, virtio(socket))
    with Child(
        pktgen.command(), directory / "source.log", bed.other_cpus, environment=environment, terminal=True
    ) as child:
        child.until(socket.exists, "Pktgen offers its virtio socket")
        yield Feed(eal.Wiring(vhost(socket)), child, pktgen)
        pktgen.close()
