# SPDX-License-Identifier: Apache-2.0
"""The numbers, reasons and rows of directory_client are those of native/."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from directory_client.vocabulary import numbers
from directory_client.vocabulary.names import parse_place, suggest
from directory_client.vocabulary.reasons import (
    all_reasons,
    find_reason,
    parse_definition,
    reason_name,
    reason_number,
)
from directory_client.wire import rows

NATIVE = Path(__file__).parents[2] / "native"
HEADER = "".join((NATIVE / "include" / name).read_text() for name in ("fp_types.h", "fp_tunnel.h"))


def enum_of(name: str) -> dict[str, int]:
    """Parse one enum of what all of C shares."""
    body = re.search(rf"enum {name} \{{(.*?)\}};", HEADER, re.S)
    assert body is not None, name
    found = re.findall(r"FP_(\w+) = (\d+(?: << \d+)?)", body[1])
    return {key: eval(value, {"__builtins__": {}}) for key, value in found}


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (numbers.KeyClass, "fp_key_class", "CLASS_"),
        (numbers.KeyFlag, "fp_key_flag", "KEY_"),
        (numbers.Action, "fp_action", "ACTION_"),
        (numbers.ChangeKind, "fp_change_kind", "CHANGE_"),
        (numbers.ScopeFlag, "fp_scope_flag", "SCOPE_"),
        (numbers.IngressKind, "fp_ingress_kind", "INGRESS_"),
        (numbers.IngressFlag, "fp_ingress_flag", "INGRESS_"),
        (numbers.Protocol, "fp_protocol", "PROTOCOL_"),
        (numbers.LocationKind, "fp_location_kind", "LOCATION_"),
    ],
)
def test_numbers_are_those_of_the_header(ours: type[IntEnum], theirs: str, prefix: str) -> None:
    header = {name.removeprefix(prefix): value for name, value in enum_of(theirs).items()}
    header.pop("MAX", None)
    assert {one.name: one.value for one in ours} == header


def test_reasons_are_those_of_the_definition() -> None:
    lines = re.findall(r"^REASON\((\d+), (\w+),", (NATIVE / "drop_reasons.def").read_text(), re.M)
    assert [(reason.number, reason.name) for reason in all_reasons()] == [(int(n), name) for n, name in lines]
    assert reason_name(reason_number("no_rule")) == "no_rule"
    assert reason_name(127) == "unknown"
    assert find_reason("nonsense") is None


@pytest.mark.parametrize(
    "line", ["REASON(1, a)", 'REASON(x, a, "b", "")', 'REASON(1, a, "b", "")\nREASON(1, c, "d", "")']
)
def test_a_definition_that_cannot_be_read_names_its_line(line: str) -> None:
    with pytest.raises(ValueError, match=r"drop_reasons\.def line \d"):
        parse_definition(line)


def test_rows_have_the_sizes_of_the_protocol() -> None:
    sizes = {
        name: getattr(rows, name).itemsize for name in ("QUERY", "DECISION", "LOCATION", "TUNNEL", "SCOPE")
    }
    assert sizes == {"QUERY": 64, "DECISION": 48, "LOCATION": 64, "TUNNEL": 96, "SCOPE": 48}


def test_places_are_read_and_written_alike() -> None:
    for text in ("ams1-gw1/rack:101", "ams1-gw1/rack"):
        assert str(parse_place(text)) == text
    for text in ("ams1-gw1", "ams1-gw1/", "ams1-gw1/rack:0", "ams1-gw1/rack:4095", "A/b", "a/b:x"):
        with pytest.raises(ValueError, match=re.escape(text) if text != "A/b" else "no name"):
            parse_place(text)


def test_the_nearest_name_is_suggested() -> None:
    assert suggest("devise", ["device", "role"]) == 'did you mean "device"?'
    assert suggest("zzz", ["b", "a"]) == "one of: a, b"
    assert suggest("zzz", []) == "there are none yet"
