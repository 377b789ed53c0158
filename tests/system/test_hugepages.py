# SPDX-License-Identifier: Apache-2.0
"""The data plane with hugepages: it takes them by itself, its tables lie on hugetlbfs and outlive it, and
without enough of them it works as well. Takes hugepages of the machine while it runs, and gives them back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "native"))

from data_plane_bed import Bed, Wire, make_bed, until  # noqa: F401
from installing import RED, attachment, flow, flow_key, ingress, location, tunnel, vnet
from test_data_plane_ports import EXCEPTION, exception_tap  # noqa: F401

from fastpath.records import join

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: vm.nr_hugepages, mount"),
]

WANTED = Path("/proc/sys/vm/nr_hugepages")
POOL = Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
PAGES = 256
PORTS = {"rack": ("net_null0,no-rx=1", "inside"), "uplink": ("net_ring0", "underlay")}
RACK, FAR, TUNNEL, FLOWS = 100, 300, 500, 50
WAY_BACK = ingress(RED, 9, "192.0.2.2")


def free_pages() -> int:
    return int((POOL / "free_hugepages").read_text())


@pytest.fixture
def hugepages() -> Iterator[Callable[[int], None]]:
    """Return a function that sets how many 2 MB pages are free, whatever there were before; puts it back."""
    before = int(WANTED.read_text()) if POOL.exists() else 0

    def have(pages: int) -> None:
        try:
            WANTED.write_text(str(int(WANTED.read_text()) - free_pages() + pages))
        except OSError as error:
            warnings.warn(f"NOT TESTED with hugepages: vm.nr_hugepages: {error.strerror}", stacklevel=2)
            pytest.skip("vm.nr_hugepages cannot be set")
        if free_pages() < pages:
            warnings.warn(f"NOT TESTED with hugepages: {free_pages()} of {pages} free", stacklevel=2)
            pytest.skip(f"the machine gives {free_pages()} hugepages, not {pages}")

    if not POOL.exists():
        warnings.warn("NOT TESTED with hugepages: this kernel has none of 2 MB", stacklevel=2)
        pytest.skip("this kernel has no hugepages of 2 MB")
    yield have
    WANTED.write_text(str(before))


@pytest.fixture
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hugetlbfs of our own, mounted without size= as /dev/hugepages is."""
    directory = tmp_path_factory.mktemp("huge")
    subprocess.run(["mount", "-t", "hugetlbfs", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.fixture
def bed(hugepages, mount: Path, make_bed) -> Iterator[Bed]:  # noqa: F811
    """A bed without data planes; their tables are removed before the file system and the pages go."""
    bed = make_bed(PORTS)
    yield bed
    bed.stop()
    for path in mounted(bed):
        path.unlink()


def mounted(bed: Bed) -> list[Path]:
    """Where on any hugetlbfs tables of this bed are."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [Path(directory) / f"vnet-{bed.name}" for _, directory, kind, *_ in lines if kind == "hugetlbfs"]
    return [path for path in places if path.exists()]


def install_flows(bed: Bed) -> None:
    with bed.client("slow-path") as slow_path:
        rows = join([vnet(RED), attachment(RED, RACK), WAY_BACK, tunnel(TUNNEL), location(RED, FAR)])
        assert slow_path.send(rows) == len(rows)
        ingress = until(lambda: bed.ask(dump="ingresses")["rows"], "the attachment is there")[0]["ingress"]
        keys = [flow_key(ingress, source=f"10.0.0.{i}") for i in range(FLOWS)]
        assert slow_path.send(join([flow(RED, key, RACK) for key in keys])) == FLOWS
        until(lambda: bed.ask(dump="counters")["counters"]["flows"] == FLOWS, "all flows are installed")


def packet_passes(bed: Bed, tap: int) -> bool:
    """Send a frame out of the ring that is the uplink; it comes back and is counted."""
    before = bed.ask(dump="counters")["counters"]["received"]
    with bed.client("control") as control, contextlib.closing(Wire(EXCEPTION)) as kernel:
        assert control.ask({"exception": "uplink", "index": 0}, [tap])["ok"] is True
        kernel.send(bytes(60))
        until(lambda: bed.ask(dump="counters")["counters"]["received"] == before + 1, "the frame came round")
    return True


def test_packets_and_tables_are_on_hugepages_and_tables_outlive_a_kill(
    bed: Bed,
    hugepages,
    exception_tap: int,  # noqa: F811
) -> None:
    hugepages(PAGES)
    free = free_pages()
    bed.start()
    install_flows(bed)
    tables = mounted(bed)
    taken = free - free_pages()

    assert bed.ask(dump="counters")["start"]["hugepages"] is True
    assert len(tables) == 1
    assert not Path(f"/dev/shm/vnet-{bed.name}").exists()
    assert taken * 2 >= 20 + 40, "tables and packet buffers"
    assert packet_passes(bed, exception_tap)
    print(f"{taken} hugepages taken, {tables[0].stat().st_size >> 20} MB of them tables")

    bed.processes[0].send_signal(signal.SIGKILL)
    bed.processes[0].wait()
    until(lambda: free - free_pages() == tables[0].stat().st_size >> 21, "only the tables' pages stay taken")
    bed.start()

    answer = bed.ask(dump="counters")
    assert answer["adoption"]["how"] == "adopted"
    assert answer["adoption"]["flows"] == answer["counters"]["flows"] == FLOWS
    assert answer["start"]["hugepages"] is True
    assert mounted(bed) == tables
    assert packet_passes(bed, exception_tap)


def test_spare_that_finds_too_few_pages_takes_over_the_same_tables(
    bed: Bed,
    hugepages,
    exception_tap: int,  # noqa: F811
) -> None:
    hugepages(PAGES)
    bed.start()
    install_flows(bed)
    tables = mounted(bed)
    WANTED.write_text(str(int(WANTED.read_text()) - free_pages()))
    bed.start(1)
    bed.wait_for_spare(1)

    bed.processes[0].send_signal(signal.SIGKILL)
    bed.processes[0].wait()

    answer = until(lambda: bed.ask(dump="counters"), "the spare answers")
    assert (answer["start"]["spare"], answer["start"]["hugepages"]) == (True, False)
    assert answer["adoption"]["flows"] == FLOWS
    assert mounted(bed) == tables
    assert packet_passes(bed, exception_tap)


def test_data_plane_works_without_enough_hugepages(
    bed: Bed,
    hugepages,
    exception_tap: int,  # noqa: F811
) -> None:
    hugepages(4)
    bed.start()
    install_flows(bed)

    assert bed.ask(dump="counters")["start"]["hugepages"] is False
    assert mounted(bed) == []
    assert Path(f"/dev/shm/vnet-{bed.name}").exists()
    assert packet_passes(bed, exception_tap)


def test_tables_stay_where_they_are_when_hugepages_come(bed: Bed, hugepages) -> None:
    hugepages(4)
    bed.start()
    install_flows(bed)
    bed.processes[0].send_signal(signal.SIGKILL)
    bed.processes[0].wait()
    hugepages(PAGES)

    bed.start()

    answer = bed.ask(dump="counters")
    assert answer["adoption"]["flows"] == FLOWS
    assert answer["start"]["hugepages"] is True
    assert mounted(bed) == []


def test_never_leaves_hugepages_alone(bed: Bed, hugepages) -> None:
    hugepages(PAGES)
    free = free_pages()
    bed.start()
    bed.client().close()
    bed.processes[0].terminate()
    bed.processes[0].wait(60)
    assert mounted(bed)
    bed.file.write_text(bed.file.read_text() + '[memory]\nhugepages = "never"\n')

    bed.start()

    assert bed.ask(dump="counters")["start"]["hugepages"] is False
    assert mounted(bed) == []
    assert free_pages() == free
    assert "memory.hugepages is never: the tables in" in bed.log(1)


def test_always_without_enough_hugepages_is_one_sentence(bed: Bed, hugepages) -> None:
    hugepages(4)
    bed.file.write_text(bed.file.read_text() + '[memory]\nhugepages = "always"\n')

    assert bed.start().wait(60) == 1

    assert "MB of hugepages are free" in bed.log()
    assert "fix:   sysctl vm.nr_hugepages=" in bed.log()
