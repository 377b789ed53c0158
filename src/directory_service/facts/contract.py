# SPDX-License-Identifier: Apache-2.0
"""Facts: what a process says of itself and nobody declares. They have an owner and an expiry, and neither
revision nor history.

Expiry is a time of the caller's steady clock, in seconds. `serial` counts what changed, in this process only:
it orders answers and pushes that have the same revision.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol


class Fact(NamedTuple):
    """One fact: whose it is, which of theirs, what it says, and until when it is good."""

    owner: str
    key: str
    value: bytes
    expires_s: float
    serial: int


class Facts(Protocol):
    """A store of facts. One thread calls."""

    @property
    def serial(self) -> int:
        """How often a value has changed since the process began."""

    def put(self, owner: str, key: str, value: bytes, expires_s: float) -> bool:
        """Keep a fact; return whether its value is new. One with the value it had is prolonged."""

    def remove(self, owner: str, key: str) -> bool:
        """Forget a fact; return whether there was one."""

    def of_key(self, key: str) -> list[Fact]:
        """Return the facts of this key, in order of owners."""

    def since(self, serial: int) -> list[Fact]:
        """Return the facts that were put since a serial, the oldest first; those removed do not appear."""

    def expire(self, now_s: float) -> list[Fact]:
        """Forget what is past its expiry; return it."""

    def flush(self) -> None:
        """Write what has to outlive the process, if anything does. Never raises for a full or broken disk."""

    def write_by(self, do: Callable[[Callable[[], None]], None]) -> None:
        """Have what is written be written by somebody who may wait for the disk, in turn."""

    def close(self) -> None:
        """Flush, and release files."""
