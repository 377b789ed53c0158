# SPDX-License-Identifier: Apache-2.0
"""directory.toml: what is right, and one sentence for what is wrong."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from directory_client.keys import make_key_file
from directory_client.toml.changes import compare
from directory_client.toml.strict_toml import TomlError, TomlErrors
from directory_client.wire.messages import DirectoryError
from directory_service.configuration import Limits, embedded, live_part, load, parse, values
from directory_service.main import main
from directory_service.settings import Settings

OTHER_KEY = "-4?4NEC+4^dBb8j>LQsk-tFj)!}fvMJe[5^T&:P^"
KEY = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"

FULL = f"""
name     = "ams1-dir1"
listen   = "tcp://10.80.0.11:7460"
key_file = "/etc/vnet/directory.key"

[store]
kind = "sqlite"
path = "/var/lib/vnet/directory.db"

[answers]
lifetime_s          = 300
negative_lifetime_s = 5
jitter_ratio        = 0.1

[leases]
node_s = 12

[history]
revisions = 10_000
days      = 90

[limits]
message_bytes                = 1_048_576
resolves_per_second_per_vnet = 500_000
writes_per_second_per_key    = 200
late_ms                      = 50

[audit]
file = "/var/log/vnet/audit.jsonl"

[metrics]
listen = "127.0.0.1:9465"

[[client]]
name       = "ams1-gw1"
public_key = "{KEY}"
role       = "gateway"
"""


def test_the_file_of_the_documentation_is_read():
    configuration = parse(FULL, "directory.toml")
    assert configuration.listen.push == "tcp://10.80.0.11:7462"
    assert configuration.store_path == Path("/var/lib/vnet/directory.db")
    assert configuration.metrics == ("127.0.0.1", 9465)
    assert configuration.node_s == 12
    assert configuration.limits == Limits()
    assert configuration.settings == Settings()
    assert [(c.name, c.role, c.public_key.decode()) for c in configuration.clients] == [
        ("ams1-gw1", "gateway", KEY)
    ]


def test_the_smallest_file_is_enough():
    configuration = parse('name = "d"\nlisten = "ipc:///run/vnet"\n[store]\nkind = "memory"\n', "d.toml")
    assert configuration.store_path is None
    assert configuration.limits == Limits()


def test_the_embedded_directory_needs_no_file():
    configuration = embedded("/run/vnet", "/var/lib/vnet")
    assert configuration.listen.name == "ipc:///run/vnet"
    assert configuration.store_path == Path("/var/lib/vnet/directory.db")


@pytest.mark.parametrize(
    ("before", "after", "line", "words", "remedy"),
    [
        ('name     = "ams1-dir1"', "", 1, "name is missing", "add name"),
        ('name     = "ams1-dir1"', 'name = "AMS 1"', 2, "is no name", ""),
        ("node_s = 12", "nodes_s = 12", 16, "leases.nodes_s: unknown key", 'did you mean "node_s"?'),
        ("node_s = 12", "node_s = 1", 16, "leases.node_s: 1 is out of range", "a number from 2 to 3600"),
        (
            'kind = "sqlite"',
            'kind = "etcd"',
            7,
            "store.kind: this build has no etcd store",
            'kind = "sqlite"',
        ),
        ('kind = "sqlite"', 'kind = "sqlit"', 7, "is not possible", 'did you mean "sqlite"?'),
        (
            'path = "/var/lib/vnet/directory.db"',
            "",
            6,
            "path is missing",
            'path = "/var/lib/vnet/directory.db"',
        ),
        ("tcp://10.80.0.11:7460", "tcp://10.80.0.11", 3, "is no endpoint", "tcp://"),
        ('key_file = "/etc/vnet/directory.key"', "", 3, "listen: TCP needs a key", "key_file ="),
        ("127.0.0.1:9465", "9465", 32, "is not HOST:PORT", "127.0.0.1:9465"),
        ('role       = "gateway"', 'role = "king"', 37, "is not possible", "gateway"),
        (KEY, KEY[:-1], 36, "is no CURVE public key", "keygen"),
        ("jitter_ratio        = 0.1", 'jitter_ratio = "0.1"', 13, "is not a number", ""),
    ],
)
def test_what_is_wrong_is_one_sentence_with_line_key_and_remedy(before, after, line, words, remedy):
    assert before in FULL
    with pytest.raises(TomlError) as raised:
        parse(FULL.replace(before, after), "directory.toml")
    assert words in str(raised.value)
    assert remedy in raised.value.fix
    assert raised.value.line == line
    assert str(raised.value).startswith(f"directory.toml line {line}: ")


def test_tcp_without_clients_would_serve_nobody():
    with pytest.raises(TomlError, match="no client may connect"):
        parse(FULL[: FULL.index("[[client]]")], "directory.toml")


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(DirectoryError, match="cannot be read") as raised:
        load(tmp_path / "none.toml")
    assert raised.value.code == 2


def test_the_file_shown_in_the_documentation_is_right():
    text = (Path(__file__).parents[2] / "docs" / "directory.md").read_text()
    shown = text.split("```toml\n")[1].split("```")[0].replace('"…"', f'"{OTHER_KEY}"')
    assert len(parse(shown, "directory.toml").clients) == 2


@pytest.mark.parametrize(("name", "key", "same"), [("gw1", OTHER_KEY, "name"), ("bob", KEY, "public_key")])
def test_a_client_s_name_and_key_are_its_own(name, key, same):
    clients = "".join(
        f'[[client]]\nname = "{one}"\nrole = "gateway"\npublic_key = "{its}"\n'
        for one, its in (("gw1", KEY), (name, key))
    )
    text = f'name = "d1"\nlisten = "ipc:///run/x"\n{clients}[store]\nkind = "memory"\n'
    with pytest.raises(TomlError, match=f"have the same {same}"):
        parse(text, "directory.toml")


def test_all_that_is_wrong_is_told_at_once():
    text = FULL.replace("node_s = 12", "nodes_s = 12").replace('role       = "gateway"', 'role = "king"')
    text = text.replace('name     = "ams1-dir1"', 'nmae     = "ams1-dir1"').replace(
        "late_ms  ", 'late_ms  ="x" #'
    )
    with pytest.raises(TomlErrors) as raised:
        parse(text, "directory.toml")
    told = [(error.line, error.key, error.problem) for error in raised.value.errors]
    assert [(line, key) for line, key, _ in told] == [
        (1, ""),
        (2, "nmae"),
        (16, "leases.nodes_s"),
        (26, "limits.late_ms"),
        (37, "client[1].role"),
    ]


def test_what_a_running_directory_takes_and_what_waits_for_its_restart():
    changed = {
        "lifetime_s          = 300": "lifetime_s = 200",
        "revisions = 10_000": "revisions = 7",
        "node_s = 12": "node_s = 13",
        "message_bytes                = 1_048_576": "message_bytes = 2097152",
        "late_ms                      = 50": "late_ms = 70",
        "audit.jsonl": "audit2.jsonl",
        "127.0.0.1:9465": "127.0.0.1:9466",
        "tcp://10.80.0.11:7460": "tcp://10.80.0.12:7460",
        'role       = "gateway"': 'role = "operator"',
    }
    text = FULL
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    was, wanted = parse(FULL, "d.toml"), parse(text, "d.toml")
    live = live_part(was, wanted)
    assert {change.key for change in compare(values(was), values(live))} == {
        "answers.lifetime_s",
        "history.revisions",
        "leases.node_s",
        "limits.late_ms",
        "audit.file",
        "metrics.listen",
        "client.ams1-gw1",
    }
    waiting = {change.key for change in compare(values(live), values(wanted))}
    assert waiting == {"listen", "limits.message_bytes"}
    assert live_part(live, wanted) == live


def test_an_audit_file_is_begun_or_ended_by_a_restart_only():
    without = FULL.replace('[audit]\nfile = "/var/log/vnet/audit.jsonl"\n', "")
    was, wanted = parse(FULL, "d.toml"), parse(without, "d.toml")
    assert live_part(was, wanted).audit_file == was.audit_file
    assert live_part(wanted, was).audit_file is None


def test_check_names_an_address_that_is_not_here_and_a_port_that_is_taken(tmp_path):
    make_key_file(tmp_path / "key")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for listen, status, words in (
            ("192.0.2.77:7460", 2, "192.0.2.77:7460 cannot be listened on"),
            (f"127.0.0.1:{min(port, 65_533)}", 0, "is in use"),
        ):
            (tmp_path / "d.toml").write_text(
                f'name = "d"\nlisten = "tcp://{listen}"\nkey_file = "{tmp_path}/key"\n'
                f'[store]\nkind = "memory"\n[[client]]\nname = "a"\npublic_key = "{KEY}"\nrole = "operator"\n'
            )
            result = CliRunner().invoke(main, ["check", str(tmp_path / "d.toml")])
            assert words in result.output
            assert result.exit_code == status


def test_check_names_directories_and_a_store_that_are_not_there(tmp_path):
    config = tmp_path / "d.toml"
    store, audit = tmp_path / "var" / "d.db", tmp_path / "log" / "audit.jsonl"
    text = f'name = "d"\nlisten = "ipc://{tmp_path}"\n[store]\npath = "{store}"\n[audit]\nfile = "{audit}"\n'
    config.write_text(text)
    result = CliRunner().invoke(main, ["check", str(config)])
    assert (result.exit_code, f"there is no directory {audit.parent}" in result.output) == (2, True)
    audit.parent.mkdir()
    result = CliRunner().invoke(main, ["check", str(config)])
    assert result.exit_code == 0
    assert f"there is no directory {store.parent}  fix: vnet-directory init {config}" in result.output
    store.parent.mkdir()
    assert "there is no store in" in CliRunner().invoke(main, ["check", str(config)]).output
    assert CliRunner().invoke(main, ["init", str(config)]).exit_code == 0
    assert "warning" not in CliRunner().invoke(main, ["check", str(config)]).output
