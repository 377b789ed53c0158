# SPDX-License-Identifier: Apache-2.0
"""A sum over what stands in a store, kept with every commit: a value that changed without one is noticed when
all is read. The items' hashes are added without carry, so that a commit's part is as large as the commit.

It is no secret and keeps nobody from forging a file: it finds disks that fail, not enemies.
"""

import hashlib
from collections.abc import Iterable
from functools import reduce
from operator import xor
from typing import NamedTuple

from directory_service.store.contract import Item

EMPTY = 0


class Digest(NamedTuple):
    """The sum over the items that are there at a revision."""

    revision: int
    sum: int

    def packed(self) -> bytes:
        return self.revision.to_bytes(8, "big") + self.sum.to_bytes(8, "big")


def unpack(value: object) -> Digest | None:
    """Return a digest from its bytes; None for anything else."""
    if not isinstance(value, bytes) or len(value) != 16:
        return None
    return Digest(int.from_bytes(value[:8], "big"), int.from_bytes(value[8:], "big"))


def hashed(key: str, modified: int, value: bytes) -> int:
    """Return the part of one item."""
    text = b"%d %d " % (modified, len(key)) + key.encode() + value
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def summed(items: Iterable[Item]) -> int:
    return reduce(xor, (hashed(item.key, item.modified, item.value) for item in items), EMPTY)
