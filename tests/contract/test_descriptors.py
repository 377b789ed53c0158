# SPDX-License-Identifier: Apache-2.0
"""What a directory does when more connections come than it may have descriptors: it lives."""

from __future__ import annotations

import contextlib
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from directory_client.client import DirectoryClient
from directory_client.keys import ClientKeys, make_key_file
from directory_client.process.descriptors import OPEN_AGAIN_S, Admission, Listener
from directory_client.wire.messages import DirectoryError
from directory_house import free_tcp

LIMIT = 400


@contextlib.contextmanager
def directory(path: Path, text: str, limit: int = LIMIT) -> Iterator[subprocess.Popen[str]]:
    (path / "d.toml").write_text(f'name = "d1"\n{text}')
    process = subprocess.Popen(
        [sys.executable, "-m", "directory_service.main", "run", str(path / "d.toml")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        stderr=(path / "log").open("ab"),
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        print((path / "log").read_text())  # shown where a test fails


@pytest.fixture
def client() -> Iterator[Callable[..., DirectoryClient]]:
    """Make clients, and close them in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *endpoints, **options: stack.enter_context(
            contextlib.closing(DirectoryClient(endpoints, **options))
        )


def sites(client: DirectoryClient, within_s: float = 20.0) -> int:
    end = time.monotonic() + within_s
    while True:
        try:
            return len(client.call("list", kind="sites", timeout_s=1.0)["rows"])
        except DirectoryError:
            if time.monotonic() > end:
                raise


def crowd(
    address: str | tuple[str, int], count: int, client: DirectoryClient | None = None
) -> list[socket.socket]:
    """Connect until nobody listens, or `count` times. `client` asks something now and then: so small a limit
    leaves no room for a directory that gets no processor meanwhile."""
    found: list[socket.socket] = []
    end = time.monotonic() + 60.0
    while len(found) < count:
        one = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        one.settimeout(2.0)
        try:
            one.connect(address)
        except BlockingIOError:  # its backlog is full for now
            one.close()
            assert time.monotonic() < end, "nobody accepts, and nobody shuts the socket"
            time.sleep(0.01)
        except OSError:
            one.close()
            break
        else:
            found.append(one)
            if client is not None and len(found) % 16 == 0:
                sites(client)
    return found


def test_a_crowd_on_an_ipc_socket_shuts_it_until_there_is_room_again(tmp_path, client):
    text = f'listen = "ipc://{tmp_path}/s"\n[store]\nkind = "memory"\n'
    with directory(tmp_path, text) as process:
        old = client(f"ipc://{tmp_path}/s")
        assert sites(old) == 0
        found = crowd(f"{tmp_path}/s/directory-resolve.sock", 3 * LIMIT, old)
        assert process.poll() is None
        assert "nobody new is taken" in (tmp_path / "log").read_text()
        assert sites(old) == 0
        for one in found:
            one.close()
        assert sites(client(f"ipc://{tmp_path}/s")) == 0
        assert (tmp_path / "s/directory-write.sock").stat().st_mode & 0o777 == 0o660
        assert process.poll() is None


def test_a_crowd_on_tcp_without_a_key_leaves_room_for_this_machine(tmp_path, client):
    listen = free_tcp()
    server, anna = make_key_file(tmp_path / "directory.key"), make_key_file(tmp_path / "anna.key")
    text = (
        f'listen = "{listen}"\nlocal = "ipc://{tmp_path}/s"\nkey_file = "{tmp_path}/directory.key"\n'
        '[store]\nkind = "memory"\n'
        f'[[client]]\nname = "anna"\nrole = "operator"\npublic_key = "{anna.public.decode()}"\n'
    )
    host, _, port = listen.removeprefix("tcp://").rpartition(":")
    with directory(tmp_path, text) as process:
        remote = client(listen, keys=ClientKeys(anna, server.public))
        assert sites(remote) == 0
        found = crowd((host, int(port)), 3 * LIMIT, remote)
        local = client(f"ipc://{tmp_path}/s")
        assert (sites(local), sites(remote)) == (0, 0)
        found += crowd(f"{tmp_path}/s/directory-resolve.sock", 3 * LIMIT, local)
        assert (sites(local), sites(remote)) == (0, 0)
        for one in found:
            one.close()
        # both listeners come back, each with the security that it had
        assert sites(client(f"ipc://{tmp_path}/s")) == 0
        assert sites(client(listen, keys=ClientKeys(anna, server.public))) == 0
        stranger = make_key_file(tmp_path / "stranger.key")
        with pytest.raises(DirectoryError):
            sites(client(listen, keys=ClientKeys(stranger, server.public)), within_s=1.0)
        assert process.poll() is None


def test_it_does_not_start_with_fewer_descriptors_than_its_clients_need(tmp_path):
    text = f'listen = "ipc://{tmp_path}/s"\n[store]\nkind = "memory"\n'
    with directory(tmp_path, text, limit=64) as process:
        assert process.wait(timeout=20) == 1
    said = (tmp_path / "log").read_text()
    assert "64 descriptors may be open" in said
    assert "LimitNOFILE" in said


def test_tcp_is_shut_first_and_opened_again_last():
    events: list[str] = []
    counts = iter((50, 61, 76, 76, 66, 53))
    admission = Admission([], 100, lambda: next(counts))
    for name, is_local in (("tcp", False), ("ipc", True)):
        admission.add(
            Listener(
                name,
                lambda name=name: events.append(f"shut {name}"),
                lambda name=name: events.append(f"open {name}"),
                is_local,
            )
        )
    for turn in range(6):
        admission.look(turn * OPEN_AGAIN_S)
    assert events == ["shut tcp", "shut ipc", "open ipc", "open tcp"]
    assert not admission.is_full
