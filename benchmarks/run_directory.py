# SPDX-License-Identifier: Apache-2.0
"""A directory for the files of one run, where temporary files are: not in memory, since a store that syncs is
measured too.

A run that was killed leaves its directory behind; the next run removes it. Whoever lives holds a lock on his
own, which the kernel takes away when he ends, however he ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "vnet-benchmark-"


@contextmanager
def run_directory(parent: Path | None = None) -> Iterator[Path]:
    """Remove what killed runs left, make a directory for this one; it is removed on leaving."""
    parent = parent or Path(tempfile.gettempdir())
    with _opened(parent) as entry:
        fcntl.flock(entry, fcntl.LOCK_EX)  # nobody takes one that is made, but not yet locked, for left
        for old in parent.glob(f"{PREFIX}*"):
            _remove_if_left(old)
        made = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(made, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(lock)


def _remove_if_left(directory: Path) -> None:
    try:
        with _opened(directory) as entry:
            fcntl.flock(entry, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
    except OSError:
        return  # somebody lives there, or just left


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
