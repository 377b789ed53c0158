# SPDX-License-Identifier: Apache-2.0
"""RingClient against a data plane played by the test over a real socket."""

from __future__ import annotations

import os
import select
import socket
import threading

import msgpack
import numpy as np
import pytest

from fastpath.records import RecordType, make
from fastpath.records import select as select_records
from fastpath.rings import DataPlaneUnreachable, RingClient, RingMemory


class DataPlane:
    """Serves one client: greets it as told, then answers every question with what it was asked."""

    def __init__(self, path, rings: int = 3, memory: RingMemory | None = None, **answer) -> None:
        self.memory = memory or RingMemory.create(rings, 64, 64)
        self.wake = os.eventfd(0, os.EFD_NONBLOCK)
        self.kick = os.eventfd(0, os.EFD_NONBLOCK)
        self.answer = {
            "v": 1,
            "ok": True,
            "threads": rings - 1,
            "miss_rings": rings,
            "ports": [{"name": "rack"}],
        }
        self.answer |= {"total_bytes": self.memory.len_bytes} | answer
        self.hello: dict = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(str(path))
        self.socket.listen(1)
        self.out = [self.memory.end(i, True) for i in range(rings)]
        self.install = self.memory.end(rings, False)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.socket.accept()
        with connection:
            self.hello = msgpack.unpackb(connection.recv(65536))
            fds = [self.memory.fd, self.wake, self.kick] if self.hello["hello"] != "observer" else []
            socket.send_fds(connection, [msgpack.packb(self.answer)], fds)
            while message := connection.recv(65536):
                connection.send(msgpack.packb({"asked": msgpack.unpackb(message)}))

    def close(self) -> None:
        self.socket.close()
        self.memory.close()
        os.close(self.wake)
        os.close(self.kick)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "dataplane.sock"


@pytest.fixture
def plane(path):
    with_thread = DataPlane(path)
    yield with_thread
    with_thread.close()


def numbered(first: int, n: int) -> np.ndarray:
    return make(RecordType.MISS, n, vni=7001, revision=np.arange(first, first + n))


def test_greeting_says_who_and_shows_ports(path, plane) -> None:
    with RingClient(path, hello="slow-path", worker=2, workers=4) as client:
        assert plane.hello == {"v": 1, "hello": "slow-path", "worker": 2, "workers": 4}
        assert client.ports == [{"name": "rack"}]
        assert client.threads == 2


def test_drain_takes_from_every_ring_in_order(path, plane) -> None:
    with RingClient(path) as client:
        for ring, out in enumerate(plane.out):
            assert out.write(numbered(100 * ring, 40)) == 40

        rows = client.drain(60)
        revisions = select_records(rows, RecordType.MISS)["head"]["revision"]

        assert len(rows) == 60
        for ring in range(3):
            mine = revisions[(revisions >= 100 * ring) & (revisions < 100 * ring + 100)]
            assert mine.tolist() == list(range(100 * ring, 100 * ring + len(mine)))
            assert len(mine) == 20
        assert len(client.drain(1000)) == 60
        assert len(client.drain(1000)) == 0


def test_one_busy_ring_may_use_the_whole_drain(path, plane) -> None:
    with RingClient(path) as client:
        plane.out[1].write(numbered(0, 60))

        assert len(client.drain(50)) == 50


def test_sleeper_is_rung_and_nobody_else(path, plane) -> None:
    with RingClient(path) as client:
        plane.out[0].write(numbered(0, 1))
        assert not plane.out[0].wanted()
        assert not client.prepare_sleep()
        client.drain(10)
        assert client.prepare_sleep()

        plane.out[2].write(numbered(0, 1))
        assert plane.out[2].wanted()
        os.eventfd_write(plane.wake, 1)

        assert select.select([client.fileno()], [], [], 5)[0]
        client.woke()
        assert not select.select([client.fileno()], [], [], 0)[0]
        assert len(client.drain(10)) == 1


def test_send_counts_what_fits_and_rings_a_sleeping_data_plane(path, plane) -> None:
    with RingClient(path) as client:
        plane.install.sleep(True)

        assert client.send(numbered(0, 70)) == 64
        assert client.overflows == 6
        assert os.eventfd_read(plane.kick) == 1
        assert plane.install.read(100).shape == (64, 128)


def test_questions_are_answered_on_the_same_socket(path, plane) -> None:
    with RingClient(path, hello="observer") as client:
        answer = client.ask({"dump": "flows", "cursor": 0})

        assert answer == {"asked": {"v": 1, "dump": "flows", "cursor": 0}}
        assert client.fileno() == -1
        assert len(client.drain(10)) == 0
        with pytest.raises(DataPlaneUnreachable):
            client.send(numbered(0, 1))


def test_nobody_there_names_socket_and_remedy(path) -> None:
    with pytest.raises(DataPlaneUnreachable, match=r"dataplane\.sock.*start it: vnet-gateway run"):
        RingClient(path)


def test_silence_ends_in_time(path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
        mute.bind(str(path))
        mute.listen(1)

        with pytest.raises(DataPlaneUnreachable, match="in time"):
            RingClient(path, timeout_s=0.05)


def test_refusal_is_told(path) -> None:
    plane = DataPlane(path, ok=False, error="no worker 7 here", fix="set workers = 8")

    with pytest.raises(DataPlaneUnreachable, match="no worker 7 here; set workers = 8"):
        RingClient(path)
    plane.close()


@pytest.mark.parametrize(
    "lie", [{"total_bytes": 4096}, {"miss_rings": 2}, {"miss_rings": 0}, {"miss_rings": "x"}]
)
def test_greeting_that_contradicts_the_memory_is_refused(path, lie) -> None:
    plane = DataPlane(path, **lie)

    with pytest.raises(DataPlaneUnreachable):
        RingClient(path)
    plane.close()


def test_memory_that_could_shrink_is_refused() -> None:
    fd = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 16)

    with pytest.raises(ValueError, match="not sealed"):
        RingMemory.from_descriptor(fd, 1 << 16, 1)
    os.close(fd)


def test_formatted_memory_cannot_be_resized() -> None:
    memory = RingMemory.create(1, 16, 16)

    with pytest.raises(PermissionError):
        os.ftruncate(memory.fd, 0)
    memory.close()


def test_impossible_ring_numbers_are_named() -> None:
    with pytest.raises(ValueError, match="powers of two"):
        RingMemory.create(1, 24, 16)


def test_impossible_index_ends_the_connection(path, plane) -> None:
    import mmap

    with RingClient(path) as client, mmap.mmap(plane.memory.fd, plane.memory.len_bytes) as raw:
        raw[4096:4100] = (1000).to_bytes(4, "little")  # ring 0's head: more than it has slots

        with pytest.raises(DataPlaneUnreachable, match="miss ring 0"):
            client.drain(10)
