# SPDX-License-Identifier: Apache-2.0
"""What an operator's request means to the directory: it is asked as declared, and wrong values are named."""

from __future__ import annotations

from typing import Any

import pytest

from directory_client.wire.messages import DirectoryError
from directory_client.wire.operator_requests import message_of
from directory_client.wire.requests import (
    ApplyRequest,
    ExplainRequest,
    ExportRequest,
    HistoryRequest,
    ListRequest,
    ReleaseRequest,
    ReloadRequest,
    RemoveRequest,
    RollbackRequest,
    SetRequest,
)

ENDS = {"vnet": "red", "source": "a", "destination": "b"}


@pytest.mark.parametrize(
    ("said", "asked"),
    [
        (
            {"verb": "show", "noun": "endpoints", "args": {"vnet": "red", "limit": 4}},
            ListRequest(kind="endpoints", vnet="red"),
        ),
        ({"verb": "show", "noun": "vnet", "name": "red"}, ListRequest(kind="vnet", name="red")),
        (
            {"verb": "apply", "args": {"text": "x", "take_over": ["a"], "user": "anna", "dry_run": True}},
            ApplyRequest(text="x", name="topology.toml", take_over=["a"], user="anna", dry_run=True),
        ),
        ({"verb": "rollback", "args": {"revision": 7}}, RollbackRequest(revision=7)),
        (
            {"verb": "set", "noun": "rule", "name": "red/a", "args": {"values": {"action": "deny"}}},
            SetRequest(kind="rule", name="red/a", values={"action": "deny"}),
        ),
        ({"verb": "remove", "noun": "rule", "name": "red/a"}, RemoveRequest(kind="rule", name="red/a")),
        ({"verb": "release", "name": "gw1", "args": {"user": ""}}, ReleaseRequest(node="gw1")),
        ({"verb": "export", "name": "doc"}, ExportRequest(document="doc")),
        ({"verb": "history"}, HistoryRequest(limit=20)),
        ({"verb": "reload"}, ReloadRequest()),
        (
            {
                "verb": "explain",
                "args": {"vnet": "red", "source": "a", "destination": "b", "port": 53, "node": ""},
            },
            ExplainRequest(vnet="red", source="a", destination="b", port=53),
        ),
    ],
)
def test_a_saidis_asked_of_the_directory_as_declared(said: dict[str, Any], asked: Any) -> None:
    assert message_of(said).request == asked


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"verb": "apply", "args": {"text": ""}}, "the document is empty"),
        ({"verb": "apply", "args": {"text": 5}}, "apply: text: expected str, got int"),
        ({"verb": "apply", "args": {"text": "x", "take_over": "a"}}, "apply: take_over: expected array"),
        ({"verb": "apply", "args": {"text": "x", "dry_run": 1}}, "apply: dry_run: expected bool"),
        ({"verb": "rollback", "args": {"revision": -1}}, "rollback: revision: expected int >= 0"),
        ({"verb": "rollback", "args": {"revision": 1 << 63}}, "rollback: revision: expected int <="),
        ({"verb": "rollback"}, "rollback: revision: missing"),
        ({"verb": "set", "noun": "colour", "name": "a"}, "'colour' cannot be changed"),
        ({"verb": "set", "noun": ["x"], "name": "a"}, "cannot be changed"),
        (
            {"verb": "set", "noun": "rule", "name": "a", "args": {"values": []}},
            "set: values: expected object",
        ),
        ({"verb": "remove", "noun": "rule"}, "remove: name: missing"),
        ({"verb": "export", "name": ""}, "export: document: missing"),
        ({"verb": "history", "args": {"limit": 100_001}}, "history: limit: expected int <= 100000"),
        ({"verb": "explain", "args": {"vnet": "red", "source": "a"}}, "explain: destination: missing"),
        (
            {"verb": "explain", "args": ENDS | {"port": 65_536}},
            "explain: port: expected int <= 65535",
        ),
        ({"verb": "dance"}, "'dance' is no verb"),
    ],
)
def test_a_wrong_value_is_refused_before_it_is_sent(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DirectoryError, match=sentence) as raised:
        message_of(said)
    assert raised.value.code == 2
    assert raised.value.fix
