# SPDX-License-Identifier: Apache-2.0
"""The audit file: one JSON object a line. What somebody is about to change, and what became of it.

    audit = AuditFile(path)      # never raises: `problem` says why nothing can be written
    audit.write(record)          # `record` has time_ms; everything else is made fit for JSON

A line is whole or it is ended before the next one begins. A record that cannot be written goes to the log
and is counted; the next one that can be written is preceded by a record `{"gap": N}`. Renaming the file
starts a new one. Several processes may append to one file.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

TEXT_MAX = 1_000  # characters of one text
CHARACTERS_MAX = 16_000  # of all texts of a record
ITEMS_MAX = 500  # values of a record, all together
DEPTH_MAX = 6
_CUT = "…"


class AuditFile:
    """Appends records. `problem` is empty, or says why the last record could not be written; `missing`
    counts the records that were lost since then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._has_half_line = False
        self.problem = ""
        self.missing = 0
        try:
            self._follow_rotation()
        except OSError as error:
            self._fail(error)

    @property
    def trouble(self) -> str:
        """Why records are not written, empty if they are."""
        return self.problem

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; one that cannot be written is logged and counted."""
        text = _line(record)
        try:
            self._follow_rotation()
            if self._has_half_line:
                self._append("")
            if self.missing:
                self._append(_line({"time_ms": record["time_ms"], "gap": self.missing}))
                self.missing = 0
            self._append(text)
        except OSError as error:
            self.missing += 1
            self._fail(error)
            log.error("this is not in the audit file: %s", text)
        else:
            if self.problem:
                log.warning("audit file %s is written again", self._path)
            self.problem = ""

    def move(self, path: Path) -> None:
        """Write to another file from the next record on."""
        self._path = path

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _append(self, text: str) -> None:
        """Write a line; remember if only a part of it was written."""
        rest = text.encode("utf-8", "backslashreplace") + b"\n"
        while rest:
            written = os.write(self._file, rest)
            rest = rest[written:]
            self._has_half_line = bool(rest)

    def _follow_rotation(self) -> None:
        """Open the file that has the path now. The former one is given up only once that has succeeded, and
        the new one takes its number: that number never means anything else."""
        if self._file >= 0 and self._is_in_place():
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            if self._file < 0 or not os.fstat(self._file).st_nlink:
                raise
            # It was renamed, and there is no new one yet: what it takes is not lost.
            if not self.problem:
                log.warning("a new audit file %s cannot be made: %s", self._path, error.strerror)
            return
        if self._file < 0:
            self._file = file
        else:
            try:
                os.dup2(file, self._file, inheritable=False)
            finally:
                os.close(file)
        self._has_half_line = _ends_in_half_line(self._file)

    def _is_in_place(self) -> bool:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _fail(self, error: OSError) -> None:
        self.problem = error.strerror or str(error)
        log.error(
            "audit file %s cannot be written: %s. fix: ls -ld %s; df %s",
            self._path,
            self.problem,
            self._path.parent,
            self._path.parent,
        )


def _line(record: dict[str, Any]) -> str:
    """Return a record as JSON, whatever its values are."""
    time = datetime.datetime.fromtimestamp(record["time_ms"] / 1000, datetime.UTC)
    line = {"time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z")}
    line |= _Plain().of({key: value for key, value in record.items() if key != "time_ms"}, 0)
    return json.dumps(line, ensure_ascii=False)


class _Plain:
    """Copies a value into what JSON can say. Messages are hostile: values that JSON does not know become
    text, and what is too long, too deep or too much is cut."""

    def __init__(self) -> None:
        self._characters = CHARACTERS_MAX
        self._items = ITEMS_MAX

    def of(self, value: Any, depth: int) -> Any:
        self._items -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int):
            return value if -(1 << 63) <= value < 1 << 64 else self._text(repr(value))
        if isinstance(value, float):
            return value if math.isfinite(value) else repr(value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._text(repr(bytes(value[:TEXT_MAX])))
        if depth >= DEPTH_MAX:
            return _CUT
        if isinstance(value, dict):
            found: dict[str, Any] = {}
            for key, each in value.items():
                if self._items <= 0:
                    found[_CUT] = len(value) - len(found)
                    break
                found[self._text(key if isinstance(key, str) else repr(key))] = self.of(each, depth + 1)
            return found
        if isinstance(value, (list, tuple)):
            items: list[Any] = []
            for each in value:
                if self._items <= 0:
                    items.append(_CUT)
                    break
                items.append(self.of(each, depth + 1))
            return items
        return _CUT

    def _text(self, text: str) -> str:
        most = min(TEXT_MAX, max(self._characters, 0))
        self._characters -= min(len(text), most)
        return text if len(text) <= most else text[:most] + _CUT


def _ends_in_half_line(file: int) -> bool:
    size = os.fstat(file).st_size
    with contextlib.suppress(OSError):
        return size > 0 and os.pread(file, 1, size - 1) != b"\n"
    return False
