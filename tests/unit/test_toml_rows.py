# SPDX-License-Identifier: Apache-2.0
"""Quick reading of rows says what tomllib says, and quick reading of endpoints what their reader says."""

import tomllib
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from directory_client.toml import strict_toml, toml_rows
from directory_client.toml.strict_toml import Table, TomlError
from directory_client.toml.toml_lines import Lines
from directory_service.kinds.endpoint import read_endpoint
from directory_service.kinds.plain_endpoint import read_plain_endpoint

_LINES = (
    "[vnet.red.endpoint]",
    "[vnet.red.endpoint] # all",
    "[vnet.red.route]",
    "[vnet.red.endpoint.c]",
    "[[vnet.red.endpoint.d]]",
    "[[vnet.red.attachment]]",
    "[vnet.red]",
    "[vnet]",
    "[ vnet . blue ]",
    '["vnet".red.rule]',
    "[1]",
    "a = { mac = '02:00:00:00:00:01', addresses = ['10.0.0.1', \"10.0.0.2\"] }",
    'b = {mac="x",n=7,on=true,off=false,none=[]}# a comment',
    "  c = { x = 1 }",
    "c = { x = 1, x = 2 }",
    "c = { x = 01 }",
    "c = { x = 1, }",
    "c = { x = ['a',] }",
    "c = {}",
    'c = { x = "a\\"b" }',
    "c = { x = { y = 1 } }",
    "c.x = { y = 1 }",
    '"10.0.0.0/8" = { via = "r" }',
    "'10.1.0.0/16' = { via = 'r' }",
    "d = { x = 1_000, y = 1.5 }",
    "e = 1",
    "f = [",
    "[1],",
    "]",
    "g = { x = ']' } # ]",
    'h = "[" # "',
    "i = '''",
    "'''",
    "# [vnet.red.endpoint]",
    "# bad \x01",
    "x = { a = 1 } # bad \x7f",
    "",
    "\r",
    "j = { x = 1 }\r",
    "rubbish",
)


def _outcome(load: Any, text: str) -> Any:
    try:
        return load(text)
    except tomllib.TOMLDecodeError as error:
        return str(error)


def _in_order(read: Any) -> Any:
    """Make the order of keys count in a comparison."""
    if isinstance(read, dict):
        return [(key, _in_order(value)) for key, value in read.items()]
    return [_in_order(item) for item in read] if isinstance(read, list) else (type(read), read)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(_LINES), max_size=14))
@example(["[1]", "f = [", "[1]", "]", "a = { x = 1 }"])
@example(["[vnet.red.endpoint]", "c = { x = 1 }", "[vnet.red.endpoint.c]"])
@example(["[vnet.red.endpoint]", "c = { x = 1 }", "# bad \x01"])
@example(["[vnet.red.endpoint]", "c = { x = 1 }", "[vnet.red.endpoint]", "b = { x = 1 }"])
@example(["[[a]]", "[a.b]", "c = { x = 1 }", "[[a]]", "[a.b]", "c = { x = 2 }"])
def test_rows_are_read_as_tomllib_reads_them(lines: list[str]) -> None:
    text = "\n".join(["# many lines"] * 70 + lines)

    assert _outcome(lambda text: _in_order(toml_rows.loads(text)), text) == _outcome(
        lambda text: _in_order(tomllib.loads(text)), text
    )


def test_sections_of_rows_are_left_out_of_what_tomllib_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    given_: list[str] = []
    load = tomllib.loads
    monkeypatch.setattr(toml_rows.tomllib, "loads", lambda text: given_.append(text) or load(text))
    rows = [f"e{n} = {{ addresses = ['10.0.0.{n}'], mac = '02:00:00:00:00:{n:02x}' }}" for n in range(200)]
    text = "\n".join(["[vnet.red]", "vni = 7", "[vnet.red.endpoint]", *rows, "[vnet.blue]", "vni = 8"])

    read = toml_rows.loads(text)

    assert len(given_) == 1
    assert "mac" not in given_[0]
    assert read == load(text)


def test_lines_are_found_only_when_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr("directory_client.toml.toml_lines.find_lines", lambda text: found.append(text) or {})
    table = strict_toml.read_toml("a = 1\nb = 2\n", "t.toml")

    assert (table.integer("a"), table.integer("b"), found) == (1, 2, [])
    monkeypatch.undo()
    with pytest.raises(TomlError, match=r"t\.toml line 2: b"):
        table.string("b")


_ADDRESSES = (
    "10.0.0.1",
    "223.255.255.255",
    "224.0.0.1",
    "0.0.0.0",
    "01.2.3.4",
    "1.2.3",
    "::1",
    "٣.1.1.1",
    "",
)
_SAID = st.fixed_dictionaries(
    {},
    optional={
        "addresses": st.lists(st.sampled_from(_ADDRESSES), max_size=3) | st.just("10.0.0.1"),
        "services": st.lists(st.sampled_from(_ADDRESSES[:2]), max_size=2),
        "mac": st.sampled_from(
            ("02:00:00:00:00:01", "02:00:00:00:00:0A", "01:00:00:00:00:01", "00:00:00:00:00:00", "02:0", 7)
        ),
        "node": st.sampled_from(("gw1", "", "Gw", True, "a" * 64)),
        "at": st.lists(
            st.sampled_from(("gw1/rack", "gw1/rack:7", "gw1/r:4095", "gw1/r:07", "gw1")), max_size=2
        ),
        "groups": st.lists(st.sampled_from(("web", "db", "No", 3)), max_size=2),
        "preference": st.sampled_from((0, 100, 255, 256, True, -1)),
        "colour": st.just("red"),
    },
)


@settings(max_examples=500, deadline=None)
@given(_SAID)
def test_a_plain_endpoint_is_read_as_by_its_reader(said: dict[str, Any]) -> None:
    plain = read_plain_endpoint(said)

    if plain is None:
        return
    table = Table("", Lines(), (), said)
    read = read_endpoint(table)
    table.finish()
    assert _in_order(plain) == _in_order(read)


@pytest.mark.parametrize(
    "said",
    [
        {"mac": "02:00:00:00:00:01", "node": "gw1"},
        {"mac": "02:00:00:00:00:01", "addresses": ["10.0.0.1"], "at": ["gw1/rack:101"], "groups": ["web"]},
        {"mac": "fe:ff:ff:ff:ff:ff", "services": ["10.0.0.1"], "node": "gw1", "preference": 7, "groups": []},
    ],
)
def test_what_is_usual_is_plain(said: dict[str, Any]) -> None:
    assert read_plain_endpoint(said) is not None
