# SPDX-License-Identifier: Apache-2.0
"""Facts: put, prolonged, expired, and known again after a restart."""

from pathlib import Path

import pytest

from directory_service.facts.contract import Facts
from directory_service.facts.memory import MemoryFacts
from directory_service.facts.sqlite import SqliteFacts


@pytest.fixture(params=["memory", "sqlite"])
def facts(request: pytest.FixtureRequest, tmp_path: Path) -> Facts:
    return MemoryFacts() if request.param == "memory" else SqliteFacts(tmp_path / "facts", 100.0)


def test_only_a_new_value_changes_the_serial(facts: Facts) -> None:
    assert facts.put("gw1", "presence", b"a", 10.0)
    serial = facts.serial
    assert not facts.put("gw1", "presence", b"a", 20.0)
    assert facts.serial == serial
    assert facts.put("gw1", "presence", b"b", 20.0)
    assert [(fact.owner, fact.value) for fact in facts.since(serial)] == [("gw1", b"b")]


def test_what_is_not_prolonged_expires(facts: Facts) -> None:
    facts.put("gw1", "presence", b"a", 10.0)
    facts.put("gw2", "presence", b"a", 10.0)
    facts.put("gw2", "presence", b"a", 20.0)
    assert [fact.owner for fact in facts.expire(15.0)] == ["gw1"]
    assert [fact.owner for fact in facts.of_key("presence")] == ["gw2"]


def test_facts_are_known_again_after_a_restart(tmp_path: Path) -> None:
    first = SqliteFacts(tmp_path / "facts", 100.0)
    first.put("gw1", "presence", b"a", 10.0)
    first.put("gw2", "presence", b"a", 10.0)
    first.flush()
    first.remove("gw2", "presence")
    first.close()
    again = SqliteFacts(tmp_path / "facts", 100.0)
    assert [(fact.owner, fact.value, fact.expires_s) for fact in again.of_key("presence")] == [
        ("gw1", b"a", 100.0)
    ]


def test_a_broken_file_is_left_alone_and_facts_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "facts").write_bytes(b"no database" * 200)
    facts = SqliteFacts(tmp_path / "facts", 100.0)
    assert facts.put("gw1", "presence", b"a", 10.0)
    facts.close()
    assert (tmp_path / "facts").read_bytes() == b"no database" * 200
