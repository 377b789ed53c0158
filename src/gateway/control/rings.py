# SPDX-License-Identifier: Apache-2.0
"""Control's ring connection: tunnels that came or went in, next hops out, exception queues handed over.

Made when the data plane is found, thrown away when it is lost. Next hops that find no room wait here, the
newest of each pair only.
"""

from __future__ import annotations

import logging
import os
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import numpy as np

import fastpath.records as records
from fastpath.rings import DataPlaneUnreachable, RingClient
from gateway.underlay.nexthop import Pair, Resolution

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 1.0
BATCH = 512
__all__ = ["ControlRings", "DataPlaneUnreachable", "record_of"]


class ControlRings:
    """One connection. Raises DataPlaneUnreachable when it broke: close it then."""

    def __init__(self, path: Path) -> None:
        self._client = RingClient(path, hello="control", timeout_s=CONNECT_TIMEOUT_S)
        self._unsent: dict[Pair, Resolution] = {}

    @property
    def ports(self) -> list[dict[str, Any]]:
        return list(self._client.ports)

    def fileno(self) -> int:
        return int(self._client.fileno())

    def connection_fileno(self) -> int:
        return int(self._client.connection_fileno())

    def prepare_sleep(self) -> bool:
        """Ask for a doorbell; False: something came meanwhile, `receive` first."""
        return bool(self._client.prepare_sleep())

    def receive(self) -> tuple[list[Pair], list[tuple[int, int, int]]]:
        """Return the pairs of tunnels that came or went, and (type, why, object) of records refused."""
        self._client.woke()
        rows = self._client.drain(BATCH)
        changed = records.select(rows, records.RecordType.TUNNEL_CHANGED)
        refused = records.select(rows, records.RecordType.REFUSED)
        pairs = [Pair(address_of(row["local"]), address_of(row["remote"])) for row in changed]
        return pairs, [(int(r["refused_type"]), int(r["why"]), int(r["object"])) for r in refused]

    def send(self, pair: Pair, resolution: Resolution) -> None:
        """Queue the next hops of a pair; `flush` sends them."""
        self._unsent.pop(pair, None)
        self._unsent[pair] = resolution

    def flush(self) -> None:
        """Send what is queued, as far as there is room."""
        while self._unsent:
            batch = list(self._unsent.items())[:256]
            done = int(self._client.send(records.join([record_of(pair, found) for pair, found in batch])))
            for pair, _ in batch[:done]:
                del self._unsent[pair]
            if done < len(batch):
                return

    def hand_over(self, port: str, queue: int) -> str:
        """Give the data plane the exception queue of a port and close our copy; return why not, or ""."""
        try:
            answer = self._client.ask({"exception": port, "index": 0}, [queue])
        finally:
            os.close(queue)
        return "" if answer.get("ok") else str(answer.get("error", "no reason given"))

    def tell_vlans(self, port: str, vlans: tuple[int, ...]) -> str:
        """Say in which VLANs of a port the underlay is; return why the data plane did not take it, or ""."""
        answer = self._client.ask({"underlay_vlans": port, "vlans": list(vlans)})
        return "" if answer.get("ok") else str(answer.get("error", "no reason given"))

    def close(self) -> None:
        self._client.close()


def record_of(pair: Pair, resolution: Resolution) -> Any:
    """Return the NEXTHOP_SET record of a resolution; no hops: unresolved."""
    rows = records.make(
        records.RecordType.NEXTHOP_SET,
        local=address_bytes(pair.local),
        remote=address_bytes(pair.remote),
        count=len(resolution.hops),
        mtu_bytes=min(resolution.mtu_bytes, 0xFFFF),
    )
    for number, hop in enumerate(resolution.hops):
        cell = rows["hop"][0][number]
        cell["destination_mac"] = mac_array(hop.destination_mac)
        cell["source_mac"] = mac_array(hop.source_mac)
        cell["port"] = hop.port
        cell["vlan"] = hop.vlan
    return rows


def address_bytes(address: IPv4Address | IPv6Address) -> bytes:
    """Return the 16 bytes of an address; IPv4 stands in the last four."""
    return address.packed.rjust(16, b"\0")


def address_of(raw: Any) -> IPv4Address | IPv6Address:
    data = bytes(bytearray(raw))
    return ip_address(data[12:] if data[:12] == bytes(12) else data)


def mac_array(mac: str) -> Any:
    return np.frombuffer(bytes.fromhex(mac.replace(":", "")), np.uint8)
