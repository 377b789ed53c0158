# SPDX-License-Identifier: Apache-2.0
"""The gateway's own nouns as jobs: noun → rows. What a screen needs is in the rows, with units in the keys;
how it looks is vnetctl's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from directory_client.vocabulary.reasons import find_reason
from directory_client.wire.operator_requests import DIRECTORY_NOUNS, message_of
from gateway.show.flows import show_flows
from gateway.show.overview import busy_ratio, overview
from gateway.show.tunnels import show_tunnels
from gateway.state.job import DUMP_ROWS, AskDataPlane, Job, Refused, Steps, ask_directory
from gateway.state.state import State, Worker, read_names, read_table
from gateway.state.statistics import percentiles_us

Show = Callable[[State, str | None, dict[str, Any]], Job]
DROPS_LAST_MAX_S = 3600


def show(state: State, request: dict[str, Any]) -> Job:
    """Return the job for a `show` request. Raises Refused for a noun that there is not."""
    noun = request.get("noun") or "overview"
    name, args = request.get("name"), request.get("args") or {}
    if name is not None and not isinstance(name, (str, int)):
        raise Refused("name is no text", "vnetctl show --help", 2)
    if noun == "vnets":
        return show_vnets(state, request)
    if noun in DIRECTORY_NOUNS:
        return show_records(request)
    handler = NOUNS.get(noun)
    if handler is None:
        nouns = sorted({*NOUNS, *DIRECTORY_NOUNS} - {"overview"})
        raise Refused(f"{noun!r} is nothing that can be shown", f"one of: {' '.join(nouns)}", 2)
    return handler(state, None if name is None else str(name), args)


def show_records(request: dict[str, Any]) -> Job:
    """Return the directory's rows as they are."""
    answer = yield ask_directory(message_of(request))
    return {"rows": answer.get("rows", []), "revision": answer.get("revision")}


def show_vnets(state: State, request: dict[str, Any]) -> Job:
    """Return the directory's V-nets with this gateway's flows and traffic where it has them."""
    answer = yield ask_directory(message_of(request))
    rows = [dict(row) for row in answer.get("rows", ())]
    if state.greeting is not None:
        try:
            table = yield from read_table(state, "vnets", "vni")
        except Refused:
            table = None
        for row in rows:
            vni = row.get("vni")
            local = table.rows.get(vni) if table else None
            if table is None or local is None:
                continue
            row["flows"] = local.get("flows")
            row["refusals"] = local.get("drops_resident")
            row["in_packets_per_s"] = table.per_s(vni, "rx_packets")
            row["out_packets_per_s"] = table.per_s(vni, "tx_packets")
            row["installed_revision"] = local.get("revision")
    return {"rows": rows, "revision": answer.get("revision")}


def show_overview(state: State, name: str | None, args: dict[str, Any]) -> Job:
    return overview(state)


def show_ports(state: State, name: str | None, args: dict[str, Any]) -> Job:
    answer = yield AskDataPlane({"dump": "ports", "cursor": 0, "limit": DUMP_ROWS})
    rows = [_port_row(state, row) for row in answer.get("rows", ()) if name in (None, row.get("name"))]
    if name is not None and not rows:
        raise Refused(f"there is no port {name} at {state.node}", "vnetctl show ports", 2)
    return {"rows": rows}


def _port_row(state: State, row: dict[str, Any]) -> dict[str, Any]:
    port = str(row.get("name"))
    configured = state.configuration.ports.get(port)
    problem = state.exception_problems.get(port)

    def rate(counter: str, factor: int = 1) -> float | None:
        per_s = state.statistics.row_per_s("ports", port, counter)
        return None if per_s is None else per_s * factor

    return {
        "node": state.node,
        "port": port,
        "role": row.get("role"),
        "device": row.get("device") or (configured.device if configured else None),
        "state": "up" if row.get("up") else "down",
        "mac": row.get("mac"),
        "mtu_bytes": row.get("mtu_bytes"),
        "speed_mbps": row.get("speed_mbps") or None,
        "exception": (configured.exception or None) if configured else None,
        "exception_problem": problem[0] if problem else None,
        "addresses": [str(address) for address in configured.addresses] if configured else [],
        "in_packets_per_s": rate("rx_packets"),
        "out_packets_per_s": rate("tx_packets"),
        "in_bits_per_s": rate("rx_bytes", 8),
        "out_bits_per_s": rate("tx_bytes", 8),
        "in_packets": row.get("rx_packets"),
        "out_packets": row.get("tx_packets"),
        "in_bytes": row.get("rx_bytes"),
        "out_bytes": row.get("tx_bytes"),
        "tx_full": row.get("tx_full"),
        "rx_missed": row.get("rx_missed"),
        "rx_errors": row.get("rx_errors"),
        "exceptions": row.get("exceptions"),
    }


def show_threads(state: State, name: str | None, args: dict[str, Any]) -> Job:
    answer = yield AskDataPlane({"dump": "threads", "cursor": 0, "limit": DUMP_ROWS})
    rows = [_thread_row(state, row) for row in answer.get("rows", ())]
    rows += [_worker_row(state, worker, known) for worker, known in sorted(state.workers.items())]
    return {"rows": [row for row in rows if name in (None, row["thread"])]}


def _thread_row(state: State, row: dict[str, Any]) -> dict[str, Any]:
    thread = str(row.get("thread"))
    statistics = state.statistics
    packets = statistics.row_difference("threads", thread, "packets")
    bursts = statistics.row_difference("threads", thread, "bursts")
    busy = statistics.row_difference("threads", thread, "cycles_busy")
    stages = statistics.stage_difference(thread)
    return {
        "node": state.node,
        "thread": thread,
        "kind": "poll",
        "cpu": row.get("cpu"),
        "packets_per_s": statistics.row_per_s("threads", thread, "packets"),
        "busy_ratio": busy_ratio(state, thread),
        "packets_per_burst": packets / bursts if packets is not None and bursts else None,
        "cycles_per_packet": busy / packets if busy is not None and packets else None,
        "stage_cycles_per_packet": {s: c / packets for s, c in stages.items()} if packets else {},
        "sleeps_per_s": statistics.row_per_s("threads", thread, "sleeps"),
        "packets": row.get("packets"),
    }


def _worker_row(state: State, name: str, worker: Worker) -> dict[str, Any]:
    span = worker.received_s - worker.before_s
    now, then = worker.now, worker.before

    def difference(counter: str) -> float | None:
        if then is None or span <= 0:
            return None
        counted: float = getattr(now, counter) - getattr(then, counter)
        return max(0.0, counted)

    misses, batches, busy_s = difference("misses"), difference("batches"), difference("busy_s")
    p50, p99 = percentiles_us(now.directory_us_bucket, 0.5, 0.99)
    return {
        "node": state.node,
        "thread": name,
        "kind": "slow-path",
        "cpu_ratio": now.cpu,
        "misses_per_s": misses / span if misses is not None else None,
        "busy_ratio": busy_s / span if busy_s is not None else None,
        "misses_per_batch": misses / batches if misses is not None and batches else None,
        "directory_p50_us": p50,
        "directory_p99_us": p99,
        "misses": int(now.misses),
        "silent_s": round(state.clock() - worker.received_s, 1),
    }


def show_counters(state: State, name: str | None, args: dict[str, Any]) -> Job:
    answer = yield AskDataPlane({"dump": "counters"})
    counters = answer.get("counters", {})
    rows = [
        {"node": state.node, "counter": key, "value": value, "per_s": state.statistics.per_s(key)}
        for key, value in counters.items()
        if isinstance(value, (int, float)) and name in (None, key)
    ]
    if name is None:
        own = {
            "requests_malformed": state.malformed_requests,
            "inbox_malformed": state.malformed_inbox,
            **{f"records_refused_{why}": n for why, n in sorted(state.refused_records.items())},
        }
        rows += [{"node": state.node, "counter": key, "value": n, "per_s": None} for key, n in own.items()]
    elif not rows:
        raise Refused(f"no counter is called {name}", "vnetctl show counters", 2)
    return {"rows": rows}


def show_drops(state: State, name: str | None, args: dict[str, Any]) -> Job:
    """Return drops by reason with sentence and what to type; `last_s` bounds the time (default: since the
    data plane started)."""
    last_s = args.get("last_s")
    if last_s is not None and (not isinstance(last_s, (int, float)) or not 0 < last_s <= DROPS_LAST_MAX_S):
        raise Refused(f"--last {last_s!r} is not between 1 s and 1 h", "vnetctl show drops --last 5m", 2)
    answer = yield AskDataPlane({"dump": "counters"})
    if last_s is None:
        drops: dict[tuple[str, int], int] = {}
        for row in answer.get("drops", ()):
            key = (str(row["reason"]), int(row.get("vni") or 0))
            drops[key] = drops.get(key, 0) + int(row["packets"])
        seconds = answer.get("counters", {}).get("uptime_s")
    else:
        drops, seconds = state.statistics.drops_since(last_s)
    names = yield from read_names(state)
    totals: dict[str, int] = {}
    vnets: dict[str, dict[int, int]] = {}
    for (reason, vni), packets in drops.items():
        totals[reason] = totals.get(reason, 0) + packets
        vnets.setdefault(reason, {})[vni] = vnets.get(reason, {}).get(vni, 0) + packets
    whole = sum(totals.values())
    rows = []
    for reason, packets in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        if not packets or name not in (None, reason):
            continue
        members = sorted((v for v in vnets[reason] if v), key=lambda v: -vnets[reason][v])
        known = find_reason(reason)
        command = known.next if known else ""
        if members and "VNET" in command:
            command = yield from _with_example(state, command, reason, members[0], names.vnet(members[0]))
        rows.append(
            {
                "node": state.node,
                "reason": reason,
                "packets": packets,
                "share_ratio": packets / whole,
                "vnets": [names.vnet(vni) for vni in members],
                "sentence": known.sentence if known else "",
                "command": command,
            }
        )
    return {"rows": rows, "seconds": seconds, "received": _received(state, answer, last_s)}


def _with_example(state: State, command: str, reason: str, vni: int, vnet: str) -> Steps:
    """Name a connection that is dropped for this reason, if the cache's first rows have one."""
    command = command.replace("VNET", vnet)
    answer = yield AskDataPlane({"dump": "flows", "cursor": 0, "limit": DUMP_ROWS, "vni": vni})
    dropped = [
        row for row in answer.get("rows", ()) if row.get("reason") == reason and row.get("action") == "drop"
    ]
    if not dropped:
        return command
    worst = max(dropped, key=lambda row: row.get("packets") or 0)
    return command.replace("SOURCE", str(worst.get("source"))).replace(
        "DESTINATION", str(worst.get("destination"))
    )


def _received(state: State, answer: dict[str, Any], last_s: float | None) -> int | None:
    if last_s is None:
        received: int | None = answer.get("counters", {}).get("received")
        return received
    per_s = state.statistics.per_s("received")
    return None if per_s is None or last_s > 15 else round(per_s * last_s)


def show_directories(state: State, name: str | None, args: dict[str, Any]) -> Job:
    yield from ()
    rows = [
        {
            "node": state.node,
            "directory": server.name or None,
            "endpoint": server.endpoint,
            "state": server.state,
            "active": server.active,
            "revision": server.revision,
            "rtt_us": server.rtt_us,
            "silent_s": server.silent_s,
            "failures": server.failures,
            "key": server.key or None,
            "era": server.era or None,
            "era_began": server.era_began or None,
            "problem": server.problem or "; ".join(notice.text for notice in server.notices) or None,
        }
        for server in state.servers()
    ]
    return {"rows": [row for row in rows if name in (None, row["directory"], row["endpoint"])]}


def show_ingresses(state: State, name: str | None, args: dict[str, Any]) -> Job:
    answer = yield AskDataPlane({"dump": "ingresses", "cursor": 0, "limit": 4096})
    nodes = [row.get("object_id") for row in answer.get("rows", ()) if row.get("kind") == "node"]
    names = yield from read_names(state, nodes)
    rows = [
        {
            "node": state.node,
            "vnet": names.vnet(row.get("vni")),
            "remote_node": names.objects.get(row.get("object_id", 0)) if row.get("kind") == "node" else None,
            **row,
        }
        for row in answer.get("rows", ())
        if name in (None, str(row.get("ingress")))
    ]
    return {"rows": rows}


def show_clients(state: State, name: str | None, args: dict[str, Any]) -> Job:
    answer = yield AskDataPlane({"dump": "clients", "cursor": 0, "limit": DUMP_ROWS})
    rows = [{"node": state.node, **row} for row in answer.get("rows", ())]
    if name is not None:
        rows = [row for row in rows if name in (row.get("client"), str(row.get("pid")))]
        if not rows:
            raise Refused(f"no client is called {name}", "vnetctl show clients", 2)
    return {"rows": rows}


NOUNS: dict[str, Show] = {
    "overview": show_overview,
    "tunnels": show_tunnels,
    "flows": show_flows,
    "ports": show_ports,
    "threads": show_threads,
    "counters": show_counters,
    "drops": show_drops,
    "directories": show_directories,
    "ingresses": show_ingresses,
    "clients": show_clients,
}
