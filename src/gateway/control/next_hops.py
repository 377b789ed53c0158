# SPDX-License-Identifier: Apache-2.0
"""Brings the kernel's view of the underlay to the data plane: tunnels in, next hops out; exception ports.

While the data plane is away the kernel is still followed. When it is back (it may have adopted next hops
that are good) what is resolved is sent at once, what is not only after a grace: neighbours could not answer
meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address

from gateway.control.exceptions import ExceptionPorts
from gateway.control.rings import ControlRings, DataPlaneUnreachable
from gateway.control.underlay_vlans import UnderlayVlans
from gateway.state.state import State
from gateway.underlay.nexthop import Pair, Resolution
from gateway.underlay.underlay import Underlay

log = logging.getLogger(__name__)

GRACE_S = 3.0  # after a connect
LOSS_S = 1.0  # a next hop may be gone for so long before the tunnel is called unresolved
REPAIR_S = 1.0
PAIRS_READ_S = 0.2  # after a tunnel came or went

Pairs = Callable[[list[tuple[str, str]] | None], None]


class NextHops:
    """The part of control that needs CAP_NET_ADMIN. One thread."""

    def __init__(self, state: State, exceptions: Callable[..., ExceptionPorts] = ExceptionPorts) -> None:
        self._state = state
        self._underlay = Underlay()
        self._exceptions = exceptions(state, self._underlay.requests)
        self._exceptions.adopt()
        self._rings: ControlRings | None = None
        self._connected_s = 0.0
        self._connect_wanted = False
        self._retry_s = 0.0
        self._repair_s = 0.0
        self._read_pairs_s: float | None = None
        self._reading = False
        self._sent: dict[Pair, bool] = {}  # whether the data plane was told of hops
        self._vlans = UnderlayVlans(state)
        self._bad_since: dict[Pair, float] = {}
        self._sleeping = False

    def descriptors(self) -> list[int]:
        """Return what to poll for reading."""
        found = [self._underlay.fileno()]
        if self._rings is not None:
            found.append(self._rings.fileno())
            self._sleeping = self._rings.prepare_sleep()
        return found

    def pending(self) -> bool:
        """Whether there is more to do at once."""
        return self._underlay.pending or (self._rings is not None and not self._sleeping)

    def addresses(self) -> set[IPv4Address | IPv6Address]:
        """Return the addresses of this machine."""
        return {interface.ip for _, interface in self._underlay.resolver.tables.addresses}

    def connect(self) -> None:
        """The data plane answers: connect to it with the next turn."""
        self.disconnect()
        self._connect_wanted = True
        self._retry_s = 0.0

    def disconnect(self) -> None:
        self._connect_wanted = False
        if self._rings is not None:
            self._rings.close()
            self._rings = None

    def close(self) -> None:
        self.disconnect()
        self._exceptions.close()
        self._underlay.close()

    def advance(self, read_pairs: Callable[[Pairs], None]) -> None:
        """Do what is due. `read_pairs` asks the data plane for its tunnels and calls back."""
        now = self._state.clock()
        try:
            if self._connect_wanted and self._rings is None and now >= self._retry_s:
                self._retry_s = now + REPAIR_S
                self._open_rings(now)
            if self._rings is not None:
                self._receive(self._rings)
                if now >= self._repair_s:
                    self._repair_s = now + REPAIR_S
                    self._underlay.set_ports(self._exceptions.repair(self._rings))
            if (
                self._read_pairs_s is not None
                and now >= self._read_pairs_s
                and not self._reading
                and self._rings
            ):
                self._read_pairs_s, self._reading = None, True
                read_pairs(self._take_pairs)
            for pair, resolution in self._underlay.advance(now):
                self._resolved(pair, resolution, now)
            self._send_late_losses(now)
            if self._rings is not None:
                resolver = self._underlay.resolver
                self._vlans.tell(resolver.ports, resolver.tables, self._rings, now)
                self._rings.flush()
        except DataPlaneUnreachable as error:
            log.warning("rings: %s", error)
            if self._rings is not None:
                self._rings.close()
                self._rings = None

    def _open_rings(self, now: float) -> None:
        self._rings = ControlRings(self._state.configuration.data_plane_socket)
        self._connected_s = now
        self._sent.clear()
        self._vlans.data_plane_is_new()
        self._bad_since.clear()
        self._underlay.set_ports(self._exceptions.connect(self._rings))
        self._repair_s = now + REPAIR_S
        self._read_pairs_s, self._reading = now, False
        self._underlay.probe_all()
        for pair, resolution in self._underlay.resolver.resolutions.items():
            self._resolved(pair, resolution, now)

    def _receive(self, rings: ControlRings) -> None:
        changed, refused = rings.receive()
        now = self._state.clock()
        for pair in changed:
            self._underlay.resolver.add(pair)
            known = self._underlay.resolver.resolutions.get(pair)
            if known is not None and known.hops:
                rings.send(pair, known)
        if changed and self._read_pairs_s is None:
            self._read_pairs_s = now + PAIRS_READ_S
        for kind, why, _ in refused:
            name = f"type_{kind}_why_{why}"
            self._state.refused_records[name] = self._state.refused_records.get(name, 0) + 1

    def _take_pairs(self, pairs: list[tuple[str, str]] | None) -> None:
        self._reading = False
        if pairs is None:
            self._read_pairs_s = self._state.clock() + REPAIR_S
            return
        wanted = {Pair(ip_address(local), ip_address(remote)) for local, remote in pairs}
        self._underlay.set_pairs(wanted)
        self._vlans.keep_only(wanted)
        for table in (self._state.resolutions, self._state.unresolved_at, self._sent, self._bad_since):
            for gone in set(table) - wanted:
                del table[gone]

    def _resolved(self, pair: Pair, resolution: Resolution, now: float) -> None:
        self._state.resolutions[pair] = resolution
        if resolution.hops:
            self._bad_since.pop(pair, None)
            self._tell(pair, resolution)
        else:
            self._bad_since.setdefault(pair, now)

    def _send_late_losses(self, now: float) -> None:
        """Call tunnels unresolved whose way has been gone for long enough."""
        if self._rings is None or now < self._connected_s + (GRACE_S if self._bad_since else 0.0):
            return
        for pair, since in list(self._bad_since.items()):
            if self._sent.get(pair) is False:
                continue
            if now - since >= LOSS_S:
                resolution = self._state.resolutions.get(pair)
                if resolution is not None and not resolution.hops:
                    self._tell(pair, resolution)

    def _tell(self, pair: Pair, resolution: Resolution) -> None:
        """Send to the data plane and say what it means for people."""
        if self._rings is None:
            return
        self._rings.send(pair, resolution)
        self._vlans.resolved(pair, resolution.hops)
        resolved, before = bool(resolution.hops), self._sent.get(pair)
        self._sent[pair] = resolved
        if resolved == before:
            return
        if resolved:
            self._state.unresolved_at.pop(pair, None)
            ways = ", ".join(f"{self._port_name(hop.port)} {hop.destination_mac}" for hop in resolution.hops)
            self._state.events.add("tunnel_resolved", f"tunnels to {pair.remote} go by {ways}")
        else:
            self._state.unresolved_at[pair] = time.time()
            self._state.events.add(
                "tunnel_unresolved", f"tunnels to {pair.remote} have no next hop: {resolution.why}"
            )

    def _port_name(self, index: int) -> str:
        return next((p.name for p in self._underlay.resolver.ports if p.index == index), f"port {index}")
