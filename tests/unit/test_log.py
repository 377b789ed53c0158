# SPDX-License-Identifier: Apache-2.0
"""All processes log alike: one JSON object a line, or console lines, under the process's name."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from directory_client.process.log import configure_log, log_settings


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object_with_the_process_and_the_time_in_utc(monkeypatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_log("directory", "info")
    logging.getLogger("x").info("two\nlines and %s", "ä")
    logging.getLogger("x").debug("not this")
    (line,) = written.getvalue().splitlines()
    said = json.loads(line)
    assert (said["process"], said["level"], said["message"]) == ("directory", "info", "two\nlines and ä")
    assert said["time"].endswith("Z")


@pytest.mark.parametrize("format", ["console", "json"])
def test_what_is_in_force_can_be_handed_on(format: str) -> None:
    configure_log("directory", "warning", format)
    assert log_settings() == ("warning", format)


def test_a_console_line_has_no_braces(monkeypatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_log("directory-writer", "info", "console")
    logging.getLogger("x").warning("beware")
    assert written.getvalue().endswith(" directory-writer WARNING beware\n")
