# SPDX-License-Identifier: Apache-2.0
"""A data plane in plain Python: its socket, dumps, rings and exception queues, and the wire behind them.

Nothing runs by itself: `pump` does what is due. The wire answers ARP for the addresses in `neighbours`.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgpack

import fastpath.records as records
from fastpath.rings import RingMemory

ARP_REQUEST, ARP_REPLY = 1, 2


class FakeDataPlane:
    def __init__(self, path: Path, mac: str = "02:00:5e:00:01:00", mtu_bytes: int = 1500) -> None:
        self.path = path
        self.ports = [
            {"name": "rack", "index": 0, "role": "inside", "mac": "02:00:5e:00:02:00", "mtu_bytes": 1500},
            {"name": "uplink", "index": 1, "role": "underlay", "mac": mac, "mtu_bytes": mtu_bytes},
        ]
        self.dumps: dict[str, list[dict[str, Any]]] = {
            "tunnels": [],
            "vnets": [],
            "flows": [],
            "ports": [{**port, "up": True, "rx_packets": 0} for port in self.ports],
            "threads": [{"thread": "poll-0", "cpu": 1, "packets": 0}],
        }
        self.counters: dict[str, Any] = {
            "counters": {"received": 0, "flows": 0, "flows_max": 1000, "uptime_s": 1},
            "drops": [],
            "delay": {"sum_ns": 0, "buckets": []},
            "adoption": {},
        }
        self.neighbours: dict[str, str] = {}  # address -> MAC that answers on the wire
        self.queues: dict[str, int] = {}
        self.next_hops: dict[tuple[str, str], dict[str, Any]] = {}
        self.underlay_vlans: dict[str, list[int]] = {}
        self.silent = False
        self._memory: Any = None
        self._connections: list[socket.socket] = []
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(8)

    def add_tunnel(self, number: int, remote: str, *, local: str = "192.0.2.1", tell: bool = True) -> None:
        row = {
            "tunnel": number,
            "node_id": number,
            "profile_id": 1,
            "local_locator": local,
            "remote_locator": remote,
            "protocol": "vxlan",
            "mtu_bytes": 1500,
            "state": "unresolved",
            "next_hops": [],
            "references": 1,
        }
        self.dumps["tunnels"].append(row)
        if tell:
            made = records.make(
                records.RecordType.TUNNEL_CHANGED,
                object_id=number,
                local=ip_address(local).packed.rjust(16, b"\0"),
                remote=ip_address(remote).packed.rjust(16, b"\0"),
            )
            self._out.write(made)
            os.eventfd_write(self._wake, 1)

    def pump(self) -> None:
        if self.silent:
            return
        try:
            accepted, _ = self._listener.accept()
            accepted.setblocking(False)
            self._connections.append(accepted)
        except BlockingIOError:
            pass
        for connection in list(self._connections):
            try:
                self._serve(connection)
            except (BrokenPipeError, ConnectionResetError):  # it gave up waiting
                self._connections.remove(connection)
                connection.close()
        for queue in self.queues.values():
            self._answer_arp(queue)
        if self._memory is not None:
            self._take_next_hops()

    def close(self) -> None:
        """End as a killed process does: all descriptors are gone at once."""
        for descriptor in self.queues.values():
            os.close(descriptor)
        self.queues.clear()
        for connection in self._connections:
            connection.close()
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        try:
            raw, descriptors, _, _ = socket.recv_fds(connection, 65_536, 4)
        except BlockingIOError:
            return
        if not raw:
            self._connections.remove(connection)
            connection.close()
            return
        question = msgpack.unpackb(raw)
        if "hello" in question:
            self._greet(connection, question["hello"])
        elif "exception" in question:
            before = self.queues.pop(question["exception"], None)
            if before is not None:
                os.close(before)
            self.queues[question["exception"]] = descriptors[0]
            connection.send(msgpack.packb({"ok": True}))
        elif "underlay_vlans" in question:
            self.underlay_vlans[question["underlay_vlans"]] = question["vlans"]
            connection.send(msgpack.packb({"ok": True}))
        elif question.get("dump") == "counters":
            connection.send(msgpack.packb(self.counters))
        else:
            rows = self.dumps[question["dump"]]
            cursor = question.get("cursor") or 0
            page, end = rows[cursor : cursor + 100], cursor + 100
            connection.send(msgpack.packb({"rows": page, "cursor": end if end < len(rows) else None}))

    def _greet(self, connection: socket.socket, hello: str) -> None:
        answer = {
            "v": 1,
            "ok": True,
            "node": "gw1",
            "threads": 1,
            "ports": self.ports,
            "incarnation": 1,
            "adopted": False,
        }
        if hello == "observer":
            connection.send(msgpack.packb({**answer, "miss_rings": 0, "total_bytes": 0}))
            return
        self._memory = RingMemory.create(2)
        self._out, self._in = self._memory.end(1, True), self._memory.end(2, False)
        self._wake, kick = os.eventfd(0), os.eventfd(0)
        size = os.fstat(self._memory.fd).st_size
        message = msgpack.packb({**answer, "miss_rings": 2, "total_bytes": size})
        socket.send_fds(connection, [message], [self._memory.fd, self._wake, kick])

    def _take_next_hops(self) -> None:
        for row in records.select(self._in.read(256), records.RecordType.NEXTHOP_SET):
            pair = (address_text(row["local"]), address_text(row["remote"]))
            hops = [
                (
                    int(hop["port"]),
                    mac_text(hop["destination_mac"]),
                    mac_text(hop["source_mac"]),
                    int(hop["vlan"]),
                )
                for hop in row["hop"][: int(row["count"])]
            ]
            self.next_hops[pair] = {"hops": hops, "mtu_bytes": int(row["mtu_bytes"])}

    def _answer_arp(self, queue: int) -> None:
        for _ in range(64):
            try:
                frame = os.read(queue, 4096)
            except (BlockingIOError, OSError):
                return
            if frame[12:14] != b"\x08\x06" or struct.unpack("!H", frame[20:22])[0] != ARP_REQUEST:
                continue
            asker_mac, asker, target = frame[22:28], frame[28:32], frame[38:42]
            mac = self.neighbours.get(str(ip_address(target)))
            if mac is None:
                continue
            own = bytes.fromhex(mac.replace(":", ""))
            head = asker_mac + own + b"\x08\x06" + struct.pack("!HHBBH", 1, 0x0800, 6, 4, ARP_REPLY)
            os.write(queue, head + own + target + asker_mac + asker)


def address_text(raw: Any) -> str:
    return str(ip_address(bytes(bytearray(raw))[12:]))


def mac_text(raw: Any) -> str:
    return ":".join(f"{int(byte):02x}" for byte in raw)
