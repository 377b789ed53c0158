# SPDX-License-Identifier: Apache-2.0
"""Columns that are copied in one pass are those that numpy copies one by one."""

from __future__ import annotations

import numpy as np
import pytest

from directory_client.wire import rows as wire
from fastpath.columns import Transcript, place_of
from fastpath.records import MISS, RECORD, RecordType, make
from gateway.slow_path.questions import Batch
from gateway.slow_path.tables import Tables


def random_rows(dtype: np.dtype, count: int) -> np.ndarray:
    return np.frombuffer(np.random.default_rng(1).bytes(count * dtype.itemsize), dtype)


def test_a_column_of_a_member_is_found() -> None:
    offset, size = place_of(MISS, "key.destination")
    rows = random_rows(MISS, 1)
    assert rows.tobytes()[offset : offset + size] == rows["key"]["destination"].tobytes()
    with pytest.raises(KeyError):
        place_of(MISS, "key.nothing")


@pytest.mark.parametrize("count", [0, 1, 70])
def test_queries_are_what_numpy_copies(count: int) -> None:
    misses = random_rows(MISS, count)
    keys, wanted = misses["key"], np.zeros(count, wire.QUERY)
    wanted["vni"] = misses["head"]["vni"]
    wanted["key_flags"] = keys["flags"]
    for name in ("key_class", "protocol", "source", "destination"):
        wanted[name] = keys[name]
    for name in (
        "source_port",
        "destination_port",
    ):  # both in wire order; one type says so, the other does not
        wanted[name] = keys[name].byteswap()
    for name in ("ingress_kind", "ingress_object", "current_object"):
        wanted[name] = misses[name]
    assert Batch(misses).queries().tobytes() == wanted.tobytes()


def test_locations_that_are_new_become_records() -> None:
    locations = random_rows(wire.LOCATION, 50).copy()
    locations["object_id"] = np.arange(50) % 40  # ten are named twice
    locations["vni"], locations["way"], locations["revision"] = 7, 0, 9
    told = locations[:40]
    columns = {name: told[name] for name in ("object_id", "target_id", "node_id", "wire_id", "kind", "mac")}
    wanted = make(RecordType.LOCATION_SET, 40, vni=7, revision=9, **columns)
    tables = Tables()
    (records,) = tables.answer(np.zeros(0, wire.TUNNEL), locations, 7)
    assert records.tobytes() == wanted.tobytes()
    assert tables.answer(np.zeros(0, wire.TUNNEL), locations, 7) == []


def test_rows_are_chosen_by_number_and_have_constants() -> None:
    transcript = Transcript(wire.LOCATION, RECORD, {"head.vni": "vni"}, constants={"head.type": 43})
    locations = random_rows(wire.LOCATION, 9)
    found = transcript.rows(locations, np.array([8, 0, 8]))
    assert found["head"]["vni"].tolist() == locations["vni"][[8, 0, 8]].tolist()
    assert found["head"]["type"].tolist() == [43] * 3
    assert not found["head"]["revision"].any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Transcript(wire.LOCATION, RECORD, {"head.vni": "object_id"})
    transcript = Transcript(wire.LOCATION, RECORD, {"head.vni": "vni"})
    with pytest.raises(ValueError, match="rows of 96 bytes"):
        transcript.rows(np.zeros(1, wire.TUNNEL))
    with pytest.raises(ValueError, match="contiguous"):
        transcript.rows(np.zeros(4, wire.LOCATION)[::2])
    for number in (-1, 2):
        with pytest.raises(IndexError):
            transcript.rows(np.zeros(2, wire.LOCATION), np.array([number]))
