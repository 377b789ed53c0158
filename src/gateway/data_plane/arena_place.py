# SPDX-License-Identifier: Apache-2.0
"""Where the tables' file is: on hugetlbfs if there is room, else in /dev/shm. It stays where it was made,
also when hugepages come or go: moving it would lose what it holds."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

HUGEPAGE_BYTES_MAX = 2 << 20  # tables of some 20 MB would waste a larger page
SHARED_MEMORY = Path("/dev/shm")
POOLS = Path("/sys/kernel/mm/hugepages")


def choose_arena_path(
    name: str,
    total_bytes: int,
    hugepages: str,
    mounts: Path = Path("/proc/self/mounts"),
    shared_memory: Path = SHARED_MEMORY,
) -> Path:
    """Return where the tables are, or are to be made. `hugepages`: auto, always, never; with "never", tables
    on hugetlbfs are removed, and their pages given back. Only for whoever holds the tables' lock."""
    plain = shared_memory / f"vnet-{name}"
    huge = [directory / plain.name for directory in _hugetlbfs(mounts)]
    there = next((path for path in huge if path.exists()), None)
    if hugepages == "never":
        if there is not None:
            log.warning("memory.hugepages is never: the tables in %s are made anew in %s", there, plain)
            there.unlink()
        return plain
    if there is not None:
        return there
    if plain.exists():
        return plain
    return next((path for path in huge if _room_bytes(path.parent) >= total_bytes), plain)


def _hugetlbfs(mounts: Path) -> Iterator[Path]:
    """Yield the directories where files of small hugepages can be made."""
    for line in mounts.read_text().splitlines():
        _, text, kind, *_ = line.split()
        directory = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text))
        if kind != "hugetlbfs" or not os.access(directory, os.W_OK):
            continue
        if os.statvfs(directory).f_bsize <= HUGEPAGE_BYTES_MAX:
            yield directory


def _room_bytes(directory: Path) -> int:
    """Return what a new file can have there, less one page for rounding."""
    mount = os.statvfs(directory)
    pool = POOLS / f"hugepages-{mount.f_bsize // 1024}kB"
    try:
        free, reserved = (int((pool / f"{kind}_hugepages").read_text()) for kind in ("free", "resv"))
    except OSError:
        return 0
    pages = free - reserved
    if mount.f_blocks:  # mounted with size=; without, the kernel reports no figures at all
        pages = min(pages, mount.f_bavail)
    return (pages - 1) * mount.f_bsize
