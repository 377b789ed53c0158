# SPDX-License-Identifier: Apache-2.0
"""A new kind of record takes its files and a line in each list: a made-up one is put into a copy of the
sources, and nothing else of them is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from directory_client.kinds.nouns import NOUNS
from directory_service.kinds.registry import KINDS

SRC = Path(__file__).resolve().parents[2] / "src"
PACKAGES = ("directory_client", "directory_service", "vnetctl")

NOUN = """
from directory_client.kinds.noun import OWNED, Column, Noun, Option

POOL = Noun(
    "pool",
    "pools",
    of_vnet=True,
    help="Pools: addresses that endpoints are given, named VNET/NAME.",
    example="vnetctl pool add red/hosts --prefix 10.0.0.128/25 --node gw1",
    options=(
        Option("--prefix", "prefix", "Its addresses"),
        Option("--node", "node", "Where they are given"),
        Option("--least", "least", "How many stay free [1]", "number"),
    ),
    columns=(Column("pool", "name"), Column("prefix", "prefix"), Column("free", "free", "count"), *OWNED),
)
"""
KIND = """
from dataclasses import dataclass

from directory_client.kinds import pool
from directory_client.vocabulary.addresses import parse_network
from directory_client.vocabulary.names import check_name
from directory_client.vocabulary.numbers import ChangeKind
from directory_service.kinds.kind import Kind, Reference
from directory_service.kinds.reading import without
from directory_service.kinds.sections import Tables
from directory_service.kinds.together import Fault


def read_pool(table):
    return without(
        {
            "prefix": table.string("prefix", check=parse_network),
            "node": table.string("node", check=check_name),
            "least": table.integer("least", 1, 0, 1000),
        },
        least=1,
    )


def references(record):
    yield Reference("node", "node", record.values["node"])


def check(together):
    taken = {}
    for record in together.of("pool").values():
        prefix = record.values["prefix"]
        if prefix in taken:
            yield Fault(record.key, "prefix", f"{prefix} is already {taken[prefix]}'s", "choose another")
        taken[prefix] = record.name


def doubts(record, vnet):
    if not record.values.get("least", 1):
        yield f"pool {record.name}: nothing stays free"


def told(pools, vnet, vnet_named, naming):
    for name in pools:
        yield (name,), {"op": "pool", "vni": vnet.vni, "name": name, "beside": vnet_named("blue").vni}


POOL = Kind(
    pool.POOL,
    read_pool,
    Tables(),
    references=references,
    check=check,
    doubts=doubts,
    describe=lambda values: f"{values['prefix']} at {values['node']}",
    more=lambda world, record: {"free": 120},
    told=told,
    untold={"pool": ("pool_removed", ("name",))},
    weighs=lambda before, after: None if before == after else ChangeKind.MOVE,
)
"""
BASE = """document = "d"

[node.gw1]
kind = "gateway"

[vnet.red]
vni = 7001
"""
POOL = """
[vnet.red.pool.hosts]
prefix = "10.0.0.128/25"
node = "gw1"
least = 0
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources that has the kind."""
    made = tmp_path_factory.mktemp("src")
    for package in PACKAGES:
        shutil.copytree(SRC / package, made / package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, text, listing in (
        ("directory_client/kinds", NOUN, "nouns.py"),
        ("directory_service/kinds", KIND, "registry.py"),
    ):
        (made / folder / "pool.py").write_text(text)
        path = made / folder / listing
        said = path.read_text().replace("PEERING)", "PEERING, POOL)", 1)
        first = said.index("from ")
        path.write_text(f"{said[:first]}from {folder.replace('/', '.')}.pool import POOL\n{said[first:]}")
    return made


def run(sources: Path, program: str) -> str:
    """Run a program on those sources; return what it prints."""
    head = (
        "import sys\n"
        "sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != 'MesonpyMetaFinder']\n"
        f"BASE, POOL = {BASE!r}, {POOL!r}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", head + program],
        env=os.environ | {"PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


OPEN = """
from directory_service.follower import Follower
from directory_service.editor import Editor
from directory_service.settings import Settings
from directory_service.store.memory import MemoryStore
from directory_service.kinds import pool
clock = lambda: 1_000_000
follower = Follower(MemoryStore(), clock, clock)
editor = Editor(follower, Settings(), clock, clock)

def refused(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return str(error)
"""


def test_a_new_kind_is_parsed_checked_compared_listed_and_exported(sources: Path) -> None:
    assert run(
        sources,
        OPEN
        + """
applied = editor.apply(BASE + POOL, "d.toml")
print([row for row in applied.diff if row["kind"] == "pool"])
print(applied.warnings)
print(editor.export("d") == BASE + POOL)
for row in (*editor.list_records("pools", vnet="red"), *editor.list_records("pool", name="red/hosts")):
    print(row["name"], row["prefix"], row["free"], row["owner"])
less = editor.apply(BASE + POOL.replace("least = 0", "least = 5"), "d.toml")
print([row["text"] for row in less.diff])
print([record.values["least"] for record in follower.current.vnets["red"].tables["pool"].values()])
""",
    ).splitlines() == [
        "[{'sign': '+', 'kind': 'pool', 'name': 'red/hosts', 'text': '10.0.0.128/25 at gw1'}]",
        "['pool red/hosts: nothing stays free']",
        "True",
        "red/hosts 10.0.0.128/25 120 d",
        "red/hosts 10.0.0.128/25 120 d",
        "['least  0 → 5']",
        "[5]",
    ]


def test_what_does_not_fit_of_a_new_kind_is_refused_with_its_line(sources: Path) -> None:
    assert run(
        sources,
        OPEN
        + """
for text in (
    POOL.replace("least", "most"),
    POOL.replace('"gw1"', '"gw7"'),
    POOL + POOL.replace("hosts", "others"),
    POOL.replace("pool.hosts", "pool.Hosts"),
):
    print(refused(editor.apply, BASE + text, "d.toml"))
print(refused(editor.apply, BASE.partition("[vnet")[0] + POOL, "d.toml"))
""",
    ).splitlines() == [
        "d.toml line 12: vnet.red.pool.hosts.most: unknown key",
        "d.toml line 11: vnet.red.pool.hosts.node: node gw7 is not declared",
        "d.toml line 15: vnet.red.pool.others.prefix: 10.0.0.128/25 is already red/hosts's",
        "d.toml line 9: vnet.red.pool.Hosts: 'Hosts' is no name: lower-case letters, digits and hyphens, at"
        " most 63, beginning with a letter or digit",
        "d.toml line 7: vnet.red.pool.hosts: V-net red is not declared",
    ]


def test_a_new_kind_is_set_and_removed_one_by_one_and_taken_back(sources: Path) -> None:
    assert run(
        sources,
        OPEN
        + """
editor.apply(BASE, "d.toml")
editor.set_record("pool", "red/hosts", {"prefix": "10.0.0.128/25", "node": "gw1"})
editor.set_record("pool", "red/hosts", {"least": 3})
print(editor.list_records("pools")[0]["least"])
print(refused(editor.set_record, "pool", "hosts", {}))
print(refused(editor.remove_record, "node", "gw1"))
editor.remove_record("pool", "red/hosts")
print(editor.list_records("pools"))
editor.rollback(3)
print(len(editor.list_records("pools")))
""",
    ).splitlines() == [
        "3",
        "pool hosts: 'hosts' is not VNET/NAME",
        "node gw1 is owned by document d (revision 1)",
        "[]",
        "1",
    ]


def test_nodes_are_told_of_a_new_kind_and_its_changes_are_weighed(sources: Path) -> None:
    assert run(
        sources,
        OPEN
        + """
from directory_service.views.difference import compare_views
hosted = BASE + '''[[vnet.red.attachment]]
nodes = ["gw1"]
port = "rack"
vlan = 1
[vnet.blue]
vni = 7002
'''
steps = []
for text in (hosted, hosted + POOL, hosted):
    editor.apply(text, "d.toml")
    steps.append(follower.current)
for before, after in zip(steps, steps[1:]):
    for operation in compare_views(before, after, "red", "gw1", Settings()):
        wanted = ("op", "name", "beside", "kind", "source_bits")
        print({key: value for key, value in operation.items() if key in wanted})
""",
    ).splitlines() == [
        "{'op': 'pool', 'name': 'hosts', 'beside': 7002}",
        "{'op': 'scope', 'kind': 3, 'source_bits': 0}",
        "{'op': 'pool_removed', 'name': 'hosts'}",
        "{'op': 'scope', 'kind': 3, 'source_bits': 0}",
    ]


def test_vnetctl_has_commands_options_and_a_screen_for_a_new_kind(sources: Path) -> None:
    said = run(
        sources,
        """
from click.testing import CliRunner
from directory_client.wire.operator_requests import DIRECTORY_NOUNS, message_of
from vnetctl.main import cli
from vnetctl.session import Session

class Client:
    def ask(self, request, timeout_s=None):
        message = message_of(request)
        print("asks", message.type, {key: value for key, value in message.fields.items() if key != "user"})
        rows = [{"name": "red/hosts", "prefix": "10.0.0.128/25", "free": 1200, "owner": "operator"}]
        return {"rows": rows if request.get("name") is None else [], "revision": 7, "before": 6}

def vnetctl(*arguments):
    print(CliRunner().invoke(cli, list(arguments), obj=Session(client=Client(), terminal=False)).output)

print("pools" in DIRECTORY_NOUNS)
vnetctl("pool", "add", "--help")
vnetctl("show", "--help")
vnetctl("pool", "add", "red/hosts", "--prefix", "10.0.0.128/25", "--node", "gw1", "--least", "3")
vnetctl("show", "pools", "--vnet", "red")
""",
    )
    assert said.startswith("True\n")
    for sentence in (
        "Add a pool.",
        "--least INTEGER",
        "How many stay free [1]",
        "routes attachments peerings pools",
        "asks list {'kind': 'pools', 'vnet': 'red', 'name': 'red/hosts'}",
        "asks set {'kind': 'pool', 'name': 'red/hosts', 'values': {'prefix': '10.0.0.128/25', 'node': 'gw1',"
        " 'least': 3}}",
        "pool red/hosts added   revision 7",
        "asks list {'kind': 'pools', 'vnet': 'red'}",
        "pool       prefix         free  revision  owner",
        "red/hosts  10.0.0.128/25  1200         -  operator",
    ):
        assert sentence in said, said


def test_both_lists_have_the_same_kinds() -> None:
    assert sorted(kind.name for kind in KINDS) == sorted(noun.kind for noun in NOUNS)
    assert all(kind.noun in NOUNS for kind in KINDS)


def test_the_architecture_says_in_how_many_files_a_kind_stands() -> None:
    files = [path for path in SRC.rglob("*.py") if "peering" in path.read_text()]
    said = (SRC.parent / "docs" / "architecture.md").read_text()
    assert f"`peering` stood in 21 Python files and stands in {len(files)}:" in said, files
