# SPDX-License-Identifier: Apache-2.0
"""Serves `dataplane.sock` (docs/protocol.md, section 1): greets clients, hands out rings, answers questions.

One thread, one selector. What a client sends is hostile: whatever cannot be understood gets an error as its
answer; a client that does not read its answers is dropped; nobody else notices.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from fastpath.dataplane import CONTROL, DataPlane, DataPlaneError, HoldSettings
from fastpath.dump import Dump
from fastpath.rings import RingMemory

log = logging.getLogger(__name__)

Answer = dict[str, Any]

PROTOCOL_VERSION = 1
CONNECTIONS_MAX = 64
QUESTION_BYTES_MAX = 65536
ANSWER_BYTES_MAX = 160_000  # fits into a socket's default buffer
DESCRIPTORS_MAX = 4
ROWS_DEFAULT, ROWS_MAX = 512, 4096
MISS_SLOTS, INSTALL_SLOTS = 16_384, 16_384  # of 128 bytes; pages are taken when they are first used
TUNGETIFF = 0x800454D2
INTERFACE_REQUEST_BYTES = 40
SOCKET_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid


class Refusal(Exception):
    """What a question is refused with: a sentence, and what to do about it."""

    def __init__(self, error: str, fix: str = "") -> None:
        super().__init__(error)
        self.fix = fix


@dataclass
class Client:
    """One connection. `memory` and `doorbells` (the client's two, our end): of one that has been greeted."""

    socket: socket.socket
    pid: int
    connected_s: float
    role: str = ""
    name: str = ""
    id: int = -1
    memory: RingMemory | None = None
    doorbells: tuple[int, ...] = field(default=())


class DataPlaneServer:
    """Serves a running data plane. `facts` are added to the answer to {"dump": "counters"}."""

    def __init__(self, path: Path, plane: DataPlane, node: str, facts: Callable[[], Answer]) -> None:
        self._path = path
        self._plane = plane
        self._node = node
        self._facts = facts
        self._started_s = time.monotonic()
        self._clients: dict[int, Client] = {}
        self._names = [port.name for port in plane.settings.ports]
        self._dump = Dump(plane.arena_address(), plane.settings.dump_reader, self._names)
        self._selector = selectors.DefaultSelector()
        self._listener = _listen(path)
        self._selector.register(self._listener, selectors.EVENT_READ)

    def watch(self, fd: int) -> None:
        """Wake `serve` when `fd` is readable; the caller reads it."""
        self._selector.register(fd, selectors.EVENT_READ)

    def serve(self, timeout_s: float | None) -> None:
        """Serve what has come; wait for it up to `timeout_s` seconds."""
        for key, _ in self._selector.select(timeout_s):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.data, Client):
                self._receive(key.data)

    def close(self) -> None:
        """Hang up on everybody."""
        for client in list(self._clients.values()):
            self._drop(client, "the data plane stops")
        self._selector.unregister(self._listener)
        self._listener.close()
        self._selector.close()
        self._dump.close()
        with contextlib.suppress(OSError):
            self._path.unlink()

    # -- connections

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            log.warning("a client could not be accepted: %s", error)
            return
        connection.setblocking(False)
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, SOCKET_CREDENTIALS.size)
        pid, uid, _ = SOCKET_CREDENTIALS.unpack(raw)
        client = Client(connection, pid, time.monotonic())
        if uid not in (0, os.geteuid()):
            self._refuse(
                client,
                f"user {uid} may not talk to the data plane",
                "run as the data plane's user, or as root",
            )
            return
        if len(self._clients) >= CONNECTIONS_MAX:
            self._refuse(client, f"{CONNECTIONS_MAX} clients are connected already", "vnetctl show clients")
            return
        self._clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _refuse(self, client: Client, error: str, fix: str) -> None:
        with contextlib.suppress(OSError):
            client.socket.send(msgpack.packb(_error(error, fix)))
        client.socket.close()
        log.warning("pid=%s is refused: %s", client.pid, error)

    def _receive(self, client: Client) -> None:
        try:
            raw, descriptors, flags, _ = socket.recv_fds(client.socket, QUESTION_BYTES_MAX, DESCRIPTORS_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            self._drop(client, str(error))
            return
        try:
            if not raw and not descriptors:
                self._drop(client, "it hung up")
                return
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._send(client, _error("the message is too long", f"at most {QUESTION_BYTES_MAX} bytes"))
                return
            self._answer(client, raw, descriptors)
        finally:
            for fd in descriptors:  # those that were taken over are no longer in the list
                os.close(fd)

    def _answer(self, client: Client, raw: bytes, descriptors: list[int]) -> None:
        try:
            question = _parse(raw)
            if "hello" in question:
                self._greet(client, question)
                return
            if not client.role:
                raise Refusal("the first message is a greeting", 'say {"v": 1, "hello": "observer"} first')
            answer = self._question(client, question, descriptors)
        except Refusal as refusal:
            answer = _error(str(refusal), refusal.fix)
        except DataPlaneError as error:
            answer = _error(str(error), error.fix)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            log.warning("client=%s question refused: %s", client.name or client.pid, error)
            answer = _error(
                f"the question has a value that is out of its range: {error}", "see docs/protocol.md"
            )
        self._send(client, answer)

    def _send(self, client: Client, answer: Answer, descriptors: tuple[int, ...] = ()) -> None:
        message = msgpack.packb(answer)
        try:
            if descriptors:
                socket.send_fds(client.socket, [message], descriptors)
            else:
                client.socket.send(message)
        except BlockingIOError:
            self._drop(client, "it does not read its answers")
        except OSError as error:
            self._drop(client, str(error))

    def _drop(self, client: Client, why: str) -> None:
        if self._clients.pop(client.socket.fileno(), None) is None:
            return
        self._selector.unregister(client.socket)
        client.socket.close()
        self._detach(client)
        log.log(
            logging.INFO if client.role in ("slow-path", "control") else logging.DEBUG,
            "client=%s pid=%s is gone: %s",
            client.name or "?",
            client.pid,
            why,
        )

    def _detach(self, client: Client) -> None:
        if client.id >= 0:
            self._plane.remove_client(client.id)
        client.id = -1
        for fd in client.doorbells:
            os.close(fd)
        client.doorbells = ()
        if client.memory is not None:
            client.memory.close()
        client.memory = None

    # -- greeting

    def _greet(self, client: Client, question: Answer) -> None:
        if client.role:
            raise Refusal("a client greets once", "connect anew")
        role = question["hello"]
        if role == "observer":
            client.role = client.name = role
            self._send(client, self._greeting())
            return
        worker = self._worker_of(role, question)
        self._replace(worker)
        self._attach(client, worker)
        client.role = role
        client.name = "control" if worker == CONTROL else f"slow-path-{worker}"
        assert client.memory is not None
        answer = {**self._greeting(), "total_bytes": client.memory.len_bytes}
        self._send(client, answer, (client.memory.fd, *client.doorbells[:2]))
        log.info("client=%s pid=%s connected", client.name, client.pid)

    def _worker_of(self, role: Any, question: Answer) -> int:
        if role == "control":
            return int(CONTROL)
        if role != "slow-path":
            raise Refusal(f"{str(role)[:40]!r} is no kind of client", "slow-path, control or observer")
        worker, workers = question.get("worker"), question.get("workers")
        configured = self._plane.settings.workers
        if workers != configured:
            raise Refusal(
                f"the client counts {str(workers)[:20]} slow-path workers and the data plane {configured}",
                "start both with the same threads.slow_path_workers",
            )
        if not isinstance(worker, int) or isinstance(worker, bool) or not 0 <= worker < configured:
            raise Refusal(f"worker {str(worker)[:20]} is none of 0 to {configured - 1}", "")
        return worker

    def _replace(self, worker: int) -> None:
        """The newest client of a worker is the one that lives."""
        held = self._plane.clients()
        for other in list(self._clients.values()):
            if other.id >= 0 and other.id in held and held[other.id]["worker"] == worker:
                self._drop(other, "another one took its place")

    def _attach(self, client: Client, worker: int) -> None:
        client.memory = RingMemory.create(self._plane.settings.threads + 1, MISS_SLOTS, INSTALL_SLOTS)
        # A client can change the flags of what it shares with us, and fill it. So it is rung by a pipe, whose
        # writing end is ours alone and never blocks; its own bell is an eventfd, which we only wait for.
        wake, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        kick = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        client.doorbells = (wake, kick, ring)
        try:
            client.id = self._plane.add_client(worker, client.memory, ring, kick)
        except OSError:
            self._detach(client)
            raise

    def _greeting(self) -> Answer:
        keys = ("name", "index", "role", "mac", "mtu_bytes")
        return {
            "v": PROTOCOL_VERSION,
            "ok": True,
            "node": self._node,
            "threads": self._plane.settings.threads,
            "miss_rings": self._plane.settings.threads + 1,
            "ports": [{key: row[key] for key in keys} for row in self._plane.ports()],
            "incarnation": self._plane.incarnation(),
            "adopted": self._plane.adoption()["adopted"],
        }

    # -- questions

    def _question(self, client: Client, question: Answer, descriptors: list[int]) -> Answer:
        if "dump" in question:
            return self._dump_answer(question)
        if "exception" in question:
            return self._take_exception(client, question, descriptors)
        if "underlay_vlans" in question:
            return self._take_vlans(client, question)
        if "set" in question:
            return self._set(client, question)
        raise Refusal(
            "the question is none that the data plane knows",
            "dump, exception, underlay_vlans or set; see docs/protocol.md",
        )

    def _dump_answer(self, question: Answer) -> Answer:
        noun = question["dump"]
        if noun == "counters":
            return self._counters()
        cursor, vni = question.get("cursor") or 0, question.get("vni")
        limit = question.get("limit")
        limit = ROWS_DEFAULT if limit is None else max(1, min(limit, ROWS_MAX))
        while True:
            answer = self._rows(noun, cursor, limit, vni)
            # A message has to fit into the socket: half as many rows until it does.
            if limit == 1 or len(msgpack.packb(answer)) <= ANSWER_BYTES_MAX:
                return answer
            limit = limit // 2

    def _rows(self, noun: Any, cursor: int, limit: int, vni: int | None) -> Answer:
        if noun in ("flows", "locations", "ingresses"):
            rows, after = getattr(self._dump, noun)(cursor, limit, vni)
        elif noun == "tunnels":
            rows, after = self._dump.tunnels(cursor, limit)
            self._add_pair_counters(rows, "tunnel", tunnels=True)
        elif noun == "vnets":
            rows, after = self._dump.vnets(cursor, limit)
            self._add_pair_counters(rows, "index", tunnels=False)
        elif noun in ("ports", "threads", "clients"):
            whole = {
                "ports": self._plane.ports,
                "threads": self._plane.threads,
                "clients": self._client_rows,
            }[noun]()
            rows, after = whole[cursor : cursor + limit], cursor + limit
            after = after if after < len(whole) else None
        else:
            raise Refusal(
                f"there is no table {str(noun)[:40]!r}",
                "flows, locations, tunnels, vnets, ingresses, ports, threads, clients or counters",
            )
        return {"v": PROTOCOL_VERSION, "ok": True, "rows": rows, "cursor": after}

    def _add_pair_counters(self, rows: list[Answer], key: str, tunnels: bool) -> None:
        counted = self._plane.pair_counters([row[key] for row in rows], tunnels)
        for row in rows:
            names = ("tx_packets", "tx_bytes", "rx_packets", "rx_bytes")
            row.update(zip(names, counted[row[key]], strict=True))

    def _client_rows(self) -> list[Answer]:
        now_s = time.monotonic()
        held = self._plane.clients()
        rows = []
        for client in self._clients.values():
            counted = held.get(client.id, {})
            rows.append(
                {
                    "client": client.name or "unknown",
                    "pid": client.pid,
                    **{
                        key: counted.get(key, 0)
                        for key in ("records_in", "records_out", "overflows", "refused")
                    },
                    "broken": counted.get("broken", False),
                    "connected_s": round(now_s - client.connected_s, 3),
                }
            )
        return sorted(rows, key=lambda row: (row["client"], row["pid"]))

    def _counters(self) -> Answer:
        counters, drops, delay = self._plane.counters()
        counters["uptime_s"] = round(time.monotonic() - self._started_s, 3)
        return {
            "v": PROTOCOL_VERSION,
            "ok": True,
            "counters": counters,
            "drops": [{"reason": r, "vni": vni, "packets": n} for r, vni, n in drops],
            "delay": delay,
            "adoption": self._plane.adoption(),
            "housekeeping": self._plane.housekeeping(),
            **self._facts(),
        }

    def _take_exception(self, client: Client, question: Answer, descriptors: list[int]) -> Answer:
        if client.role != "control":
            raise Refusal("only control hands exception queues over", 'greet as "control"')
        if len(descriptors) != 1:
            raise Refusal(f"{len(descriptors)} descriptors came with the message, not 1", "")
        port = question["exception"]
        if port not in self._names:
            raise Refusal(f"there is no port {str(port)[:40]!r}", f"one of {', '.join(self._names)}")
        try:
            fcntl.ioctl(descriptors[0], TUNGETIFF, bytes(INTERFACE_REQUEST_BYTES))
        except OSError:
            raise Refusal("the descriptor is no queue of a TAP", "open /dev/net/tun and TUNSETIFF") from None
        self._plane.set_exception(port, descriptors[0])
        descriptors.clear()  # the data plane's now
        return {"v": PROTOCOL_VERSION, "ok": True}

    def _take_vlans(self, client: Client, question: Answer) -> Answer:
        if client.role != "control":
            raise Refusal("only control says which VLANs are the underlay's", 'greet as "control"')
        port, vlans = question["underlay_vlans"], question.get("vlans")
        if port not in self._names:
            raise Refusal(f"there is no port {str(port)[:40]!r}", f"one of {', '.join(self._names)}")
        if not isinstance(vlans, list) or not all(type(one) is int for one in vlans):
            raise Refusal("vlans is no list of numbers", "0 stands for untagged")
        self._plane.set_underlay_vlans(port, vlans)
        return {"v": PROTOCOL_VERSION, "ok": True}

    def _set(self, client: Client, question: Answer) -> Answer:
        if client.role != "control":
            raise Refusal("only control changes what the data plane does", 'greet as "control"')
        values = {key: value for key, value in question.items() if key not in ("v", "id", "set")}
        what = question["set"]
        if what == "idle":
            mode = values.pop("idle", values.pop("mode", "sleep"))
            self._plane.set_idle(mode, values.pop("max_sleep_us", 900))
            known: set[str] = set()
        elif what == "hold":
            known = set(HoldSettings.__dataclass_fields__)
            wrong = [k for k, v in values.items() if not isinstance(v, int) or isinstance(v, bool) or v < 0]
            if wrong:
                raise Refusal(f"{wrong[0][:40]} is no number", "")
            self._plane.set_hold(HoldSettings(**{k: v for k, v in values.items() if k in known}))
        else:
            raise Refusal(f"{str(what)[:40]!r} cannot be set while the data plane runs", "idle or hold")
        unknown = set(values) - known
        if unknown:
            raise Refusal(f"{min(unknown)[:40]} is unknown", "")
        log.info("set %s: %s", what, values)
        return {"v": PROTOCOL_VERSION, "ok": True}


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of a data plane that is no more: we hold the lock
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(CONNECTIONS_MAX)
    return listener


def _parse(raw: bytes) -> Answer:
    try:
        question = msgpack.unpackb(raw, strict_map_key=False)
    except (ValueError, RecursionError, msgpack.UnpackException):
        raise Refusal("the message is no msgpack", "see docs/protocol.md") from None
    if not isinstance(question, dict) or not all(isinstance(key, str) for key in question):
        raise Refusal("the message is no map with text as its keys", "see docs/protocol.md")
    if question.get("v") != PROTOCOL_VERSION:
        raise Refusal(
            f"version {str(question.get('v'))[:20]} is not spoken here", f"version {PROTOCOL_VERSION}"
        )
    return question


def _error(error: str, fix: str) -> Answer:
    return {"v": PROTOCOL_VERSION, "ok": False, "error": error, "fix": fix}
