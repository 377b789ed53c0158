# SPDX-License-Identifier: Apache-2.0
"""What a directory of many endpoints and many gateways costs: whole processes, real sockets, a store on disk.

    python benchmarks/directory_scale.py SCENARIO FLOWS [--quick]

JSON lines on stdout (benchmarks/result.py), what it does on stderr. The directory and its processes, the
simulated gateways (one process) and whoever asks meanwhile share all processors. `seconds` is wall time;
`p99_us` how long others' questions took meanwhile, where `about` in scenarios.toml says nothing else;
`rss_bytes` the largest process of the directory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import percentile
from benchmarks.fleet import (
    Fleet,
    Server,
    base_topology,
    changer,
    fleet,
    locator,
    prober,
    topology,
)
from benchmarks.machine import ROOT
from benchmarks.scale_store import fill
from directory_client.client import DirectoryClient
from directory_client.events import Changed, Event, Snapshot

LIMIT_S = 900.0
PATIENCE_S = 120.0  # for a fleet to be where it should
PROBE_VNI = 9

Row = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def row(scenario: str, flows: int, **figures: Any) -> Row:
    given = {key: value for key, value in figures.items() if value is not None}
    return {"scenario": scenario, "subject": "vnet-gateway", "flows": flows, "repeats": 1, **given}


@contextmanager
def directory(gateways: int) -> Iterator[tuple[Server, DirectoryClient]]:
    """A running directory that knows its gateways and the V-net of who asks, and an operator's client."""
    with tempfile.TemporaryDirectory(prefix="vnet-scale-") as name, Server(Path(name)) as server:
        tool = DirectoryClient([server.endpoint], give_up_s=LIMIT_S)
        try:
            apply(tool, base_topology(gateways), "base.toml")
            yield server, tool
        finally:
            tool.close()


def apply(tool: DirectoryClient, text: str, name: str) -> float:
    """Apply a document; returns the seconds until it was committed."""
    started = time.monotonic()
    tool.call("apply", timeout_s=LIMIT_S, text=text, name=name, wait_ms=0)
    return time.monotonic() - started


def meanwhile(times: Sequence[tuple[float, float]], begin: float, end: float) -> Row:
    """How long the questions took that were under way between two moments, in microseconds."""
    took = [one for asked, one in times if asked + one >= begin and asked <= end]
    if not took:
        return {}
    curve = {f"{q:g}": round(percentile(took, q) * 1e6, 1) for q in (50, 90, 99, 99.9)}
    return {
        "p50_us": curve["50"],
        "p99_us": curve["99"],
        "p999_us": curve["99.9"],
        "percentiles_us": curve,
        "note": f"{len(took)} questions meanwhile, the longest took {max(took) * 1000:.0f} ms",
    }


def first_answer_s(times: Sequence[tuple[float, float]], begin: float) -> float:
    """Return how long after a moment the first question was answered."""
    return min(asked + took for asked, took in times if asked + took >= begin) - begin


def measure_apply(vnets: int, quick: bool) -> list[Row]:
    """A document of 100 000 endpoints in so many V-nets (quick: 10 000)."""
    text = topology(vnets, (10_000 if quick else 100_000) // vnets, 2, 2)
    with directory(2) as (server, tool), prober(server.endpoint, "gw0", PROBE_VNI) as asks:
        begin, cpu_s = time.monotonic(), server.cpu_s()
        seconds = apply(tool, text, "big.toml")
        end, cpu_s, rss = time.monotonic(), server.cpu_s() - cpu_s, server.rss_bytes()
        found = meanwhile(asks.end(), begin, end)
    say(f"{vnets} V-nets: {seconds:.2f} s, {cpu_s:.1f} s of processor time")
    found["note"] = f"{cpu_s:.1f} s of processor time of the directory; {found.get('note')}"
    return [
        row(
            "directory-apply",
            vnets,
            seconds=round(seconds, 3),
            cpu_percent=round(100 * cpu_s / seconds, 1),
            rss_bytes=rss[0],
            **found,
        )
    ]


def measure_change(endpoints: int, quick: bool) -> list[Row]:
    """One endpoint on top of many: until it is committed, and until each of the gateways has it."""
    gateways, changes = (10, 20) if quick else (100, 100)
    per_vnet = 100
    text = topology(max(endpoints // per_vnet, 1), per_vnet, gateways, 2, all_host_first=True)
    with directory(gateways) as (server, tool):
        apply(tool, text, "big.toml")
        views = Views(gateways)
        with fleet(server.endpoint, [f"gw{n}" for n in range(gateways)]) as them:
            them.heard = views.heard
            them.turn(lambda: views.have_all(10_000, per_vnet), PATIENCE_S)
            them.rest(2.0)
            rss = server.rss_bytes()
            committed, had = _changes(them, server.endpoint, changes)
    say(f"committed {statistics.median(committed) * 1e3:.2f} ms, had p99 {percentile(had, 99) * 1e3:.2f} ms")
    curve = {f"{q:g}": round(percentile(had, q) * 1e6, 1) for q in (50, 90, 99, 99.9)}
    return [
        row(
            "directory-change",
            endpoints,
            seconds=round(statistics.median(committed), 5),
            p50_us=curve["50"],
            p99_us=curve["99"],
            p999_us=curve["99.9"],
            percentiles_us=curve,
            rss_bytes=rss[0],
            repeats=changes,
            note=f"{gateways} gateways; seconds until the change is answered are the median, the slowest of"
            f" {changes} took {max(committed) * 1000:.1f} ms",
        )
    ]


def _changes(them: Fleet, endpoint: str, changes: int) -> tuple[list[float], list[float]]:
    """Have a process add endpoints one by one; returns the seconds of each until it was answered, and until
    each gateway had it."""
    committed: list[float] = []
    had: list[float] = []
    with changer(endpoint, "v0", "gw1") as asks:
        for _ in range(changes):
            heard: dict[int, float] = {}
            them.heard = partial(_note_change, heard)
            asks.begin()
            them.turn(lambda: len(heard) == len(them.clients), PATIENCE_S)  # noqa: B023
            begin, end = asks.end()
            committed.append(end - begin)
            had += [at - begin for at in heard.values()]
            them.rest(0.05)
    return committed, had


def _note_change(heard: dict[int, float], gateway: int, event: Event) -> None:
    if isinstance(event, Changed) and event.vni == 10_000 and event.operations:
        heard.setdefault(gateway, time.monotonic())


class Views:
    """What each gateway has of V-nets and of others' locators, from what it is told."""

    def __init__(self, gateways: int) -> None:
        self._locations: list[dict[int, int]] = [{} for _ in range(gateways)]
        self._remotes: list[set[bytes]] = [set() for _ in range(gateways)]
        self.snapshots = [0] * gateways

    def heard(self, gateway: int, event: Event) -> None:
        """Take up an event of a gateway."""
        if isinstance(event, Snapshot):
            self.snapshots[gateway] += 1
            self._locations[gateway] = {}
            self._remotes[gateway] = set()
            for vni, operations in event.vnets:
                self._take(gateway, vni, operations)
        elif isinstance(event, Changed):
            self._take(gateway, event.vni, event.operations)

    def _take(self, gateway: int, vni: int, operations: Iterable[dict[str, Any]]) -> None:
        count = 0
        for operation in operations:
            if operation["op"] == "location":
                count += 1
            elif operation["op"] == "tunnel":
                self._remotes[gateway].add(bytes(operation["remote"]))
        self._locations[gateway][vni] = self._locations[gateway].get(vni, 0) + count

    def have_all(self, vni: int, locations: int) -> bool:
        """Tell whether every gateway has been told so many locations of a V-net."""
        return all(one.get(vni, 0) >= locations for one in self._locations)

    def reach(self, remotes: int) -> bool:
        """Tell whether every gateway has tunnels to so many others."""
        return all(len(one) >= remotes for one in self._remotes)

    def reach_all(self, remote: bytes, but: int) -> bool:
        """Tell whether every gateway but one has a tunnel to a locator."""
        return all(remote in one for number, one in enumerate(self._remotes) if number != but)

    def begin_anew(self) -> None:
        """Forget what gateways were told."""
        gateways = len(self._locations)
        self.snapshots, self._locations = [0] * gateways, [{} for _ in range(gateways)]
        self._remotes = [set() for _ in range(gateways)]


def measure_fleet_start(gateways: int, quick: bool) -> list[Row]:
    """Gateways that all host one V-net: their start, one locator that changes, the directory killed."""
    endpoints = 1_000 if quick else 10_000
    with directory(gateways) as (server, tool):
        apply(tool, topology(1, endpoints, gateways, gateways), "big.toml")
        views, rows = Views(gateways), []

        def there() -> bool:
            return views.have_all(10_000, endpoints) and views.reach(gateways - 1)

        with prober(server.endpoint, "gw0", PROBE_VNI) as asks:
            begin, cpu_s = time.monotonic(), server.cpu_s()
            made = Fleet(server.endpoint, [f"gw{n}" for n in range(gateways)])
            try:
                made.heard = views.heard
                made.join()
                seconds = made.turn(there, PATIENCE_S)
                cold = (begin, time.monotonic(), seconds, server.cpu_s() - cpu_s)
                made.rest(3.0)
                elsewhere = locator(1, elsewhere=True)
                begin, cpu_s = time.monotonic(), server.cpu_s()
                made.clients[1].set_heartbeat(locators=[elsewhere], ports=["rack"])
                packed = bytes(12) + bytes(map(int, elsewhere.split(".")))
                seconds = made.turn(lambda: views.reach_all(packed, 1), PATIENCE_S)
                moved = (begin, time.monotonic(), seconds, server.cpu_s() - cpu_s)
                made.rest(3.0)
                rss = server.rss_bytes()
                times = asks.end()
                server.kill()
                made.rest(1.0)
                views.begin_anew()
                server.start()
                begin = time.monotonic()
                seconds = made.turn(there, PATIENCE_S)
                back = (begin, time.monotonic(), seconds, server.cpu_s())
            finally:
                made.close()
        for scenario, (since, until, took, cpu) in (
            ("directory-fleet-start", cold),
            ("directory-fleet-locator", moved),
            ("directory-fleet-killed", back),
        ):
            found = {} if scenario.endswith("killed") else meanwhile(times, since, until)
            say(f"{scenario}: {took:.2f} s, {cpu:.1f} s of processor time of the directory")
            note = f"{endpoints} endpoints; {cpu:.2f} s of processor time of the directory"
            rows.append(
                row(
                    scenario,
                    gateways,
                    **{**found, "note": "; ".join(filter(None, (note, found.get("note"))))},
                    seconds=round(took, 3),
                    rss_bytes=rss[0],
                )
            )
    return rows


def measure_fleet_idle(gateways: int, quick: bool) -> list[Row]:
    """As many V-nets as gateways, each at ten of them, and nothing happens; then the directory is killed."""
    hosts, seconds = 10, 5.0 if quick else 30.0
    with directory(gateways) as (server, tool):
        apply(tool, topology(gateways, 2 * hosts, gateways, hosts), "big.toml")
        seen: set[int] = set()

        def hear(gateway: int, event: Event) -> None:
            if isinstance(event, Snapshot) and event.vnets:
                seen.add(gateway)

        with fleet(server.endpoint, [f"gw{n}" for n in range(gateways)]) as them:
            them.heard = hear
            started = them.turn(lambda: len(seen) == gateways, PATIENCE_S)
            say(f"{gateways} gateways are there after {started:.1f} s")
            them.rest(3.0 if quick else 10.0)
            cpu_s, begin = server.cpu_s(), time.monotonic()
            them.rest(seconds)
            idle_percent = 100 * (server.cpu_s() - cpu_s) / (time.monotonic() - begin)
            rss = server.rss_bytes()
            say(f"idle: {idle_percent:.1f} % of a core")
            with prober(server.endpoint, "gw0", PROBE_VNI) as asks:
                server.kill()
                them.rest(1.0)
                seen.clear()
                begin = time.monotonic()
                server.start()
                back_s = them.turn(lambda: len(seen) == gateways, PATIENCE_S)
                times = asks.end()
                first_s = first_answer_s(times, begin)
                after = [one for one in times if one[0] >= begin + first_s]
                found = meanwhile(after, begin, time.monotonic())
        say(f"killed: first decision {first_s:.2f} s, all are served after {back_s:.2f} s")
    computed = idle_percent / gateways * 10_000
    return [
        row(
            "directory-fleet-idle",
            gateways,
            cpu_percent=round(idle_percent, 2),
            rss_bytes=rss[0],
            note=f"over {seconds:.0f} s; 10 000 gateways would take {computed:.0f} % at this rate; the fleet"
            f" was there {started:.1f} s after its start",
        ),
        row(
            "directory-fleet-restart",
            gateways,
            **{
                **found,
                "note": f"first decision {first_s:.2f} s after the start of the process; {found.get('note')}",
            },
            seconds=round(back_s, 3),
        ),
    ]


def measure_million(endpoints: int, quick: bool) -> list[Row]:
    """Endpoints in V-nets of a thousand each: cold start of a directory with them, and all of it to one
    gateway."""
    vnets = max(endpoints // 1_000, 1)
    with tempfile.TemporaryDirectory(prefix="vnet-scale-") as name:
        path = Path(name)
        begin = time.monotonic()
        fill(path / "directory.db", base_topology(2, declared=True), vnets, endpoints // vnets)
        say(f"store of {endpoints} endpoints written in {time.monotonic() - begin:.1f} s")
        server = Server(path)
        try:
            with prober(server.endpoint, "gw0", PROBE_VNI, answered=False) as asks:
                time.sleep(3.0)  # until it has begun to ask
                begin = time.monotonic()
                server.start()
                asks.wait()
                cold_s = first_answer_s(asks.end(), begin)
            rss = server.rss_bytes()
            say(f"cold start {cold_s:.1f} s, {rss[0] / 1e6:.0f} MB")
            locations = [0]

            def hear(gateway: int, event: Event) -> None:
                if isinstance(event, Snapshot):
                    locations[0] = sum(
                        operation["op"] == "location" for _, ops in event.vnets for operation in ops
                    )

            figures: Row = {}
            with fleet(server.endpoint, ["gw0"]) as them:
                them.heard = hear
                try:
                    figures["seconds"] = round(them.turn(lambda: locations[0] >= endpoints, PATIENCE_S), 3)
                except TimeoutError as late:
                    figures["failed"] = f"the snapshot of all endpoints did not arrive: {late}"
            after = server.rss_bytes()
        finally:
            server.kill()
    return [
        row("directory-million", endpoints, seconds=round(cold_s, 3), rss_bytes=rss[0]),
        row("directory-million-snapshot", endpoints, rss_bytes=after[0] if after else None, **figures),
    ]


def measure_vnetctl(flows: int, quick: bool) -> list[Row]:
    """Starts of vnetctl, cold as a shell has it: help, and a screen of a directory that answers."""
    starts = 5 if quick else 20
    with directory(2) as (server, _), fleet(server.endpoint, ["gw0", "gw1"]) as them, installed() as vnetctl:
        them.rest(1.0)
        return [
            _starts("vnetctl-start", flows, [vnetctl, "--help"], starts),
            _starts(
                "vnetctl-show", flows, [vnetctl, "--directory", server.endpoint, "show", "nodes"], starts
            ),
        ]


@contextmanager
def installed() -> Iterator[str]:
    """vnetctl in an environment such as `pip install .` makes: one that is installed to be edited looks first
    whether something is to be built, and keeps no compiled modules."""
    with tempfile.TemporaryDirectory(prefix="vnet-installed-") as name:
        venv.create(name, symlinks=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": name, "platbase": name}))
        paths = [str(ROOT / "src"), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
        (packages / "paths.pth").write_text("\n".join(dict.fromkeys(paths)) + "\n")
        program = Path(name) / "bin" / "vnetctl"
        program.write_text(
            f"#!{name}/bin/python\nimport re\nimport sys\nfrom vnetctl.main import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        yield str(program)


def _starts(scenario: str, flows: int, command: Sequence[str], starts: int) -> Row:
    times: list[float] = []
    for _ in range(starts + 1):
        started = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.monotonic() - started)
    del times[0]  # it compiled the modules
    curve = {f"{q:g}": round(percentile(times, q) * 1e6, 1) for q in (50, 90)}
    return row(
        scenario,
        flows,
        p50_us=curve["50"],
        percentiles_us=curve,
        repeats=starts,
        note=f"the fastest {min(times) * 1e3:.0f} ms, the slowest {max(times) * 1e3:.0f} ms",
    )


SCENARIOS: dict[str, Callable[[int, bool], list[Row]]] = {
    "directory-apply": measure_apply,
    "directory-change": measure_change,
    "directory-million": measure_million,
    "directory-fleet-start": measure_fleet_start,
    "directory-fleet-idle": measure_fleet_idle,
    "vnetctl-start": measure_vnetctl,
}


def main() -> None:
    scenario, flows = sys.argv[1], int(sys.argv[2])
    for one in SCENARIOS[scenario](flows, "--quick" in sys.argv[3:]):
        print(json.dumps(one), flush=True)


if __name__ == "__main__":
    main()
