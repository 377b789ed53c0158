# SPDX-License-Identifier: Apache-2.0
"""The demo's network as a test: two whole gateways, the kernel's VXLAN device, two tenants.

The steps are the demo's own; what a busy machine can break (times) is left to `make demo`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from demo import lab, steps
from demo.gateways import DemoError, stop
from demo.report import Report

pytestmark = [
    pytest.mark.system,
    pytest.mark.root,
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces and TAPs need root"),
]


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    lab.remove()
    try:
        report = Report()
        steps.build(report)
        steps.start(report)
        yield
        try:
            stop()
        except DemoError as error:
            pytest.fail(str(error))
    finally:
        lab.remove()


@pytest.mark.parametrize(
    "step",
    [
        steps.ping_all,
        steps.caches,
        steps.isolation,
        steps.move,
        steps.kills,
        steps.kill_data_plane,
    ],
    ids=lambda step: step.__name__,
)
def test_what_the_demo_promises_holds(network: None, step: Callable[[Report], None]) -> None:
    report = Report()
    step(report)
    broken = [f"{line.promise}: {line.figure}" for line in report.lines if not (line.held or line.timed)]
    assert report.lines
    assert not broken
