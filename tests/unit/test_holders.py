# SPDX-License-Identifier: Apache-2.0
"""One gateway, one name: who holds it, who is fenced, and what both are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from dispatcher_bench import GATEWAY, Bench

from directory_client.heartbeats import identity_of
from directory_service.protocol.holders import Claim, Fenced, Holders
from gateway.processes.instance import instance

NODE_S = 10.0


def holders() -> Holders:
    return Holders(NODE_S, wall=lambda: 0.0)


def test_a_second_gateway_is_fenced_until_the_first_was_silent_for_the_lease():
    names = holders()
    names.take("gw1", Claim("first", "192.0.2.1"), 0.0)
    with pytest.raises(Fenced, match=r"already, at 192\.0\.2\.1 since 00:00:00 UTC.*192\.0\.2\.9"):
        names.take("gw1", Claim("second", "192.0.2.9"), 5.0)
    names.take("gw1", Claim("first", "192.0.2.1"), 6.0)
    with pytest.raises(Fenced):
        names.take("gw1", Claim("second", "192.0.2.9"), 15.9)
    assert "went from 192.0.2.1 to 192.0.2.9" in names.take("gw1", Claim("second", "192.0.2.9"), 16.0)
    with pytest.raises(Fenced):
        names.take("gw1", Claim("first", "192.0.2.1"), 17.0)


def test_the_holder_hears_of_the_second_for_as_long_as_it_tries():
    names = holders()
    names.take("gw1", Claim("first"), 0.0)
    assert names.second("gw1", 0.0) == ""
    with pytest.raises(Fenced) as news:
        names.take("gw1", Claim("second", "192.0.2.9"), 1.0)
    with pytest.raises(Fenced) as again:
        names.check("gw1", Claim("second", "192.0.2.9"), 2.0)
    assert (news.value.is_news, again.value.is_news) == (True, False)
    assert "a second gateway calls itself gw1, at 192.0.2.9" in names.second("gw1", 3.0)
    assert names.second("gw1", 60.0) == ""


def test_a_name_is_free_soon_after_a_goodbye_but_not_while_a_process_goes_on():
    names = holders()
    names.take("gw1", Claim("first"), 100.0)
    names.goodbye("gw1", Claim("first"), 101.0)
    names.take("gw1", Claim("first"), 102.0)  # the slow path, though control was stopped
    with pytest.raises(Fenced):
        names.take("gw1", Claim("second"), 103.0)
    names.goodbye("gw1", Claim("first"), 104.0)
    assert names.take("gw1", Claim("second"), 105.6)


def test_somebody_elses_goodbye_frees_nothing():
    names = holders()
    names.take("gw1", Claim("first"), 100.0)
    names.goodbye("gw1", Claim("second"), 101.0)
    with pytest.raises(Fenced):
        names.take("gw1", Claim("second"), 104.0)


def test_a_directory_that_starts_anew_prefers_who_held_the_name():
    names = holders()  # it knows nobody
    with pytest.raises(Fenced, match="was served until now"):
        names.take("gw1", Claim("second", is_fenced=True), 0.0)
    with pytest.raises(Fenced):
        names.check("gw1", Claim("second", is_fenced=True), 0.1)
    names.take("gw1", Claim("third"), 0.5)  # nobody told it that the name is another's
    names.take("gw1", Claim("first", held_s=500.0), 1.0)
    with pytest.raises(Fenced):
        names.take("gw1", Claim("third", held_s=0.5), 2.0)


def test_a_fenced_gateway_is_served_once_a_directory_that_started_anew_has_waited():
    names = holders()
    with pytest.raises(Fenced):
        names.take("gw1", Claim("second", is_fenced=True), 0.0)
    names.take("gw1", Claim("second", is_fenced=True), NODE_S)


def test_a_message_says_for_how_long_the_name_was_held_or_that_it_is_anothers():
    assert identity_of("", [1.0], True, 5.0) == {}
    assert identity_of("a", [None, 3.0, 4.0], True, 5.0) == {"instance": "a", "held_s": 2.0}
    assert identity_of("a", [None], True, 5.0) == {"instance": "a", "fenced": True}


def test_the_instance_stays_when_processes_start_again_and_differs_on_a_copy(tmp_path: Path):
    boot = tmp_path / "boot_id"
    boot.write_text("one")
    runtime, twin = tmp_path / "run", tmp_path / "twin"
    runtime.mkdir()
    twin.mkdir()
    drawn = instance(runtime, boot)
    assert drawn == instance(runtime, boot)
    assert drawn != instance(twin, boot)
    boot.write_text("another machine")
    assert drawn != instance(runtime, boot)
    assert [path.name for path in runtime.iterdir()] == ["instance"]


# ---- in the protocol -------------------------------------------------------------------------


@pytest.mark.parametrize("type", ["heartbeat", "resolve", "snapshot", "locator", "hello"])
def test_nothing_of_a_second_gateway_is_answered_or_believed(type):
    bench = Bench()
    assert bench.ask("resolve", "heartbeat", node="gw1", instance="first", locators=["192.0.2.1"])["ok"]
    bench.now += 5.0
    announced = list(bench.directory.announced)
    channel = "write" if type == "hello" else "resolve"
    fields = {"local": bytes(16), "remote": bytes(16), "protocol": 1, "wire_id": 7001}
    answer = bench.ask(channel, type, node="gw1", instance="second", locators=["192.0.2.9"], **fields)
    assert (answer["ok"], answer["why"]) == (False, "fenced")
    assert "a gateway called gw1 is there already" in answer["error"]
    assert answer["fix"]
    assert bench.directory.announced == announced
    told = bench.ask("resolve", "heartbeat", node="gw1", instance="first", locators=["192.0.2.1"])
    assert [notice["why"] for notice in told["notices"]] == ["second"]


def test_the_list_of_nodes_and_the_counters_say_that_there_are_two():
    bench = Bench()
    bench.ask("resolve", "heartbeat", node="gw1", instance="first")
    bench.ask("resolve", "heartbeat", node="gw1", instance="second")
    rows = bench.ask("write", "list", kind="nodes")["rows"]
    assert "a second gateway calls itself gw1" in next(row["second"] for row in rows if row["name"] == "gw1")
    assert bench.dispatcher.counters["fenced"] == 1


def test_gateways_of_a_release_that_says_no_instance_are_served():
    bench = Bench()
    assert bench.ask("resolve", "heartbeat", node="gw1")["ok"]
    assert bench.ask("resolve", "heartbeat", node="gw1", instance="first")["ok"]
    assert bench.ask("resolve", "heartbeat", node="gw1")["ok"]


def test_a_node_that_is_not_declared_and_anothers_key_are_two_sentences():
    bench = Bench()
    answer = bench.ask("resolve", "heartbeat", node="gwd")
    (notice,) = answer["notices"]
    assert notice["why"] == "undeclared"
    assert "node gwd is not declared" in notice["text"]
    assert notice["fix"] == "vnetctl node add gwd --site SITE"
    refused = bench.ask("resolve", "heartbeat", node="gw2", by=GATEWAY)
    assert refused["why"] == "key"
    assert "the directory knows this key as gw1" in refused["error"]
