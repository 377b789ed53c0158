# SPDX-License-Identifier: Apache-2.0
"""Files shown in the docs are read by what they are shown for, and names in the docs exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from directory_client.vocabulary.reasons import find_reason
from directory_service.documents.document import parse_document

ROOT = Path(__file__).resolve().parents[2]


def toml_blocks(path: Path) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", path.read_text(), re.S)


def test_the_topology_of_the_docs_is_a_document() -> None:
    (block,) = toml_blocks(ROOT / "docs/topology.md")

    document = parse_document(block, "docs/topology.md")

    assert document.name == "ams-ber"
    assert len(document.declared) == 13


def test_the_demos_topology_is_a_document() -> None:
    path = ROOT / "demo/config/topology.toml"

    assert parse_document(path.read_text(), str(path)).name == "demo"


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_links_lead_to_files_that_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_drop_named_in_the_architecture_is_a_drop_reason() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    journey = text.partition("### In through an inside port")[2].partition("### In through an underlay")[0]

    named = re.findall(r": `([a-z_]+)`", journey)

    assert len(named) > 5
    assert [name for name in named if find_reason(name) is None] == []
