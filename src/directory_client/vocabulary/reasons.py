# SPDX-License-Identifier: Apache-2.0
"""The drop reasons, read from native/drop_reasons.def: number, name, sentence, what to type next.

The build installs that file beside this one; in a source tree it is found in native/.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

_LINE = re.compile(r'^REASON\((\d+), (\w+), "((?:[^"\\]|\\.)*)", "((?:[^"\\]|\\.)*)"\)$')


@dataclass(frozen=True, slots=True)
class Reason:
    """One way a packet can end. `next` is a command line, or empty."""

    number: int
    name: str
    sentence: str
    next: str


def find_definition() -> Path:
    """Return the path of drop_reasons.def; FileNotFoundError if this installation lacks it."""
    here = Path(__file__).resolve().parent
    for path in (here / "drop_reasons.def", here.parents[2] / "native" / "drop_reasons.def"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"drop_reasons.def is neither in {here} nor in {here.parents[2] / 'native'}")


def parse_definition(text: str) -> tuple[Reason, ...]:
    """Parse the text of drop_reasons.def. Raises ValueError with the line for what it cannot read."""
    reasons: list[Reason] = []
    numbers: set[int] = set()
    names: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("REASON"):
            continue
        match = _LINE.match(line.rstrip())
        if match is None:
            raise ValueError(f"drop_reasons.def line {number}: not REASON(number, name, sentence, next)")
        reason = Reason(int(match[1]), match[2], match[3].replace('\\"', '"'), match[4].replace('\\"', '"'))
        if reason.number in numbers or reason.name in names:
            raise ValueError(f"drop_reasons.def line {number}: {reason.number} {reason.name} is there twice")
        numbers.add(reason.number)
        names.add(reason.name)
        reasons.append(reason)
    return tuple(reasons)


@cache
def all_reasons() -> tuple[Reason, ...]:
    """Return every reason in the order of the file (read once)."""
    return parse_definition(find_definition().read_text(encoding="utf-8"))


@cache
def _by_number() -> Mapping[int, Reason]:
    return MappingProxyType({reason.number: reason for reason in all_reasons()})


@cache
def _by_name() -> Mapping[str, Reason]:
    return MappingProxyType({reason.name: reason for reason in all_reasons()})


def reason_number(name: str) -> int:
    """Return the number of a reason; KeyError for a name that is none."""
    return _by_name()[name].number


def reason_name(number: int) -> str:
    """Return the name of a reason, "unknown" for a number that is none."""
    reason = _by_number().get(number)
    return reason.name if reason else "unknown"


def find_reason(name: str) -> Reason | None:
    """Return the reason of that name, None if there is none."""
    return _by_name().get(name)
