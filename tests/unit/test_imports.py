# SPDX-License-Identifier: Apache-2.0
"""The arrows between packages, and between the folders in them, walked in the source: who imports whom."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

# package -> what of ours it may import beside itself
ALLOWED = {
    "fastpath": set(),
    "directory_client": set(),
    "directory_service": {"directory_client"},
    "gateway": {"fastpath", "directory_client"},
    "vnetctl": {"directory_client"},
}
# from the bottom up: who stands in a row imports only from rows below it
ROWS = {
    "directory_client": (
        ("vocabulary", "kinds"),
        ("toml", "wire", "process"),
        ("endpoint", "events", "realm", "keys", "heartbeats"),
        ("approach",),
        ("connection",),
        ("health", "subscriber", "allegiance"),
        ("requests", "decoding", "servers"),
        ("asking", "greeter"),
        ("following",),
        ("client",),
    ),
    "directory_service": (
        ("refused", "rates", "settings"),
        ("store", "facts"),
        ("kinds",),
        ("model",),
        ("documents",),
        ("decide",),
        ("bulk", "views"),
        ("follower", "heard"),
        ("editor",),
        ("service", "configuration"),
        ("protocol",),
        ("server",),
        ("reloading",),
        ("main",),
    ),
    "gateway": (
        ("configuration",),
        ("processes", "underlay"),
        ("state",),
        ("show",),
        ("metrics",),
        ("data_plane", "slow_path", "control"),
        ("main",),
    ),
}
# pure logic: neither sockets nor clocks nor files
PURE = {
    **{
        f"gateway/slow_path/{name}.py": {
            *("zmq", "socket", "time", "os", "pathlib"),
            *("fastpath.rings", "fastpath.dataplane"),
        }
        for name in ("resolver", "asking", "told", "locators", "places")
    },
    "directory_service/decide/decide.py": {"zmq", "socket", "time", "os", "pathlib", "sqlite3"},
}


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            package = ".".join(path.relative_to(SRC).parts[: -node.level])
            base = f"{package}.{node.module}" if node.module else package
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


def files() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def room_of(parts: tuple[str, ...]) -> str | None:
    """The folder, or the module at the package's root; None for the package itself."""
    return parts[1].removesuffix(".py") if len(parts) > 1 and parts[1] != "__init__.py" else None


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SRC)))
def test_a_package_imports_only_what_its_arrows_allow(path: Path) -> None:
    package = path.relative_to(SRC).parts[0]
    for name in imported(path):
        top = name.split(".")[0]
        assert top not in ALLOWED or top == package or top in ALLOWED[package], f"{path} imports {name}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SRC)))
def test_inside_a_package_arrows_point_down(path: Path) -> None:
    parts = path.relative_to(SRC).parts
    room = room_of(parts)
    if parts[0] not in ROWS or room is None:
        return
    row_of = {name: row for row, names in enumerate(ROWS[parts[0]]) for name in names}
    assert room in row_of, f"{room} of {parts[0]} stands in no row: say in ROWS which"
    for name in imported(path):
        into = name.split(".")
        if into[0] == parts[0] and len(into) > 1 and into[1] in row_of and into[1] != room:
            assert row_of[into[1]] < row_of[room], f"{'/'.join(parts)} imports {name} from a row not below"


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_logic_touches_no_input_or_output(name: str) -> None:
    names = imported(SRC / name)
    assert not names & PURE[name], f"{name} imports {sorted(names & PURE[name])}"


# Tables and their writer know no packets; what happens to a packet knows no thread, device or EAL.
# What bytes mean on the wire is told to all of them, and knows none.
NATIVE = {
    "wire": set(),
    "core": {"wire"},
    "packet": {"core", "wire"},
    "run": {"core", "packet", "dpdk", "wire"},
    "dpdk": {"core", "wire"},
}


@pytest.mark.parametrize("folder", NATIVE)
def test_c_includes_only_what_lies_below_it(folder: str) -> None:
    native = SRC.parent / "native"
    arrows = {
        (path.name, found)
        for path in (native / folder).glob("*.[ch]")
        for found in re.findall(r'#include "\.\./(\w+)/', path.read_text())
        if found not in NATIVE[folder]
    }
    assert arrows == set()
    if folder in ("core", "packet"):
        text = "".join(path.read_text() for path in (native / folder).glob("*.[ch]"))
        assert not re.findall(r"rte_(?:eal_init|eth_dev_configure|lcore_\w+)\(", text)


def mentions(pattern: str, *, but: tuple[str, ...]) -> list[str]:
    """Lines of code in native's folders that say `pattern`, in other files than those of these names."""
    native = SRC.parent / "native"
    return [
        f"{folder}/{path.name}: {line.strip()}"
        for folder in NATIVE
        for path in sorted((native / folder).glob("*.[ch]"))
        if not path.match("l3_*") and path.name not in but
        for line in path.read_text().splitlines()
        if re.search(pattern, line.split("//")[0])
    ]


def test_no_file_of_c_is_longer_than_one_looks_through() -> None:
    native = SRC.parent / "native"
    lines = {path.name: len(path.read_text().splitlines()) for path in native.rglob("*.[ch]")}
    assert {name: n for name, n in lines.items() if n > 400} == {}


def test_only_a_family_knows_where_things_stand_in_an_ip_header() -> None:
    assert (
        mentions(r"\bip\s*\[|\bip \+ \d|\bIPV[46]_(?:TOS|TOTAL|TTL|CHECKSUM|ID)\b", but=("tunnel_header.c",))
        == []
    )


def test_a_kind_of_tunnel_is_a_file() -> None:
    # decap.h: what is recognized in one go. checksum.c looks into tunnels of tenants' own.
    named = mentions(r"(?i)vxlan", but=("tunnel_vxlan.h", "tunnel_kind.h", "checksum.c"))
    assert {line.split(":")[0] for line in named} == {"packet/decap.h"}


def test_c_is_declared_in_native_pxd_what_needs_dpdk_beside_it_and_the_test_rig_in_its_own() -> None:
    declaring = [
        path
        for suffix in ("*.pyx", "*.pxd")
        for path in SRC.rglob(suffix)
        if "cdef extern from" in path.read_text()
        and path.name not in ("native.pxd", "native_dpdk.pxd", "rig.pxd")
    ]
    assert declaring == []
