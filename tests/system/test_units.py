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


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_end_of_a_unit_ends_no_other_process(path: Path) -> None:
    unit = ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(path)
    service = unit["Service"]
    assert service["KillMode"] == "process"
    assert service["Restart"] == "always"
    assert service["RuntimeDirectoryPreserve"] == "yes"
    assert not {"BindsTo", "Requires"} & set(unit["Unit"])
