# SPDX-License-Identifier: Apache-2.0
"""Where the tables' file is made, as far as it needs no hugetlbfs; the rest: system/test_hugepages.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.data_plane.arena_place import choose_arena_path


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A mount table with a directory that has a blank in its name, said to be a hugetlbfs."""
    (tmp_path / "huge pages").mkdir()
    (tmp_path / "shm").mkdir()
    file = tmp_path / "mounts"
    file.write_text(f"tmpfs /tmp tmpfs rw 0 0\nnone {tmp_path}/huge\\040pages hugetlbfs rw 0 0\n")
    return file


def choose(mounts: Path, hugepages: str, total_bytes: int = 1 << 60) -> Path:
    return choose_arena_path("gw", total_bytes, hugepages, mounts, mounts.parent / "shm")


def test_without_room_it_is_in_shared_memory(mounts: Path) -> None:
    assert choose(mounts, "auto") == mounts.parent / "shm" / "vnet-gw"


@pytest.mark.parametrize("hugepages", ["auto", "always"])
def test_file_that_is_on_hugetlbfs_is_found_there(mounts: Path, hugepages: str) -> None:
    there = mounts.parent / "huge pages" / "vnet-gw"
    there.touch()
    assert choose(mounts, hugepages) == there


def test_never_removes_it_from_hugetlbfs(mounts: Path) -> None:
    there = mounts.parent / "huge pages" / "vnet-gw"
    there.touch()
    assert choose(mounts, "never") == mounts.parent / "shm" / "vnet-gw"
    assert not there.exists()
