# SPDX-License-Identifier: Apache-2.0
"""Values that no honest peer sends: they cost whoever sent them, and nobody else."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from directory_client.wire import rows as wire
from fastpath import records
from gateway.main import make_places
from gateway.processes import process
from gateway.slow_path.refusals import Refusal, Refusals

GROUP = (1, 0, 1, 1)


def scope(**fields: int) -> np.void:
    row = np.zeros(1, wire.SCOPE)[0]
    row["port_high"] = 65_535
    for name, value in fields.items():
        row[name] = value
    return row


def test_a_refusal_with_an_impossible_prefix_is_not_kept():
    refusals = Refusals()
    for side in ("source_bits", "destination_bits"):
        refusals.add(7, GROUP, Refusal(scope(**{side: 255}), 1, 5, 99.0))
    assert len(refusals) == 0
    assert refusals.match(np.zeros(1, records.MISS), 1.0) is None


def test_a_change_with_an_impossible_prefix_touches_everything():
    refusals = Refusals()
    refusals.add(7, GROUP, Refusal(scope(source_bits=128), 1, 5, 99.0))
    assert len(refusals) == 1
    refusals.change(7, 6, scope(source_bits=255))
    assert len(refusals) == 0
    refusals.add(7, GROUP, Refusal(scope(source_bits=128), 1, 5, 99.0))  # overtaken by that change
    assert len(refusals) == 0


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_what_a_gateway_keeps_is_closed_to_others_and_its_sockets_can_be_reached(
    tmp_path: Path, mask: int
) -> None:
    places = SimpleNamespace(runtime_dir=tmp_path / "run" / "gw1", state_dir=tmp_path / "lib" / "gw1")
    before = os.umask(mask)
    try:
        make_places(places)
        make_places(places)  # both are there
    finally:
        os.umask(before)
    assert places.state_dir.stat().st_mode & 0o777 == 0o750 & ~mask
    assert places.runtime_dir.stat().st_mode & 0o777 == 0o777 & ~mask


def test_a_pid_file_can_be_locked_by_its_owner_only(tmp_path):
    path = process.pid_file(tmp_path, "control")
    path.write_text("")
    path.chmod(0o644)  # of an earlier release
    held = process.claim("control", tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    fcntl.flock(held, fcntl.LOCK_UN)
    os.close(held)
