# SPDX-License-Identifier: Apache-2.0
"""What operators say and see of a kind of record: its names, the options that set it, the columns that show
it. Data only: vnetctl makes commands and screens of it, on a laptop without the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of `add` and `set`. `key` is the field, as in topology.toml.

    `form`: a text, a number, many texts (repeated, or separated by commas), or a switch (--x, --no-x).
    `digits`: what is all digits is given as a number: a port 443, but 8000-8080.
    """

    flag: str
    key: str
    help: str
    form: Literal["text", "number", "many", "switch"] = "text"
    digits: bool = False


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a list; the columns with the highest `rank` go first where there is no room.

    `form`: the value as it is, a list, a count (1 234 567) or a short number (1.2 M). `say` makes the text of
    several keys of the row instead; "" says that there is nothing to say.
    """

    heading: str
    key: str
    form: Literal["plain", "list", "count", "short"] = "plain"
    say: Callable[[Row], str] | None = None
    rank: int = 0
    right: bool = False
    state: bool = False


OWNED = (
    Column("revision", "revision", rank=8, right=True),
    Column("owner", "owner", say=lambda row: str(row.get("owner") or ""), rank=9),
)


@dataclass(frozen=True, slots=True)
class Noun:
    """A kind as operators know it. What lives in a V-net (`of_vnet`) is called VNET/NAME.

    `added_with` are the values that `add` gives where the operator says none. `for_all`: every gateway's key
    shows it, for tunnels are made from it; others show what is of the V-nets that they host.
    """

    kind: str
    plural: str
    of_vnet: bool
    help: str
    example: str
    options: tuple[Option, ...] = ()
    added_with: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    for_all: bool = False

    @property
    def short_help(self) -> str:
        """What the list of vnetctl's commands says of it."""
        return self.help.split(":")[0] + ": add, set, remove."
