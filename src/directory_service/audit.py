# SPDX-License-Identifier: Apache-2.0
"""The audit file: one JSON object a line, who changed what, also what was refused."""

from __future__ import annotations

import datetime
import json
import logging
import os
from pathlib import Path
from typing import Any

from directory_client.messages import DirectoryError

log = logging.getLogger(__name__)


class AuditFile:
    """Appends records. Each is one write, so lines of several processes do not mix; rotation by renaming
    works."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open_file()

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; what cannot be written is logged instead, the change is made already."""
        time = datetime.datetime.fromtimestamp(record["time_ms"] / 1000, datetime.UTC)
        line = {"time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"), **record}
        del line["time_ms"]
        text = json.dumps(line, ensure_ascii=False, default=repr)
        try:
            self._follow_rotation()
            os.write(self._file, text.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            log.error("audit file %s cannot be written (%s): %s", self._path, error.strerror, text)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _open_file(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise DirectoryError(
                f"audit file {self._path} cannot be written: {error.strerror}", f"ls -ld {self._path.parent}"
            ) from error

    def _follow_rotation(self) -> None:
        ours = os.fstat(self._file)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            os.close(self._file)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
