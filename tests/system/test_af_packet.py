# SPDX-License-Identifier: Apache-2.0
"""What a packet socket shows of what was sent: fragments as they are, S-tags as such."""

from __future__ import annotations

import contextlib
import os

import pytest
from data_plane_bed import Wire, make_bed, until  # noqa: F401
from scapy.layers.inet import IP, fragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Raw
from test_data_plane_ports import FAR, RACK, decide, frame, is_vxlan, set_up
from test_port_types import HOST_SIDE, INNER, OUTER, PORT, devices, dropped  # noqa: F401

from fastpath.records import Action

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: veth, AF_PACKET"),
]


@pytest.mark.parametrize("arguments", ["", ",qpairs=2", ",framesz=2048,blocksz=65536,framecnt=256"])
def test_fragments_and_tags_are_shown_as_they_were_sent(
    devices: None,  # noqa: F811
    make_bed,  # noqa: F811
    arguments: str,
) -> None:
    bed = make_bed(
        {
            "rack": (f"net_af_packet0,iface={PORT}{arguments}", "inside"),
            "uplink": (f"net_af_packet1,iface={INNER}", "underlay"),
        }
    )
    bed.start()
    bed.client().close()
    whole = Ether(frame())
    datagram = IP(src=whole[IP].src, dst=whole[IP].dst, proto=17) / Raw(bytes(range(256)) * 12)
    pieces = fragment(datagram, fragsize=1200)
    sent = [bytes(Ether(src=whole.src, dst=whole.dst) / piece) for piece in pieces]
    assert len(sent) == 3
    with (
        contextlib.closing(Wire(HOST_SIDE)) as inside,
        contextlib.closing(Wire(OUTER)) as outside,
        bed.client("slow-path") as slow_path,
    ):
        set_up(bed, slow_path)
        until(lambda: bed.ask(dump="ports")["rows"][0]["up"], "the port is up")
        inside.send(frame())
        decide(slow_path, Action.ENCAPSULATE, FAR, RACK)
        assert outside.receive(is_vxlan) is not None
        for piece in sent:
            inside.send(piece)
        for piece in sent:
            data = outside.receive(is_vxlan)
            assert data is not None
            assert data.endswith(piece[14:])

        macs = Ether(src=whole.src, dst=whole.dst)
        for tags in (Dot1AD(vlan=0), Dot1AD(vlan=7), Dot1AD(vlan=0) / Dot1Q(vlan=0)):
            inside.send(bytes(macs / tags / Raw(frame()[14:])))
        until(lambda: sum(dropped(bed).values()) == 3, "all with an S-tag are counted")
        assert dropped(bed) == {"vlan_nested": 3}
        inside.send(bytes(macs / Dot1Q(vlan=0, type=0x0800) / Raw(frame()[14:])))
        assert outside.receive(is_vxlan) is not None, "of priority alone"
    assert bed.processes[0].poll() is None


@pytest.mark.parametrize(
    ("arguments", "mtu_bytes", "sentence", "fix"),
    [
        (",framesz=1024", 1500, "framesz=1024 does not suit an MTU of 1500 bytes", "from 1616 to 2080"),
        (",framesz=2048", 9000, "framesz=2048 does not suit an MTU of 9000 bytes", "from 9104 to 9120"),
        (",framesz=4096", 1500, "framesz=4096 does not suit an MTU of 1500 bytes", "leave framesz out"),
        (",framesz=2056", 1500, "framesz=2056 does not suit an MTU of 1500 bytes", "a multiple of 16"),
        (",blocksz=5120", 1500, "blocksz=5120 is no multiple of framesz=2048", "as 4096"),
        (",blocksz=6144", 1500, "blocksz=6144 is no multiple of framesz=2048 and of a page", "as 4096"),
        (",framesz=1792,blocksz=4096", 1500, "blocksz=4096 is no multiple of framesz=1792", "as 28672"),
        (",framecnt=511", 1500, "framecnt=511 is no multiple of the 2 frames in a block", "a multiple of 2"),
    ],
)
def test_sizes_of_rings_that_lose_frames_are_refused_by_name(
    devices: None,  # noqa: F811
    make_bed,  # noqa: F811
    arguments: str,
    mtu_bytes: int,
    sentence: str,
    fix: str,
) -> None:
    bed = make_bed(
        {"rack": (f"net_af_packet0,iface={PORT}{arguments}", "inside", f"mtu_bytes = {mtu_bytes}")}
    )
    process = bed.start()
    process.wait(30)
    assert f"port rack: {sentence}" in bed.log()
    assert fix in bed.log().split("fix:")[1]


@pytest.mark.parametrize("arguments", [",framesz=1792", ",blocksz=2097152", ",framesz=2048,framecnt=64"])
def test_other_sizes_of_rings_work(devices: None, make_bed, arguments: str) -> None:  # noqa: F811
    bed = make_bed({"rack": (f"net_af_packet0,iface={PORT}{arguments}", "inside")})
    bed.start()
    until(lambda: bed.ask(dump="ports")["rows"][0]["up"], "the port is up")
