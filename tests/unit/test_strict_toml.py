# SPDX-License-Identifier: Apache-2.0
"""The strict TOML reader: every error has file, line and key."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from directory_client.toml.strict_toml import TomlError, read_toml
from directory_client.toml.toml_lines import find_lines, format_path
from directory_client.toml.toml_text import toml_value
from directory_client.vocabulary.names import check_name

TEXT = """\
name = "gw1"        # a comment with [brackets] and = signs
note = '''
[not.a.table]
key = 1 '''
list = [
  1,  # one
  { a = 2, "b c" = [3, 4] },
]

[port.uplink]
device = "x]y"

[[vnet.red.attachment]]
vlan = 101
[[vnet.red.attachment]]
vlan = 102
[vnet.red.route]
"192.168.0.0/16" = { via = "fw", "odd key" = 1 }
"""


def test_every_key_has_its_line() -> None:
    lines = {format_path(path): line for path, line in find_lines(TEXT).items()}
    assert lines["name"] == 1
    assert lines["note"] == 2
    assert lines["list[2].a"] == 7
    assert lines['list[2]."b c"[2]'] == 7
    assert lines["port.uplink"] == 10
    assert lines["port.uplink.device"] == 11
    assert lines["vnet.red.attachment[1].vlan"] == 14
    assert lines["vnet.red.attachment[2].vlan"] == 16
    assert lines['vnet.red.route."192.168.0.0/16".via'] == 18
    assert not any("not" in path.split(".") for path in lines)


_KEYS = st.text("ab-_9 é.\"'", min_size=1, max_size=4)
_VALUES = st.recursive(
    st.one_of(st.integers(-5, 10**6), st.booleans(), st.text("a\"'\\\n[]{}#=,", max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_KEYS, inner, max_size=3)),
    max_leaves=8,
)


def paths_of(value: Any, path: tuple = ()) -> set:
    items = list(
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return {(*path, key) for key, _ in items}.union(*(paths_of(inner, (*path, key)) for key, inner in items))


@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_what_is_written_is_read_again_and_every_key_found(values: dict) -> None:
    text = "".join(f"{format_path((key,))} = {toml_value(value)}\n" for key, value in values.items())
    assert tomllib.loads(text) == values
    found = find_lines(text)
    for number, key in enumerate(values, 1):
        assert found[(key,)] == number
    assert set(found) == paths_of(values)


def fails(text: str, *calls: tuple[str, Any]) -> TomlError:
    table = read_toml(text, "f.toml")
    try:
        for call, arguments in calls:
            getattr(table, call)(*arguments[0], **arguments[1])
        table.finish()
    except TomlError as error:
        return error
    raise AssertionError("no error")


def call(name: str, *args: Any, **kwargs: Any) -> tuple[str, Any]:
    return name, (args, kwargs)


def test_an_unknown_key_is_named_with_the_nearest_one() -> None:
    error = fails('device = "a"\ndevise = "b"\n', call("string", "device"))
    assert str(error) == "f.toml line 2: devise: unknown key"
    assert error.fix == 'did you mean "device"?'


def test_a_missing_key_says_what_to_add() -> None:
    error = fails("", call("string", "name"))
    assert (error.problem, error.fix) == ("name is missing", "add name = … (a string)")


@pytest.mark.parametrize(
    ("text", "what", "problem"),
    [
        ("k = 1", call("string", "k"), "1 is not a string"),
        ("k = true", call("integer", "k"), "true is not a number"),
        ("k = 7", call("integer", "k", low=8, high=9), "7 is out of range"),
        ('k = "x"', call("boolean", "k"), "'x' is not true or false"),
        ('k = "x"', call("string", "k", choices=("y",)), '"x" is not possible'),
        ('k = "X"', call("string", "k", check=check_name), "'X' is no name"),
        ('k = ["a", "a"]', call("strings", "k"), '"a" is there twice'),
        ('k = ["a", 1]', call("strings", "k"), "1 in the list is no string"),
        ("k = []", call("strings", "k", least=1), "needs at least 1"),
        ("k = 1", call("table", "k"), "1 is not a table: [k]"),
    ],
)
def test_a_bad_value_is_named(text: str, what: tuple, problem: str) -> None:
    error = fails(text, what)
    assert problem in error.problem
    assert (error.line, error.key, bool(error.fix)) == (1, "k", True)


def test_what_is_no_toml_has_its_line() -> None:
    with pytest.raises(TomlError, match=r"^f\.toml line 2: no TOML: "):
        read_toml("a = 1\nb = = 2\n", "f.toml")
    with pytest.raises(TomlError, match=r"^f\.toml line 2: no TOML: "):
        read_toml("a = 1\nb = [", "f.toml")


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a = 1\nb = " + "[" * 50_000, 0, "nested too deeply"),
        ("a = 1\n" + ".".join("b" * 50_000) + " = 1", 2, "more than 100 parts"),
        ("a = 1\n[" + " . ".join(["'b'"] * 50_000) + "]", 2, "more than 100 parts"),
        ("a = 1\nb = " + "9" * 5_000, 2, "too many digits"),
    ],
)
def test_what_python_cannot_read_is_one_mistake_like_others(text: str, line: int, problem: str) -> None:
    with pytest.raises(TomlError) as caught:
        read_toml(text, "f.toml")
    assert problem in caught.value.problem
    assert caught.value.line == line


def test_many_dots_in_values_are_no_deep_key() -> None:
    prefixes = [f"10.0.{i}.0/24" for i in range(250)]
    text = "p = [" + ", ".join(f'"{p}"' for p in prefixes) + "]"
    assert read_toml(text, "f.toml").strings("p") == tuple(prefixes)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("k = 0x" + "9" * 5_000, "a very large number is out of range"),
        ("k = 2020-01-31", "2020-01-31 (a date or time) is not a number"),
        ("k = 12:30:00", "12:30:00 (a date or time) is not a number"),
    ],
)
def test_a_value_of_another_kind_is_shown_as_it_is_written(text: str, shown: str) -> None:
    assert fails(text, call("integer", "k", high=100)).problem == shown
