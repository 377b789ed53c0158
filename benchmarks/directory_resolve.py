# SPDX-License-Identifier: Apache-2.0
"""How fast a directory answers, and how soon a change is with a gateway: whole processes, real sockets.

    python benchmarks/directory_resolve.py [--quick] [--transport ipc] [--seconds 2] [--endpoints 1000]

A table on stderr, JSON lines on stdout (benchmarks/result.py). The directory runs on one processor, its
client on the others.

directory-decide: one client asks one batch at a time (what a slow-path worker does) for random pairs of
endpoints of one V-net, which one rule allows. `per_second` are decisions, `per_cpu_second` those for each
second of processor time of the directory's process, p50_us and p99_us the round trip. `traffic` is what is
asked: "allowed"; or "mixed": one row in four refused, in two classes, in at an attachment and by a tunnel.

directory-update: an operator moves an endpoint; the time from sending the change until a gateway that has
subscribed has read the push, in a store on disk (sqlite) and in memory."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Answered, Changed, Failed, Resolved, Snapshot
from directory_client.keys import client_keys, make_key_file
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass
from directory_client.wire import rows

BATCHES = (1, 64, 1024, 4096)
TABLES = 8
CURVE = (1, 10, 25, 50, 75, 90, 95, 99, 99.9)  # percentiles of the times
ROLES = {"gw1": "gateway", "gw2": "gateway", "anna": "operator"}
LIMITS = """[limits]
late_ms = 10_000
resolves_per_second_per_vnet = 1_000_000_000
writes_per_second_per_key = 1_000_000_000
message_bytes = 16_777_216
"""


def topology(endpoints: int) -> str:
    """A V-net at two nodes; every second endpoint at each. What an operator moves is in no document."""
    lines = [
        'document = "bench"',
        "[site.s1]",
        "[site.s2]",
        '[path.p]\nsites = ["s1", "s2"]\ntrust = "own"\nprofile = "fabric"',
        '[profile.fabric]\nprotocol = "vxlan"',
        '[node.gw1]\nkind = "gateway"\nsite = "s1"',
        '[node.gw2]\nkind = "gateway"\nsite = "s2"',
        '[vnet.red]\nvni = 7001\nprefixes = ["10.0.0.0/8"]',
        '[[vnet.red.attachment]]\nnodes = ["gw1", "gw2"]\nport = "rack"\nvlan = 101',
        '[vnet.red.rule.any]\naction = "allow"\nfrom = "any"\nto = "any"',
        "[vnet.red.endpoint]",
    ]
    for n in range(endpoints):
        address, mac = (
            f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}",
            f"02:00:5e:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
        )
        lines.append(f'e{n} = {{ addresses = ["{address}"], mac = "{mac}", node = "gw{1 + n % 2}" }}')
    return "\n".join(lines)


@dataclass(frozen=True)
class World:
    """A directory with a topology, and who speaks to it."""

    pid: int
    tool: DirectoryClient
    gateway: DirectoryClient
    attachment: int
    far_node: int
    endpoints: int


def queries(world: World, count: int, traffic: str) -> np.ndarray:
    """Pairs from an endpoint at gw1 to one at gw2."""
    draw = np.random.default_rng(random.getrandbits(32))
    table = np.zeros(count, rows.QUERY)
    table["vni"], table["key_class"] = 7001, KeyClass.BRIDGED
    table["ingress_kind"], table["ingress_object"] = IngressKind.ATTACHMENT, world.attachment
    source, destination = draw.integers(0, world.endpoints // 2, (2, count)) * 2
    destination += 1
    if traffic == "mixed":
        what = draw.integers(0, 8, count)
        destination[what == 0] += 1 << 22  # nobody
        source[what == 1] += 1  # spoofed
        from_there = what >= 6
        table["ingress_kind"][from_there], table["ingress_object"][from_there] = (
            IngressKind.NODE,
            world.far_node,
        )
        source[from_there], destination[from_there] = destination[from_there], source[from_there]
        table["key_class"][what % 2 == 0] = KeyClass.ROUTED
    for name, number in (("source", source), ("destination", destination)):
        table[name][:, 12:] = (0x0A000000 + number).astype(">u4").view(np.uint8).reshape(count, 4)
    return table


def until(client: DirectoryClient, wanted: Callable[[Any], bool], *others: DirectoryClient) -> Any:
    """Turn clients until one of them says what is wanted. Ends the program if that is a failure."""
    poller = zmq.Poller()
    for each in (client, *others):
        for socket in each.sockets:
            poller.register(socket, zmq.POLLIN)
    while True:
        poller.poll(min(each.timeout_ms() for each in (client, *others)))
        for event in [event for each in (client, *others) for event in each.receive()]:
            if isinstance(event, Failed):
                raise SystemExit(f"error: {event}")
            if wanted(event):
                return event


def ask(client: DirectoryClient, table: np.ndarray, poller: zmq.Poller) -> Resolved:
    id = client.send_resolve(table)
    while True:
        poller.poll(client.timeout_ms())
        for event in client.receive():
            if isinstance(event, Resolved) and event.id == id:
                return event
            if isinstance(event, Failed):
                raise SystemExit(f"error: {event}")


@contextmanager
def directory(transport: str, store: str, endpoints: int) -> Iterator[World]:
    """Start one, apply the topology, and make its gateways known to it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        endpoint = (
            f"ipc://{path}/run"
            if transport == "ipc"
            else f"tcp://127.0.0.1:{random.randrange(20_000, 30_000)}"
        )
        text = f'name = "d"\nlisten = "{endpoint}"\n{LIMITS}[store]\nkind = "{store}"\n'
        text += f'path = "{path}/directory.db"\n' if store == "sqlite" else ""
        keys: dict[str, Any] = {role: {} for role in ROLES}
        if transport == "tcp":
            public = make_key_file(path / "server.key").public.decode()
            text = text.replace("[limits]", f'key_file = "{path}/server.key"\n[limits]')
            for role, may in ROLES.items():
                key = make_key_file(path / f"{role}.key").public.decode()
                text += f'[[client]]\nname = "{role}"\npublic_key = "{key}"\nrole = "{may}"\n'
                keys[role] = {"keys": client_keys(path / f"{role}.key", [public])}
        (path / "d.toml").write_text(text)
        processors = sorted(os.sched_getaffinity(0))
        command = ["-m", "directory_service.main", "run", str(path / "d.toml"), "--make-once"]
        command += ["--log-level", "warning"]
        server = subprocess.Popen(
            ["taskset", "-c", str(processors[-1]), sys.executable, *command],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        clients = []
        try:
            tool = DirectoryClient([endpoint], **keys["anna"])
            gateway = DirectoryClient([endpoint], node="gw1", role="slow-path", give_up_s=60.0, **keys["gw1"])
            other = DirectoryClient([endpoint], node="gw2", role="slow-path", **keys["gw2"])
            clients += [tool, gateway, other]
            if len(processors) > 1:
                os.sched_setaffinity(0, processors[:-1])
            yield _world(server.pid, tool, gateway, other, endpoints)
        finally:
            os.sched_setaffinity(0, processors)
            for client in clients:
                client.close()
            server.kill()
            server.wait()


def _world(
    pid: int, tool: DirectoryClient, gateway: DirectoryClient, other: DirectoryClient, endpoints: int
) -> World:
    started = time.perf_counter()
    tool.call("apply", timeout_s=300.0, text=topology(endpoints), name="bench.toml", wait_ms=0)
    say(f"apply of {endpoints} endpoints: {time.perf_counter() - started:.2f} s")
    gateway.set_heartbeat(locators=["192.0.2.1"], ports=["rack"])
    other.set_heartbeat(locators=["192.0.2.2"], ports=["rack"])
    gateway.subscribe()
    seen: dict[str, Any] = {}

    def ready(event: Any) -> bool:
        if isinstance(event, Changed):
            gateway.subscribe()  # a snapshot with the tunnels
        if isinstance(event, Snapshot) and event.vnets:
            seen.update({op["op"]: op for op in event.vnets[0][1]})
        return "tunnel" in seen

    until(gateway, ready, other)
    nodes = {row["name"]: row["object_id"] for row in tool.call("list", kind="nodes")["rows"]}
    return World(pid, tool, gateway, seen["attachment"]["object_id"], nodes["gw2"], endpoints)


def decide(
    world: World, transport: str, batch: int, traffic: str, seconds: float, repeats: int
) -> dict[str, Any]:
    """Ask for a while, several times over."""
    tables = [queries(world, batch, traffic) for _ in range(TABLES)]
    poller = zmq.Poller()
    for socket in world.gateway.sockets:
        poller.register(socket, zmq.POLLIN)
    expected = []
    for table in tables:
        answer = ask(world.gateway, table, poller)
        expected.append(answer.decisions["action"].tobytes())
        good = (answer.decisions["action"] == Action.ENCAPSULATE).mean()
        if traffic == "allowed" and good < 1:
            raise SystemExit(f"error: other decisions than expected: {answer.decisions['action']}")
    trips: list[float] = []
    rates, cpu_rates = [], []
    for _ in range(repeats):
        before, cpu_s = len(trips), cpu_of(world.pid)
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds / repeats:
            answer = ask(world.gateway, tables[len(trips) % TABLES], poller)
            trips.append(time.perf_counter() - now)
            if answer.decisions["action"].tobytes() != expected[(len(trips) - 1) % TABLES]:
                raise SystemExit("error: the same question was answered otherwise than before")
        asked = batch * (len(trips) - before)
        rates.append(asked / (now - started))
        cpu_rates.append(asked / (cpu_of(world.pid) - cpu_s))
    more = {"batch": batch, "transport": transport, "traffic": traffic, "endpoints": world.endpoints}
    return {
        **row("directory-decide", batch, rates, trips),
        "per_cpu_second": round(statistics.median(cpu_rates)),
        **more,
    }


def update(world: World, store: str, changes: int) -> dict[str, Any]:
    """Move one endpoint from node to node, and wait each time for the gateway to hear of it."""
    tool, gateway = world.tool, world.gateway
    values = {"addresses": ["10.255.0.1"], "mac": "02:00:5e:ff:00:01", "node": "gw1"}
    poller = zmq.Poller()
    for socket in (*tool.sockets, *gateway.sockets):
        poller.register(socket, zmq.POLLIN)
    trips: list[float] = []
    cpu_s = cpu_of(world.pid)
    for number in range(changes):
        values["node"] = f"gw{1 + number % 2}"
        started = time.perf_counter()
        id = tool.send("set", kind="endpoint", name="red/mover", values=values, wait_ms=0)
        heard, answered = 0.0, False
        while not (heard and answered):
            poller.poll(min(tool.timeout_ms(), gateway.timeout_ms()))
            for event in gateway.receive():
                if isinstance(event, Changed) and event.operations:
                    heard = time.perf_counter()
            for event in tool.receive():
                if isinstance(event, Failed):
                    raise SystemExit(f"error: {event}")
                answered |= isinstance(event, Answered) and event.id == id
        trips.append(heard - started)
    cpu_s = cpu_of(world.pid) - cpu_s
    rates = [len(part) / sum(part) for part in np.array_split(trips, 5)]
    return {
        **row("directory-update", world.endpoints, rates, trips),
        "per_cpu_second": round(len(trips) / cpu_s, 1),
        "store": store,
        "endpoints": world.endpoints,
    }


def row(scenario: str, flows: int, rates: Sequence[float], trips: Sequence[float]) -> dict[str, Any]:
    """A result, without what is particular."""
    curve = {f"{q:g}": round(float(np.percentile(trips, q)) * 1e6, 1) for q in CURVE}
    low, high = np.percentile(rates, (25, 75))
    return {
        "scenario": scenario,
        "subject": "vnet-gateway",
        "flows": flows,
        "frame_bytes": 64,
        "cycles_per_packet": None,
        "mpps": None,
        "spread": round(float(high - low), 1),
        "per_second": round(float(statistics.median(rates)), 1),
        "p50_us": curve["50"],
        "p99_us": curve["99"],
        "p999_us": curve["99.9"],
        "percentiles_us": curve,
        "repeats": len(rates),
    }


def cpu_of(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transport", choices=("ipc", "tcp"), help="only this one")
    parser.add_argument("--quick", action="store_true", help="ten seconds in all, ipc only")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each batch size")
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=2000)
    arguments = parser.parse_args()
    seconds = 0.5 if arguments.quick else arguments.seconds
    results = []

    def note(result: dict[str, Any]) -> None:
        results.append(result)
        print(json.dumps(result), flush=True)

    every = ("ipc",) if arguments.quick else ("ipc", "tcp")
    for transport in (arguments.transport,) if arguments.transport else every:
        with directory(transport, "memory", arguments.endpoints) as world:
            say(line("transport", "traffic", "batch", "decisions/s", "per CPU s", "p50 us", "p99 us"))
            cases = [("allowed", batch) for batch in BATCHES] + [("mixed", 64), ("mixed", 1024)]
            for traffic, batch in cases:
                found = decide(world, transport, batch, traffic, seconds, 5)
                note(found)
                figures = [found[key] for key in ("per_second", "per_cpu_second", "p50_us", "p99_us")]
                say(line(transport, traffic, batch, *figures))
    say("\n" + line("store", "endpoints", "", "changes/s", "per CPU s", "p50 us", "p99 us", "p99.9 us"))
    for store in ("sqlite",) if arguments.quick else ("sqlite", "memory"):
        with directory("ipc", store, arguments.endpoints) as world:
            found = update(world, store, 200 if arguments.quick else arguments.changes)
            note(found)
            figures = [found[key] for key in ("per_second", "per_cpu_second", "p50_us", "p99_us", "p999_us")]
            say(line(store, arguments.endpoints, "", *figures))


def line(*cells: str | float) -> str:
    return "".join(f"{cell:>12.0f}" if isinstance(cell, float) else f"{cell:>12}" for cell in cells)


if __name__ == "__main__":
    main()
