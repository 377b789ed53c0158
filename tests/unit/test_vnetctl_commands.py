# SPDX-License-Identifier: Apache-2.0
"""What commands ask for, when they ask people, and how they end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from fake_gateway import ALL_ANSWERS, PREVIEW, FakeGateway

from directory_service.main import main as directory_main
from gateway.main import main as gateway_main
from gateway.show import flows
from vnetctl.client import DirectoryOnly
from vnetctl.errors import Failure
from vnetctl.main import cli
from vnetctl.session import Session

CALM = {**PREVIEW, "flows": {**PREVIEW["flows"], "dropped": 0, "dropped_rows": []}}


def run(gateway: FakeGateway, *args: str, **options: Any) -> Result:
    return CliRunner().invoke(cli, list(args), obj=Session(client=gateway, terminal=False), **options)


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway(dict(ALL_ANSWERS))


@pytest.fixture
def document(tmp_path: Path) -> str:
    path = tmp_path / "topology.toml"
    path.write_text('document = "ams-ber"\n')
    return str(path)


def test_a_refusal_ends_with_1_and_says_error_and_fix(gateway: FakeGateway) -> None:
    gateway.answers["tunnels"] = Failure("it is so", "type that")
    result = run(gateway, "show", "tunnels")
    assert result.exit_code == 1
    assert result.stderr == "error: it is so\nfix:   type that\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "args",
    [
        ("show", "nonsense"),
        ("show", "tunnel"),
        ("show", "tunnels", "--limit", "4"),
        ("show", "flows", "--last", "5m"),
        ("show", "drops", "--last", "soon"),
        ("show", "tunnels", "--vnet", "red"),
        ("show", "counters", "--vnet", "red"),
        ("show", "--limit", "0"),
        ("nonsense",),
        ("explain", "red"),
        ("apply",),
        ("apply", "-f", "/nonexistent/file"),
        ("endpoint", "add", "web-3", "--mac", "02:00:00:00:00:01"),
        ("endpoint", "move", "red/web-1"),
        ("rule", "set", "red/x"),
    ],
)
def test_wrong_input_ends_with_2_and_a_fix(gateway: FakeGateway, args: tuple[str, ...]) -> None:
    result = run(gateway, *args)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ")
    assert "\nfix:   " in result.stderr


def test_nobody_there_ends_with_3(tmp_path: Path) -> None:
    socket = str(tmp_path / "gateway.sock")
    result = CliRunner().invoke(cli, ["show", "flows", "--socket", socket], obj=Session())
    assert result.exit_code == 3
    assert f"error: no gateway answers at {socket}" in result.stderr


def test_all_without_any_gateway_says_so(gateway: FakeGateway) -> None:
    gateway.answers["flows"] = {"answers": [], "silent": []}
    result = run(gateway, "show", "flows", "--at", "all")
    assert result.exit_code == 3
    assert "error: the directory knows no gateway yet" in result.stderr


def test_what_only_a_gateway_answers_is_said_as_it_was_typed() -> None:
    directory = DirectoryOnly(["ipc:///nowhere"], None, None)
    for noun, typed in (("overview", "show"), ("flows", "show flows")):
        with pytest.raises(Failure) as caught:
            directory.ask({"verb": "show", "noun": noun})
        assert str(caught.value.message) == f"{typed}: a gateway answers that, not the directory"
        assert f"vnetctl --at NODE {typed}" in caught.value.fix


def test_a_record_that_is_not_carried_yet_is_added_with_a_warning(gateway: FakeGateway) -> None:
    gateway.answers["peerings"] = {"rows": []}
    warning = "peering red/blue: traffic between V-nets is not carried yet, and is dropped"
    gateway.answers["set"] = {"before": 7, "revision": 8, "warnings": [warning]}
    result = run(gateway, "peering", "add", "red/blue")
    assert (result.exit_code, result.stdout) == (
        0,
        f"peering red/blue added   revision 8\nwarning: {warning}\n",
    )
    assert warning in run(gateway, "peering", "add", "red/blue", "--json").stdout


def test_a_record_that_is_not_known_to_be_in_force_ends_with_5(gateway: FakeGateway) -> None:
    gateway.answers["peerings"] = {"rows": []}
    late = [{"node": "gw2", "state": "late", "ms": None}]
    gateway.answers["set"] = {"before": 7, "revision": 8, "gateways": late}
    result = run(gateway, "peering", "add", "red/blue")
    assert result.exit_code == 5
    assert "not known to be in force at gw2 (late)" in result.stderr


def test_explain_as_tsv_is_one_line_of_values(gateway: FakeGateway) -> None:
    shown = run(gateway, "explain", "red", "web-1", "db-1", "tcp", "5432", "--tsv").stdout
    (line,) = shown.splitlines()
    values = line.split("\t")
    assert values[0] == "red"
    assert "encapsulate" in values
    assert "{" not in line


def test_all_flows_are_as_many_as_a_gateway_shows(gateway: FakeGateway) -> None:
    run(gateway, "show", "flows", "--all")
    assert gateway.asked[-1]["args"]["limit"] == flows.LIMIT_MAX


def test_a_document_that_is_too_large_for_one_message_goes_and_comes_in_pieces(
    gateway: FakeGateway, document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("directory_client.wire.limits.AT_ONCE_BYTES_MAX", 100)
    monkeypatch.setattr("directory_client.wire.operator_requests.PIECE_BYTES", 64)
    text = 'document = "ams-ber"\n' + "# an essay\n" * 20
    Path(document).write_text(text)
    gateway.answers |= {"preview": CALM, "piece": {"received": 1}}
    assert run(gateway, "apply", "-f", document).exit_code == 0
    *pieces, tried, applied = [(request["verb"], request["args"]) for request in gateway.asked]
    assert {verb for verb, _ in pieces} == {"piece"}
    assert "".join(piece["text"] for _, piece in pieces) == text
    (upload,) = {piece["upload"] for _, piece in pieces}
    assert (tried[1]["upload"], applied[1]["upload"]) == (upload, upload)
    assert "text" not in applied[1]

    gateway.asked.clear()
    parts = iter([{"text": "ab", "revision": 5, "more": 2}, {"text": "cd", "revision": 5, "more": None}])
    monkeypatch.setattr(
        gateway, "ask", lambda request, timeout_s=0: gateway.asked.append(request) or next(parts)
    )
    assert run(gateway, "export", "ams-ber").stdout == "abcd"
    assert [request["args"] for request in gateway.asked] == [{"at": 0}, {"at": 2, "revision": 5}]


def test_pending_changes_end_with_4_only_when_asked_for(gateway: FakeGateway, document: str) -> None:
    assert run(gateway, "apply", "-f", document, "--dry-run").exit_code == 0
    assert run(gateway, "apply", "-f", document, "--dry-run", "--exit-code").exit_code == 4
    gateway.answers["preview"] = {**PREVIEW, "diff": []}
    assert run(gateway, "apply", "-f", document, "--dry-run", "--exit-code").exit_code == 0


def test_a_dry_run_shows_the_diff_and_what_becomes_of_connections(
    gateway: FakeGateway, document: str
) -> None:
    output = run(gateway, "apply", "-f", document, "--dry-run").output
    assert "document ams-ber   revision 41 → 42   dry run, nothing is changed" in output
    assert "  - rule      red/any          allow  any → any" in output
    assert "10.0.0.12 → 10.0.0.21  tcp 22   web-2 → db-1   no_rule   ams1-gw1" in output
    assert "11 more   (--all)" in output
    assert [request["args"]["dry_run"] for request in gateway.asked] == [True]


def test_a_change_that_cuts_connections_needs_yes_in_a_script(gateway: FakeGateway, document: str) -> None:
    result = run(gateway, "apply", "-f", document)
    assert result.exit_code == 1
    assert "error: 12 connections in use will be dropped" in result.stderr
    assert [request["args"]["dry_run"] for request in gateway.asked] == [True]
    result = run(gateway, "apply", "-f", document, "--yes")
    assert result.exit_code == 0
    assert "revision 42   1 added, 1 changed, 1 removed" in result.output
    assert "ams1-gw1   6 ms" in result.output


@pytest.mark.parametrize("state", ["late", "silent"])
def test_a_change_that_is_not_in_force_everywhere_ends_with_5_and_names_where(
    gateway: FakeGateway, document: str, state: str
) -> None:
    gateway.answers["preview"] = CALM
    gateway.answers["apply"] = {
        **ALL_ANSWERS["apply"],
        "gateways": [{"node": "ber1-gw1", "state": state, "ms": None}],
    }
    for options in ((), ("--json",)):
        result = run(gateway, "apply", "-f", document, *options)
        assert result.exit_code == 5
        assert f"not known to be in force at ber1-gw1 ({state})" in result.stderr


def test_a_gateway_that_was_never_started_is_named_and_is_no_failure(
    gateway: FakeGateway, document: str
) -> None:
    gateway.answers["preview"] = CALM
    row = {"node": "ber1-gw1", "state": "not_started", "ms": None}
    gateway.answers["apply"] = {**ALL_ANSWERS["apply"], "gateways": [row]}
    result = run(gateway, "apply", "-f", document)
    assert result.exit_code == 0
    assert "ber1-gw1   was never started: gets it with its first start" in result.output


def test_a_gateway_that_has_no_room_is_shown_as_not_applied_with_why(
    gateway: FakeGateway, document: str
) -> None:
    gateway.answers["preview"] = CALM
    row = {"node": "ber1-gw1", "state": "no_room", "ms": None, "why": "no room for blue: raise vnets"}
    gateway.answers["apply"] = {**ALL_ANSWERS["apply"], "gateways": [row]}
    result = run(gateway, "apply", "-f", document)
    assert result.exit_code == 5
    assert "ber1-gw1   not applied: no room for blue: raise vnets" in result.output
    assert "not known to be in force at ber1-gw1 (no room)" in result.stderr


def test_a_change_that_cuts_nothing_is_made_without_asking(gateway: FakeGateway, document: str) -> None:
    gateway.answers["preview"] = CALM
    assert run(gateway, "apply", "-f", document).exit_code == 0


def test_a_change_whose_effect_is_not_known_asks(gateway: FakeGateway, document: str) -> None:
    gateway.answers["preview"] = {**CALM, "flows": {**CALM["flows"], "silent": ["ber1-gw1"]}}
    result = run(gateway, "apply", "-f", document)
    assert result.exit_code == 1
    assert "connections in use may be dropped" in result.stderr


def test_a_rollback_that_is_known_to_cut_nothing_is_made_without_asking(gateway: FakeGateway) -> None:
    gateway.answers["preview"] = {**CALM, "flows": {"total": 0, "concerned": False}}
    assert run(gateway, "rollback", "5").exit_code == 0
    assert "no gateway has flows that this could concern" in run(gateway, "rollback", "5", "--dry-run").output


def test_a_rollback_says_at_which_revision_it_was_previewed(gateway: FakeGateway) -> None:
    gateway.answers["preview"] = {**CALM, "before": 41}
    assert run(gateway, "rollback", "5").exit_code == 0
    preview, made = (one["args"] for one in gateway.asked if one["verb"] == "rollback")
    assert (preview["dry_run"], "expect_revision" in preview) == (True, False)
    assert (made["dry_run"], made["expect_revision"]) == (False, 41)


def test_a_machine_is_released_on_somebodys_word_only(gateway: FakeGateway) -> None:
    refused = run(gateway, "release", "gw9")
    assert (refused.exit_code, "one tenant's packets may reach another" in refused.stderr) == (1, True)
    assert not [request for request in gateway.asked if request["verb"] == "release"]
    assert "nothing waits for gw9 any more" in run(gateway, "release", "gw9", "--yes").output
    assert gateway.asked[-1]["name"] == "gw9"


def test_a_connection_that_is_cached_several_times_is_counted_once(gateway: FakeGateway) -> None:
    gateway.answers["preview"] = {**PREVIEW, "flows": {**PREVIEW["flows"], "connections": 5}}
    assert "error: 5 connections in use will be dropped" in run(gateway, "rollback", "5").stderr


def test_what_could_not_be_asked_is_not_taken_for_absent(gateway: FakeGateway) -> None:
    gateway.answers["rules"] = Failure("no gateway answers at /run/vnet/gateway.sock", "start it", 3)
    result = run(gateway, "rule", "set", "red/x", "--priority", "5")
    assert result.exit_code == 3
    assert "no gateway answers" in result.stderr


def test_without_a_command_there_is_help_and_no_error(gateway: FakeGateway) -> None:
    for words in ((), ("rule",)):
        result = run(gateway, *words)
        assert "Commands:" in result.output
        assert "error:" not in result.output


@pytest.mark.parametrize("group", [directory_main, gateway_main, cli])
def test_no_command_is_cut_in_the_list(group: click.Group) -> None:
    shown = CliRunner().invoke(group, ["--help"]).output
    commands = shown.partition("Commands:")[2].splitlines()
    assert commands
    assert [line for line in commands if line.endswith("...")] == []


@pytest.mark.parametrize("words", [("completion", "bash"), ("--help",)])
def test_a_full_disk_below_the_output_is_said(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "vnetctl.main", *words]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "error: the output cannot be written: No space left on device",
        "fix:   df -h . /tmp",
    ]


def test_an_output_that_is_closed_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert not Session().is_terminal


def test_the_list_of_commands_says_of_each_what_the_command_says() -> None:
    ctx = click.Context(cli, info_name="vnetctl")
    listed = cli.get_help(ctx).partition("Commands:")[2].partition("Start here:")[0]
    commands = {name: cli.get_command(ctx, name) for name in cli.list_commands(ctx)}
    said = [
        (name, command.get_short_help_str(limit=80))
        for name, command in commands.items()
        if command is not None
    ]
    assert [tuple(line.split(maxsplit=1)) for line in listed.strip().splitlines()] == said


def test_help_loads_nothing_that_only_commands_need() -> None:
    program = """
import sys
from click.testing import CliRunner
from vnetctl.main import cli
said = CliRunner().invoke(cli, ["--help"]).output
assert "rollback" in said
late = {"numpy", "zmq", "msgpack", "msgspec", "rich", "vnetctl.documents"} & set(sys.modules)
sys.exit(" ".join(late) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode == 0


def test_what_asks_a_directory_starts_without_numpy() -> None:
    """It takes as long to import as all the rest, and only decisions need it."""
    program = "import sys, directory_client.client, vnetctl.records; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_directory_on_tcp_without_keys_says_what_to_type() -> None:
    args = ["--directory", "tcp://192.0.2.1:7460", "show", "nodes"]
    result = CliRunner().invoke(cli, args, obj=Session())
    assert result.exit_code == 2
    assert "--key-file FILE --directory-key 'PUBLIC KEY'" in result.stderr


def test_apply_hands_over_text_name_and_take_over(gateway: FakeGateway, document: str) -> None:
    run(gateway, "apply", "-f", document, "--yes", "--take-over", "red/db-1", "--comment", "why")
    args = gateway.asked[-1]["args"]
    assert args["text"] == 'document = "ams-ber"\n'
    assert (args["name"], args["take_over"], args["comment"]) == (document, ["red/db-1"], "why")


def test_add_turns_options_into_the_words_of_the_file(gateway: FakeGateway) -> None:
    gateway.answers["rules"] = []
    result = run(
        gateway,
        "rule",
        "add",
        "red/ssh",
        "--from",
        "group:web",
        "--to",
        "any",
        "--proto",
        "tcp",
        "--port",
        "22,8000-8080",
    )
    assert result.exit_code == 0, result.output
    request = gateway.asked[-1]
    assert (request["verb"], request["noun"], request["name"]) == ("set", "rule", "red/ssh")
    assert request["args"]["values"] == {
        "action": "allow",
        "from": "group:web",
        "to": "any",
        "proto": "tcp",
        "ports": [22, "8000-8080"],
    }
    assert result.output == "rule red/ssh added   revision 43\n"


def test_adding_what_is_there_is_refused(gateway: FakeGateway) -> None:
    result = run(gateway, "endpoint", "add", "red/web-1", "--node", "ams1-gw1", "--mac", "02:00:00:00:00:01")
    assert result.exit_code == 1
    assert "endpoint red/web-1 is there already" in result.stderr
    assert all(request["verb"] == "show" for request in gateway.asked)


def test_moving_an_endpoint_replaces_its_places(gateway: FakeGateway) -> None:
    result = run(gateway, "endpoint", "move", "red/web-1", "--node", "ber1-gw1")
    assert result.exit_code == 0, result.output
    assert gateway.asked[-1]["args"]["values"] == {"node": "ber1-gw1", "at": []}


def test_removing_needs_yes_in_a_script(gateway: FakeGateway) -> None:
    assert run(gateway, "endpoint", "remove", "red/web-1").exit_code == 1
    assert gateway.asked == []
    assert run(gateway, "endpoint", "remove", "red/web-1", "--yes").exit_code == 0


def test_export_prints_the_document_and_nothing_else(gateway: FakeGateway) -> None:
    assert run(gateway, "export", "ams-ber").stdout == 'document = "ams-ber"\n'


def test_every_command_has_help_and_the_shells_are_completed(gateway: FakeGateway) -> None:
    for command in cli.commands:
        assert run(gateway, command, "--help").exit_code == 0, command
    assert "complete -o nosort -F" in run(gateway, "completion", "bash").output


def test_the_noun_that_is_asked_for_is_plural_and_flow_filters_go_along(gateway: FakeGateway) -> None:
    run(
        gateway,
        "show",
        "flows",
        "--vnet",
        "red",
        "--source",
        "10.0.0.0/24",
        "--sort",
        "bytes",
        "--limit",
        "4",
    )
    assert gateway.asked == [
        {
            "verb": "show",
            "noun": "flows",
            "name": None,
            "args": {"vnet": "red", "source": "10.0.0.0/24", "sort": "bytes", "limit": 4, "rates": True},
        }
    ]


def test_a_change_that_is_not_as_declared_is_a_sentence_that_names_the_field(
    gateway: FakeGateway, document: str
) -> None:
    gateway.answers["apply"] = {**ALL_ANSWERS["apply"], "gateways": [{"node": "gw1", "state": 7}]}
    result = run(gateway, "apply", "-f", document, "--yes")
    assert result.exit_code == 1
    assert "gateways[0].state" in result.stderr
