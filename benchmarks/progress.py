# SPDX-License-Identifier: Apache-2.0
"""What a run is doing: a bar in a terminal, a line for each scenario where output is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from benchmarks import figures
from benchmarks.result import Result
from benchmarks.scenario import Scenario


class Progress:
    """Counts scenarios. Used by one thread, around a run."""

    def __init__(self, total: int, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._total, self._count = total, 0
        self._bar = Bar(
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def says(self, scenario: Scenario, text: str) -> None:
        size = scenario.frame_bytes if scenario.direction else ""
        where = f"{scenario.name}, {scenario.flows:,} {scenario.counts}".replace(
            ",", " ", scenario.flows >= 1000
        )
        self._bar.update(self._task, description=f"{where}{f', {size} bytes' if size else ''}: {text}")

    def done(self, rows: Sequence[Result]) -> None:
        """A scenario is measured: one line of what came out."""
        self._count += 1
        self._bar.update(self._task, completed=self._count)
        if not rows:
            return
        shown = []
        for one in rows:
            figure = figures.leading(one)
            if figure is not None:
                shown.append(f"{one.subject} {figure[1]:.6g}")
            elif one.failed:
                shown.append(f"{one.subject} FAILED")
        unit = next(
            (name for one in rows if (name := (figures.leading(one) or ("",))[0])), "nothing measured"
        )
        where = f"{rows[0].scenario}, {rows[0].flows} flows, {rows[0].frame_bytes} bytes"
        self._console.print(
            f"[{time.monotonic() - self._began:4.0f} s] {self._count} of {self._total}  {where}: "
            f"{unit.replace('_', ' ')}: {', '.join(shown)}",
            markup=False,
        )
