# SPDX-License-Identifier: Apache-2.0
"""vnet-directory as a process: started, asked, killed at any time, started again."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq

from directory_client.client import DirectoryClient
from directory_client.events import Changed, Resolved, Snapshot
from directory_client.keys import client_keys
from directory_client.vocabulary.numbers import Action, IngressKind, KeyClass
from directory_client.wire import rows
from directory_client.wire.messages import DirectoryError

DOCUMENT = """
document = "test"

[site.s1]

[node.gw1]
kind = "gateway"
site = "s1"

[vnet.red]
vni      = 7001
prefixes = ["10.0.0.0/24"]

[[vnet.red.attachment]]
nodes = ["gw1"]
port  = "rack"
vlan  = 101

[[vnet.red.attachment]]
nodes = ["gw1"]
port  = "rack"
vlan  = 102

[vnet.red.endpoint]
web-1 = { addresses = ["10.0.0.11"], mac = "02:00:5e:00:00:11", at = ["gw1/rack:101"] }
db-1  = { addresses = ["10.0.0.21"], mac = "02:00:5e:00:00:21", at = ["gw1/rack:102"] }

[vnet.red.rule.any]
action = "allow"
from   = "any"
to     = "any"
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "directory_service.main", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


class Process:
    """The embedded directory of a test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.endpoint = f"ipc://{path}/run"
        self.arguments = ["run", "--embedded", f"{path}/run", "--state", f"{path}/state"]
        self.started: list[subprocess.Popen[bytes]] = []
        self.clients: list[DirectoryClient] = []

    def start(self, **extra: str) -> subprocess.Popen[bytes]:
        with (self.path / "log").open("ab") as log:
            process = subprocess.Popen(command(*self.arguments), env={**environment(), **extra}, stderr=log)
        self.started.append(process)
        return process

    def client(self, **options: Any) -> DirectoryClient:
        client = DirectoryClient([self.endpoint], **options)
        self.clients.append(client)
        return client

    def end(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.end()


def events_until(client: DirectoryClient, condition: Callable[[Any], bool], seconds: float = 20.0) -> Any:
    poller = zmq.Poller()
    for each in client.sockets:
        poller.register(each, zmq.POLLIN)
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        poller.poll(client.timeout_ms())
        for event in client.receive():
            seen.append(event)
            if condition(event):
                return event
    raise AssertionError(f"it did not come, but {seen}")


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def answers(client: DirectoryClient) -> bool:
    try:
        return bool(client.call("list", kind="sites", timeout_s=1.0))
    except DirectoryError:
        return False


def call(client: DirectoryClient, type: str, **fields: Any) -> dict[str, Any]:
    return client.call(type, timeout_s=20.0, **fields)


def query(attachment: int) -> np.ndarray[Any, Any]:
    table = np.zeros(1, rows.QUERY)
    table["vni"], table["key_class"] = 7001, KeyClass.BRIDGED
    table["ingress_kind"], table["ingress_object"] = IngressKind.ATTACHMENT, attachment
    table["source"][0, 12:] = [10, 0, 0, 11]
    table["destination"][0, 12:] = [10, 0, 0, 21]
    return table


def test_a_killed_directory_comes_back_with_everything_and_is_found_again(directory):
    first = directory.start()
    tool = directory.client()
    applied = call(tool, "apply", text=DOCUMENT, name="test.toml", user="anna", wait_ms=0)
    assert applied["document"] == "test"
    gateway = directory.client(node="gw1", role="slow-path", give_up_s=20.0)
    gateway.subscribe()
    before = events_until(gateway, lambda event: isinstance(event, Snapshot) and event.vnets)
    attachments = [op for op in before.vnets[0][1] if op["op"] == "attachment"]
    web = next(op["object_id"] for op in attachments if op["vlan"] == 101)

    first.send_signal(signal.SIGKILL)
    first.wait()
    id = gateway.send_resolve(query(web))  # asked while nobody is there
    directory.start()
    resolved = events_until(gateway, lambda event: isinstance(event, Resolved) and event.id == id)
    assert resolved.decisions["action"].tolist() == [Action.DELIVER]
    assert (resolved.incarnation, resolved.revision) == (before.incarnation, before.revision)
    changed = call(
        tool,
        "set",
        kind="endpoint",
        name="red/web-2",
        values={"addresses": ["10.0.0.12"], "mac": "02:00:5e:00:00:12", "at": ["gw1/rack:101"]},
        wait_ms=0,
    )
    assert changed["revision"] > before.revision
    events_until(
        gateway, lambda event: isinstance(event, Snapshot | Changed) and event.revision >= changed["revision"]
    )
    assert "web-1" in call(tool, "export", document="test")["text"]
    history = call(tool, "history", document="test", limit=10)["rows"]
    assert [row["user"] for row in history] == ["anna"]


def test_what_was_acknowledged_outlives_a_kill_at_any_moment(directory):
    process = directory.start()
    tool = directory.client()
    call(tool, "list", kind="directories")
    acknowledged: list[str] = []
    for round in range(3):
        for _ in range(10 + 10 * round):
            name = f"s{round}-{len(acknowledged)}"
            call(tool, "set", kind="site", name=name, values={}, wait_ms=0)
            acknowledged.append(name)
        tool.send("set", kind="site", name=f"torn-{round}", values={})  # on its way while it dies
        process.kill()
        process.wait()
        process = directory.start()
        found = {row["name"] for row in call(tool, "list", kind="sites")["rows"]}
        assert set(acknowledged) <= found
        assert found - set(acknowledged) <= {f"torn-{n}" for n in range(3)}
    assert len(acknowledged) > 10
    lines = (directory.path / "state" / "audit.jsonl").read_text().splitlines()
    assert set(acknowledged) <= {json.loads(line)["name"] for line in lines}


def test_readiness_is_notified_and_sigterm_ends_it_cleanly(directory):
    path = directory.path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        process = directory.start(NOTIFY_SOCKET=str(path))
        assert manager.recv(100) == b"READY=1"
        assert call(directory.client(), "list", kind="directories")["rows"][0]["state"] == "up"
        process.terminate()
        assert manager.recv(100) == b"STOPPING=1"
    assert process.wait(10) == 0


def test_a_second_one_on_the_same_sockets_refuses(directory):
    directory.start()
    call(directory.client(), "list", kind="directories")
    second = subprocess.run(
        command(*directory.arguments), env=environment(), capture_output=True, timeout=30, check=False
    )
    assert second.returncode == 1
    assert b"error: another directory serves ipc://" in second.stderr
    assert b"fix:   " in second.stderr
    assert call(directory.client(), "list", kind="directories")["ok"] is True


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), env=environment(), capture_output=True, text=True, timeout=30, check=False
    )


def test_keygen_makes_a_key_once_and_prints_its_public_half(tmp_path):
    path = tmp_path / "directory.key"
    first = run("keygen", str(path))
    assert first.returncode == 0
    assert len(first.stdout.strip()) == 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("keygen", str(path)).stdout == first.stdout


def test_check_says_what_is_wrong_and_exits_with_2(tmp_path):
    path = tmp_path / "directory.toml"
    path.write_text('name = "d"\nlisten = "ipc:///run/vnet"\n[store]\nkind = "memory"\nfoo = 1\n')
    result = run("check", str(path))
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == f"error: {path} line 5: store.foo: unknown key"
    assert result.stderr.splitlines()[1].startswith("fix:   ")
    path.write_text('name = "d"\nlisten = "ipc:///run/vnet"\n[store]\nkind = "memory"\n')
    assert run("check", str(path)).returncode == 0
    assert run("run").returncode == 2
    assert run("run", "--help").returncode == 0


def test_a_fleets_directory_serves_known_keys_over_tcp(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = min(free.getsockname()[1], 65_000)
    server = run("keygen", str(tmp_path / "server.key")).stdout.strip()
    gateway = run("keygen", str(tmp_path / "gw1.key")).stdout.strip()
    anna = run("keygen", str(tmp_path / "anna.key")).stdout.strip()
    config = tmp_path / "directory.toml"
    config.write_text(
        f'name = "d"\nlisten = "tcp://127.0.0.1:{port}"\nkey_file = "{tmp_path}/server.key"\n'
        f'[store]\npath = "{tmp_path}/d.db"\n'
        f'[[client]]\nname = "gw1"\npublic_key = "{gateway}"\nrole = "gateway"\n'
        f'[[client]]\nname = "anna"\npublic_key = "{anna}"\nrole = "operator"\n'
    )
    endpoint = f"tcp://127.0.0.1:{port}"
    missing = run("run", str(config))
    assert (missing.returncode, "there is no store at" in missing.stderr) == (1, True)
    assert "vnet-directory init" in missing.stderr
    assert "realm" in run("init", str(config)).stdout
    process = subprocess.Popen(command("run", str(config)), env=environment(), stderr=subprocess.DEVNULL)
    operator = DirectoryClient([endpoint], keys=client_keys(tmp_path / "anna.key", [server]))
    node = DirectoryClient([endpoint], node="gw1", keys=client_keys(tmp_path / "gw1.key", [server]))
    try:
        assert call(operator, "apply", text=DOCUMENT, name="t.toml", wait_ms=0)["document"] == "test"
        with pytest.raises(DirectoryError, match="may not change the directory"):
            call(node, "apply", text=DOCUMENT, name="t.toml")
        node.subscribe()
        assert events_until(node, lambda event: isinstance(event, Snapshot) and event.vnets)
    finally:
        operator.close()
        node.close()
        process.kill()
        process.wait()


def test_a_hang_up_has_the_file_read_again_and_a_wrong_one_changes_nothing(directory, tmp_path):
    key = tmp_path / "anna.key"
    public = subprocess.check_output(command("keygen", str(key)), env=environment(), text=True).strip()
    own = subprocess.check_output(command("keygen", f"{tmp_path}/own.key"), env=environment(), text=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = tmp_path / "directory.toml"
    client = '[[client]]\nname = "{}"\npublic_key = "{}"\nrole = "operator"\n'
    base = (
        f'name = "d1"\nlisten = "tcp://127.0.0.1:{port}"\nkey_file = "{tmp_path}/own.key"\n'
        f'local = "{directory.endpoint}"\n[store]\nkind = "memory"\n'
        f'[audit]\nfile = "{tmp_path}/audit.jsonl"\n'
    )
    without = base + client.format("bert", "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7")
    with_anna = without + client.format("anna", public)
    file.write_text(without)
    directory.arguments = ["run", str(file)]
    process = directory.start()
    here = directory.client()
    until(lambda: answers(here))
    log = tmp_path / "log"
    anna = DirectoryClient([f"tcp://127.0.0.1:{port}"], keys=client_keys(key, [own.strip()]))
    directory.clients.append(anna)

    file.write_text(with_anna)
    process.send_signal(signal.SIGHUP)
    until(lambda: "+ client.anna" in log.read_text())
    assert call(anna, "list", kind="sites")["rows"] == []

    file.write_text(with_anna.replace("[store]", '[limits]\nlate_ms = "x"\nlate = 7\n[store]'))
    process.send_signal(signal.SIGHUP)
    until(lambda: "late_ms" in log.read_text())
    assert "limits.late:" in log.read_text()
    assert call(anna, "list", kind="sites")["rows"] == []

    file.write_text(without.replace('name = "d1"', 'name = "d2"'))
    answer = call(anna, "reload")
    assert [change["key"] for change in answer["taken"]] == ["client.anna"]
    assert [change["key"] for change in answer["waiting"]] == ["name"]
    assert answer["command"] == f"kill {process.pid}   (its parent starts it again)"
    with pytest.raises(DirectoryError, match="not among the directory's clients"):
        call(anna, "list", kind="sites")
    trace = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [(row["type"], row["who"]) for row in trace] == [("reload", "anna")]
    assert process.poll() is None


def test_it_logs_as_the_gateway_s_processes_do_its_writer_and_reader_too(directory, tmp_path):
    process = directory.start()
    tool = directory.client()
    until(lambda: answers(tool))
    call(tool, "apply", text=DOCUMENT, name="test.toml", user="anna", wait_ms=0)
    pids = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    for pid in pids.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    until(lambda: "it is started again" in (tmp_path / "log").read_text())
    process.terminate()
    assert process.wait(20) == 0
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["process"] for line in lines} <= {"directory", "directory-writer", "directory-reader"}
    assert all(set(line) >= {"time", "process", "level", "message"} for line in lines)
    assert any(line["level"] == "error" for line in lines)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a file system of its own")
def test_a_start_on_a_full_disk_says_that_there_is_no_room(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "vnet-test", str(state)], check=True)
    try:
        config = tmp_path / "directory.toml"
        config.write_text(
            f'name = "full"\nlisten = "ipc://{tmp_path}/dir"\n'
            f'[store]\nkind = "sqlite"\npath = "{state}/directory.db"\n'
        )
        run = [sys.executable, "-m", "directory_service.main"]
        subprocess.run([*run, "init", str(config)], check=True, capture_output=True)
        subprocess.run(["dd", "if=/dev/zero", f"of={state}/full"], check=False, capture_output=True)
        ended = subprocess.run([*run, "run", str(config)], capture_output=True, text=True, timeout=60)
        assert ended.returncode == 1
        assert "directory.db: database or disk is full\nfix:   make room: df -h" in ended.stderr
    finally:
        subprocess.run(["umount", "-l", str(state)], check=True)
