# SPDX-License-Identifier: Apache-2.0
"""The data-plane process: starting, stopping, its socket, and clients that mean harm. Null ports, no root."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import select
import signal
import socket
import struct
import sys
from pathlib import Path

import msgpack
import numpy as np
import pytest

from fastpath.rings import DataPlaneUnreachable

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

from data_plane_bed import Bed, hello, make_bed, until  # noqa: F401
from installing import RED, attachment, flow, flow_key, ingress, location, tunnel, vnet

from fastpath import records
from gateway.data_plane.server import INSTALL_SLOTS, MISS_SLOTS

RACK, FAR, TUNNEL = 100, 300, 500
WAY_BACK = ingress(RED, 9, "192.0.2.2")
TABLES = ("flows", "locations", "tunnels", "vnets", "ingresses", "ports", "threads", "clients")


@pytest.fixture
def bed(make_bed) -> Bed:  # noqa: F811
    bed = make_bed()
    bed.start()
    return bed


def counted(bed: Bed, section: str, name: str) -> int:
    return bed.ask(dump="counters")[section][name]


def install(client, *rows) -> None:
    rows = records.join(list(rows))
    assert client.send(rows) == len(rows)


def red(bed: Bed, slow_path) -> int:
    """Set red up, with 100 flows into a tunnel; return how many."""
    install(slow_path, vnet(RED), attachment(RED, RACK), WAY_BACK, tunnel(TUNNEL), location(RED, FAR))
    until(lambda: bed.ask(dump="ingresses")["rows"], "the attachment is there")
    ingress = bed.ask(dump="ingresses")["rows"][0]["ingress"]
    keys = [flow_key(ingress, source=f"10.0.0.{i}") for i in range(1, 101)]
    install(slow_path, *(flow(RED, key, RACK) for key in keys))
    until(lambda: counted(bed, "counters", "flows") == len(keys), "all flows are installed")
    return len(keys)


def flows(bed: Bed) -> set[tuple[object, ...]]:
    rows = bed.ask(dump="flows", cursor=0, limit=4096)["rows"]
    return {(r["vni"], r["source"], r["destination"], r["action"], r["destination_object"]) for r in rows}


def test_greeting_says_what_there_is_and_sigterm_ends_it(bed: Bed) -> None:
    with bed.client() as observer:
        assert observer.answer["node"] == bed.name
        assert [(p["name"], p["index"], p["role"]) for p in observer.ports] == [
            ("rack", 0, "inside"),
            ("uplink", 1, "underlay"),
        ]
        assert observer.threads == 1
        assert observer.answer["adopted"] is False
        assert len({p["mac"] for p in observer.ports}) == 2

    bed.processes[0].terminate()

    assert bed.processes[0].wait(60) == 0
    assert not bed.socket_path.exists()
    assert "error" not in bed.log()


def test_every_table_can_be_dumped(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path:
        n = red(bed, slow_path)
        rows = {noun: bed.ask(dump=noun, cursor=0)["rows"] for noun in TABLES}
    assert len(rows["flows"]) == n
    assert [r["object_id"] for r in rows["locations"]] == [FAR]
    assert [(r["object_id"], r["tx_packets"]) for r in rows["tunnels"]] == [(TUNNEL, 0)]
    assert [(r["vni"], r["flows"]) for r in rows["vnets"]] == [(RED, n)]
    assert [(r["port"], r["object_id"]) for r in rows["ingresses"]] == [("rack", RACK), (None, 9)]
    assert [r["driver"] for r in rows["ports"]] == ["net_null", "net_null"]
    assert [r["thread"] for r in rows["threads"]] == ["poll-0"]
    assert ("slow-path-0", n + 5) in [(r["client"], r["records_in"]) for r in rows["clients"]]


def test_batches_of_a_dump_add_up(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path, bed.client() as observer:
        n = red(bed, slow_path)
        cursor, found = 0, []
        while cursor is not None:
            answer = observer.ask({"dump": "flows", "cursor": cursor, "limit": 10})
            found += [row["source"] for row in answer["rows"]]
            cursor = answer["cursor"]
    assert len(found) == len(set(found)) == n


def test_killed_data_plane_is_followed_by_its_spare_with_all_flows(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path:
        red(bed, slow_path)
    before = flows(bed)
    bed.start(1)
    bed.wait_for_spare(1)

    bed.processes[0].send_signal(signal.SIGKILL)
    bed.processes[0].wait()

    with bed.client() as observer:
        assert observer.answer["adopted"] is True
        start = observer.ask({"dump": "counters"})["start"]
    assert flows(bed) == before
    assert start["spare"] is True
    print(f"resumed in {start['resumed_ms']:.0f} ms")


def test_spare_starts_anew_when_the_file_has_changed(bed: Bed) -> None:
    bed.client().close()
    bed.start(1)
    bed.wait_for_spare(1)
    bed.file.write_text(bed.file.read_text().replace("port.uplink", "port.wan"))

    bed.processes[0].terminate()

    assert until(lambda: "has changed" in bed.log(1), "the spare sees the change")
    with bed.client() as observer:
        assert [p["name"] for p in observer.ports] == ["rack", "wan"]


def test_tables_of_other_ports_are_not_adopted(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path:
        red(bed, slow_path)
    bed.processes[0].terminate()
    bed.processes[0].wait(60)
    bed.file.write_text(bed.file.read_text().replace("port.rack", "port.shelf"))

    bed.start()

    with bed.client() as observer:
        assert observer.answer["adopted"] is False
    assert flows(bed) == set()


HOSTILE = [
    b"",
    b"\xc1",
    b"\x00",
    msgpack.packb([1, 2, 3]),
    msgpack.packb({1: 2}),
    msgpack.packb({"hello": "observer"}),
    msgpack.packb({"v": 2, "hello": "observer"}),
    msgpack.packb({"v": 1}),
    msgpack.packb({"v": 1, "dump": "flows"}),
    msgpack.packb({"v": 1, "hello": 7}),
    msgpack.packb({"v": 1, "hello": {"a": []}}),
    msgpack.packb({"v": 1, "hello": "slow-path", "worker": -1, "workers": 1}),
    msgpack.packb({"v": 1, "hello": "slow-path", "worker": 1, "workers": 1}),
    msgpack.packb({"v": 1, "hello": "slow-path", "worker": 2**63, "workers": 1}),
    msgpack.packb({"v": 1, "hello": "slow-path", "worker": True, "workers": 1}),
    msgpack.packb({"v": 1, "hello": "slow-path", "worker": 0, "workers": 9}),
    b"\x81" * 2000,
    b"\x91" * 60000,
    bytes(65000),
]


@pytest.mark.parametrize("message", HOSTILE[1:], ids=lambda m: m[:24].hex())
def test_malformed_greeting_is_answered_with_an_error(shared_bed: Bed, message: bytes) -> None:
    answer = hello(shared_bed.socket_path, message)

    assert answer is not None
    assert answer["ok"] is False
    assert answer["error"]
    assert shared_bed.ask(dump="threads")["rows"]


@pytest.mark.parametrize(
    "question",
    [
        {},
        {"dump": None},
        {"dump": "secrets"},
        {"dump": ["flows"]},
        {"dump": "flows", "cursor": -1},
        {"dump": "flows", "cursor": "x"},
        {"dump": "flows", "cursor": 2**40},
        {"dump": "flows", "cursor": 0, "limit": 2**40, "vni": -3},
        {"dump": "flows", "cursor": 0, "limit": "many"},
        {"dump": "ports", "cursor": -9},
        {"dump": "ports", "cursor": [], "limit": {}},
        {"exception": "uplink", "index": 0},
        {"exception": ["uplink"]},
        {"hello": "observer"},
    ],
    ids=str,
)
def test_malformed_question_is_answered_and_the_client_served_on(shared_bed: Bed, question: dict) -> None:
    with shared_bed.client() as observer:
        answer = observer.ask(question)
        rows = observer.ask({"dump": "ports"})["rows"]

    assert answer.get("ok") is not None
    assert answer["ok"] is False or "rows" in answer
    assert len(rows) == 2


@pytest.mark.parametrize(
    "question",
    [
        {"set": "idle", "mode": "never"},
        {"set": "idle", "mode": 3},
        {"set": "hold", "packets": -1},
        {"set": "hold", "packets": "all"},
        {"set": "hold", "boxes": 3},
        {"set": "clock"},
    ],
    ids=str,
)
def test_malformed_setting_is_answered_and_control_served_on(shared_bed: Bed, question: dict) -> None:
    with shared_bed.client("control") as control:
        assert control.ask(question)["ok"] is False
        assert control.ask({"set": "idle", "mode": "sleep"})["ok"] is True


@pytest.mark.parametrize("role", ["observer", "slow-path"])
def test_only_control_may_change_settings(shared_bed: Bed, role: str) -> None:
    with shared_bed.client(role) as client:
        answer = client.ask({"set": "idle", "mode": "sleep"})
    assert answer["ok"] is False
    assert "only control" in answer["error"]


def test_random_bytes_on_the_socket_harm_nobody(shared_bed: Bed) -> None:
    chance = random.Random(1)
    for _ in range(300):
        hello(shared_bed.socket_path, chance.randbytes(chance.randrange(1, 200)))
    assert shared_bed.ask(dump="threads")["rows"]


def test_descriptors_that_nobody_asked_for_are_closed(shared_bed: Bed) -> None:
    def open_files() -> int:
        return len(os.listdir(f"/proc/{shared_bed.processes[-1].pid}/fd"))

    shared_bed.ask(dump="threads")
    before = open_files()
    for _ in range(20):
        hello(shared_bed.socket_path, msgpack.packb({"v": 1, "x": 1}), [0, 1, 2])
        hello(shared_bed.socket_path, msgpack.packb({"v": 1, "x": 1}), [0] * 20)
    until(lambda: open_files() <= before, "nothing stays open")


def test_exception_queue_must_be_a_tap(shared_bed: Bed) -> None:
    with shared_bed.client("control") as control, open("/dev/null") as null:
        answer = control.ask({"exception": "uplink", "index": 0}, [null.fileno()])
        assert "no queue of a TAP" in answer["error"]


def test_client_that_does_not_read_is_dropped_and_others_are_served(shared_bed: Bed) -> None:
    question = msgpack.packb({"v": 1, "dump": "counters"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.connect(str(shared_bed.socket_path))
        deaf.settimeout(60)
        deaf.send(msgpack.packb({"v": 1, "hello": "observer"}))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(5000):
                deaf.send(question)
            pytest.fail("it was never dropped")
    assert shared_bed.ask(dump="threads")["rows"]


def test_second_client_of_a_worker_takes_its_place(bed: Bed) -> None:
    with bed.client("slow-path") as first, bed.client("slow-path") as second:
        with pytest.raises(DataPlaneUnreachable):
            first.ask({"dump": "ports"})
        install(second, vnet(RED))
        until(lambda: bed.ask(dump="vnets")["rows"], "the second one's records are applied")
        names = [row["client"] for row in bed.ask(dump="clients")["rows"]]
    assert names.count("slow-path-0") == 1


def test_rings_of_a_client_that_has_gone_are_not_read_any_more(bed: Bed) -> None:
    bed.client("slow-path").close()
    until(lambda: "slow-path-0" not in [r["client"] for r in bed.ask(dump="clients")["rows"]], "it is gone")
    with bed.client("slow-path") as again:
        install(again, vnet(RED))
        until(lambda: bed.ask(dump="vnets")["rows"], "a new one is served")


def greet_raw(bed: Bed) -> tuple[socket.socket, mmap.mmap, list[int], dict]:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(str(bed.socket_path))
    connection.send(msgpack.packb({"v": 1, "hello": "slow-path", "worker": 0, "workers": 1}))
    raw, descriptors, _, _ = socket.recv_fds(connection, 65536, 3)
    answer = msgpack.unpackb(raw)
    return connection, mmap.mmap(descriptors[0], answer["total_bytes"]), descriptors, answer


def test_impossible_ring_index_breaks_that_clients_ring_only(bed: Bed) -> None:
    bed.client().close()
    connection, memory, descriptors, answer = greet_raw(bed)
    install_ring = answer["total_bytes"] - INSTALL_SLOTS * 128 - 3 * 64
    struct.pack_into("<I", memory, install_ring, 0x7FFFFFFF)
    os.eventfd_write(descriptors[2], 1)

    until(lambda: counted(bed, "housekeeping", "broken_rings") == 1, "it is noticed")

    connection.close()
    with bed.client("slow-path") as slow_path:
        install(slow_path, vnet(RED))
        until(lambda: bed.ask(dump="vnets")["rows"], "the next client is served")


def test_client_that_fills_its_doorbell_blocks_nobody(bed: Bed) -> None:
    bed.client().close()
    connection, memory, descriptors, answer = greet_raw(bed)
    install_ring = answer["total_bytes"] - INSTALL_SLOTS * 128 - 3 * 64
    housekeepings_ring = 4096 + (answer["miss_rings"] - 1) * (3 * 64 + MISS_SLOTS * 128)
    os.set_blocking(descriptors[1], True)
    with contextlib.suppress(OSError):
        os.eventfd_write(descriptors[1], 2**64 - 2)
    for head in (1, 2):  # each is refused, and the refusal told to a client that says that it sleeps
        refused = counted(bed, "housekeeping", "refused")
        struct.pack_into("<I", memory, housekeepings_ring + 128, 1)
        struct.pack_into("<I", memory, install_ring, head)
        os.eventfd_write(descriptors[2], 1)
        until(lambda: counted(bed, "housekeeping", "refused") > refused, "it is refused")  # noqa: B023
        assert bed.ask(dump="vnets")["rows"] == []

    assert select.select([descriptors[1]], [], [], 5)[0]
    connection.close()


def test_memory_of_the_rings_cannot_be_taken_away(bed: Bed) -> None:
    bed.client().close()
    connection, _, descriptors, _ = greet_raw(bed)
    with connection, pytest.raises(PermissionError):
        os.ftruncate(descriptors[0], 0)


def test_random_records_are_refused_and_counted(bed: Bed) -> None:
    chance = np.random.default_rng(1)
    with bed.client("slow-path") as slow_path:
        for _ in range(20):
            rows = chance.integers(0, 256, (256, 128), dtype=np.uint8)
            rows[:, 0] = chance.integers(28, 56, 256)
            rows[:, 1] = 0
            rows[:, 2] = 1
            rows[:, 4:8] = np.frombuffer(struct.pack("<I", RED), np.uint8)
            slow_path.send(rows.view(records.RECORD)[:, 0])
        install(slow_path, vnet(RED))
        until(lambda: bed.ask(dump="vnets")["rows"], "what comes behind them is applied")
    assert counted(bed, "housekeeping", "refused") > 4000


def test_idle_data_plane_takes_little(bed: Bed) -> None:
    bed.client().close()
    ticks = os.sysconf("SC_CLK_TCK")

    def used_s() -> float:
        user, system = (
            Path(f"/proc/{bed.processes[0].pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        )
        return (int(user) + int(system)) / ticks

    before_s, before = used_s(), counted(bed, "counters", "uptime_s")
    until(lambda: counted(bed, "counters", "uptime_s") > before + 3, "three seconds pass")
    share = (used_s() - before_s) / (counted(bed, "counters", "uptime_s") - before)
    print(f"idle with ports that cannot wake it, asked all the time: {share:.1%} of a core")
    assert counted(bed, "counters", "sleeps") > 0


# The modules may lie where only root can read them.
AS_NOBODY = """
import os, sys, gateway.main, gateway.data_plane.process
os.setgroups([]), os.setgid(65534), os.setuid(65534)
gateway.main.main()
"""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_ordinary_user_can_run_it_with_null_and_pcap_ports(tmp_path: Path) -> None:
    from scapy.all import Ether, wrpcap

    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory.stat().st_mode & 0o001 == 0:
            directory.chmod(directory.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    wrpcap(str(tmp_path / "in.pcap"), [Ether(bytes(60))])
    (tmp_path / "in.pcap").chmod(0o644)
    device = f"net_pcap0,rx_pcap={tmp_path}/in.pcap,tx_pcap={tmp_path}/out.pcap"
    bed = Bed(tmp_path, {"rack": (device, "inside"), "uplink": ("net_null0,no-rx=1", "underlay")})
    bed.file.chmod(0o644)
    try:
        bed.start(command=[sys.executable, "-c", AS_NOBODY, "data-plane", str(bed.file)])
        until(lambda: counted(bed, "counters", "received") == 1, "the packet of the file was received")
        drops = bed.ask(dump="counters")["drops"]
    finally:
        bed.stop()
    assert [(row["reason"], row["packets"]) for row in drops] == [("no_attachment", 1)]


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("net_tap0,iface=bad/name", "port rack"),
        (
            "net_af_packet0,iface=nosuch0",
            "port rack: interface nosuch0 cannot be used: there is none of this name",
        ),
        ("net_pcap0,rx_pcap=/nosuch,tx_pcap=/nosuch", 'port rack: device "net_pcap0'),
        ("0000:ff:1f.7", 'port rack: device "0000:ff:1f.7" cannot be opened'),
    ],
)
def test_port_that_cannot_be_opened_is_one_sentence(make_bed, device: str, sentence: str) -> None:  # noqa: F811
    bed = make_bed({"rack": (device, "inside"), "uplink": ("net_null0,no-rx=1", "underlay")})

    status = bed.start().wait(60)

    assert status == 1
    assert f"error: {sentence}" in bed.log()
    assert "fix:" in bed.log()


def test_device_that_cannot_wake_a_thread_is_refused_in_mode_interrupt(make_bed) -> None:  # noqa: F811
    bed = make_bed(more='[threads]\nidle = "interrupt"\n')

    assert bed.start().wait(60) == 1

    assert 'error: port rack: device "net_null0,no-rx=1" has no interrupts to wait for' in bed.log()
    assert 'fix:   threads.idle = "sleep"' in bed.log()


def test_bond_is_refused_with_a_sentence(make_bed) -> None:  # noqa: F811
    bed = make_bed(
        {"rack": ("bond:0000:5e:00.0,0000:5e:00.1", "inside"), "uplink": ("net_null0", "underlay")}
    )

    assert bed.start().wait(60) == 1

    assert "port rack: bonds are not carried" in bed.log()


def test_thread_that_cannot_be_pinned_floats_and_says_so(make_bed) -> None:  # noqa: F811
    bed = make_bed(more="[threads]\npoll_cpus = [999]\n")
    bed.start()

    assert [row["cpu"] for row in bed.ask(dump="threads")["rows"]] == [None]
    assert "1 poll threads could not be pinned" in bed.log()


def test_waiting_can_be_changed_while_it_runs(bed: Bed) -> None:
    with bed.client("control") as control:

        def polls() -> int:
            return control.ask({"dump": "threads"})["rows"][0]["polls"]

        assert control.ask({"set": "idle", "mode": "spin", "max_sleep_us": 900})["ok"] is True
        before = polls()
        until(lambda: polls() > before + 1_000_000, "it spins")
        assert control.ask({"set": "idle", "mode": "sleep", "max_sleep_us": 900})["ok"] is True
        before = control.ask({"dump": "counters"})["counters"]["sleeps"]
        until(lambda: control.ask({"dump": "counters"})["counters"]["sleeps"] > before, "it sleeps again")
        assert control.ask({"set": "hold", "packets": 100, "wait_ms": 500})["ok"] is True


@pytest.fixture(scope="module")
def shared_bed(tmp_path_factory):
    """One data plane for all tests that cannot harm it: that they cannot is what they test."""
    from data_plane_bed import NULL_PORTS

    bed = Bed(tmp_path_factory.mktemp("dp"), NULL_PORTS)
    bed.start()
    bed.client().close()
    yield bed
    assert bed.processes[0].poll() is None
    bed.stop()
