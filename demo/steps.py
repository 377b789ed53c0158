# SPDX-License-Identifier: Apache-2.0
"""The demo's steps, in order. Each shows something and adds what it promised to the report."""

from __future__ import annotations

import itertools
import time

from demo import lab, traffic
from demo.gateways import (
    GATEWAYS,
    RUN,
    answers,
    await_true,
    connect_underlay,
    cpu_seconds,
    data_plane,
    kill,
    pid_of,
    pids_of,
    vnetctl,
    write_files,
)
from demo.gateways import start as start_gateway
from demo.lab import HOSTS, Host, host
from demo.report import Report
from demo.traffic import StreamResult

TENANTS = ("red", "blue")


def members(vnet: str) -> list[Host]:
    return [member for member in HOSTS if member.vnet == vnet]


def pairs(vnet: str) -> list[tuple[Host, Host]]:
    """Every pair of a tenant's members that needs a gateway: on one segment none is needed."""
    return [
        (a, b) for a, b in itertools.combinations(members(vnet), 2) if (a.site, a.port) != (b.site, b.port)
    ]


def lost_of(results: list[StreamResult]) -> str:
    return ", ".join(f"{r.source} → {r.target} {r.lost} of {r.sent}" for r in results)


def counters(site: str) -> dict[str, int]:
    """A gateway's counters by name."""
    return {row["counter"]: row["value"] for row in vnetctl(site, "show", "counters")}


def drops(site: str) -> dict[str, int]:
    return {row["reason"]: row["packets"] for row in vnetctl(site, "show", "drops")}


def build(report: Report) -> None:
    report.title("1  Three sites, two tenants with the same addresses")
    lab.build()
    for member in HOSTS:
        tag = f"vlan {member.vlan}" if member.vlan else "untagged"
        report.say(
            f"{member.vnet:5} {member.name:11} {member.address}  at {member.site} port {member.port} ({tag})"
        )


def start(report: Report) -> None:
    report.title("2  Two gateways; their directory is told the topology")
    write_files()
    for site in GATEWAYS:
        start_gateway(site)
    for site in GATEWAYS:
        connect_underlay(site)
        await_true(f"admin socket of {site}", lambda site=site: answers(site, "show"))
    applied = vnetctl("ams-gw", "apply", "-f", str(RUN / "topology.toml"), "--yes")
    report.say(f"applied {RUN / 'topology.toml'}: revision {applied[-1].get('revision')}")
    for site in GATEWAYS:
        await_true(
            f"tunnels of {site}",
            lambda site=site: [t["state"] for t in answers(site, "show", "tunnels")].count("up") >= 2,
        )
        report.say(
            f"{site}: "
            + ", ".join(
                f"tunnel to {t['remote_node']} {t['state']}" for t in vnetctl(site, "show", "tunnels")
            )
        )


def ping_all(report: Report) -> None:
    report.title("3  Every member reaches every other of its tenant; no first packet is lost")
    sent = received = 0
    for vnet in TENANTS:
        for a, b in pairs(vnet):
            got = traffic.ping(a, b)
            sent, received = sent + got.sent, received + got.received
            times = f"first {got.first_ms:.2f} ms, then {got.median_ms:.2f} ms"
            report.say(f"{a.name:10} → {b.name:10} {got.received} of {got.sent}   {times}")
    report.promise(
        "ping among all members of a tenant, first packets too",
        f"{received} of {sent} answered",
        sent == received,
    )
    delays = [
        row
        for site in GATEWAYS
        for row in vnetctl(site, "show")
        if row.get("first_packet_p50_us") is not None
    ]
    worst = max((row["first_packet_p50_us"] for row in delays), default=0)
    report.promise(
        "first-packet delay in the hold, median under 5 ms",
        ", ".join(
            f"{row['node']} p50 {row['first_packet_p50_us']:.0f} µs p99 {row['first_packet_p99_us']:.0f} µs"
            for row in delays
        ),
        bool(delays) and 0 < worst < 5000,
        timed=True,
    )


def throughput(report: Report) -> None:
    report.title("4  TCP with the hosts' default offloads")
    slowest = None
    for vnet in TENANTS:
        for a, b in pairs(vnet):
            gbps, retransmits = traffic.iperf(a, b)
            slowest = min(slowest or gbps, gbps)
            report.say(f"{a.name:10} → {b.name:10} {gbps:5.2f} Gb/s   {retransmits} retransmitted")
    report.promise(
        "iperf3 between all members of a tenant",
        f"slowest {slowest:.2f} Gb/s",
        bool(slowest and slowest > 0.01),
    )


def caches(report: Report) -> None:
    report.title("5  The caches have filled")
    for site in GATEWAYS:
        flows = vnetctl(site, "show", "flows")
        report.say(f"{site}: {len(flows)} flows")
        for flow in flows[:4]:
            addresses = f"{flow['source']} → {flow['destination']}"
            report.say(f"    {flow['vnet']:5} {addresses}  {flow['action']}  revision {flow['revision']}")
        report.promise(f"flows cached at {site}", str(len(flows)), len(flows) > 0)


def isolation(report: Report) -> None:
    report.title("6  Red cannot reach blue, and nobody can be who he is not")
    wrong = []
    with traffic.name_services(HOSTS):
        for a, b in itertools.chain(pairs("red"), pairs("blue")):
            names = traffic.who_answers(a, b.address)
            if names != [b.name]:
                wrong.append(f"{a.name} asked {b.address} and {names} answered")
    checked = len(pairs("red")) + len(pairs("blue"))
    report.promise(
        "asked by address, only the own tenant's host answers",
        f"{checked - len(wrong)} of {checked}" + "".join(f"; {w}" for w in wrong),
        not wrong,
    )

    stranger = traffic.ping(host("blue-web-1"), Host("", "blue", "10.0.0.15", "", "", ""), count=1)
    report.promise(
        "an address that only red has is unreachable from blue",
        f"{stranger.received} of {stranger.sent} answered",
        stranger.received == 0,
    )

    before = drops("ams-gw").get("spoofed", 0)
    arrived = traffic.forged_source(
        host("red-web-1"), forged=host("red-db-1").address, target=host("red-web-2")
    )
    refused = drops("ams-gw").get("spoofed", 0) - before
    report.promise(
        "a forged source is refused",
        f"{arrived} arrived, {refused} dropped as spoofed",
        arrived == 0 and refused > 0,
    )

    before = drops("ber-gw").get("unknown_vtep", 0)
    arrived = traffic.forged_tunnel(
        lab.FABRIC, vni=7001, gateway=GATEWAYS["ber-gw"], target=host("red-web-2")
    )
    refused = drops("ber-gw").get("unknown_vtep", 0) - before
    report.promise(
        "a tunnel packet from a stranger is refused",
        f"{arrived} arrived, {refused} dropped as unknown_vtep",
        arrived == 0 and refused > 0,
    )


def move(report: Report) -> None:
    report.title("7  red-roam moves from ams-gw to ber-gw while traffic runs")
    roam, database, web_5 = host("red-roam"), host("red-db-1"), host("red-web-5")
    moved = RUN / "moved.toml"
    here, there = '"02:00:00:00:01:14", at = ["ams-gw/red"]', '"02:00:00:00:01:14", at = ["ber-gw/red"]'
    moved.write_text((RUN / "topology.toml").read_text().replace(here, there))
    with traffic.streams([(web_5, roam), (database, roam), (roam, database)]) as results:
        began = time.monotonic()
        lab.move_host(roam, "ams-gw", "ber-gw")
        plugged = time.monotonic()
        vnetctl("ams-gw", "apply", "-f", str(moved), "--yes", "--comment", "roam moves to ber")
        applied = time.monotonic()
        time.sleep(1)
    for r in results:
        report.say(
            f"{r.source} → {r.target}: {r.lost} of {r.sent} lost, longest gap {r.longest_gap_ms:.0f} ms"
        )
    cable_ms, apply_ms = (plugged - began) * 1000, (applied - plugged) * 1000
    report.say(f"the cable took {cable_ms:.0f} ms, vnetctl apply {apply_ms:.0f} ms")
    gap = max(r.longest_gap_ms for r in results)
    report.promise(
        "streams to and from it go on after the move",
        f"longest gap {gap:.0f} ms",
        all(r.received > r.sent / 2 for r in results) and gap < 2000,
        timed=True,
    )
    again = traffic.ping(host("red-web-1"), roam)
    report.promise(
        "its neighbours of before reach it at the new place",
        f"{again.received} of {again.sent}",
        again.received == again.sent,
    )


def kills(report: Report) -> None:
    report.title("8  SIGKILL, one process after the other, while traffic runs")
    watched = [
        (host("red-web-1"), host("red-web-2")),
        (host("red-web-2"), host("red-web-1")),
        (host("red-web-5"), host("red-db-1")),
    ]
    for process in ("parent", "control", "slow-path-0", "directory"):
        with traffic.streams(watched) as results:
            time.sleep(0.3)
            began = time.monotonic()
            old = kill("ams-gw", process)
            if process == "parent":
                start_gateway("ams-gw")  # as systemd would
            await_true(
                f"a new {process}", lambda process=process, old=old: pid_of("ams-gw", process) not in (0, old)
            )
            await_true("the gateway as a whole", lambda: answers("ams-gw", "show"))
            back_s = time.monotonic() - began
        lost = sum(r.lost for r in results)
        total = sum(r.sent for r in results)
        report.promise(
            f"{process} killed: nothing cached is lost",
            f"{lost} of {total} lost, back after {back_s:.1f} s" + (f" ({lost_of(results)})" if lost else ""),
            lost == 0,
        )
    got = traffic.ping(host("red-web-1"), host("red-db-1"))
    report.promise("new decisions after all that", f"{got.received} of {got.sent}", got.received == got.sent)


def kill_data_plane(report: Report) -> None:
    report.title("9  SIGKILL to the data plane: it resumes with its flows")
    watched = [(host("red-web-1"), host("red-web-2")), (host("red-web-5"), host("red-db-1"))]
    with traffic.streams(watched) as results:
        time.sleep(0.3)
        flows_before = len(vnetctl("ams-gw", "show", "flows"))
        old = kill("ams-gw", "data-plane")
        await_true("a new data plane", lambda: pid_of("ams-gw", "data-plane") not in (0, old))
        await_true("the gateway as a whole", lambda: answers("ams-gw", "show", "flows"))
        time.sleep(1)
    now = data_plane("ams-gw")
    times = {name: value for name, value in now["start"].items() if name.endswith("_ms") and value}
    report.say("the one that took over: " + ", ".join(f"{k} {v:.0f}" for k, v in times.items()))
    parts = ", ".join(f"{name} {times.get(f'{name}_ms', 0):.0f}" for name in ("tables", "ports", "threads"))
    gap = max(r.longest_gap_ms for r in results)
    lost = sum(r.lost for r in results)
    report.promise(
        "a killed data plane forwards again within 1 s",
        f"gap {gap:.0f} ms, {lost} lost ({parts} ms, then the first packet)",
        gap < 1000,
        timed=True,
    )
    asked, adopted = now["counters"]["miss_records"], now["adoption"]["flows"]
    report.promise(
        "with its flows, none asked again",
        f"{adopted} of {flows_before} adopted, {asked} asked",
        asked == 0 and adopted >= flows_before,
    )


def idle(report: Report) -> None:
    report.title("10 Idle gateways")
    seconds = 5.0
    living = {(site, name): pid for site in GATEWAYS for name, pid in pids_of(site).items()}
    before = {key: cpu_seconds(pid) for key, pid in living.items()}
    time.sleep(seconds)
    shares = {key: (cpu_seconds(living[key]) - used) / seconds for key, used in before.items()}
    for site in GATEWAYS:
        mine = {name: share for (where, name), share in shares.items() if where == site}
        report.say(f"{site}: " + ", ".join(f"{name} {share:.1%}" for name, share in mine.items()))
        total = sum(mine.values())
        report.promise(
            f"{site} idle: under 3 % of a core, all its processes together",
            f"{total:.1%}",
            total < 0.03,
            timed=True,
        )
    got = traffic.ping(host("red-web-1"), host("red-web-2"), count=20, interval_s=0.25)
    report.promise(
        "idle gateways wake within a millisecond",
        f"median round trip of sparse pings, four wake-ups: {got.median_ms:.2f} ms",
        0 < got.median_ms < 1,
        timed=True,
    )


STEPS = (build, start, ping_all, throughput, caches, isolation, move, kills, kill_data_plane, idle)
