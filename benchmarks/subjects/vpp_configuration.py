# SPDX-License-Identifier: Apache-2.0
"""How VPP is started and configured to do for a scenario's traffic what our gateway does.

Members are in a bridge domain with a VXLAN tunnel for each VTEP, all MACs in it as static entries: the inner
frame has to arrive as it was sent, so it is bridged, not routed. What a bridge domain does beyond that is
off: learning, flooding, ageing. Where the members' port is shared by VLAN, a sub-interface stands in the
bridge domain for it, which takes the tag off and puts it on. The underlay's neighbours are static, and VXLAN
packets for this VTEP leave the IP path early (vxlan-bypass). There is no ACL: any member may send to any.

Packets come from DPDK ports like everybody's if VPP's DPDK plugin has the drivers. If not, VPP's packet
generator repeats the same file from memory and drops what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sources import eal, traffic
from benchmarks.sources.traffic import Traffic
from benchmarks.subject import Bed

BRIDGE = 1
PCAP_MAC = bytes.fromhex("027063617000")  # what DPDK gives its first pcap port; it cannot be changed
GENERATOR_BUFFERS = 16_384
FOR_EVER = 10**15  # packets; 0 would be once each
SPLIT_HORIZON = 1  # of tunnels: what came by one leaves by none


@dataclass(frozen=True)
class Ports:
    """Names of the interfaces by which packets come and go, and of the graph's nodes that are source and sink
    if those are VPP's own."""

    source: str
    sink: str
    own_nodes: tuple[str, ...] = ()


NAMED = Ports("source", "sink")  # NICs
GENERATED = Ports("pg0", "pg1", ("pg-input", "pg1-tx"))


def startup(bed: Bed, directory: Path, wiring: eal.Wiring | None, frames: int) -> str:
    """The start-up configuration: one worker on the poll processor, the main thread beside it.

    `wiring` are the DPDK ports, None for the packet generator."""
    buffers = eal.buffers(frames) if wiring else GENERATOR_BUFFERS
    page = "default-hugepage" if bed.hugepages else "default"
    sections = [
        f"unix {{ nodaemon nosyslog cli-listen {directory}/cli.sock runtime-dir {directory} }}",
        f"api-segment {{ prefix {directory.name} }}",
        f"statseg {{ socket-name {directory}/stats.sock }}",
        f"cpu {{ main-core {bed.other_cpus[0]} corelist-workers {bed.poll_cpu} }}",
        f"memory {{ main-heap-size 256M main-heap-page-size {page} }}",
        f"buffers {{ buffers-per-numa {buffers} page-size {page} }}",
        "plugins { plugin default { disable } plugin vxlan_plugin.so { enable } "
        f"plugin dpdk_plugin.so {{ {'enable' if wiring else 'disable'} }} }}",
    ]
    if wiring:
        sections.append(f"dpdk {{ {' '.join(_dpdk(bed, wiring))} }}")
    return "\n".join(sections) + "\n"


def _dpdk(bed: Bed, wiring: eal.Wiring) -> Iterator[str]:
    yield from ("no-multi-seg", "no-tx-checksum-offload")
    if not bed.hugepages:
        yield "no-hugetlb"
    if wiring.virtual:
        yield from ("no-pci", f"vdev {wiring.source}", f"vdev {wiring.sink}")
        return
    yield from (
        f"dev {wiring.source} {{ name {NAMED.source} }}",
        f"dev {wiring.sink} {{ name {NAMED.sink} }}",
    )


def generator(file: Path) -> Iterator[str]:
    """Commands that make a source and a sink of VPP's own: the file, over and over, in whole vectors."""
    for name in (GENERATED.source, GENERATED.sink):
        yield f"create packet-generator interface {name} hw-addr {PCAP_MAC.hex(':')}"
    yield (
        f"packet-generator new {{ name source source {GENERATED.source} worker 0 limit {FOR_EVER} "
        f"pcap {file} }}"
    )


def commands(sent: Traffic, ports: Ports) -> Iterator[str]:
    """Commands of the CLI that make it forward."""
    encap = sent.direction == "encap"
    member, underlay = (ports.source, ports.sink) if encap else (ports.sink, ports.source)
    local = traffic.LOCAL_ADDRESS
    yield f"create bridge-domain {BRIDGE} learn 0 flood 0 uu-flood 0 arp-term 0"
    if sent.vlan:
        yield f"create sub-interfaces {member} {sent.vlan}"
        member = f"{member}.{sent.vlan}"
    yield f"set interface l2 bridge {member} {BRIDGE}"
    if sent.vlan:
        yield f"set interface l2 tag-rewrite {member} pop 1"
        yield f"set interface state {member} up"
    if ports == NAMED:
        yield f"set interface mac address {underlay} {traffic.UNDERLAY_MAC.hex(':')}"
    yield f"set interface ip address {underlay} {local}/{traffic.UNDERLAY_BITS}"
    yield f"set interface ip vxlan-bypass {underlay}"
    for address, mac in traffic.neighbours(sent).items():
        yield f"set ip neighbor static {underlay} {address} {mac}"
    if sent.hops > 1:
        for number in range(sent.hops):  # each adds a path to the same route
            yield f"ip route add {traffic.TUNNELS_PREFIX} via {traffic.hop_address(number)} {underlay}"
    for number in range(sent.tunnels):
        remote = traffic.tunnel_address(number)
        yield f"create vxlan tunnel src {local} dst {remote} vni {traffic.VNI} instance {number}"
        yield f"set interface l2 bridge {_tunnel(number)} {BRIDGE} {SPLIT_HORIZON}"
    for number in range(sent.there):
        yield f"l2fib add {traffic.mac_there(number)} {BRIDGE} {_tunnel(number % sent.tunnels)} static"
    for number in range(sent.here):
        yield f"l2fib add {traffic.mac_here(number)} {BRIDGE} {member} static"
    for name in (ports.sink, ports.source):
        yield f"set interface state {name} up"
    if ports == GENERATED:
        yield "packet-generator enable-stream source"


def _tunnel(number: int) -> str:
    return f"vxlan_tunnel{number}"
