# SPDX-License-Identifier: Apache-2.0
"""What docs and help say of keys, defaults and orders is what the code does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import zmq

from directory_client.kinds.nouns import NOUN_OF
from directory_client.toml.strict_toml import Table
from directory_client.vocabulary.numbers import Action
from directory_client.wire.greeting import FEATURES
from directory_client.wire.operations import OPERATIONS
from directory_client.wire.requests import REQUESTS
from directory_service import configuration as directory_configuration
from directory_service.kinds.rule import DEFAULT_ANSWER_PORTS, port_range
from gateway.configuration import configuration
from red_vnet import POSTGRES, TCP, ask, ruled

DOCS = Path(__file__).resolve().parents[2] / "docs"
SECTIONS = {
    "": configuration.Configuration,
    "identity": configuration.Identity,
    "embedded_directory": configuration.EmbeddedDirectory,
    "port.NAME": configuration.Port,
    "threads": configuration.Threads,
    "capacity": configuration.Capacity,
    "memory": configuration.Memory,
    "hold": configuration.Hold,
    "admin": configuration.Admin,
    "metrics": configuration.Metrics,
    "log": configuration.Log,
}
NOT_IN_THE_FILE = {("", "path"), ("", "ports"), ("embedded_directory", "listen"), ("port.NAME", "name")}


def documented() -> dict[tuple[str, str], tuple[str, bool]]:
    """Return (section, key) → (default as written, whether it is live) of the table in docs/configure.md."""
    found: dict[tuple[str, str], tuple[str, bool]] = {}
    section, section_is_live = "", False
    for line in (DOCS / "configure.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or len(cells) < 3 or cells[0] in ("key", "sysctl"):
            continue
        keys = re.findall(r"`([a-z_]+)`", cells[0])
        if heading := re.match(r"\*\*`\[([a-z_.A-Z]+)\]`\*\*", cells[0]):
            section, section_is_live = heading[1], "(live)" in cells[0] and not keys
        defaults = cells[1].split(", ") if len(keys) > 1 else [cells[1]]
        if len(defaults) != len(keys):
            defaults = [cells[1]] * len(keys)
        for key, default in zip(keys, defaults, strict=True):
            found[section, key] = (default, section_is_live or "(live)" in cells[0])
    return found


def of_the_code() -> dict[tuple[str, str], Any]:
    """Return (section, key) → dataclass field."""
    return {
        (section, item.name): item
        for section, kind in SECTIONS.items()
        for item in fields(kind)
        if (section, item.name) not in NOT_IN_THE_FILE
        and not (section == "" and item.name in {name.partition(".")[0] for name in SECTIONS})
    }


def test_configure_md_has_every_key_of_gateway_toml_and_no_other() -> None:
    assert set(documented()) == set(of_the_code())


def test_configure_md_has_the_defaults_of_the_code() -> None:
    written = documented()
    wrong = []
    for place, item in of_the_code().items():
        default = written[place][0].strip("`").replace("\u202f", "").replace(" ", "")
        if isinstance(item.default, bool):
            same = default == str(item.default).lower()
        elif isinstance(item.default, int):
            same = default == str(item.default)
        elif isinstance(item.default, str) and item.default:
            same = default == item.default
        else:
            continue
        if not same:
            wrong.append((place, default, item.default))
    assert wrong == []


def test_configure_md_calls_live_what_is_live() -> None:
    written = documented()
    assert {place for place, (_, live) in written.items() if live} == {
        place for place, item in of_the_code().items() if item.metadata.get("live")
    }


def test_directory_md_shows_every_key_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    (block, *_) = re.findall(r"```toml\n(.*?)```", (DOCS / "directory.md").read_text(), re.S)
    block = block.replace("…", zmq.curve_keypair()[0].decode())
    unshown: list[str] = []
    finish = Table.finish

    def record(table: Table) -> None:
        finish(table)
        unshown.extend(str((*table.path, name)) for name in table._asked - set(table.keys()))

    monkeypatch.setattr(Table, "finish", record)
    shown = directory_configuration.parse(block, "docs/directory.md")

    assert unshown == []
    assert asdict(shown.settings) == asdict(directory_configuration.Settings())
    assert asdict(shown.limits) == asdict(directory_configuration.Limits())
    assert shown.node_s == next(
        item.default for item in fields(directory_configuration.Configuration) if item.name == "node_s"
    )


def help_of(kind: str, key: str) -> str:
    (option,) = [option for option in NOUN_OF[kind].options if option.key == key]
    return option.help


def test_rules_are_judged_in_the_order_that_help_and_docs_say() -> None:
    def rule(action: str, priority: int) -> Mapping[str, Any]:
        return {"action": action, "from": "any", "to": "any", "priority": priority}

    model = ruled(low=rule("allow", 5), high=rule("allow", 200), deny=rule("deny", 5))

    assert [one.name for one in model.vnets["red"].rule_set.rules] == ["high", "deny", "low"]
    said = help_of("rule", "priority")
    assert "highest is judged first" in said
    assert "deny before allow" in said
    assert "[100]" in said
    topology = (DOCS / "topology.md").read_text()
    assert "| rule `priority` | 100 | the highest decides first; of equal ones deny before allow" in topology
    assert "lowest" not in topology


def test_help_and_docs_say_that_the_highest_preference_is_taken() -> None:
    assert "the highest is taken" in help_of("endpoint", "preference")
    assert "the highest `preference` is taken" in (DOCS / "topology.md").read_text()


def test_help_and_docs_say_that_peerings_and_relays_are_not_carried() -> None:
    assert "carries no traffic between V-nets yet" in NOUN_OF["peering"].help
    assert "not carried yet" in help_of("vnet", "relays")
    topology = (DOCS / "topology.md").read_text()
    assert topology.count("**Recorded only**") == 2
    readme = (DOCS.parent / "README.md").read_text().partition("## What it does not do yet")[2]
    assert "`peering`" in readme
    assert "`relays`" in readme


def test_an_answer_leads_to_the_ports_that_topology_md_and_help_say() -> None:
    model = ruled(db_from_web=POSTGRES)
    low, high = port_range(DEFAULT_ANSWER_PORTS)

    def answer_to(port: int) -> Action:
        back = (TCP, 5432, port)
        return ask(model, "10.0.0.21", "10.0.0.11", "gw2", "attachment/red/gw2/rack:101", back).action

    assert [answer_to(port) for port in (22, low - 1, low, high)] == [
        Action.DROP, Action.DROP, Action.ENCAPSULATE, Action.ENCAPSULATE,
    ]  # fmt: skip
    assert f'`["{DEFAULT_ANSWER_PORTS}"]`' in (DOCS / "topology.md").read_text()
    assert f"[{DEFAULT_ANSWER_PORTS}]" in help_of("rule", "answer_ports")


def declared(page: str) -> dict[str, tuple[list[str], set[str]]]:
    """Return type or operation → its declarations and fields, of the tables of messages in protocol.md."""
    found: dict[str, tuple[list[str], set[str]]] = {}
    inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if not line.startswith("| "):
            inside = inside and line.startswith("|")
        elif len(cells) > 2 and cells[1] == "declared as":
            inside = True
        elif inside:
            names = re.findall(r"`([a-z_0-9]+)`", cells[2]) if len(cells) > 2 else []
            for kind in cells[0].split(" / "):
                found[kind] = (cells[1].split(", "), set(names))
    return found


def test_protocol_md_says_of_each_message_what_is_declared():
    page = (DOCS / "protocol.md").read_text()
    shown = declared(page)
    messages = {**REQUESTS, **OPERATIONS}
    unshown = {"answer", "resync"}  # in the text beside the tables
    assert shown.keys() == messages.keys() - unshown
    for kind, (names, fields_shown) in shown.items():
        together = {name for one in names for name in fields_of(messages, one)}
        assert messages[kind].__name__ in names
        assert fields_shown == together - {"v", "id"}, kind


def fields_of(messages: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return next(one for one in messages.values() if one.__name__ == name).__struct_fields__


def test_protocol_md_names_the_features_that_there_are():
    text = (DOCS / "protocol.md").read_text().split("\nFeatures: ")[1].split("\n\n")[0]
    assert re.findall(r"`([a-z]+)` \(", text) == list(FEATURES)
