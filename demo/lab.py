# SPDX-License-Identifier: Apache-2.0
"""The demo's network: three sites, their hosts and the fabric between them, as network namespaces.

    ams-gw  192.0.2.1 ──┐                       ┌── 203.0.113.7  cph-leaf (the kernel's VXLAN device)
                        ├── fabric (a router) ──┤
    ber-gw  198.51.100.1┘                       └

A gateway's ports are TAPs; their kernel side sits in a bridge with the hosts' cables, as a switch would.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "vd-"
MTU_BYTES = 1500  # of the underlay and of the hosts: what is too big for a tunnel is told by ICMP
LEAF_MTU_BYTES = 1450  # a bridge tells nobody: the hosts of a plain VTEP have to know


@dataclass(frozen=True)
class Host:
    """A member of a V-net: a namespace with one interface, eth0."""

    name: str
    vnet: str
    address: str
    mac: str
    site: str  # the namespace where its cable ends
    port: str  # the gateway's port whose segment it is on
    vlan: int = 0  # 0: untagged
    roams: bool = False  # has a virtual switch of its own, which its cable leaves, as a virtual machine has

    @property
    def namespace(self) -> str:
        return f"{PREFIX}{self.name}"


HOSTS = (
    Host("red-web-1", "red", "10.0.0.11", "02:00:00:00:01:11", "ams-gw", "red"),
    Host("red-web-2", "red", "10.0.0.12", "02:00:00:00:01:12", "ber-gw", "red"),
    Host("red-db-1", "red", "10.0.0.13", "02:00:00:00:01:13", "cph-leaf", "red"),
    Host("red-roam", "red", "10.0.0.14", "02:00:00:00:01:14", "ams-gw", "red", roams=True),
    Host("red-web-5", "red", "10.0.0.15", "02:00:00:00:01:15", "ams-gw", "spare"),
    Host("blue-web-1", "blue", "10.0.0.11", "02:00:00:00:02:11", "ams-gw", "rack", 102),
    Host("blue-web-2", "blue", "10.0.0.12", "02:00:00:00:02:12", "ber-gw", "blue"),
    Host("blue-db-1", "blue", "10.0.0.13", "02:00:00:00:02:13", "cph-leaf", "blue"),
)
FABRIC = Host("fabric", "", "", "", "", "")  # the router between the sites, and a stranger to them
PORTS = {"ams-gw": ("red", "rack", "spare"), "ber-gw": ("red", "blue")}
UNDERLAY = {"ams-gw": "192.0.2", "ber-gw": "198.51.100", "cph-leaf": "203.0.113"}
LEAF_ADDRESS = "203.0.113.7"
LEAF_VNIS = {"red": 7001, "blue": 9002}
GATEWAYS = {"ams-gw": "192.0.2.1", "ber-gw": "198.51.100.1"}


def host(name: str) -> Host:
    return next(found for found in HOSTS if found.name == name)


def sh(command: str, check: bool = True) -> str:
    """Run one command; return what it printed. Raises RuntimeError with its words when it fails."""
    done = subprocess.run(command.split(), capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def inside(namespace: str, command: str, check: bool = True) -> str:
    return sh(f"ip netns exec {PREFIX}{namespace} {command}", check)


def add_namespace(name: str) -> None:
    sh(f"ip netns add {PREFIX}{name}")
    inside(name, "ip link set lo up")
    # Duplicate address detection and router solicitations would only be noise here.
    for key in ("net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"):
        inside(name, f"sysctl -qw {key}", check=False)


def cable(left: tuple[str, str], right: tuple[str, str], mtu_bytes: int) -> None:
    """Connect (namespace, interface) and (namespace, interface)."""
    sh(
        f"ip link add {left[1]} mtu {mtu_bytes} netns {PREFIX}{left[0]} type veth "
        f"peer name {right[1]} mtu {mtu_bytes} netns {PREFIX}{right[0]}"
    )
    for namespace, interface in (left, right):
        inside(namespace, f"ip link set {interface} up")


def build_fabric() -> None:
    add_namespace("fabric")
    inside("fabric", "sysctl -qw net.ipv4.ip_forward=1")
    for site, network in UNDERLAY.items():
        add_namespace(site)
        cable(("fabric", f"to-{site}"), (site, "fabric"), MTU_BYTES)
        inside("fabric", f"ip address add {network}.254/24 dev to-{site}")


def build_gateway(site: str) -> None:
    """TAPs for the gateway's ports, each in a bridge; the uplink's bridge is the cable to the fabric."""
    for port in ("up", *PORTS[site]):
        inside(site, f"ip tuntap add dev tap-{port} mode tap multi_queue")
        inside(site, f"ip link set tap-{port} mtu {MTU_BYTES} up")
        inside(site, f"ip link add br-{port} type bridge mcast_snooping 0")
        inside(site, f"ip link set br-{port} mtu {MTU_BYTES} up")
        if port != "rack":
            inside(site, f"ip link set tap-{port} master br-{port}")
    inside(site, "ip link set fabric master br-up")
    # The bridge stands for a switch: it must not answer for the gateway's addresses, as Linux would.
    for interface in ("br-up", "fabric"):
        inside(site, f"sysctl -qw net.ipv4.conf.{interface}.arp_ignore=8")


def build_leaf() -> None:
    """The foreign VTEP: one VXLAN device a tenant; unknown destinations are flooded to the gateways."""
    site = "cph-leaf"
    inside(site, f"ip address add {LEAF_ADDRESS}/24 dev fabric")
    inside(site, f"ip route add default via {UNDERLAY[site]}.254")
    for vnet, vni in LEAF_VNIS.items():
        inside(site, f"ip link add br-{vnet} type bridge mcast_snooping 0")
        inside(
            site, f"ip link add vx-{vnet} type vxlan id {vni} dstport 4789 local {LEAF_ADDRESS} ageing 300"
        )
        inside(site, f"ip link set vx-{vnet} master br-{vnet} up")
        inside(site, f"ip link set br-{vnet} up")
        for address in GATEWAYS.values():
            inside(site, f"bridge fdb append 00:00:00:00:00:00 dev vx-{vnet} dst {address}")


def plug_host(member: Host, site: str) -> None:
    """Connect the far end of a host's cable (it lies in the site's namespace, named like the host)."""
    inside(site, f"ip link set {member.name} master br-{member.port}")
    inside(site, f"ip link set {member.name} up")


def build_switch(name: str) -> None:
    """A bridge between a host's eth0 and its cable: eth0 keeps its link while the cable moves."""
    inside(name, "ip link add br0 type bridge mcast_snooping 0")
    cable((name, "eth0"), (name, "port0"), MTU_BYTES)
    for interface in ("port0", "uplink"):
        inside(name, f"ip link set {interface} master br0")
    inside(name, "ip link set br0 up")


def build_host(member: Host) -> subprocess.Popen[str] | None:
    """Make a host and its cable. Behind a trunk the cable is a process, which is returned."""
    add_namespace(member.name)
    trunk = None
    if member.vlan:
        command = f"ip netns exec {PREFIX}{member.site} {sys.executable} -m demo.trunk"
        arguments = [*command.split(), f"tap-{member.port}", str(member.vlan), member.name]
        trunk = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert trunk.stdout is not None
        if trunk.stdout.readline() != "ready\n":
            raise RuntimeError(f"the trunk of {member.name} did not start")
        inside(member.site, f"ip link set {member.name} netns {PREFIX}{member.name} name eth0")
        inside(member.name, f"ip link set eth0 mtu {MTU_BYTES} up")
    else:
        mtu_bytes = LEAF_MTU_BYTES if member.site == "cph-leaf" else MTU_BYTES
        cable((member.name, "uplink" if member.roams else "eth0"), (member.site, member.name), mtu_bytes)
        if member.roams:
            build_switch(member.name)
        plug_host(member, member.site)
    inside(member.name, f"ip link set eth0 address {member.mac}")
    inside(member.name, f"ip address add {member.address}/24 dev eth0")
    return trunk


def move_host(member: Host, source: str, target: str) -> None:
    """Pull the cable's far end out of one site and plug it in at another, as a live migration would."""
    inside(source, f"ip link set {member.name} netns {PREFIX}{target}")
    plug_host(member, target)


def build() -> list[subprocess.Popen[str]]:
    """Build all of it. Returns the processes that belong to it (remove() ends them)."""
    build_fabric()
    for site in GATEWAYS:
        build_gateway(site)
    cable(("ams-gw", "mgmt"), ("ber-gw", "mgmt"), MTU_BYTES)
    inside("ams-gw", "ip address add 10.80.0.1/24 dev mgmt")
    inside("ber-gw", "ip address add 10.80.0.2/24 dev mgmt")
    build_leaf()
    return [trunk for trunk in map(build_host, HOSTS) if trunk]


def remove() -> None:
    """Remove every namespace of the demo, whatever state it is in, with what still runs in it."""
    for line in sh("ip netns list", check=False).splitlines():
        name = line.split()[0]
        if not name.startswith(PREFIX):
            continue
        for pid in sh(f"ip netns pids {name}", check=False).split():
            with contextlib.suppress(RuntimeError):
                sh(f"kill -9 {pid}")
        sh(f"ip netns delete {name}", check=False)
