# SPDX-License-Identifier: Apache-2.0
"""Read TOML strictly: every key is asked for, every error says file, line and key, and what to do.

    table = read_toml(text, "gateway.toml")
    name = table.string("name", check=check_name)
    for port, settings in table.tables_by_name("port"):
        role = settings.string("role", choices=("inside", "underlay", "both"))
        settings.finish()
    table.finish()          # raises TomlError for keys that nobody asked for

Raises TomlError only. `problem()` makes one for what the reader of the values finds out later.
"""

import datetime
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from directory_client.toml.toml_lines import KeyPath, Lines, format_path
from directory_client.toml.toml_rows import loads
from directory_client.vocabulary.names import suggest

T = TypeVar("T")

_REQUIRED: Final = object()
# What tomllib says of a key or table that is there twice, also in two spellings.
_TWICE = re.compile(r"Cannot (overwrite a value|declare .* twice|mutate|redefine)|Duplicate")
DEPTH_MAX = 100  # parts of a key: a.b.c has three
_PART = r"""(?:(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++|"[^"]*+"|'[^']*+')[ \t]*+"""
_DEEP_KEY = re.compile(rf"(?:{_PART}\.[ \t]*+){{{DEPTH_MAX}}}")
_LONG_NUMBER = re.compile(r"(?<![0-9_])[0-9_]{4300}")
_SHOWN_BITS = 256
_FLAT = "no key of ours stands deeper than six tables"


class TomlError(ValueError):
    """One thing that is wrong in a file: `problem` with file, line and key; `fix` is what to do."""

    def __init__(self, file: str, line: int, key: str, problem: str, fix: str = "") -> None:
        self.file = file
        self.line = line
        self.key = key
        self.problem = problem
        self.fix = fix
        place = f"{file} line {line}" if line else file  # the file itself cannot be read
        super().__init__(f"{place}: {key + ': ' if key else ''}{problem}")

    def is_about(self, key: str) -> bool:
        """Tell whether it is about a key, or about something inside of it."""
        return self.key == key or self.key.startswith((key + ".", key + "["))


SHOWN_MAX = 20


class TomlErrors(TomlError):
    """Several things that are wrong in a file; as text one line each, the first of them if they are many."""

    def __init__(self, errors: Sequence[TomlError]) -> None:
        first = errors[0]
        super().__init__(first.file, first.line, first.key, first.problem, "correct them all")
        self.errors = tuple(errors)

    def __str__(self) -> str:
        texts = [(str(error), error.fix) for error in self.errors]
        return list_mistakes(f"{self.file} has {len(self.errors)} mistakes", texts)


def list_mistakes(heading: str, texts: Sequence[tuple[str, str]]) -> str:
    """Return a heading and one line for each (problem, fix), at most SHOWN_MAX of them."""
    lines = [f"  {text}{' → ' + fix if fix else ''}" for text, fix in texts[:SHOWN_MAX]]
    if len(texts) > SHOWN_MAX:
        lines.append(f"  and {len(texts) - SHOWN_MAX} more")
    return "\n".join((heading, *lines))


def raise_all(errors: Sequence[TomlError]) -> None:
    """Raise what is wrong: one error as it is, several as TomlErrors in the order of their lines."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise TomlErrors(sorted(errors, key=lambda error: error.line))


class Table:
    """One table of a file. Remembers which keys were asked for."""

    def __init__(self, file: str, lines: Lines, path: KeyPath, values: dict[str, Any]) -> None:
        self.file = file
        self.path = path
        self._lines = lines
        self._values = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def line(self, key: str | None = None) -> int:
        """Return the line of a key of this table, or of the table (1 if it has none)."""
        path = self.path if key is None else (*self.path, key)
        return self._lines.of(path)

    def problem(self, key: str | None, problem: str, fix: str = "") -> TomlError:
        """Make the error for a key of this table, or for the table itself. The caller raises it."""
        path = self.path if key is None else (*self.path, key)
        return TomlError(self.file, self.line(key), format_path(path), problem, fix)

    def keys(self) -> Sequence[str]:
        """Return the keys that stand in the file, in its order."""
        return tuple(self._values)

    def raw(self, key: str) -> Any:
        """Return what tomllib read for a key, None if it is not there; counts as asked for."""
        self._asked.add(key)
        return self._values.get(key)

    def string(
        self,
        key: str,
        default: Any = _REQUIRED,
        choices: Sequence[str] | None = None,
        check: Callable[[str], object] | None = None,
    ) -> str:
        """Return a string. `check` raises ValueError for a bad one. A key without a default must be there."""
        value: str = self._get(key, default, str, "a string")
        if key in self._values:
            if choices is not None and value not in choices:
                raise self.problem(key, f'"{value}" is not possible', suggest(value, choices))
            self._check(key, value, check)
        return value

    def take_string(
        self, key: str, mistakes: list[TomlError], check: Callable[[str], object] | None = None
    ) -> str:
        """Return a string that must be there; what is wrong with it is added to `mistakes`."""
        try:
            return self.string(key, check=check)
        except TomlError as error:
            mistakes.append(error)
            return ""

    def integer(self, key: str, default: Any = _REQUIRED, low: int = 0, high: int = 2**63 - 1) -> int:
        """Return an integer between low and high."""
        value: int = self._get(key, default, int, "a number")
        if key in self._values and not low <= value <= high:
            raise self.problem(key, f"{_number(value)} is out of range", f"a number from {low} to {high}")
        return value

    def real(self, key: str, default: Any = _REQUIRED, low: float = 0.0, high: float = 1e18) -> float:
        """Return a number, whole or not, between low and high."""
        value = self._get(key, default, (int, float), "a number")
        if key in self._values and not low <= value <= high:
            shown = _say(value)
            raise self.problem(key, f"{shown} is out of range", f"a number from {low:g} to {high:g}")
        return float(value) if isinstance(value, int) else value

    def boolean(self, key: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        value: bool = self._get(key, default, bool, "true or false")
        return value

    def strings(
        self, key: str, default: Any = _REQUIRED, check: Callable[[str], object] | None = None, least: int = 0
    ) -> tuple[str, ...]:
        """Return a list of strings without repetitions."""
        value = self._get(key, default, list, "a list of strings")
        if key not in self._values:
            return tuple(value) if isinstance(value, list | tuple) else value
        seen: set[str] = set()
        for item in value:
            if not isinstance(item, str):
                raise self.problem(key, f"{_say(item)} in the list is no string", 'write it in quotes: "…"')
            if item in seen:
                raise self.problem(key, f'"{item}" is there twice', "remove one")
            seen.add(item)
            self._check(key, item, check)
        if len(value) < least:
            raise self.problem(key, f"needs at least {least}", f'{key} = ["…"]')
        return tuple(value)

    def integers(
        self, key: str, default: Any = _REQUIRED, low: int = 0, high: int = 2**63 - 1
    ) -> tuple[int, ...]:
        """Return a list of integers between low and high."""
        value = self._get(key, default, list, "a list of numbers")
        if key not in self._values:
            return tuple(value) if isinstance(value, list | tuple) else value
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or not low <= item <= high:
                raise self.problem(key, f"{_say(item)} is not possible", f"numbers from {low} to {high}")
        return tuple(value)

    def table(self, key: str) -> "Table":
        """Return a table; an empty one if it is not there."""
        value = self._get(key, {}, dict, f"a table: [{format_path((*self.path, key))}]")
        return Table(self.file, self._lines, (*self.path, key), value)

    def tables_by_name(
        self,
        key: str,
        check: Callable[[str], object] | None = None,
        mistakes: list[TomlError] | None = None,
        names: Iterable[str] | None = None,
    ) -> Iterator[tuple[str, "Table"]]:
        """Yield (name, table) of every table in a table: [key.name], or of those `names`. With a list of
        `mistakes` what is wrong is added to it and left out."""
        try:
            outer = self.table(key)
        except TomlError as error:
            _keep(mistakes, error)
            return
        for name in outer._values if names is None else names:
            try:
                outer._check(name, name, check)
                inner = outer.table(name)
            except TomlError as error:
                _keep(mistakes, error)
                continue
            yield name, inner

    def tables_in_list(self, key: str, mistakes: list[TomlError] | None = None) -> Iterator["Table"]:
        """Yield every table of a list of tables: [[key]]. `mistakes` as in tables_by_name."""
        fix = f"write [[{format_path((*self.path, key))}]]"
        try:
            value = self._get(key, [], list, f"a list of tables: [[{format_path((*self.path, key))}]]")
        except TomlError as error:
            _keep(mistakes, error)
            return
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield Table(self.file, self._lines, (*self.path, key, index), item)
            else:
                _keep(mistakes, self.problem(key, f"{_say(item)} is no table", fix))

    def read_all(self, read: Callable[["Table"], T], mistakes: list[TomlError]) -> T | None:
        """Return what `read` makes of this table; None if something is wrong in it: all of that is added to
        `mistakes`, by reading again without each key that is wrong."""
        values, wrong = dict(self._values), False
        while True:
            table = Table(self.file, self._lines, self.path, values)
            try:
                found = read(table)
            except TomlError as error:
                key = next((key for key in values if error.is_about(format_path((*self.path, key)))), None)
                if key is not None or not wrong:  # else what was taken out is missing
                    mistakes.append(error)
                wrong = True
                if key is None:
                    return None
                values = {name: value for name, value in values.items() if name != key}
                continue
            unknown = list(table.unknown())
            mistakes += unknown
            return None if wrong or unknown else found

    def unknown(self) -> Iterator[TomlError]:
        """Yield an error for each key that nobody asked for."""
        for key in self._values:
            if key not in self._asked:
                yield self.problem(key, "unknown key", suggest(key, self._asked))

    def finish(self) -> None:
        """Raise TomlError for the first key that nobody asked for."""
        for error in self.unknown():
            raise error

    def _get(self, key: str, default: Any, kind: type | tuple[type, ...], words: str) -> Any:
        self._asked.add(key)
        if key not in self._values:
            if default is _REQUIRED:
                raise self.problem(None, f"{key} is missing", f"add {key} = … ({words})")
            return default
        value = self._values[key]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.problem(key, f"{_say(value)} is not {words}", f"give {words}")
        return value

    def _check(self, key: str, value: str, check: Callable[[str], object] | None) -> None:
        if check is None:
            return
        try:
            check(value)
        except TomlError:
            raise
        except ValueError as error:
            raise self.problem(key, str(error), "correct it") from None


def _keep(mistakes: list[TomlError] | None, error: TomlError) -> None:
    if mistakes is None:
        raise error
    mistakes.append(error)


def read_toml(text: str, file: str) -> Table:
    """Parse the text of a file. Raises TomlError with the line for what is no TOML."""
    if text.startswith("\ufeff"):
        raise TomlError(
            file,
            1,
            "",
            "begins with a byte-order mark",
            f"save it as UTF-8 without one: sed -i '1s/^\\xef\\xbb\\xbf//' {file}",
        )
    _check_depth(text, file)
    try:
        values = loads(text)
    except RecursionError:
        raise TomlError(file, 0, "", "lists or tables are nested too deeply", _FLAT) from None
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        words = re.sub(r" \(at .*\)$", "", str(error))
        again = _TWICE.search(words)
        if again:
            told = _key_at(text, line)
            raise TomlError(file, line, told, "is there twice", "remove one") from None
        raise TomlError(
            file, line, "", f"no TOML: {words[:1].lower()}{words[1:]}", "see https://toml.io"
        ) from None
    except ValueError:  # of int(): Python reads no number of more than 4300 digits
        found = _LONG_NUMBER.search(text)
        line = text.count("\n", 0, found.start()) + 1 if found else 0
        raise TomlError(file, line, "", "a number has too many digits", "correct it") from None
    return Table(file, Lines(text), (), values)


def _check_depth(text: str, file: str) -> None:
    """Raise TomlError for a key of very many parts: tomllib takes time and memory by their square."""
    for line, written in enumerate(text.split("\n"), 1):
        if written.count(".") >= DEPTH_MAX and _DEEP_KEY.search(written):
            raise TomlError(file, line, "", f"a key of more than {DEPTH_MAX} parts", _FLAT)


def _key_at(text: str, line: int) -> str:
    """Return the key of a line as it stands there: of [a.b] a.b, of x = 1 x."""
    lines = text.split("\n")
    written = lines[line - 1].strip() if line <= len(lines) else ""
    header = re.match(r"\[+([^\]]*)\]", written)
    return header[1].strip() if header else written.partition("=")[0].strip()


def _say(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, datetime.date | datetime.time):
        return f"{value.isoformat()} (a date or time)"
    return _number(value) if isinstance(value, int) else repr(value)


def _number(value: int) -> str:
    """Write a number; Python writes none of more than 4300 digits, and hexadecimal ones may be longer."""
    return str(value) if value.bit_length() <= _SHOWN_BITS else "a very large number"
