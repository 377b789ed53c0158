# SPDX-License-Identifier: Apache-2.0
"""Events, inbox, metrics: what control takes in and gives out, without sockets."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgpack
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.configuration.configuration import Admin as AdminSection
from gateway.configuration.configuration import Configuration
from gateway.control import inbox
from gateway.metrics.collector import Collector
from gateway.processes.process import claim, is_gone
from gateway.show.attention import attention
from gateway.show.nouns import show_threads
from gateway.state.events import Events, adoption_text, change_text
from gateway.state.state import DirectoryServer, State
from gateway.state.statistics import sample_of
from gateway.underlay.nexthop import Pair


@pytest.fixture
def clock() -> list[float]:
    return [100.0]


@pytest.fixture
def state(tmp_path: Path, clock: list[float]) -> State:
    section = AdminSection(tmp_path / "gateway.sock", tmp_path / "show.sock")
    configuration = Configuration(tmp_path / "gateway.toml", "gw1", tmp_path, tmp_path, {}, section)
    return State(configuration, "0.1", Events("gw1", kept=3), lambda: clock[0])


def send(state: State, message: Any) -> None:
    inbox.take(state, [msgpack.packb(message)])


def test_only_the_newest_events_are_kept_and_numbers_go_on(state: State) -> None:
    for number in range(5):
        state.events.add("tunnel_resolved", f"{number}")
    assert [event.text for event in state.events.after(0)] == ["2", "3", "4"]
    assert [event.seq for event in state.events.after(4)] == [5]
    assert state.events.after(5) == []


def test_a_reader_from_before_a_restart_gets_everything(state: State) -> None:
    state.events.add("tunnel_resolved", "new")
    assert [event.text for event in state.events.after(1000)] == ["new"]


def test_an_events_text_is_one_short_line(state: State) -> None:
    event = state.events.add("tunnel_resolved", "a\nb\x1b[2J" + "x" * 1000)
    assert "\n" not in event.text
    assert "\x1b" not in event.text
    assert len(event.text) == 400


def test_events_of_other_processes_come_by_the_inbox(state: State) -> None:
    send(state, {"v": 1, "from": "parent", "event": "process_restarted", "text": "slow-path-0 ended"})
    (event,) = state.events.after(0)
    assert (event.event, event.text) == ("process_restarted", "slow-path-0 ended")


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        b"\x81" * 50_000,
        msgpack.packb(7),
        msgpack.packb({"v": 2, "from": "parent", "event": "x"}),
        msgpack.packb({"v": 1, "event": "x"}),
        msgpack.packb({"v": 1, "from": "../../etc", "event": "x"}),
        msgpack.packb({"v": 1, "from": "parent", "event": "UPPER CASE"}),
        msgpack.packb({"v": 1, "from": "parent", "event": "x", "text": 5}),
        msgpack.packb({"v": 1, "from": "slow-path-0"}),
        msgpack.packb({"v": 1, "from": "slow-path-0", "statistics": 5}),
        msgpack.packb({"v": 1, "from": "slow-path-0", "statistics": {"misses": "many"}}),
        msgpack.packb({"v": 1, "from": "slow-path-0", "statistics": {"directory_us_bucket": [-1]}}),
        msgpack.packb({"v": 1, "from": "slow-path-0", "statistics": {"directory_us_bucket": [1] * 65}}),
    ],
)
def test_odd_messages_are_counted_and_dropped(state: State, message: bytes) -> None:
    inbox.take(state, [message])
    assert state.malformed_inbox == 1
    assert state.events.after(0) == []
    assert state.workers == {}


def test_a_message_of_several_parts_is_none(state: State) -> None:
    inbox.take(state, [b"\x80", b"\x80"])
    assert state.malformed_inbox == 1


def test_a_workers_rates_are_differences_and_start_anew_with_it(state: State, clock: list[float]) -> None:
    for second in range(3):
        clock[0] = 100.0 + second
        statistics = {"pid": 1, "misses": 50 * second, "batches": 5 * second, "busy_s": 0.1 * second}
        send(
            state,
            {"v": 1, "from": "slow-path-0", "statistics": {**statistics, "directory_us_bucket": [0, 0, 8]}},
        )
    row = worker_row(state)
    assert (row["misses_per_s"], row["misses_per_batch"]) == (50.0, 10.0)
    assert row["busy_ratio"] == pytest.approx(0.1)
    assert 2 <= row["directory_p50_us"] <= 4
    clock[0] += 1
    send(state, {"v": 1, "from": "slow-path-0", "statistics": {"pid": 2, "misses": 1}})
    assert worker_row(state)["misses_per_s"] is None


def test_a_worker_that_is_none_of_this_gateways_is_not_waited_for(state: State) -> None:
    for name in ("slow-path-0", "slow-path-1", "slow-path-5"):
        send(state, {"v": 1, "from": name, "statistics": {"pid": 1}})
    assert (set(state.workers), state.malformed_inbox) == ({"slow-path-0"}, 0)


def worker_row(state: State) -> dict[str, Any]:
    job = show_threads(state, None, {})
    next(job)
    with pytest.raises(StopIteration) as ended:
        job.send({"rows": []})
    rows: list[dict[str, Any]] = ended.value.value["rows"]
    return rows[0]


def test_metrics_have_the_names_of_the_screens_and_parse(state: State) -> None:
    state.greeting = {"ok": True}
    state.servers = lambda: [DirectoryServer("dir1", "ipc:///d", "up", True, 42, 300, 0.1, 0)]
    state.names.vnets[7001] = "red"
    counters = {
        "counters": {"received": 7, "flows": 3, "flows_max": 9, "held_now": 1, "hits": 5},
        "drops": [{"reason": "no_rule", "vni": 7001, "packets": 4}],
        "delay": {"sum_ns": 8_000_000, "buckets": [[90112, 94208, 2], [2097152, 2228224, 3]]},
    }
    ports = [{"name": "uplink", "rx_packets": 11}]
    state.statistics.add(sample_of(1.0, counters, ports, [{"thread": "poll-0", "packets": 12}]))
    state.take_table(
        "tunnels", "tunnel", [{"tunnel": 7, "state": "up", "tx_packets": 13, "remote_locator": "203.0.113.7"}]
    )
    state.take_table("vnets", "vni", [{"vni": 7001, "flows": 3}])
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(Collector(state).render().decode())
        for sample in family.samples
    }
    assert samples["vnet_data_plane_up",] == 1
    assert samples["vnet_received_total",] == 7
    assert samples["vnet_flows",] == 3
    assert samples["vnet_drops_total", "no_rule", "red"] == 4
    assert samples["vnet_port_rx_packets_total", "uplink"] == 11
    assert samples["vnet_thread_packets_total", "poll-0"] == 12
    assert samples["vnet_tunnel_tx_packets_total", "203.0.113.7", "7", "node None"] == 13
    assert samples["vnet_vnet_flows", "red"] == 3
    assert samples["vnet_directory_up", "dir1"] == 1
    delay = "vnet_first_packet_delay_seconds"
    assert samples[f"{delay}_bucket", "6.5536e-05"] == 0
    assert samples[f"{delay}_bucket", "9.8304e-05"] == 2
    assert samples[f"{delay}_bucket", "0.002097152"] == 2
    assert samples[f"{delay}_bucket", "0.003145728"] == 5
    assert samples[f"{delay}_bucket", "+Inf"] == samples[f"{delay}_count",] == 5
    assert samples[f"{delay}_sum",] == 0.008


def test_metrics_without_a_data_plane_say_that_it_is_down(state: State) -> None:
    text = Collector(state).render().decode()
    assert "vnet_data_plane_up 0.0" in text
    assert "vnet_received" not in text


def test_an_older_copy_of_a_table_gives_rates(state: State, clock: list[float]) -> None:
    state.take_table("tunnels", "tunnel", [{"tunnel": 7, "tx_packets": 100}])
    clock[0] += 5
    table = state.take_table("tunnels", "tunnel", [{"tunnel": 7, "tx_packets": 600}])
    assert table.per_s(7, "tx_packets") == 100.0
    assert table.per_s(8, "tx_packets") is None


def test_names_of_what_the_directory_does_not_know_are_numbers(state: State) -> None:
    assert state.names.vnet(9) == "vni 9"
    assert Pair(ip_address("192.0.2.1"), ip_address("192.0.2.2")) not in state.resolutions


def test_adoption_is_told_in_one_sentence() -> None:
    adoption = {
        "how": "adopted",
        "flows": 6,
        "vnets": 1,
        "dropped_key": 2,
        "dropped_vnet": 1,
        "ns": 19_470_900,
    }
    text = "the data plane took over 6 flows, 1 vnets; 3 entries dropped, in 19.5 ms"
    assert adoption_text(adoption) == text


def test_an_event_that_is_learned_later_has_the_time_at_which_it_was() -> None:
    events = Events("gw1", clock=lambda: 200.0)
    events.add("document_applied", "document red", 100.0)
    events.add("directory_found", "here")
    assert [(event.seq, event.time) for event in events.after(0)] == [(1, 100.0), (2, 200.0)]


def test_what_operators_change_is_an_event_too() -> None:
    numbers = {"added": 1, "changed": 0, "removed": 0}
    applied = {"revision": 7, "document": "ams", "user": "anna", "comment": "x", **numbers}
    assert change_text(applied) == (
        "document_applied", "document ams: revision 7, by anna; 1 added, 0 changed, 0 removed",
    )  # fmt: skip
    single = {"revision": 8, "document": "", "user": "", "comment": "set rule red/ssh", **numbers}
    assert change_text(single) == (
        "records_changed", "set rule red/ssh: revision 8, by somebody; 1 added, 0 changed, 0 removed",
    )  # fmt: skip


def test_a_parent_that_was_here_and_is_gone_needs_attention(state: State, tmp_path: Path) -> None:
    assert not is_gone("parent", tmp_path), "none was here"
    lock = claim("parent", tmp_path)
    assert not is_gone("parent", tmp_path)
    os.close(lock)
    (tmp_path / "parent.pid").write_text(f"{os.getpid()} 1\n")  # the number was given out again
    assert is_gone("parent", tmp_path)
    state.parent_is_gone = True
    assert any(line["about"] == "parent" for line in attention(state))


def test_what_a_worker_does_not_understand_and_metrics_that_nobody_can_read_need_attention(
    state: State,
) -> None:
    for counters, sentences in ({"answers_malformed": 0}, 0), ({"messages_malformed": 2}, 1):
        said = {"pid": 7, "misses": 1, "counters": counters}
        send(state, {"v": 1, "from": "slow-path-0", "statistics": said})
        found = [line for line in attention(state) if "not understood" in line["text"]]
        assert len(found) == sentences
    assert found[0]["text"].startswith("2 messages of the directory were not understood")
    state.metrics_problem = "cannot listen at 127.0.0.1:9464: Address already in use"
    lines = {line["about"]: line["text"] for line in attention(state)}
    assert lines["metrics"].startswith("cannot listen at 127.0.0.1:9464")
