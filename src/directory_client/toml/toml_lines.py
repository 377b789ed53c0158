# SPDX-License-Identifier: Apache-2.0
"""Find on which line each key of a TOML text stands; tomllib does not say.

Only for text that tomllib has accepted. Keys inside inline tables are found as well.
"""

import re
import tomllib

KeyPath = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def format_path(path: KeyPath) -> str:
    """Write a path as it would stand in the file; list positions count from 1."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part + 1}]"
            continue
        word = part if _BARE.fullmatch(part) else toml_string(part)
        out += ("." if out else "") + word
    return out


def toml_string(text: str) -> str:
    """Write a basic TOML string."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif ord(char) < 0x20 or ord(char) == 0x7F:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def find_lines(text: str) -> dict[KeyPath, int]:
    """Return key path → line, counted from 1, for every table and key."""
    return _Scanner(text).scan()


class Lines:
    """The lines of a text, found when the first one is asked for: mostly nothing is wrong, and none is."""

    def __init__(self, text: str = "") -> None:
        self._text = text
        self._lines: dict[KeyPath, int] | None = None

    def of(self, path: KeyPath) -> int:
        """Return the line of a key or table, of what it stands in if it has none, else 1."""
        if self._lines is None:
            try:
                self._lines = find_lines(self._text)
            except RecursionError:  # lists in lists, as deep as tomllib just takes them
                self._lines = {}
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}
        self._line = 1
        self._counted = 0

    def scan(self) -> dict[KeyPath, int]:
        here: KeyPath = ()
        while True:
            self._skip_blank()
            if self.at >= len(self.text):
                return self.lines
            if self.text.startswith("[[", self.at):
                self.at += 2
                here = self._enter_list(self._keys())
                self.at = self._find("]]") + 2
            elif self.text[self.at] == "[":
                self.at += 1
                here = self._resolve(self._keys())
                self.lines.setdefault(here, self._line_now())
                self.at = self._find("]") + 1
            else:
                self._pair(here)

    def _pair(self, here: KeyPath) -> None:
        line = self._line_now()
        path = here
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self.at = self._find("=") + 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        char = self.text[self.at]
        if char == "{":
            self.at += 1
            while True:
                self._skip_blank()
                if self.text[self.at] == "}":
                    self.at += 1
                    return
                if self.text[self.at] == ",":
                    self.at += 1
                else:
                    self._pair(path)
        if char == "[":
            self.at += 1
            index = 0
            while True:
                self._skip_blank()
                if self.text[self.at] == "]":
                    self.at += 1
                    return
                if self.text[self.at] == ",":
                    self.at += 1
                else:
                    self.lines.setdefault((*path, index), self._line_now())
                    self._value((*path, index))
                    index += 1
        if char in "\"'":
            self._quoted()
            return
        while self.at < len(self.text) and self.text[self.at] not in ",]}\n#":
            self.at += 1

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip_spaces()
            if self.text[self.at] in "\"'":
                keys.append(tomllib.loads("key = " + self._quoted())["key"])
            else:
                match = _BARE.match(self.text, self.at)
                if match is None:
                    return keys
                keys.append(match[0])
                self.at = match.end()
            self._skip_spaces()
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _quoted(self) -> str:
        quote = self.text[self.at]
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        start = self.at + len(mark)
        at = start
        while not self.text.startswith(mark, at):
            at += 2 if quote == '"' and self.text[at] == "\\" else 1
        if len(mark) == 3:  # up to two quotes may stand before the closing three
            while self.text.startswith(quote, at + 3):
                at += 1
        self.at = at + len(mark)
        return self.text[start - len(mark) : self.at]

    def _resolve(self, keys: list[str]) -> KeyPath:
        """A header names the newest member of each list of tables on its way."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            self.lines.setdefault(path, self._line_now())
            if path in self.counts:
                path = (*path, self.counts[path] - 1)
        return path

    def _enter_list(self, keys: list[str]) -> KeyPath:
        path = (*self._resolve(keys[:-1]), keys[-1])
        self.lines.setdefault(path, self._line_now())
        index = self.counts.get(path, 0)
        self.counts[path] = index + 1
        self.lines[(*path, index)] = self._line_now()
        return (*path, index)

    def _skip_spaces(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t":
            self.at += 1

    def _skip_blank(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in " \t\n\r":
                self.at += 1
            elif self.text[self.at] == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            else:
                return

    def _find(self, mark: str) -> int:
        return self.text.index(mark, self.at)

    def _line_now(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
