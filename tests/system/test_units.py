# SPDX-License-Identifier: Apache-2.0
"""The systemd units, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).resolve().parents[2] / "packaging" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    for unit in UNITS.iterdir():
        # The program is not installed here: any that exists will do.
        text = re.sub(r"/usr/bin/vnet-(gateway|directory)", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    names = [str(tmp_path / unit.name.replace("@", "@0")) for unit in UNITS.iterdir()]
    (tmp_path / "vnet-gateway-slow-path@0.service").symlink_to(tmp_path / "vnet-gateway-slow-path@.service")

    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )

    assert [line for line in found.stderr.splitlines() if "vnet" in line] == []


ENDPOINTS, BYTES_PER_ENDPOINT = 1_000_000, 5_000  # of a large directory: all its processes together
TABLES_BYTES = 4 * 2**30


@pytest.mark.parametrize(
    ("name", "holds_bytes"),
    [
        ("vnet-directory", ENDPOINTS * BYTES_PER_ENDPOINT),
        ("vnet-gateway-directory", ENDPOINTS * BYTES_PER_ENDPOINT),
        ("vnet-gateway", ENDPOINTS * BYTES_PER_ENDPOINT + TABLES_BYTES),
    ],
)
def test_what_clients_can_make_a_unit_keep_is_bounded_and_a_large_one_fits(
    name: str, holds_bytes: int
) -> None:
    service = read_unit(UNITS / f"{name}.service")["Service"]
    number = re.fullmatch(r"([0-9]+)G", service["MemoryMax"])
    assert number is not None
    assert holds_bytes * 1.2 < int(number[1]) * 2**30
    assert service["OOMPolicy"] == "continue"  # "stop" would end the data plane with who took too much


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_what_a_gateway_keeps_is_nobody_else_s(path: Path) -> None:
    assert read_unit(path)["Service"]["StateDirectoryMode"] == "0750"


def read_unit(path: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(path)
    return unit


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_end_of_a_unit_ends_no_other_process(path: Path) -> None:
    unit = read_unit(path)
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["Restart"] == "always"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert not {"BindsTo", "Requires"} & set(unit["Unit"])
