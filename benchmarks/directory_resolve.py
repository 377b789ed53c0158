# SPDX-License-Identifier: Apache-2.0
"""How fast a directory answers: whole processes, real sockets, the real decide.

    python benchmarks/directory_resolve.py [--seconds 2] [--endpoints 1000] [--tcp]

One client asks one batch at a time (what one slow-path worker does) for random pairs of endpoints of one
V-net at two nodes, all allowed by one rule. Requests/s, decisions/s and round trips as a table for people on
stderr, a JSON line for each batch size on stdout."""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from directory_client import rows
from directory_client.client import DirectoryClient
from directory_client.events import Changed, Resolved, Snapshot
from directory_client.keys import client_keys, make_key_file
from directory_client.numbers import Action, IngressKind, KeyClass

BATCHES = (1, 16, 256, 1024)
CURVE = (1, 10, 25, 50, 75, 90, 95, 99, 99.9)  # percentiles of the round trip
# Nothing but its speed limits it.
SETTINGS = """[store]
kind = "memory"
[limits]
late_ms = 1000
resolves_per_second_per_vnet = 1_000_000_000
"""
ROLES = {"gw1": "gateway", "gw2": "gateway", "anna": "operator"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def topology(endpoints: int) -> str:
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
        address, mac = f"10.0.{n >> 8}.{n & 255}", f"02:00:5e:00:{n >> 8:02x}:{n & 255:02x}"
        lines.append(f'e{n} = {{ addresses = ["{address}"], mac = "{mac}", node = "gw{1 + n % 2}" }}')
    return "\n".join(lines)


def queries(count: int, endpoints: int, attachment: int) -> np.ndarray:
    table = np.zeros(count, rows.QUERY)
    table["vni"], table["key_class"] = 7001, KeyClass.BRIDGED
    table["ingress_kind"], table["ingress_object"] = IngressKind.ATTACHMENT, attachment
    for row in table:
        source, destination = random.randrange(0, endpoints, 2), random.randrange(1, endpoints, 2)
        row["source"][12:] = [10, 0, source >> 8, source & 255]
        row["destination"][12:] = [10, 0, destination >> 8, destination & 255]
    return table


def ask(client: DirectoryClient, poller: zmq.Poller, table: np.ndarray) -> Resolved:
    id = client.send_resolve(table)
    while True:
        poller.poll(client.timeout_ms())
        for event in client.receive():
            if getattr(event, "id", None) == id:
                if not isinstance(event, Resolved):
                    raise SystemExit(f"error: {event}")
                return event


Keys = dict[str, dict[str, Any]]  # who → arguments of its client: its keys, or none on ipc


def tcp(path: Path) -> tuple[list[str], str, Keys]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{min(free.getsockname()[1], 65_000)}"
    server = make_key_file(path / "server.key").public.decode()
    lines = [f'name = "d"\nlisten = "{endpoint}"\nkey_file = "{path}/server.key"\n{SETTINGS}']
    for name, role in ROLES.items():
        public = make_key_file(path / f"{name}.key").public.decode()
        lines.append(f'[[client]]\nname = "{name}"\npublic_key = "{public}"\nrole = "{role}"')
    (path / "d.toml").write_text("\n".join(lines))
    keys = {name: {"keys": client_keys(path / f"{name}.key", server)} for name in ROLES}
    return ["run", str(path / "d.toml")], endpoint, keys


def ipc(path: Path) -> tuple[list[str], str, Keys]:
    (path / "d.toml").write_text(f'name = "d"\nlisten = "ipc://{path}/run"\n{SETTINGS}')
    return ["run", str(path / "d.toml")], f"ipc://{path}/run", {name: {} for name in ROLES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--endpoints", type=int, default=1000)
    parser.add_argument("--tcp", action="store_true", help="CURVE over loopback instead of ipc")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        command, endpoint, keys = tcp(path) if arguments.tcp else ipc(path)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        server = subprocess.Popen([sys.executable, "-m", "directory_service.main", *command], env=environment)
        try:
            measure(arguments, endpoint, keys)
        finally:
            server.kill()
            server.wait()


def measure(arguments: argparse.Namespace, endpoint: str, keys: Keys) -> None:
    tool = DirectoryClient([endpoint], **keys["anna"])
    text = topology(arguments.endpoints)
    started = time.perf_counter()
    tool.call("apply", timeout_s=120.0, text=text, name="bench.toml", wait_ms=0)
    say(f"apply of {arguments.endpoints} endpoints: {time.perf_counter() - started:.2f} s")
    client = DirectoryClient([endpoint], node="gw1", role="slow-path", give_up_s=10.0, **keys["gw1"])
    client.set_heartbeat(locators=["192.0.2.1"], ports=["rack"])
    other = DirectoryClient([endpoint], node="gw2", role="slow-path", **keys["gw2"])
    other.set_heartbeat(locators=["192.0.2.2"], ports=["rack"])
    poller = zmq.Poller()
    for each in client.sockets:
        poller.register(each, zmq.POLLIN)
    client.subscribe()
    snapshot = None
    while snapshot is None or not any(op["op"] == "tunnel" for op in snapshot.vnets[0][1]):
        poller.poll(min(client.timeout_ms(), 20))
        other.receive()
        events = client.receive()
        if any(isinstance(event, Changed) for event in events):
            client.subscribe()  # a snapshot with the tunnels
        snapshot = next((e for e in events if isinstance(e, Snapshot) and e.vnets), snapshot)
    attachment = next(op["object_id"] for op in snapshot.vnets[0][1] if op["op"] == "attachment")
    kind = "CURVE over loopback" if arguments.tcp else "ipc"
    say(f"{kind}, {os.cpu_count()} cores\nbatch  requests/s  decisions/s  p50      p99")
    for count in BATCHES:
        tables = [queries(count, arguments.endpoints, attachment) for _ in range(8)]
        answers = [ask(client, poller, tables[0])]
        trips: list[float] = []
        end = time.perf_counter() + arguments.seconds
        while time.perf_counter() < end:
            before = time.perf_counter()
            answers.append(ask(client, poller, tables[len(trips) % 8]))
            trips.append(time.perf_counter() - before)
        for answer in answers:
            if not (answer.decisions["action"] == Action.ENCAPSULATE).all():
                raise SystemExit(f"error: other decisions than expected: {answer.decisions['action']}")
        rate = len(trips) / sum(trips)
        cuts_us = [cut * 1e6 for cut in statistics.quantiles(trips, n=1000, method="inclusive")]
        p50_us, p99_us = cuts_us[499], cuts_us[989]
        say(f"{count:5}  {rate:10.0f}  {rate * count:11.0f}  {p50_us / 1e3:.2f} ms  {p99_us / 1e3:.2f} ms")
        curve = {f"{percent:g}": round(cuts_us[round(percent * 10) - 1], 1) for percent in CURVE}
        line = {
            "batch": count,
            "endpoints": arguments.endpoints,
            "decisions_per_second": round(rate * count),
            "requests": len(trips),
            "percentiles_us": curve,
        }
        print(json.dumps(line), flush=True)
    for one in (tool, client, other):
        one.close()


if __name__ == "__main__":
    main()
