# SPDX-License-Identifier: Apache-2.0
"""Two slow-path workers: each serves its V-nets, and each may die without the other noticing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from gateway_lab import DOCUMENT, RULE, Lab, Stream, running, streaming, until

from fastpath.rings import RingClient

pytestmark = [
    pytest.mark.root,
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: TAP ports"),
]
SERVING, OTHER = "slow-path-1", "slow-path-0"  # V-net 7001 belongs to worker 7001 % 2


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running(tmp_path_factory.mktemp("lab"), "[threads]\nslow_path_workers = 2\n") as made:
        yield made


@pytest.fixture
def stream(lab: Lab) -> Iterator[Stream]:
    with streaming(lab) as made:
        yield made


def installed(lab: Lab) -> dict[str, int]:
    """Return how many records each worker has given to the data plane."""
    with RingClient(lab.run_dir / "dataplane.sock", "observer") as client:
        rows = client.ask({"dump": "clients"})["rows"]
    return {row["client"]: row["records_in"] for row in rows if row["client"].startswith("slow-path")}


def test_worker_of_a_v_net_answers_for_it_and_no_other(lab: Lab, stream: Stream) -> None:
    before = installed(lab)
    other = lab.kill(OTHER, signal.SIGSTOP)
    try:
        lab.operator.call("apply", text=DOCUMENT, name="lab.toml", user="lab", wait_ms=0)
        lab.apply(DOCUMENT + RULE)
        stream.flowing()
        until(lambda: installed(lab)[SERVING] > before[SERVING], "its worker installs")
    finally:
        os.kill(other, signal.SIGCONT)


def test_change_counts_as_applied_once_both_workers_have_it(lab: Lab, stream: Stream) -> None:
    closed = lab.operator.call("apply", text=DOCUMENT, name="lab.toml", user="lab")
    assert [(row["node"], row["state"]) for row in closed["gateways"]] == [("lab", "applied")]
    until(lambda: any(flow["action"] == "drop" for flow in lab.flows()), "the stream is refused")
    lab.apply(DOCUMENT + RULE)
    stream.flowing()


def test_end_of_the_other_worker_keeps_nobody_from_being_served(lab: Lab, stream: Stream) -> None:
    before = lab.kill(OTHER)
    lab.operator.call("apply", text=DOCUMENT, name="lab.toml", user="lab")
    lab.apply(DOCUMENT + RULE)
    stream.flowing()
    until(lambda: lab.pid(OTHER) not in (0, before), "the other worker lives again")


def test_worker_that_comes_back_serves_its_v_net(lab: Lab, stream: Stream) -> None:
    before = lab.kill(SERVING)
    until(lambda: lab.pid(SERVING) not in (0, before), "the worker lives again")
    lab.operator.call("apply", text=DOCUMENT, name="lab.toml", user="lab")
    lab.apply(DOCUMENT + RULE)
    stream.flowing()
    assert installed(lab)[SERVING] > 0
