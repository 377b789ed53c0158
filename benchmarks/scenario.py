# SPDX-License-Identifier: Apache-2.0
"""What is measured, as data: `scenarios.toml` holds the records, this file their meaning.

A record of the file stands for the product of its lists: frame sizes × flows. Together with the subject,
(name, flows, frame_bytes) names a result; no two scenarios share it."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

FILE = Path(__file__).with_name("scenarios.toml")
FCS_BYTES = 4
HEADER_BYTES = 42  # Ethernet, IPv4, UDP: the smallest inner frame a source can make
LARGEST_BYTES = 1518
TUNNELS, MOST_TUNNELS = 16, 256
MOST_HOPS = 4
LARGEST_VLAN = 4094

FrameBytes = int | Literal["IMIX"]

# Simple IMIX: frame sizes with FCS and how many of twelve frames have them; 361.8 bytes on average.
IMIX = ((64, 7), (594, 4), (1518, 1))

PROCESSES = ("testpmd", "pktgen")  # sources that are waited for: what is measured is the throughput of both
SOURCES = ("in-process", "pcap", *PROCESSES, "ports", "none")
MEASURES = ("steady", "setup", "setup-again", "program")
WORDS = ("title", "about", "operation", "counts", "rate")


@dataclass(frozen=True)
class Scenario:
    """One point of measurement; every subject named is measured at it, interleaved, in one run.

    `frame_bytes` counts the FCS, as testers do: 64 means 60 bytes in memory. For decapsulation it is the
    inner frame, so that both directions carry the same members' packets; a tag comes on top of it. `flows`
    are flows in use, in random order; for tables the entries. `miss_ratio` is the share of packets whose flow
    is not cached.
    `measure` says who holds the clock: "steady", "setup" and "setup-again" the runner, with subjects in
    interleaved samples or fresh starts; "program" a component that measures itself."""

    name: str
    subjects: tuple[str, ...]
    measure: str = "program"
    direction: str = ""  # encap, decap, or neither
    inner: str = "ipv4"
    outer: str = "ipv4"
    frame_bytes: FrameBytes = 64
    flows: int = 1
    poll_threads: int = 1
    miss_ratio: float = 0.0
    updates_per_second: int = 0  # of a writer beside the readers
    vlan: int = 0  # of the members' attachment, if packets come from outside; 0: untagged
    tunnels: int = TUNNELS  # behind which the members there stand, if packets come from outside
    hops: int = 1  # next hops of each tunnel, if packets come from outside; 1: the far end itself
    source: str = "in-process"
    quick: bool = False  # also a part of QUICK=1
    title: str = ""  # of its table
    about: str = ""  # a sentence or two for the docs
    operation: str = "packet"  # what cycles are counted for
    counts: str = "flows"  # what `flows` counts
    rate: str = ""  # what `per_second` counts

    def __post_init__(self) -> None:
        where = f"scenario {self.name or '(without a name)'}"
        if not self.name or not self.subjects:
            raise ValueError(f"{where}: needs a name and at least one subject")
        for key, value, known in (
            ("source", self.source, SOURCES),
            ("measure", self.measure, MEASURES),
            ("direction", self.direction, ("", "encap", "decap")),
        ):
            if value not in known:
                raise ValueError(f"{where}: {key} is {value!r}; use one of {', '.join(filter(None, known))}")
        if self.flows < 1 or self.poll_threads < 1:
            raise ValueError(f"{where}: flows and poll_threads are at least 1")
        if not 0.0 <= self.miss_ratio <= 1.0:
            raise ValueError(f"{where}: miss_ratio is {self.miss_ratio}; it is a share, 0 to 1")
        if not 0 <= self.vlan <= LARGEST_VLAN:
            raise ValueError(f"{where}: vlan is {self.vlan}; use 1 to {LARGEST_VLAN}, or 0 for untagged")
        if not 1 <= self.tunnels <= MOST_TUNNELS:
            raise ValueError(f"{where}: tunnels is {self.tunnels}; use 1 to {MOST_TUNNELS}")
        if not 1 <= self.hops <= MOST_HOPS:
            raise ValueError(f"{where}: hops is {self.hops}; use 1 to {MOST_HOPS}")
        for size in frame_sizes(self.frame_bytes):
            if not HEADER_BYTES + FCS_BYTES <= size <= LARGEST_BYTES:
                raise ValueError(
                    f"{where}: frame_bytes is {self.frame_bytes!r}; "
                    f"use {HEADER_BYTES + FCS_BYTES} to {LARGEST_BYTES}, FCS counted, or 'IMIX'"
                )

    @property
    def key(self) -> tuple[str, int, FrameBytes]:
        return self.name, self.flows, self.frame_bytes


def frame_sizes(frame_bytes: FrameBytes) -> tuple[int, ...]:
    """The sizes, FCS counted, of twelve consecutive frames of a source; a single size stands alone.

    IMIX sizes are spread evenly over the twelve."""
    if frame_bytes != "IMIX":
        return (int(frame_bytes),)
    places = sorted((turn / count, size) for size, count in IMIX for turn in range(count))
    return tuple(size for _, size in places)


def memory_bytes(size: int) -> int:
    """How long a frame of this size is in memory: without its FCS."""
    return size - FCS_BYTES


def mean_bytes(frame_bytes: FrameBytes) -> float:
    sizes = frame_sizes(frame_bytes)
    return sum(sizes) / len(sizes)


def read(text: str) -> tuple[Scenario, ...]:
    """Read scenarios from TOML. Raises ValueError with the scenario, the key and the remedy."""
    known = {field.name for field in fields(Scenario)}
    scenarios: list[Scenario] = []
    first: dict[str, Mapping[str, Any]] = {}
    for record in tomllib.loads(text).get("scenario", ()):
        name = record.get("name", "(without a name)")
        words = {key: value for key, value in first.setdefault(name, record).items() if key in WORDS}
        record = words | record
        for key in record.keys() - known - {"quick_flows", "quick_frame_bytes"}:
            raise ValueError(f"scenario {name}: no such key {key!r}; known are {', '.join(sorted(known))}")
        scenarios.extend(_product(record))
    keys = [one.key for one in scenarios]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(
                f"scenario {key[0]}: flows {key[1]}, frame_bytes {key[2]} twice; give one another name"
            )
    return tuple(scenarios)


def _product(record: Mapping[str, Any]) -> Iterator[Scenario]:
    plain = {key: value for key, value in record.items() if not key.startswith("quick_")}
    plain["subjects"] = tuple(plain.get("subjects", ()))
    lists = {key: plain.pop(key) for key in ("frame_bytes", "flows") if isinstance(plain.get(key), list)}
    for values in itertools.product(*lists.values()):
        chosen = dict(zip(lists, values, strict=True))
        scenario = Scenario(**plain, **chosen)
        quick = scenario.quick or (
            "quick_flows" in record
            and scenario.flows in record["quick_flows"]
            and scenario.frame_bytes in record.get("quick_frame_bytes", [64])
        )
        yield replace(scenario, quick=quick)


def load() -> tuple[Scenario, ...]:
    """The scenarios that `make bench` measures, in order."""
    return read(FILE.read_text())
