# SPDX-License-Identifier: Apache-2.0
"""What needs a person, worst first: what it is, the sentence, what to type next. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from gateway.configuration.configuration import Configuration
from gateway.state.state import WORKER_SILENT_S, DirectoryServer, State

TUNNELS_SHOWN = 5
VNETS_SHOWN = 5
ERA_TOLD_S = 86_400.0  # a store that went back is told of for a day: whoever looks in the morning sees it


def attention(state: State, tunnels: Sequence[dict[str, Any]] = ()) -> list[dict[str, str]]:
    """Return the lines of "needs attention": maps of `about`, `text`, `command`."""
    lines: list[dict[str, str]] = []
    if state.greeting is None:
        since = f" since {clock_text(state.data_plane_lost_at)}" if state.data_plane_lost_at else ""
        lines.append(line("data plane", f"{state.data_plane_why}{since}", "systemctl status vnet-gateway"))
    if state.parent_is_gone:
        text = "is gone: what ends now is not started again"
        lines.append(line("parent", text, "systemctl start vnet-gateway"))
    for port, (error, fix) in sorted(state.exception_problems.items()):
        lines.append(line(f"port {port}", error, fix))
    for port, error in sorted(state.vlan_problems.items()):
        lines.append(line(f"port {port}", error, "vnetctl show ports"))
    for locator in state.missing_locators:
        text = "stands on no interface of this machine: nothing is sent from it"
        lines.append(line(f"locator {locator}", text, _locator_fix(state.configuration, locator)))
    lines.extend(_tunnel_lines(state, tunnels))
    servers = list(state.servers())
    if servers and not any(server.active for server in servers):
        text = "none answers; cached flows go on, new connections wait"
        lines.append(line("directory", text, "vnetctl show directories"))
    for server in servers:
        about = f"directory {server.name or server.endpoint}"
        if server.problem:
            lines.append(line(about, server.problem, server.fix or "vnetctl show directories"))
        elif server.state not in ("up", "unknown"):
            lines.append(line(about, _directory_text(server), "vnetctl show directories"))
    lines.extend(_era_lines(servers))
    told = {notice.why: notice for server in servers for notice in server.notices}
    lines.extend(line(f"node {state.node}", notice.text, notice.fix) for notice in told.values())
    lines.extend(_room_lines(state))
    now = state.clock()
    for name, worker in sorted(state.workers.items()):
        silent_s = now - worker.received_s
        if silent_s > WORKER_SILENT_S:
            text = f"silent for {silent_s:.0f} s; new connections of its V-nets wait"
            lines.append(line(name, text, "vnetctl events"))
        lost = sum(worker.now.counters.get(key, 0) for key in _MALFORMED)
        if lost:
            text = (
                f"{lost} messages of the directory were not understood: what they said is not in force here"
            )
            lines.append(line(name, text, "install one release on both, then restart the slow path"))
    if state.metrics_problem:
        lines.append(line("metrics", f"{state.metrics_problem}; it is tried again", "ss -ltnp"))
    return lines


_MALFORMED = ("operations_malformed", "answers_malformed", "messages_malformed")


def line(about: str, text: str, command: str) -> dict[str, str]:
    return {"about": about, "text": text, "command": command}


def clock_text(time_s: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(time_s))


_NO_ROOM = {  # table → what that means for the V-nets named before it
    "vnets": "not carried: the table of V-nets is full",
    "ingresses": "not wholly carried: the table of attachments and peers is full",
    "tunnels": "new tunnels find no room: the table of tunnels is full",
    "locations": "no more destinations: its share of the table of locations is used up",
}


def _room_lines(state: State) -> list[dict[str, str]]:
    """Return what the slow path's workers say finds no room in the data plane's tables."""
    lines = []
    others = {table for worker in state.workers.values() for table in worker.now.no_room} - _NO_ROOM.keys()
    for table in (*_NO_ROOM, *sorted(others)):
        sentence = _NO_ROOM.get(table, f"not wholly carried: the table of {table} is full")
        found = (worker.now.no_room.get(table) for worker in state.workers.values())
        said = [one for one in found if one is not None]
        count = sum(one.count for one in said)
        names = [name for one in said for name in one.vnets][:VNETS_SHOWN]
        if not count:
            continue
        shown = ", ".join(names) + (f" and {count - len(names)} more" if count > len(names) else "")
        verb = "gets" if table == "locations" else "is"
        plural = "get" if table == "locations" else "are"
        who = f"V-net {shown} {verb} " if count == 1 else f"V-nets {shown} {plural} "
        configured = getattr(state.configuration.capacity, table, None)
        size = f" ({table} = {configured})" if configured else ""
        command = f"raise {table if configured else 'vnets'} in [capacity] of gateway.toml, then restart it"
        lines.append(line("capacity", ("" if table == "tunnels" else who) + sentence + size, command))
    return lines


def _tunnel_lines(state: State, tunnels: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    bad = [tunnel for tunnel in tunnels if tunnel.get("state") in ("unresolved", "down")]
    lines = []
    for tunnel in bad[:TUNNELS_SHOWN]:
        since = f" since {clock_text(tunnel['since'])}" if tunnel.get("since") else ""
        why = f": {tunnel['why']}" if tunnel.get("why") else ""
        number = tunnel.get("tunnel")
        about = f"tunnel {number} → {tunnel.get('remote_locator')}"
        lines.append(line(about, f"{tunnel['state']}{since}{why}", f"vnetctl show tunnel {number}"))
    if len(bad) > TUNNELS_SHOWN:
        lines.append(
            line(f"{len(bad) - TUNNELS_SHOWN} more tunnels", "unresolved or down", "vnetctl show tunnels")
        )
    return lines


def _era_lines(servers: Sequence[DirectoryServer]) -> list[dict[str, str]]:
    """Return a line for each store that went back lately. Servers of one store say the same: one line."""
    lines: dict[int, dict[str, str]] = {}
    for server in servers:
        if server.era_began and server.era_heard_s < ERA_TOLD_S:
            text = f"its store went back, era {server.era} began: {server.era_began}"
            text += "; what was changed after that is not in it: apply it again"
            about = f"directory {server.name or server.endpoint}"
            lines.setdefault(server.incarnation, line(about, text, "vnetctl history"))
    return list(lines.values())


def _locator_fix(configuration: Configuration, locator: str) -> str:
    for port in configuration.ports.values():
        for address in port.addresses:
            if str(address.ip) == locator:
                return f"ip address add {address} dev {port.exception or port.name}"
    bits = 128 if ":" in locator else 32
    return f"ip address add {locator}/{bits} dev lo"


def _directory_text(server: DirectoryServer) -> str:
    if server.state == "late":
        late = f" ({server.rtt_us / 1000:.0f} ms)" if server.rtt_us else ""
        return f"late{late}" + ("" if server.active else ", passed over")
    silent = f" for {server.silent_s:.0f} s" if server.silent_s else ""
    return f"does not answer{silent}"
