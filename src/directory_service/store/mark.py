# SPDX-License-Identifier: Apache-2.0
"""The mark beside a store's file: the newest version it has acknowledged.

It is a file of its own, so that a copy of the store that is put back does not bring its own past along. It
is written after each commit and not synchronized: a mark that is behind says nothing, one that is ahead says
that the store went back.
"""

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple

from directory_service.store.contract import World

log = logging.getLogger(__name__)

_BYTES = 160  # one block, always the same length: it is overwritten in place


class Marked(NamedTuple):
    """What the mark says."""

    world: World
    revision: int


class MarkFile:
    """`path` is the store's file with `.mark` behind it."""

    def __init__(self, store: Path) -> None:
        self.path = store.with_name(store.name + ".mark")
        self._file: int | None = None

    def exists(self) -> bool:
        """Say whether a store was here once."""
        return self.path.exists()

    def read(self) -> Marked | None:
        """Return what it says; None: there is none, or it cannot be read (which proves nothing)."""
        try:
            said = json.loads(self.path.read_text())
            return Marked(World(said["realm"], said["era"], said["incarnation"]), said["revision"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, world: World, revision: int) -> None:
        """Note the newest version. A mark that cannot be written is logged: it only falls behind."""
        text = json.dumps({**world._asdict(), "revision": revision}).ljust(_BYTES - 1) + "\n"
        try:
            if self._file is None:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
            os.pwrite(self._file, text.encode(), 0)
        except OSError as error:
            log.error("%s cannot be written: %s", self.path, error.strerror)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
