# SPDX-License-Identifier: Apache-2.0
"""A small world for pipeline tests: two gateways' worth of tables around ours.

Ports: 0 and 1 inside, 2 underlay, 3 both. Red and blue use the same addresses.
"""

from __future__ import annotations

from bench import Bench
from frames import ip, mac

from model_packets import BOTH, INSIDE, UNDERLAY, Key, Location, Port, Tunnel, Vnet

OUR_MAC = mac(0xF2)
BOTH_MAC = mac(0xF3)
LOCAL = "192.0.2.1"
NEAR, FAR, FOREIGN = "192.0.2.2", "198.51.100.3", "203.0.113.4"
NEAR_NODE, FAR_NODE, FOREIGN_NODE = 501, 502, 503
NEAR_MAC, FAR_MAC = mac(0xE1), mac(0xE2)
FOREIGN_VNI = 7777
GATEWAY = mac(0xAA)
A, B, C, D = mac(1), mac(2), mac(3), mac(4)
A_IP, B_IP, C_IP, D_IP = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"


class World:
    """Tables that most tests start from. Locations: a, b here (ports 0, 1), c near, d far, f foreign."""

    def __init__(
        self,
        make_bench,
        *,
        near_mtu: int = 1550,
        dscp: int = 0,
        dscp_copy: bool = False,
        gateway: bytes = GATEWAY,
        gateway_address: str = "10.0.0.254",
        far_vlan: int = 77,
        partial: bool = False,
        underlay_vlans: frozenset[int] | None = None,
        **limits: object,
    ) -> None:
        ports = [
            Port(INSIDE, mac(0xF0), 1500, partial),
            Port(INSIDE, mac(0xF1), 1500),
            Port(UNDERLAY, OUR_MAC, 1600, partial, underlay_vlans),
            Port(BOTH, BOTH_MAC, 1500, False, underlay_vlans),
        ]
        self.bench: Bench = make_bench(ports, **limits)
        bench = self.bench
        self.red = bench.add_vnet(Vnet(100, gateway, ip(gateway_address)))
        self.blue = bench.add_vnet(Vnet(200))
        self.at_a = bench.add_attachment(self.red, 0, 0)
        self.at_b = bench.add_attachment(self.red, 1, 10)
        self.small = bench.add_attachment(self.red, 1, 12, mtu=600)
        self.at_blue = bench.add_attachment(self.blue, 0, 20)
        self.at_both = bench.add_attachment(self.red, 3, 5)
        self.near = bench.add_remote(self.red, NEAR_NODE, ip(LOCAL), ip(NEAR))
        self.far = bench.add_remote(self.red, FAR_NODE, ip(LOCAL), ip(FAR))
        self.foreign = bench.add_remote(
            self.red, FOREIGN_NODE, ip(LOCAL), ip(FOREIGN), wire_id=FOREIGN_VNI, udp_port=8472
        )
        self.blue_near = bench.add_remote(self.blue, NEAR_NODE, ip(LOCAL), ip(NEAR))
        self.to_near = bench.add_tunnel(
            Tunnel(ip(LOCAL), ip(NEAR), 4789, near_mtu, 64, dscp, dscp_copy, (NEAR_MAC, OUR_MAC, 2, 0)),
            NEAR_NODE,
        )
        self.to_far = bench.add_tunnel(
            Tunnel(ip(LOCAL), ip(FAR), 4789, 1500, 3, 46, True, (FAR_MAC, BOTH_MAC, 3, far_vlan)), FAR_NODE
        )
        self.to_foreign = bench.add_tunnel(
            Tunnel(ip(LOCAL), ip(FOREIGN), 8472, 1500, 255, 10, False, None), FOREIGN_NODE
        )
        self.a = bench.add_location(Location(100, self.at_a, A), "a")
        self.b = bench.add_location(Location(100, self.at_b, B), "b")
        self.s = bench.add_location(Location(100, self.small, mac(9)), "s")
        self.c = bench.add_location(Location(100, self.to_near, C, 100, NEAR_NODE), "c")
        self.d = bench.add_location(Location(100, self.to_far, D, 100, FAR_NODE), "d")
        self.f = bench.add_location(Location(100, self.to_foreign, mac(6), FOREIGN_VNI, FOREIGN_NODE), "f")
        self.behind = bench.add_location(Location(100, self.to_near, wire_id=100, node=NEAR_NODE), "behind")
        self.blue_c = bench.add_location(Location(200, self.to_near, mac(0x13), 200, NEAR_NODE), "c")


def key(ingress, source, destination, key_class="bridged", connection=None):
    return Key(ingress, key_class, ip(source), ip(destination), connection)
