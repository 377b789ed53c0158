# SPDX-License-Identifier: Apache-2.0
"""In which VLANs tunnel packets may come: what control says; until it has, what adopted next hops say."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest
from data_plane_bed import Bed, Wire, make_bed, until  # noqa: F401
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from test_data_plane_ports import HOST, NODE, PEER, SERVER, decide, frame, is_inner, set_up
from test_port_types import HOST_SIDE, INNER, OUTER, PORT, RED, devices, dropped  # noqa: F401

from fastpath.records import Action

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: veth, AF_PACKET"),
]


def tunneled(bed: Bed, vlan: int | None) -> bytes:
    head = Ether(src="02:00:00:00:00:99", dst=bed.ask(dump="ports")["rows"][1]["mac"])
    tag = head if vlan is None else head / Dot1Q(vlan=vlan, type=0x0800)
    outer = IP(src="192.0.2.2", dst="192.0.2.1", id=0) / UDP(sport=50000, dport=4789)
    return bytes(tag / outer / VXLAN(vni=RED) / frame(PEER, HOST))


def refused(bed: Bed) -> int:
    return dropped(bed).get("underlay_vlan", 0)


def test_tunnel_packets_come_in_vlans_that_control_names_or_next_hops_were_adopted_for(
    devices: None,  # noqa: F811
    make_bed,  # noqa: F811
) -> None:
    ports = {
        "rack": (f"net_af_packet0,iface={PORT}", "inside"),
        "uplink": (f"net_af_packet1,iface={INNER}", "underlay"),
    }
    bed = make_bed(ports)
    bed.start()
    with (
        contextlib.closing(Wire(HOST_SIDE)) as inside,
        contextlib.closing(Wire(OUTER)) as outside,
        bed.client("slow-path") as slow_path,
    ):
        set_up(bed, slow_path)
        question = {"underlay_vlans": "uplink", "vlans": [20]}
        assert "only control" in bed.ask(**question)["error"]
        outside.send(tunneled(bed, 78))
        decide(slow_path, Action.DELIVER, SERVER, NODE)
        assert inside.receive(is_inner) is not None, "nobody has said anything yet"

        with bed.client("control") as control:
            assert control.ask({"underlay_vlans": "uplink", "vlans": [4096]}).get("ok") is not True
            assert control.ask({"underlay_vlans": "rock", "vlans": [20]}).get("ok") is not True
            assert control.ask(question)["ok"] is True
        outside.send(tunneled(bed, 20))
        assert inside.receive(is_inner) is not None
        for vlan in (None, 78):
            outside.send(tunneled(bed, vlan))
        until(lambda: refused(bed) == 2, "other VLANs are refused")

        bed.processes[0].send_signal(signal.SIGKILL)
        bed.processes[0].wait()
        bed.start()
        until(lambda: bed.ask(dump="counters")["adoption"]["adopted"], "the tables are adopted")
        outside.send(tunneled(bed, None))
        assert inside.receive(is_inner) is not None, "its next hop is untagged"
        outside.send(tunneled(bed, 20))
        until(lambda: refused(bed) == 1, "control has not said so yet")
