# SPDX-License-Identifier: Apache-2.0
"""The demo's two gateways as an operator runs them: files, `vnet-gateway run`, `vnetctl`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from demo.lab import GATEWAYS, PREFIX, ROOT, UNDERLAY, inside
from fastpath.rings import DataPlaneUnreachable, RingClient

RUN = Path("/run/vnet-demo")
BIN = Path(sys.executable).parent
CONFIG = Path(__file__).resolve().parent / "config"

T = TypeVar("T")


class DemoError(Exception):
    """Something did not happen; the message says what, and where to look."""


def await_true(what: str, condition: Callable[[], T], timeout_s: float = 20.0) -> T:
    """Wait until condition() is true and return it. Raises DemoError that says what did not happen."""
    deadline = time.monotonic() + timeout_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {timeout_s:.0f} s; logs are in {RUN}")
        time.sleep(0.02)


def write_files() -> None:
    """Copy the configuration to RUN and fill in the keys that `vnet-directory keygen` makes."""
    shutil.rmtree(RUN, ignore_errors=True)
    (RUN / "keys").mkdir(parents=True)
    keys = {}
    for name in ("directory", "ber-gw"):
        done = subprocess.run(
            [BIN / "vnet-directory", "keygen", RUN / "keys" / f"{name}.key"],
            check=True,
            capture_output=True,
            text=True,
        )
        keys[name] = done.stdout.split()[-1]
    for source in CONFIG.glob("*.toml"):
        text = source.read_text()
        text = text.replace("@DIRECTORY_PUBLIC_KEY@", keys["directory"]).replace(
            "@BER_GW_PUBLIC_KEY@", keys["ber-gw"]
        )
        (RUN / source.name).write_text(text)


def start(site: str) -> None:
    """Start a gateway's parent, detached from us, with its log in RUN."""
    with open(RUN / f"{site}.log", "ab") as log:
        subprocess.Popen(
            ["ip", "netns", "exec", f"{PREFIX}{site}", BIN / "vnet-gateway", "run", RUN / f"{site}.toml"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def connect_underlay(site: str) -> None:
    """What an underlay's routing daemon would do on the exception interface: a default route."""
    await_true(
        f"exception interface of {site}", lambda: "uplink" in inside(site, "ip -br address show", check=False)
    )
    address = f"{GATEWAYS[site]}/24"
    await_true(
        f"address {address}", lambda: address in inside(site, "ip -br address show dev uplink", check=False)
    )
    inside(site, f"ip route replace default via {UNDERLAY[site]}.254 dev uplink")


def vnetctl(site: str, *words: str, check: bool = True) -> list[dict[str, Any]]:
    """Run vnetctl at a gateway; return its rows."""
    socket = RUN / site / "gateway.sock"
    done = subprocess.run(
        [BIN / "vnetctl", "--socket", socket, "--json", *words], capture_output=True, text=True
    )
    if check and done.returncode:
        raise DemoError(f"vnetctl {' '.join(words)}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def answers(site: str, *words: str) -> list[dict[str, Any]]:
    """The same, but nobody answering is no error."""
    try:
        return vnetctl(site, *words)
    except DemoError:
        return []


def is_alive(pid: int) -> bool:
    """True if the process runs (a zombie, which only waits to be reaped, does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_of(site: str, process: str) -> int:
    """Pid of a gateway's process, 0 if it does not live. The data plane is whoever serves its socket: after
    a death it is the one that was the spare."""
    if process == "data-plane":
        return data_plane_pid(site)
    try:
        pid = int((RUN / site / f"{process}.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0
    return pid if is_alive(pid) else 0


def pids_of(site: str) -> dict[str, int]:
    """Every living process of a gateway by name, the spare data plane too."""
    names = [path.stem for path in (RUN / site).glob("*.pid")]
    pids = {name: int((RUN / site / f"{name}.pid").read_text().split()[0]) for name in sorted(names)}
    return {name: pid for name, pid in pids.items() if is_alive(pid)}


def data_plane_pid(site: str) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        try:
            peer.connect(str(RUN / site / "dataplane.sock"))
        except OSError:
            return 0
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid


def data_plane(site: str) -> dict[str, Any]:
    """What the data plane says of itself: counters, adoption, times of its start. Empty if none serves."""
    try:
        with RingClient(RUN / site / "dataplane.sock", "observer") as client:
            return dict(client.ask({"dump": "counters"}))
    except (DataPlaneUnreachable, OSError):
        return {}


def kill(site: str, process: str) -> int:
    """SIGKILL a process; returns the pid it had."""
    pid = pid_of(site, process)
    if not pid:
        raise DemoError(f"{process} of {site} is not running")
    os.kill(pid, signal.SIGKILL)
    await_true(f"end of {process}", lambda: pid_of(site, process) != pid)
    return pid


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stop() -> None:
    """Stop both gateways as systemd would: SIGTERM to the parents."""
    for site in GATEWAYS:
        if pid := pid_of(site, "parent"):
            os.kill(pid, signal.SIGTERM)
    for site in GATEWAYS:
        await_true(f"end of {site}", lambda site=site: not pid_of(site, "parent"), 30)
