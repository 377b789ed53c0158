# SPDX-License-Identifier: Apache-2.0
"""The arrows between the rooms, walked in the source: who imports whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"

# room -> what of ours it may import beside itself
ALLOWED = {
    "fastpath": set(),
    "directory_client": set(),
    "directory_service": {"directory_client"},
    "gateway": {"fastpath", "directory_client"},
    "gateway.vnetctl": {"gateway.vnetctl", "directory_client"},
}
# pure logic: neither sockets nor clocks nor files
PURE = {
    "gateway/resolver.py": {"zmq", "socket", "time", "os", "pathlib", "fastpath.rings", "fastpath.dataplane"},
    "directory_service/decide.py": {"zmq", "socket", "time", "os", "pathlib", "sqlite3"},
}
ROOMS = ("fastpath", "directory_client", "directory_service", "gateway")


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


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SRC)))
def test_a_room_imports_only_what_its_arrows_allow(path: Path) -> None:
    parts = path.relative_to(SRC).parts
    room = "gateway.vnetctl" if parts[:2] == ("gateway", "vnetctl") else parts[0]
    for name in imported(path):
        top = name.split(".")[0]
        if top not in ROOMS:
            continue
        if room == "gateway.vnetctl":
            inside = name.startswith("gateway.vnetctl") or name == "gateway" or top == "directory_client"
            assert inside, f"{path} imports {name}: vnetctl runs on a laptop, without the rest of the gateway"
        else:
            assert top == parts[0] or top in ALLOWED[room], f"{path} imports {name}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_logic_touches_no_input_or_output(name: str) -> None:
    names = imported(SRC / name)
    assert not names & PURE[name], f"{name} imports {sorted(names & PURE[name])}"


def test_c_is_declared_in_native_pxd_what_needs_dpdk_beside_it_and_the_test_rig_in_its_own() -> None:
    declaring = [
        path
        for suffix in ("*.pyx", "*.pxd")
        for path in SRC.rglob(suffix)
        if "cdef extern from" in path.read_text()
        and path.name not in ("native.pxd", "native_dpdk.pxd", "rig.pxd")
    ]
    assert declaring == []
