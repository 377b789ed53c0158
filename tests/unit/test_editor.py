# SPDX-License-Identifier: Apache-2.0
"""An editor goes on from what it has planned, without reading back what it has written."""

from __future__ import annotations

import pytest

from directory_service.editor import Editor
from directory_service.follower import Follower
from directory_service.model.snapshot import load_snapshot
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore

TEXT = """document = "d"
[site.s]
[node.gw1]
kind = "gateway"
site = "s"
[vnet.red]
vni = 7
prefixes = ["10.0.0.0/8"]
[[vnet.red.attachment]]
nodes = ["gw1"]
port = "rack"
[vnet.red.endpoint]
a = { addresses = ["10.0.0.1"], mac = "02:00:00:00:00:01", node = "gw1" }
b = { addresses = ["10.0.0.2"], mac = "02:00:00:00:00:02", at = ["gw1/rack"], groups = ["g"] }
"""
NEW = {"addresses": ["10.0.0.3"], "mac": "02:00:00:00:00:03", "node": "gw1"}


def make_editor(store: MemoryStore) -> tuple[Editor, Follower]:
    follower = Follower(store, lambda: 0, lambda: 0)
    return Editor(follower, Settings(), lambda: 0, lambda: 0), follower


def test_what_an_editor_goes_on_with_is_what_the_store_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    editor, follower = make_editor(store)
    read: list[int] = []
    commits = store.commits
    monkeypatch.setattr(store, "commits", lambda after, limit: read.append(after) or commits(after, limit))

    for step in (
        lambda: editor.apply(TEXT, "d.toml"),
        lambda: editor.set_record("endpoint", "red/c", NEW),
        lambda: editor.set_record("endpoint", "red/c", {"node": None, "at": ["gw1/rack"]}),
        lambda: editor.apply(TEXT.replace("10.0.0.1", "10.0.0.9"), "d.toml"),
        lambda: editor.remove_record("endpoint", "red/c"),
    ):
        read.clear()
        before = follower.revision
        step()

        assert read == [before]  # once, before the plan
        held = load_snapshot(store)
        assert (follower.revision, dict(follower.current.records)) == (held.revision, dict(held.records))
        ours, theirs = (snapshot.vnets["red"].members for snapshot in (follower.current, held))
        assert {name: (one.endpoint, one.spots) for name, one in ours.items()} == {
            name: (one.endpoint, one.spots) for name, one in theirs.items()
        }


def test_what_somebody_else_has_written_is_taken_up_before_a_plan() -> None:
    store = MemoryStore()
    editor, follower = make_editor(store)
    other, _ = make_editor(store)
    editor.apply(TEXT, "d.toml")

    other.set_record("endpoint", "red/c", NEW)
    editor.set_record("endpoint", "red/d", {**NEW, "addresses": ["10.0.0.4"], "mac": "02:00:00:00:00:04"})

    assert dict(follower.current.records) == dict(load_snapshot(store).records)
