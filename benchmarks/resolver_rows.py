# SPDX-License-Identifier: Apache-2.0
"""What a miss costs the resolver alone, by size of batch: no sockets, no rings, answers made beforehand.

    python -m benchmarks.resolver_rows

Misses of random pairs, 10 000 destinations, each allowed; nanoseconds for a row in each of four steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from directory_client.events import Resolved
from directory_client.wire import rows as wire
from fastpath.records import RECORD, Action, IngressKind, KeyClass, RecordType, join, make
from gateway.slow_path.resolver import Resolver

ROWS, DESTINATIONS, VNI = 200_000, 10_000, 100
BATCHES = (1, 16, 64, 256, 1_024, 2_048)
STEPS = ("records", "queries", "answered", "join")


def main() -> None:
    print("batch  " + "".join(f"{step:>10}" for step in STEPS) + "       sum  ns/row")
    for batch in BATCHES:
        spent = measure(batch, min(ROWS, batch * 1_000))
        print(f"{batch:5}  " + "".join(f"{spent[s]:10.0f}" for s in STEPS) + f"{sum(spent.values()):10.0f}")


def measure(batch: int, total: int) -> dict[str, float]:
    """Return nanoseconds a row for each step."""
    resolver = Resolver(0, 1, 1.0)
    resolver.state(True)
    spent = dict.fromkeys(STEPS, 0.0)
    random = np.random.default_rng(1)
    pairs = random.permutation(ROWS)[:total]
    rows = misses(pairs).view(RECORD).reshape(-1)
    locations = np.zeros(DESTINATIONS, wire.LOCATION)
    locations["vni"], locations["kind"], locations["revision"] = VNI, 2, 5
    locations["object_id"] = np.arange(1, DESTINATIONS + 1)
    nothing = np.zeros(0, wire.TUNNEL), np.zeros(0, wire.SCOPE)

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start_ns = time.perf_counter_ns()
        yield
        spent[step] += (time.perf_counter_ns() - start_ns) / total

    for at in range(0, total, batch):
        with timed("records"):
            resolver.records(rows[at : at + batch].copy(), 1.0)
            asked = resolver.take_questions(1.0)
        with timed("queries"):
            asked[0].queries().tobytes()
        resolver.asked(at + 1, asked[0], 1.0)
        used, which = np.unique(pairs[at : at + batch] % DESTINATIONS, return_inverse=True)
        answer = Resolved(at + 1, 0, 5, decisions(which), locations[used], *nothing, [])
        with timed("answered"):
            resolver.answered(answer, 1.0)
        with timed("join"):
            join(resolver.take_records())
    return spent


def misses(pairs: np.ndarray) -> np.ndarray:
    rows: np.ndarray = make(
        RecordType.MISS,
        len(pairs),
        vni=VNI,
        token=pairs + 1,
        ingress_object=77,
        ingress_kind=IngressKind.ATTACHMENT,
    )
    key = rows["key"]
    for name, numbers in (("source", pairs // DESTINATIONS), ("destination", pairs % DESTINATIONS)):
        key[name][:, 8:] = (numbers + 0x0A000001).astype(">u8").view(np.uint8).reshape(-1, 8)
    key["key_class"], key["ingress"] = KeyClass.BRIDGED, 3
    return rows


def decisions(locations: np.ndarray) -> np.ndarray:
    rows = np.zeros(len(locations), wire.DECISION)
    rows["action"], rows["granularity"], rows["revision"] = Action.ENCAPSULATE, 1, 5
    rows["source_location"] = rows["scope"] = -1
    rows["destination_location"] = locations
    rows["lifetime_ms"] = 300_000
    return rows


if __name__ == "__main__":
    main()
