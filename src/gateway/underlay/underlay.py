# SPDX-License-Identifier: Apache-2.0
"""Follows Linux's view of the underlay: reads its tables, listens to their changes, keeps the neighbours that
next hops need resolved, and hands what changed to the caller. One thread; `fileno()` is for its poller.

    underlay = Underlay()
    underlay.set_pairs(pairs)
    for pair, resolution in underlay.advance(now_s): ...      # after fileno() was readable, and once a second
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable
from ipaddress import ip_network

from gateway.underlay import netlink
from gateway.underlay.netlink import NetlinkError, Requests
from gateway.underlay.nexthop import (
    STATIC_STATES,
    IpAddress,
    Pair,
    Resolution,
    Resolver,
    Route,
    Tables,
    UnderlayPort,
)

log = logging.getLogger(__name__)

PROBE_EVERY_S = 1.0


class Underlay:
    """The kernel's routes and neighbours as next hops."""

    def __init__(self) -> None:
        self.requests = Requests()
        self._events = netlink.Events()
        self.resolver = Resolver()
        self.overruns = 0
        self._kept: set[tuple[int, IpAddress]] = set()
        self._is_complete = False  # all pairs are known
        self._has_adopted = False
        self._probed_s = 0.0
        self._read_tables()

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
        self.requests.close()

    def set_ports(self, ports: Iterable[UnderlayPort]) -> None:
        self.resolver.set_ports(ports)

    def set_pairs(self, pairs: Iterable[Pair]) -> None:
        """Follow exactly these. With the first ones it is known which neighbours are needed."""
        self.resolver.set_pairs(pairs)
        self._is_complete = True

    def advance(self, now_s: float) -> list[tuple[Pair, Resolution]]:
        """Take in what changed and return the pairs whose resolution differs from before."""
        heard = False
        try:
            for message in self._events.receive():
                self._take(message)
                heard = True
        except netlink.Overrun:
            self.overruns += 1
            log.warning("netlink events were lost; reading all tables again")
            self._read_tables()
        changed = self.resolver.run(self._look_up)
        if heard or changed or now_s - self._probed_s >= PROBE_EVERY_S:
            self._keep_neighbours(now_s)
        return changed

    @property
    def pending(self) -> bool:
        """More to do at once: more pairs were due than are resolved in one go."""
        return self.resolver.pending

    def probe_all(self) -> None:
        """Ask the kernel to confirm every neighbour that is needed: when the data plane came back."""
        for index, address in self.resolver.wanted_neighbours():
            if not self._is_static(index, address):
                self._try(self.requests.probe_neighbour, index, address)

    def _read_tables(self) -> None:
        tables = Tables()
        tables.links = {link.index: link for link in self.requests.links()}
        tables.addresses = {(a.index, a.interface) for a in self.requests.addresses()}
        tables.neighbours = {(n.index, n.address): n for n in self.requests.neighbours()}
        self.resolver.set_tables(tables)

    def _look_up(self, remote: IpAddress, local: IpAddress | None) -> Route | None:
        try:
            return self.requests.route(remote, local)
        except (NetlinkError, TimeoutError) as error:
            log.warning("route to %s: %s", remote, error)
            return None

    def _take(self, message: netlink.Message) -> None:
        kind = message["header"]["type"]
        if kind in (netlink.RTM_NEWNEIGH, netlink.RTM_DELNEIGH):
            neighbour = netlink.neighbour_of(message)
            if neighbour is not None:
                present = kind == netlink.RTM_NEWNEIGH
                self.resolver.neighbour_changed(neighbour, present)
                if not present or not neighbour.managed:
                    self._kept.discard((neighbour.index, neighbour.address))
        elif kind in (netlink.RTM_NEWROUTE, netlink.RTM_DELROUTE):
            self._take_route(message)
        elif kind == netlink.RTM_NEWLINK:
            self.resolver.link_changed(netlink.link_of(message))
        elif kind == netlink.RTM_DELLINK:
            self.resolver.link_removed(message["index"])
        elif kind in (netlink.RTM_NEWADDR, netlink.RTM_DELADDR):
            self.resolver.address_changed(netlink.address_of(message), kind == netlink.RTM_NEWADDR)
        else:  # policy rules, next-hop objects
            self.resolver.everything_changed()

    def _take_route(self, message: netlink.Message) -> None:
        bits = message["dst_len"]
        version_any = "0.0.0.0/0" if message["family"] == 2 else "::/0"
        destination = netlink.attributes(message).get("RTA_DST") if bits else None
        text = f"{destination}/{bits}" if destination else version_any
        self.resolver.route_changed(ip_network(text, strict=False))

    def _keep_neighbours(self, now_s: float) -> None:
        wanted = self.resolver.wanted_neighbours()
        if self._is_complete and not self._has_adopted and self.resolver.ports and not self.resolver.pending:
            self._has_adopted = True
            self._kept |= self.resolver.managed_neighbours()
        for index, address in self._kept - wanted:
            self._try(self.requests.forget_neighbour, index, address)
        self._kept &= wanted
        for index, address in wanted - self._kept:
            if self._is_static(index, address):
                continue
            if self._try(self.requests.keep_neighbour, index, address):
                self._kept.add((index, address))
        if now_s - self._probed_s < PROBE_EVERY_S:
            return
        self._probed_s = now_s
        for index, address in wanted:
            known = self.resolver.tables.neighbours.get((index, address))
            if (
                known is None
                or known.state in ("none", "failed")
                or (known.state == "stale" and not known.managed)
            ):
                self._try(self.requests.probe_neighbour, index, address)

    def _is_static(self, index: int, address: IpAddress) -> bool:
        """Whether this is somebody's static entry: being kept or probed would make it an ordinary one."""
        known = self.resolver.tables.neighbours.get((index, address))
        return known is not None and known.state in STATIC_STATES

    def _try(self, request: Callable[[int, IpAddress], None], index: int, address: IpAddress) -> bool:
        """Run a neighbour request; an interface that went meanwhile is no error."""
        try:
            request(index, address)
        except (NetlinkError, TimeoutError) as error:
            if getattr(error, "errno", None) not in (errno.ENODEV, errno.ENETDOWN, errno.ENXIO, errno.ENOENT):
                log.warning("neighbour %s: %s", address, error)
            return False
        return True
