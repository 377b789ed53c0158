# SPDX-License-Identifier: Apache-2.0
"""Every screen from fixed rows: what stands on it, on wide and narrow terminals, piped, as JSON and TSV."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_gateway import ALL_ANSWERS, EXPLANATION, FLOW, OVERVIEW, REFUSED, FakeGateway
from rich.cells import cell_len

from vnetctl.main import cli
from vnetctl.session import Session


def run(
    *args: str, width: int | None = None, answers: dict[str, Any] | None = None, **options: Any
) -> Result:
    session = Session(client=FakeGateway(answers or ALL_ANSWERS), terminal=width is not None, width=width)
    return CliRunner().invoke(cli, list(args), obj=session, **options)


def lines(*args: str, **options: Any) -> list[str]:
    result = run(*args, **options)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_the_overview_says_how_the_gateway_is_and_ends_with_what_needs_attention() -> None:
    assert lines("show") == [
        "ams1-gw1   up 12 d 4 h   version 0.4.0   site ams1   directory ams1-dir1 at revision 41 (0.30 ms)",
        "",
        "traffic    30.2 M packets/s    in 88.6 Gb/s        out 89.9 Gb/s",
        "flows      412903 of 1 M       misses 8.14 k/s     first packet p50 0.21 ms  p99 0.88 ms",
        "held       12 of 8192          released 8.14 k/s   expired 1/s",
        "tunnels    39                  38 up               1 unresolved   0 down",
        "threads    2                   busy 36 %  35 %     61 cycles/packet",
        "dropped    41/s                no_rule 38          ttl_exceeded 2      hold_expired 1",
        "",
        "needs attention",
        "  tunnel 12 → 203.0.113.9   unresolved since 14:02:11: no route to 203.0.113.9"
        "   vnetctl show tunnel 12",
        "  directory ams1-dir2       late (210 ms), passed over                        "
        "   vnetctl show directories",
    ]


def test_an_overview_without_a_data_plane_says_so_and_nothing_else() -> None:
    row = dict.fromkeys(OVERVIEW) | {
        "node": "gw1",
        "version": "1",
        "data_plane": "gone",
        "attention": [
            {"about": "data plane", "text": "has ended", "command": "systemctl status vnet-gateway"}
        ],
    }
    shown = lines("show", answers={"overview": [row]})
    assert shown[0] == "gw1   version 1   directory none answers"
    assert "data plane  gone: nothing is forwarded by it now" in shown
    assert shown[-1] == "  data plane   has ended   systemctl status vnet-gateway"
    assert not any(line.startswith("traffic") for line in shown)


def test_an_overview_in_good_health_says_that_nothing_needs_attention() -> None:
    assert (
        lines("show", answers={"overview": [{**OVERVIEW, "attention": []}]})[-1] == "nothing needs attention"
    )


def test_tunnels_show_state_next_hops_and_why_one_is_unresolved() -> None:
    heading, up, unresolved, why = lines("show", "tunnels")
    assert heading.split() == [
        "tunnel",
        "local",
        "remote",
        "node",
        "profile",
        "state",
        "next",
        "hops",
        "inner",
        "mtu",
        "locations",
        "out",
        "packets/s",
        "in",
        "packets/s",
    ]
    assert up.split() == [
        "7",
        "192.0.2.1",
        "203.0.113.7",
        "ber1-leaf7",
        "fabric",
        "up",
        "uplink0",
        "uplink1",
        "8950",
        "48211",
        "1.21",
        "M",
        "3",
    ]
    assert unresolved.split()[5] == "unresolved"
    assert why == "12: no route to 203.0.113.9   ip route get 203.0.113.9"


def test_one_tunnel_shows_everything_with_units() -> None:
    answers = {"tunnels": [ALL_ANSWERS["tunnels"][1]]}
    shown = lines("show", "tunnel", "12", answers=answers)
    assert "inner mtu       8950 bytes" in shown
    assert shown[-2:] == ["no route to 203.0.113.9", "ip route get 203.0.113.9"]


def test_flows_are_named_by_both_ends_and_counted_below() -> None:
    shown = lines("show", "flows", "--vnet", "red")
    assert shown[1].split()[:5] == ["red", "10.0.0.11:43210", "10.0.0.21:5432", "tcp", "encapsulate"]
    assert "drop no_rule" in shown[2]
    assert "42 stale" in shown[2]
    assert shown[3] == "2 of 22870 flows of red at ams1-gw1; packets/s over 1 s, by samples of one in 64"


def test_drops_come_with_a_sentence_and_what_to_type() -> None:
    assert lines("show", "drops", "--last", "5m") == [
        "reason        packets   share  V-nets",
        "no_rule         11400  92.7 %  red, blue  no rule of the V-net allows the connection",
        "                                          vnetctl explain red 10.0.0.12 10.0.0.21",
        "ttl_exceeded      900   7.3 %  red        the hop limit ended here: is there a loop?",
        "12300 of 9.06 G packets that came in 5 min",
    ]


def test_threads_show_where_the_cycles_go_and_the_slow_path_below() -> None:
    shown = lines("show", "threads")
    assert shown[1].split() == [
        "poll-0",
        "2",
        "15.2",
        "M",
        "36",
        "%",
        "27",
        "61",
        "9",
        "8",
        "11",
        "16",
        "13",
        "4",
    ]
    assert " ".join(shown[4].split()) == "slow-path-0 5 % 8.14 k 4 % 11 0.19 ms 0.71 ms"


def test_explain_gives_the_answer_first_then_the_reasons_then_what_is_cached() -> None:
    shown = lines("explain", "red", "web-1", "db-1", "tcp", "5432")
    assert shown[0] == "red   10.0.0.11 → 10.0.0.21   tcp 5432   encapsulate to ber1-leaf7"
    assert any(line.split()[:2] == ["rule", "db-from-web"] and line.endswith("revision 42") for line in shown)
    assert shown[-1].split(None, 1) == [
        "ams1-gw1",
        "cached: encapsulate, revision 42, tunnel 7, 143 M packets, last 118 s ago",
    ]


def test_explain_of_a_refusal_says_what_is_nearest_what_was_before_and_what_to_type() -> None:
    shown = lines("explain", "red", "web-2", "db-1", "tcp", "22", "--utc", answers={"explain": [REFUSED]})
    assert shown[0] == "red   10.0.0.12 → 10.0.0.21   tcp 22   drop: no_rule"
    assert (
        "  nearest rule  db-from-web  allow  group:web → group:db  tcp 5432     differs in: port 22" in shown
    )
    assert any(
        'red/any allowed it until revision 42 (2025-11-21 02:06:32Z, anna: "close red")' in line
        for line in shown
    )
    assert (
        shown[-1]
        == "to allow it:  vnetctl rule add red/allow-tcp-22 --from web-2 --to db-1 --proto tcp --port 22"
    )


@pytest.mark.parametrize(
    ("cached", "sentence"),
    [([], "not cached: the next packet asks"), (None, "its flow cache was not asked")],
)
def test_explain_says_when_nothing_is_cached(cached: Any, sentence: str) -> None:
    answers = {"explain": [{**EXPLANATION, "cached": cached}]}
    assert lines("explain", "red", "web-1", "db-1", answers=answers)[-1].endswith(sentence)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("noun", ["", "tunnels", "flows", "ports", "threads", "drops", "endpoints"])
def test_tables_fit_the_terminal_by_leaving_out_columns(noun: str, width: int) -> None:
    shown = lines("show", *filter(None, [noun]), width=width)
    prose = ("left out", "12: no route", "2 of ", "12 300")
    rows = [line for line in shown if not line.startswith(prose) and "vnetctl" not in line]
    sentences = 4  # the indent below a row: sentences are not cut
    too_wide = [
        line for line in rows if cell_len(line) > max(width, 56) and not line.startswith(" " * sentences)
    ]
    assert too_wide == []


def test_nodes_show_what_is_in_force_and_what_is_wrong() -> None:
    row = {"name": "gw1", "kind": "gateway", "locators": ["192.0.2.1"], "state": "up", "revision": 3}
    second = "a second gateway calls itself gw2, at 192.0.2.9 since 14:02:11 UTC; it is not served"
    taken = {
        "locator": "192.0.2.1",
        "problem": "gw2 says it has locator 192.0.2.1, which is declared for gw1",
    }
    rows = [
        {**row, "applied_revision": 41, "conflicts": [], "second": ""},
        {**row, "name": "gw2", "applied_revision": None, "conflicts": [taken], "second": second},
    ]
    heading, well, bad = lines("show", "nodes", answers={"nodes": rows})
    assert heading.split()[4:7] == ["state", "applied", "problem"]
    assert well.split()[-4:] == ["41", "-", "3", "-"]
    assert f"{second}; {taken['problem']}" in bad


def test_directories_show_why_they_do_not_serve_and_how_their_audit_is() -> None:
    row = {"directory": "dir1", "endpoint": "ipc:///d", "state": "up", "active": True, "revision": 4}
    rows = [
        {**row, "problem": None},
        {**row, "problem": "gw1 is there already"},
        {**row, "audit": "ok", "audit_missing": 0},
        {**row, "audit": "No space left on device", "audit_missing": 7},
        {**row, "audit": "ok", "audit_missing": 0, "unreadable": 2},
        {**row, "era": 3, "era_began": "restored from b.db at revision 4"},
    ]
    shown = lines("show", "directories", answers={"directories": rows})
    assert [one.split("  ")[-1] for one in shown] == [
        "problem",
        "-",
        "gw1 is there already",
        "-",
        "audit: No space left on device, 7 missing",
        "records of a newer program: 2",
        "era 3 began: restored from b.db at revision 4",
    ]


def test_columns_that_were_left_out_are_named() -> None:
    shown = lines("show", "tunnels", width=40)
    assert shown[0].split() == ["tunnel", "remote", "state"]
    assert any(
        line.startswith("left out for want of width: local, node, profile, next hops") for line in shown
    )


def test_piped_output_is_never_cut_and_has_no_escapes() -> None:
    output = run("show", "ports").output
    assert "net_tap0,iface=up0" in output
    assert "\x1b" not in output


@pytest.mark.parametrize(
    "noun", ["", "tunnels", "flows", "ports", "threads", "drops", "counters", "endpoints"]
)
def test_json_is_one_object_a_line_with_the_rows_keys(noun: str) -> None:
    answer = ALL_ANSWERS[noun or "overview"]
    rows = answer["rows"] if isinstance(answer, dict) else answer
    assert [json.loads(line) for line in lines("show", *filter(None, [noun]), "--json")] == rows


def test_units_stand_in_the_keys_of_json() -> None:
    row = json.loads(lines("show", "tunnels", "--json")[0])
    assert {"inner_mtu_bytes", "tx_packets_per_s", "tx_bits_per_s", "mtu_bytes"} <= row.keys()


def test_tsv_has_no_heading_and_plain_numbers() -> None:
    assert (
        lines("show", "flows", "--tsv")[0]
        == "red\t10.0.0.11:43210\t10.0.0.21:5432\ttcp\tencapsulate\t7\t42\t118\t1210000.0\t198000000000"
    )


def test_hostile_names_do_not_reach_the_terminal() -> None:
    flow = copy.deepcopy(FLOW) | {"source": "\x1b]0;owned\x07", "source_port": None}
    output = run("show", "flows", answers={"flows": {"rows": [flow], "more": 0}}, width=200).output
    assert "\x1b]0" not in output
    assert "\x07" not in output


def test_at_all_adds_the_node_and_names_who_did_not_answer() -> None:
    gathered = {
        "answers": [
            {"node": "ams1-gw1", "answer": {"ok": True, "rows": [FLOW]}},
            {"node": "b", "answer": {"ok": True, "rows": []}},
        ],
        "silent": ["ber1-gw1"],
    }
    result = run("show", "flows", "--at", "all", answers={"flows": gathered})
    assert result.exit_code == 3, "what there is was printed, but not everybody has answered"
    assert result.output.splitlines()[0].split()[0] == "node"
    assert result.output.splitlines()[1].split()[0] == "ams1-gw1"
    assert "did not answer: ber1-gw1" in result.output


def test_drops_of_all_gateways_say_whose_they_are() -> None:
    drops = [dict(row, node=node) for row in ALL_ANSWERS["drops"]["rows"][:1] for node in ("a", "b")]
    gathered = {"answers": [{"node": row["node"], "answer": {"ok": True, "rows": [row]}} for row in drops]}
    shown = run("show", "drops", "--at", "all", answers={"drops": gathered}).output.splitlines()
    assert shown[0].split()[:2] == ["node", "reason"]
    assert [line.split()[0] for line in shown if drops[0]["reason"] in line.split()[:2]] == ["a", "b"]


def test_rules_never_lose_their_priority() -> None:
    rule = {"name": "red/" + "x" * 30, "action": "allow", "from": "group:web", "to": "group:database"}
    row = {**rule, "proto": "tcp", "ports": [5432, "8000-8080"], "priority": 200, "revision": 1, "owner": "a"}
    shown = lines("show", "rules", width=80, answers={"rules": [row]})
    assert "priority" in shown[0]
    assert "200" in shown[1]


def test_to_allow_what_is_behind_a_route_the_rule_names_its_prefix() -> None:
    behind = [
        {"role": "source", "kind": "endpoint", "name": "r3", "text": ""},
        {"role": "destination", "kind": "route", "name": "192.168.0.0/16", "text": ""},
        {"role": "destination", "kind": "endpoint", "name": "r1", "text": ""},
    ]
    answers = {"explain": [{**REFUSED, "records": behind}]}
    shown = lines("explain", "red", "r3", "192.168.4.4", "icmp", answers=answers)
    assert shown[-1] == (
        "to allow it:  vnetctl rule add red/allow-icmp --from r3 --to 192.168.0.0/16 --proto icmp"
    )


def test_explain_breaks_between_words_on_a_narrow_terminal() -> None:
    answers = {"explain": [REFUSED]}
    wide = lines("explain", "red", "web-2", "db-1", "tcp", "22", "--utc", answers=answers)
    narrow = lines("explain", "red", "web-2", "db-1", "tcp", "22", "--utc", width=80, answers=answers)
    assert all(cell_len(line) <= 80 for line in narrow if not line.startswith("to allow it"))
    assert " ".join(narrow).split() == " ".join(wide).split()


def test_explain_lists_the_rules_of_a_pair_and_judges_the_way_back() -> None:
    rule = {"name": "db-from-web", "text": "allow  group:web → group:db  tcp 5432", "way": "back"}
    back = {"action": "drop", "reason": "no_rule", "rule": "", "node": "gw2"}
    answers = {"explain": [{**EXPLANATION, "action": "narrow", "rules": [rule], "back": back}]}
    shown = lines("explain", "red", "db-1", "web-1", answers=answers)
    assert any("db-from-web" in line and "on the way back only" in line for line in shown)
    assert "  and back      drop no_rule, asked by gw2" in shown


def test_options_may_stand_before_or_after_the_command() -> None:
    assert run("--json", "show", "tunnels").output == run("show", "tunnels", "--json").output


def test_an_empty_list_says_none() -> None:
    assert lines("show", "endpoints", answers={"endpoints": []}) == ["none"]


def test_an_explanation_that_is_not_as_declared_is_a_sentence_that_names_the_field() -> None:
    answers = {"explain": [{**EXPLANATION, "records": [{"role": "rule", "revision": "seven"}]}]}
    shown = run("explain", "red", "web-1", "db-1", answers=answers)
    assert shown.exit_code == 1
    assert "records[0].revision" in shown.output
    assert json.loads(run("explain", "red", "web-1", "db-1", "--json", answers=answers).output)
