# SPDX-License-Identifier: Apache-2.0
"""The kernel's VXLAN device: veth → bridge → vxlan → ifb, or the way back, in a network namespace.

Packets cannot be given to the kernel by a DPDK port that costs as little as the others' source: dpdk-testpmd
forwards them from the looping pcap port into a veth by AF_PACKET's transmit ring, a system call a burst.
All of it, the injection, the stack and its softirqs, runs on the poll processor, and cycles per packet are
all of these. The floor of the other subjects is therefore not this one's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.machine import output_of
from benchmarks.scenario import Scenario
from benchmarks.sources import eal, output, pcap_file, traffic
from benchmarks.sources.output import Judge
from benchmarks.sources.traffic import VNI, VXLAN_PORT, Traffic
from benchmarks.subject import Bed, CannotMeasure, Sample, Setup, not_root
from benchmarks.subjects import floor
from benchmarks.subjects.child import Child, run

PROGRAMS = {"ip": "iproute2", "bridge": "iproute2", "tcpdump": "tcpdump", floor.PROGRAM: "dpdk-dev"}
INJECT, ENTRY, BRIDGE, TUNNEL, SINK = "inject", "entry", "bridge", "tunnel", "sink"
MTU = 9000
CAPTURED = 500
# No packets but those measured, and no firewall hooks in the bridge: none of the others has any.
QUIET = """echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
for hook in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $hook ] || echo 0 >$hook; done"""
_NUMBERS = count()


class KernelVxlan:
    """The kernel as a bridge that forwards by static entries; it keeps no flows."""

    name = "kernel-vxlan"

    def missing(self) -> str | None:
        for program, package in PROGRAMS.items():
            if not shutil.which(program):
                return f"{program} is not installed; apt install {package}"
        if why := not_root():
            return why
        for kind in ("vxlan id 1 dstport 4789", "veth", "bridge", "ifb"):
            try:
                run(["unshare", "--net", "ip", "link", "add", "probe", "type", *kind.split()])
            except RuntimeError as why:
                return f"this kernel makes no {kind.split()[0]} device ({why}); load its module"
        return None

    def versions(self) -> Mapping[str, str]:
        return {"kernel": output_of(["uname", "-r"])}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[RunningKernel]:
        if bed.ports:
            raise CannotMeasure("the kernel is measured between virtual devices only, not with PORTS=")
        if scenario.outer != "ipv4":
            raise CannotMeasure("its tunnels here have an IPv4 underlay")
        if scenario.vlan:
            raise CannotMeasure("its bridge here knows no VLANs: the members' port is untagged")
        if scenario.hops > 1:
            raise CannotMeasure("its tunnels' far ends are on the link here")
        return _started(traffic.of(scenario), bed)


def links(sent: Traffic) -> Iterator[str]:
    """Lines of `ip -batch` that make the devices.

    An ifb is the sink: it counts and frees what is sent to it other than by redirection. A dummy would do
    the same, but not every kernel has it."""
    local = traffic.LOCAL_ADDRESS
    underlay, member = (SINK, ENTRY) if sent.direction == "encap" else (ENTRY, SINK)
    mac = f"address {traffic.UNDERLAY_MAC.hex(':')}"
    entry_mac, sink_mac = ("", mac) if underlay == SINK else (mac, "")
    yield f"link add {INJECT} mtu {MTU} type veth peer name {ENTRY} mtu {MTU} {entry_mac}"
    yield f"link add {SINK} mtu {MTU} {sink_mac} type ifb"
    yield f"link add {BRIDGE} type bridge stp_state 0 mcast_snooping 0"
    vxlan = f"vxlan id {VNI} dstport {VXLAN_PORT} local {local} nolearning noudpcsum"
    yield f"link add {TUNNEL} mtu {MTU - traffic.OUTER_BYTES} type {vxlan}"
    yield f"address add {local}/{traffic.UNDERLAY_BITS} dev {underlay}"
    for port in (member, TUNNEL):
        yield f"link set {port} master {BRIDGE}"
        yield f"link set {port} type bridge_slave learning off"
    yield f"link set {SINK} arp on"
    for device in (SINK, ENTRY, INJECT, TUNNEL, BRIDGE):
        yield f"link set {device} up"
    for address, mac in traffic.neighbours(sent).items():
        yield f"neighbour add {address} lladdr {mac} dev {underlay} nud permanent"


def forwarding(sent: Traffic) -> Iterator[str]:
    """Lines of `bridge -batch`: where each destination is."""
    if sent.direction == "encap":
        for number in range(sent.there):
            mac, remote = traffic.mac_there(number), traffic.tunnel_address(number % sent.tunnels)
            yield f"fdb add {mac} dev {TUNNEL} dst {remote} self static"
            yield f"fdb add {mac} dev {TUNNEL} master static"
    else:
        for number in range(sent.here):
            yield f"fdb add {traffic.mac_here(number)} dev {SINK} master static"


@contextmanager
def _namespace(name: str, sent: Traffic) -> Iterator[None]:
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "netns", "exec", name, "sh", "-c", QUIET])
        run(["ip", "-n", name, "-batch", "-"], text="".join(f"{line}\n" for line in links(sent)))
        run(["bridge", "-n", name, "-batch", "-"], text="".join(f"{line}\n" for line in forwarding(sent)))
        yield
    finally:
        run(["ip", "netns", "delete", name])


@contextmanager
def _started(sent: Traffic, bed: Bed) -> Iterator[RunningKernel]:
    with TemporaryDirectory(prefix="kernel-", dir=bed.directory) as name:
        directory = Path(name)
        namespace = f"vnet-bench-kernel-{os.getpid()}-{next(_NUMBERS)}"
        file = directory / "source.pcap"
        frames = pcap_file.write(file, traffic.frames(sent))
        wiring = eal.Wiring(eal.looping(file), f"net_af_packet0,iface={INJECT},qdisc_bypass=1")
        with (
            _namespace(namespace, sent),
            Child(
                floor.command(bed, wiring, frames),
                directory / "testpmd.log",
                [*bed.other_cpus, bed.poll_cpu],
                environment={"RUNTIME_DIRECTORY": name},
                namespace=namespace,
            ) as child,
        ):
            running = RunningKernel(child, sent, bed, namespace, directory)
            child.until(running.forwards, f"packets leave by {SINK}")
            running.pause()
            yield running


class RunningKernel:
    """A stack that forwards what a testpmd injects; stopped by stopping that."""

    def __init__(self, child: Child, sent: Traffic, bed: Bed, namespace: str, directory: Path) -> None:
        self._child, self._sent, self._bed = child, sent, bed
        self._namespace, self._directory = namespace, directory

    def forwards(self) -> bool:
        return bool(self._devices()[0])

    def resume(self) -> None:
        self._child.signal(signal.SIGCONT)

    def pause(self) -> None:
        self._child.signal(signal.SIGSTOP)

    def sample(self, seconds: float) -> Sample:
        (passed_before, lost_before), start_s = self._devices(), time.monotonic()
        time.sleep(seconds)
        (passed, lost), end_s = self._devices(), time.monotonic()
        return Sample(passed - passed_before, end_s - start_s, lost - lost_before)

    def flows(self) -> int:
        return 0

    def setup(self, seconds: float) -> Setup:
        raise LookupError("the kernel keeps no flows; take it out of the scenario's subjects")

    def forget(self) -> None:
        raise LookupError("the kernel keeps no flows; take it out of the scenario's subjects")

    def source_says(self) -> str | None:
        return None

    def verify(self) -> None:
        file = self._directory / "output.pcap"
        command = ["tcpdump", "-i", SINK, "-c", str(CAPTURED), "-w", str(file), "-s", "2000", "-n", "udp"]
        log = self._directory / "tcpdump.log"
        with Child(command, log, self._bed.other_cpus, namespace=self._namespace) as capture:
            self._child.until(lambda: capture.process.poll() is not None, f"{CAPTURED} packets are captured")
        Judge(self._sent).check(output.first(pcap_file.read(file), CAPTURED), CAPTURED)

    def _devices(self) -> tuple[int, int]:
        return parse_devices(Path(f"/proc/{self._child.pid}/net/dev").read_text())


def parse_devices(text: str) -> tuple[int, int]:
    """Of /proc/net/dev: packets that reached the sink, which are "received" by an ifb; packets in error or
    dropped by all other devices."""
    passed, lost = 0, 0
    for name, numbers in re.findall(r"^\s*(\S+):\s*(.+)$", text, re.MULTILINE):
        columns = [int(number) for number in numbers.split()]
        if name == SINK:
            passed = columns[1]
        else:
            lost += columns[2] + columns[3] + columns[10] + columns[11]
    return passed, lost
