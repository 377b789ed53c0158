# SPDX-License-Identifier: Apache-2.0
"""All that can be measured, in the order in which it is. A new subject or component is a line here."""

from __future__ import annotations

from benchmarks import directory, programs
from benchmarks.miss_path import MissPath
from benchmarks.quiet import Quiet
from benchmarks.subject import Component, Subject
from benchmarks.subjects.floor import Floor
from benchmarks.subjects.kernel_vxlan import KernelVxlan
from benchmarks.subjects.openvswitch import OpenVSwitch
from benchmarks.subjects.vnet_gateway import VnetGateway
from benchmarks.subjects.vpp import Vpp


def subjects() -> tuple[Subject, ...]:
    """Programs of their own, measured interleaved: ours first, then the floor, then peers."""
    peers = (OpenVSwitch(), OpenVSwitch(per_destination=True), KernelVxlan(), Vpp())
    return (VnetGateway(), Floor(), *peers)


def components() -> tuple[Component, ...]:
    """Benchmarks that hold their own clock."""
    return (
        programs.PIPELINE,
        programs.FLOW_TABLE,
        programs.WRITER_PAUSE,
        directory.Directory(),
        directory.DirectoryScale(),
        MissPath(),
        Quiet(),
    )
