# SPDX-License-Identifier: Apache-2.0
"""The realm that a gateway belongs to, and the newest version of it that the gateway has seen.

A gateway takes the realm of the first directory that answers it, writes it down (`pin`), and listens to no
other from then on: another realm is another world of V-nets, and what it says of ours is nothing. The newest
version is shown to directories, so that one whose store went back notices it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

WRITE_S = 5.0  # at the soonest, after the last time: a version that is a little old serves as well
_U63 = 1 << 63


class Version(NamedTuple):
    """A version that a directory told, with its seal."""

    era: int = 0
    incarnation: int = 0
    revision: int = 0
    seal: int = 0


def format_realm(realm: int) -> str:
    """Return how a realm is shown and written: 16 hexadecimal digits."""
    return f"{realm:016x}"


class RealmPin:
    """`path` None: remembered only as long as this object lives (an operator's tool). `keeps` False: the
    realm is written down, but not the versions that are seen: for a process in which others would wait for
    the disk."""

    def __init__(self, path: Path | None = None, keeps: bool = True) -> None:
        self.realm = 0  # 0: not known yet
        self.seen = Version()
        self._path = path
        self._keeps = keeps
        self._written_s = 0.0
        self._written = Version()
        self._read()

    def accepts(self, realm: int) -> bool:
        """Say whether a directory of this realm may be listened to."""
        return self.realm in (0, realm)

    def pin(self, realm: int) -> None:
        """Belong to a realm from now on; what another process of the gateway has written counts."""
        if self.realm or self._path is None:
            self.realm = self.realm or realm
            return
        self._read()
        if not self.realm:
            self.realm = realm
            self._write()

    def see(self, version: Version, now: float) -> None:
        """Take note of a version that was told; older ones are ignored."""
        if version.era < self.seen.era or (
            version.era == self.seen.era
            and version.incarnation == self.seen.incarnation
            and version.revision <= self.seen.revision
        ):
            return
        self.seen = version
        if self._keeps and self._path is not None and self.realm and now - self._written_s >= WRITE_S:
            self._written_s = now
            self._write()

    def _read(self) -> None:
        if self._path is None:
            return
        try:
            said: Mapping[str, Any] = json.loads(self._path.read_text())
            realm, seen = int(said["realm"], 16), Version(*(said["seen"]))
        except (OSError, ValueError, KeyError, TypeError):
            return  # not there, or of a disk that was full: the first answer decides again
        if 0 < realm < _U63 and all(isinstance(one, int) and 0 <= one < _U63 for one in seen):
            self.realm, self.seen = realm, max(self.seen, seen)

    def _write(self) -> None:
        if self._path is None or self._written == self.seen != Version():
            return
        text = json.dumps({"realm": format_realm(self.realm), "seen": list(self.seen)}) + "\n"
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(text)
            part.replace(self._path)
            self._written = self.seen
        except OSError:
            part.unlink(missing_ok=True)  # remembered all the same, as long as this process lives
