# SPDX-License-Identifier: Apache-2.0
"""How every process of ours logs: to its own standard error, which it has from whoever started it.

Console lines on a terminal, one JSON object a line elsewhere. A reader that has gone away (a pipe without an
end) costs the line and nothing more.
"""

from __future__ import annotations

import json
import logging
import sys
import time

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "console", "json")


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]
    def handleError(self, record: logging.LogRecord) -> None:
        if isinstance(sys.exc_info()[1], OSError):
            return  # nobody reads; forwarding does not depend on being watched
        super().handleError(record)


class _Console(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s {process} %(levelname)s %(message)s", "%H:%M:%S")
        self.default_msec_format = "%s.%03d"


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{second}.{record.msecs:03.0f}Z",
            "process": self._process,
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_log(process: str, level: str, format: str = "auto") -> None:
    """Send everything logged in this process to standard error under the process's name."""
    handler = _Handler(sys.stderr)
    console = format == "console" or (format == "auto" and sys.stderr.isatty())
    handler.setFormatter(_Console(process) if console else _Json(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def log_settings() -> tuple[str, str]:
    """Return level and format as they are in force, for a process that is to log alike."""
    root = logging.getLogger()
    console = any(isinstance(handler.formatter, _Console) for handler in root.handlers)
    return logging.getLevelName(root.getEffectiveLevel()).lower(), "console" if console else "json"
