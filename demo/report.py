# SPDX-License-Identifier: Apache-2.0
"""What the demo showed: one line a promise, with the figure measured and whether it held."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table


def make_console() -> Console:
    """A console as wide as the terminal; where there is none, wide enough that nothing is wrapped."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 132)


@dataclass(frozen=True)
class Line:
    promise: str
    figure: str
    held: bool
    timed: bool  # a busy machine can break it


@dataclass
class Report:
    """Collects lines and prints each as it comes, so that one sees where a long run is."""

    console: Console = field(default_factory=make_console)
    lines: list[Line] = field(default_factory=list)
    started_s: float = field(default_factory=time.monotonic)

    def title(self, text: str) -> None:
        seconds = time.monotonic() - self.started_s
        self.console.print(f"\n[bold]{text}[/bold]  [dim]{seconds:.0f} s[/dim]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False)

    def promise(self, promise: str, figure: str, held: bool, timed: bool = False) -> None:
        self.lines.append(Line(promise, figure, held, timed))
        mark = "[green]held[/green]" if held else "[red]NOT HELD[/red]"
        self.console.print(f"  {mark}  {promise}: {figure}")

    @property
    def all_held(self) -> bool:
        return bool(self.lines) and all(line.held for line in self.lines)

    def print_summary(self) -> None:
        table = Table(title="report", title_justify="left", box=None, pad_edge=False)
        table.add_column("promise")
        table.add_column("measured")
        table.add_column("")
        for line in self.lines:
            mark = "[green]held[/green]" if line.held else "[red]NOT HELD[/red]"
            table.add_row(line.promise, line.figure, mark)
        self.console.print()
        self.console.print(table)
        held = sum(line.held for line in self.lines)
        self.console.print(
            f"\n{held} of {len(self.lines)} promises held in {time.monotonic() - self.started_s:.0f} s"
        )
