# SPDX-License-Identifier: Apache-2.0
"""Read TOML with many short lines such as `web1 = { addresses = ["10.0.0.11"], mac = "02:…" }` quickly.

tomllib looks at every character in Python. Here a section of which every line is a key and an inline table
of plain values (strings without escapes, whole numbers, true, false, lists of strings) is read by regular
expressions, and tomllib reads empty lines in their place. Everything else is left to tomllib as it stands,
and so is a whole text of which anything is in doubt: `loads` returns what tomllib.loads does and raises what
it raises, at the same line. A test compares the two.
"""

import re
import tomllib
from typing import Any

_KEY = r"[A-Za-z0-9_-]+"
_STRING = r"""(?:"[^"\\\x00-\x08\x0a-\x1f\x7f]*"|'[^'\x00-\x08\x0a-\x1f\x7f]*')"""
_STRINGS = rf"\[[ \t]*(?:{_STRING}[ \t]*(?:,[ \t]*{_STRING}[ \t]*)*)?\]"
_NUMBER = r"(?:0|[1-9][0-9]{0,17})"
_VALUE = rf"(?:{_STRING}|{_STRINGS}|{_NUMBER}|true|false)"
_PAIR = rf"{_KEY}[ \t]*=[ \t]*{_VALUE}[ \t]*"
# A line as a whole: its key, and what stands between the braces. Possessive parts do not look back.
_ROW = re.compile(
    rf"[ \t]*({_KEY}|\"[^\"\\\x00-\x1f\x7f]+\")[ \t]*=[ \t]*"
    rf"\{{[ \t]*({_PAIR}(?:,[ \t]*{_PAIR})*+)\}}[ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?"
)
_PAIRS = re.compile(rf"({_KEY})[ \t]*=[ \t]*({_VALUE})")
_ITEMS = re.compile(_STRING)
_HEADER = re.compile(rf"[ \t]*\[({_KEY}(?:\.{_KEY})*)\][ \t]*(?:#.*)?")
_NO_CODE = re.compile(r"""\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*""")  # what brackets do not count in
_ROWS_MIN = 64  # for fewer it is not worth it

_Rows = list[tuple[str, str]]  # key, what stands between the braces


def loads(text: str) -> dict[str, Any]:
    """Return what tomllib.loads does. Raises tomllib.TOMLDecodeError."""
    if text.count("\n") >= _ROWS_MIN and '"""' not in text and "'''" not in text:
        read = _loads(text.replace("\r\n", "\n"))
        if read is not None:
            return read
    return tomllib.loads(text)


def _loads(text: str) -> dict[str, Any] | None:
    """Return what the text says, None if tomllib has to look at all of it."""
    rest: list[str] = []  # what tomllib reads: of a section that is all rows its header and empty lines
    found: list[tuple[str, _Rows]] = []
    header: str | None = None
    rows: _Rows | None = None  # of this section; None: it is not all rows
    begun = 0  # where it begins in `rest`
    depth = 0  # of brackets that are open at the beginning of a line

    def end_section() -> None:
        if rows and header is not None:
            found.append((header, rows))
            rest[begun:] = [line if line[:1] == "#" else "" for line in rest[begun:]]

    for line in text.split("\n"):
        row = _ROW.fullmatch(line) if rows is not None else None
        named = None if depth or row is not None else _HEADER.fullmatch(line)
        if rows is not None and row is not None:
            key = row[1]
            rows.append((key if key[0] != '"' else key[1:-1], row[2]))
        elif named is not None or (not depth and line.lstrip(" \t")[:1] == "["):
            end_section()
            header, begun = None if named is None else named[1], len(rest) + 1
            rows = None if named is None else []
        rest.append(line)
        if row is not None or named is not None or not line or line[0] == "#":
            continue
        rows = None
        code = _NO_CODE.sub("", line)
        depth += code.count("[") + code.count("{") - code.count("]") - code.count("}")
        if depth < 0:
            return None
    end_section()
    if not found:
        return None
    try:
        read = tomllib.loads("\n".join(rest))
    except tomllib.TOMLDecodeError:
        return None
    return read if all(_put(read, *section) for section in found) else None


def _values(pairs: str) -> dict[str, Any] | None:
    """Return the values of an inline table, None if a key is there twice."""
    found = _PAIRS.findall(pairs)
    values: dict[str, Any] = {}
    for key, text in found:
        first = text[0]
        if first in "\"'":
            values[key] = text[1:-1]
        elif first == "[":
            values[key] = [item[1:-1] for item in _ITEMS.findall(text)]
        elif first in "tf":
            values[key] = first == "t"
        else:
            values[key] = int(text)
    return values if len(values) == len(found) else None


def _put(read: dict[str, Any], header: str, rows: _Rows) -> bool:
    """Put rows into the table of a header. False if something is there already, or one is there twice."""
    table: Any = read
    for part in header.split("."):
        table = table.get(part) if isinstance(table, dict) else None
    if table != {}:
        return False
    for key, pairs in rows:
        values = _values(pairs)
        if values is None:
            return False
        table[key] = values
    return len(table) == len(rows)
