# SPDX-License-Identifier: Apache-2.0
"""Why a decision is what it is: explain, and provenance."""

from typing import Any

import numpy as np
import pytest
from directory_world import CLOSED, ask

from directory_client.vocabulary.numbers import Action
from directory_client.wire.rows import QUERY
from directory_service.refused import Refused
from whole_directory import WholeDirectory as Directory

# ---- why -------------------------------------------------------------------------------------------


def roles(answer: dict[str, Any]) -> dict[str, str]:
    return {row["role"]: row["name"] for row in answer["records"]}


def test_explain_names_what_led_to_the_decision(directory: Directory) -> None:
    directory.apply(CLOSED, "topology.toml")
    answer = directory.explain("red", "web-1", "10.0.0.21", "tcp", 5432)
    assert (answer["action"], answer["to_node"], answer["node"]) == ("encapsulate", "gw2", "gw1")
    assert roles(answer) == {
        "source": "web-1", "destination": "db-1", "rule": "db", "path": "ams1-ber1", "profile": "built-in",
    }  # fmt: skip
    assert next(row["revision"] for row in answer["records"] if row["role"] == "rule") == directory.revision


def test_explain_names_the_nearest_rule_and_what_allowed_it_before(directory: Directory) -> None:
    closed = directory.apply(CLOSED, "topology.toml", user="anna", comment="close red")
    answer = directory.explain("red", "web-2", "db-1", "tcp", 22)
    assert (answer["action"], answer["reason"]) == ("drop", "no_rule")
    assert answer["nearest"]["name"] == "db"
    assert answer["nearest"]["differs"] == ["port 22"]
    before = answer["before"]
    assert (before["name"], before["revision"], before["user"], before["comment"]) == (
        "any", closed.revision, "anna", "close red",
    )  # fmt: skip


def test_explain_answers_as_of_an_older_revision(directory: Directory) -> None:
    before = directory.revision
    directory.apply(CLOSED, "topology.toml")
    assert directory.explain("red", "web-2", "db-1", "tcp", 22, revision=before)["action"] == "encapsulate"
    with pytest.raises(Refused, match="is not kept"):
        directory.explain("red", "web-2", "db-1", "tcp", 22, revision=999)


@pytest.mark.parametrize(
    ("question", "problem"),
    [
        (("rde", "web-1", "db-1"), "there is no V-net rde"),
        (("red", "web-9", "db-1"), "web-9 is no endpoint of red"),
        (("red", "web-1", "db-1", "tpc", 22), "tpc is no protocol"),
        (("red", "web-1", "db-1", "tcp"), "tcp needs a port"),
        (("red", "web-1", "db-1", "", 22), "a port needs a protocol"),
        (("red", "web-1", "db-1", "", None, "leaf"), "asks no directory"),
    ],
)
def test_explain_refuses_what_makes_no_question(directory: Directory, question: tuple, problem: str) -> None:
    with pytest.raises(Refused, match=problem):
        directory.explain(*question)


def test_resolve_gives_provenance_when_asked(directory: Directory) -> None:
    action, answer = ask(directory, "10.0.0.11", "10.0.0.21")
    assert action == Action.ENCAPSULATE
    assert answer.provenance == []
    row = np.zeros(1, QUERY)
    (given,) = directory.resolve("gw1", ["vxlan"], row, explain=True).provenance
    assert given == {}


def test_explain_of_a_pair_lists_the_rules_that_look_at_its_ports(directory: Directory) -> None:
    directory.apply(CLOSED, "topology.toml")
    answer = directory.explain("red", "db-1", "web-1")
    assert answer["action"] == "narrow"
    assert [(rule["name"], rule["way"]) for rule in answer["rules"]] == [("db", "back")]


def test_explain_judges_the_way_back_and_an_answer_by_its_source_port(directory: Directory) -> None:
    directory.apply(CLOSED, "topology.toml")
    there = directory.explain("red", "web-1", "db-1", "tcp", 5432)
    assert (there["back"]["action"], there["back"]["rule"]) == ("encapsulate", "db")
    assert directory.explain("red", "db-1", "web-1", "tcp", 35704)["reason"] == "no_rule"
    answer = directory.explain("red", "db-1", "web-1", "tcp", 35704, source_port=5432)
    assert answer["action"] == "encapsulate"


def test_explain_says_that_a_rule_matched_on_the_way_back_and_why_a_port_is_closed_to_it(
    directory: Directory,
) -> None:
    directory.apply(CLOSED, "topology.toml")
    (rule,) = (
        row
        for row in directory.explain("red", "db-1", "web-1", "tcp", 35704, source_port=5432)["records"]
        if row["role"] == "rule"
    )
    assert (rule["name"], rule["way"]) == ("db", "back")
    refused = directory.explain("red", "db-1", "web-1", "tcp", 22, source_port=5432)
    assert refused["reason"] == "no_rule"
    assert (refused["nearest"]["name"], refused["nearest"]["way"]) == ("db", "back")
    assert refused["nearest"]["differs"] == ["port 22 (an answer leads to 32768-65535)"]


def test_explain_says_that_multicast_is_not_carried(directory: Directory) -> None:
    with pytest.raises(Refused, match=r"224\.0\.0\.5 is no unicast address"):
        directory.explain("red", "web-1", "224.0.0.5")
