# SPDX-License-Identifier: Apache-2.0
"""`vnetctl document rename` and `remove`, against what a directory does with them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from click.testing import CliRunner, Result

from directory_client.wire.operator_requests import message_of
from directory_service.refused import Refused
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from vnetctl.errors import Failure
from vnetctl.main import cli
from vnetctl.session import Session
from whole_directory import WholeDirectory

DOCUMENT = 'document = "berlin"\n[site.s1]\n[node.gw1]\nkind = "gateway"\nsite = "s1"\n'
OTHER = 'document = "other"\n[site.s2]\n'


class Desk:
    """Asks a directory as a gateway would."""

    def __init__(self) -> None:
        self.directory = WholeDirectory(MemoryStore(), Settings(), lambda: 1_700_000_000_000)
        self.directory.apply(DOCUMENT, "berlin.toml")
        self.directory.apply(OTHER, "other.toml")
        self.before_answer: Any = lambda request: None

    def ask(self, request: dict[str, Any], timeout_s: float = 0) -> dict[str, Any]:
        self.before_answer(request)
        message = message_of(request)
        fields = {key: value for key, value in message.fields.items() if value is not None}
        try:
            if message.type == "export":
                return {"text": self.directory.export(fields["document"])}
            text, file = fields.pop("text"), fields.pop("name")
            return {**asdict(self.directory.apply(text, file, **fields)), "gateways": []}
        except Refused as error:
            raise Failure(error.problem, error.fix, error.code) from None

    def owners(self) -> dict[str, str]:
        return {key: record.document for key, record in self.directory.current.records.items()}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def run(desk: Desk, *args: str) -> Result:
    return CliRunner().invoke(cli, ["document", *args], obj=Session(client=desk, terminal=False))


def test_what_a_renamed_document_owns_stays_and_belongs_to_the_new_name(desk: Desk) -> None:
    before = {key: record.values for key, record in desk.directory.current.records.items()}
    result = run(desk, "rename", "berlin", "ber1", "--yes")
    assert result.exit_code == 0, result.output
    assert {key: record.values for key, record in desk.directory.current.records.items()} == before
    assert desk.owners() == {"site/s1": "ber1", "node/gw1": "ber1", "site/s2": "other"}
    applied = desk.directory.apply(DOCUMENT.replace("berlin", "ber1"), "f", dry_run=True)
    assert applied.diff == []


def test_a_document_is_not_renamed_over_another_one(desk: Desk) -> None:
    result = run(desk, "rename", "berlin", "other", "--yes")
    assert result.exit_code == 2
    assert "there is a document other already" in result.stderr
    assert desk.owners()["site/s2"] == "other"


def test_all_that_a_removed_document_owned_is_gone_and_nothing_else(desk: Desk) -> None:
    assert run(desk, "remove", "berlin", "--dry-run").exit_code == 0
    assert len(desk.owners()) == 3
    refused = run(desk, "remove", "berlin")  # which connections it cuts is not known here
    assert refused.exit_code == 1
    assert "--yes" in refused.stderr
    assert run(desk, "remove", "berlin", "--yes", "-m", "moved out").exit_code == 0
    assert desk.owners() == {"site/s2": "other"}


@pytest.mark.parametrize("args", [("remove", "none", "--yes"), ("rename", "none", "new", "--yes")])
def test_a_document_that_is_not_there_is_an_error(desk: Desk, args: tuple[str, ...]) -> None:
    result = run(desk, *args)
    assert result.exit_code in (1, 2)
    assert "none" in result.stderr
    assert len(desk.owners()) == 3


def test_a_document_that_somebody_changes_meanwhile_is_left_as_it_is(desk: Desk) -> None:
    def change(request: dict[str, Any]) -> None:
        if request["verb"] == "apply":  # after it was exported, before it is looked at
            desk.before_answer = lambda request: None
            desk.directory.apply(DOCUMENT + "[site.s3]\n", "berlin.toml")

    desk.before_answer = change
    result = run(desk, "rename", "berlin", "ber1", "--yes")
    assert result.exit_code == 1
    assert "meanwhile" in result.stderr
    assert desk.owners()["site/s3"] == "berlin"
