# SPDX-License-Identifier: Apache-2.0
"""VPP: named, so that its absence is said. It is not driven yet: nobody had a binary to try that with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager

from benchmarks.scenario import Scenario
from benchmarks.subject import Bed, CannotMeasure, Running


class Vpp:
    """A peer that no run has figures of; docs/benchmarks.md quotes those that its users published."""

    name = "vpp"

    def missing(self) -> str | None:
        if shutil.which("vpp"):
            return "there is a vpp binary, but the harness cannot drive one yet"
        return "there is no vpp binary; Debian has none, and the harness cannot drive one yet"

    def versions(self) -> Mapping[str, str]:
        return {}

    def start(self, scenario: Scenario, bed: Bed) -> AbstractContextManager[Running]:
        raise CannotMeasure(self.missing() or "")
