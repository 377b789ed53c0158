# SPDX-License-Identifier: Apache-2.0
"""The interface on which Linux sees what is addressed to this gateway: a TAP per underlay port.

The TAP has several queues. One is the data plane's, handed over as a descriptor; one is control's own, open
but detached, so that the kernel gives it no frames and yet keeps link, addresses and routes while there is
no data plane. The TAP is also persistent: it survives control's restart, even when both are gone (then
without carrier). A TAP of that name which is there already is adopted as it stands.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
from ipaddress import IPv4Interface, IPv6Interface

from gateway.underlay.netlink import NetlinkError, Requests
from gateway.underlay.nexthop import Address, Link

log = logging.getLogger(__name__)

TUNSETIFF, TUNSETPERSIST, TUNSETQUEUE = 0x400454CA, 0x400454CB, 0x400454D9
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_DETACH_QUEUE = 0x0002, 0x0100, 0x1000, 0x0400
IFNAMSIZ = 16


class ExceptionPortError(Exception):
    """The interface cannot be had; `fix` says what to do."""

    def __init__(self, sentence: str, fix: str) -> None:
        super().__init__(sentence)
        self.fix = fix


class ExceptionPort:
    """One TAP. Needs CAP_NET_ADMIN. Control's thread only."""

    def __init__(self, port: str, interface: str) -> None:
        self.port = port
        self.interface = interface
        self._keeper: int | None = None

    def open(self, requests: Requests) -> str:
        """Make the TAP or adopt it, and keep a detached queue. Returns "made", "adopted", or "kept" where we
        had it already. Raises ExceptionPortError."""
        is_there = requests.link(self.interface) is not None
        if self._keeper is not None and is_there:
            return "kept"
        self.close()
        keeper = self._open_queue()
        try:
            fcntl.ioctl(keeper, TUNSETPERSIST, 1)
            fcntl.ioctl(keeper, TUNSETQUEUE, struct.pack("16sH22x", b"", IFF_DETACH_QUEUE))
        except OSError:
            os.close(keeper)
            raise
        self._keeper = keeper
        return "adopted" if is_there else "made"

    def configure(
        self,
        requests: Requests,
        mac: str,
        mtu_bytes: int,
        addresses: tuple[IPv4Interface | IPv6Interface, ...],
    ) -> None:
        """Give it the port's MAC and MTU, set it up, and put the configured addresses on it. Addresses that
        an earlier configuration put there are taken away; what others put there stays."""
        link = self.link(requests)
        requests.set_link(
            link.index,
            mac=mac if link.mac != mac else None,
            mtu_bytes=mtu_bytes if link.mtu_bytes != mtu_bytes else None,
        )
        present = self._put_on(requests, link, addresses)
        for stale in (a for a in present if a.ours and a.interface not in addresses):
            try:
                requests.remove_address(link.index, stale.interface)
            except NetlinkError as error:  # removing a primary address may take its secondaries along
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
            log.info("%s: took %s away: no longer configured", self.interface, stale.interface)
            self._put_on(requests, link, addresses)  # those of its prefix may have gone with it

    def keep(
        self,
        requests: Requests,
        mac: str,
        mtu_bytes: int,
        addresses: tuple[IPv4Interface | IPv6Interface, ...],
    ) -> None:
        """Put back the MAC, MTU and addresses that somebody else has changed. Whether it is up is left to
        who has set it down."""
        link = self.link(requests)
        if link.mac != mac or link.mtu_bytes != mtu_bytes:
            log.warning(
                "%s: somebody set MAC %s, MTU %d: put back %s, %d",
                *(self.interface, link.mac, link.mtu_bytes, mac, mtu_bytes),
            )
            requests.set_link(
                link.index,
                mac=mac if link.mac != mac else None,
                mtu_bytes=mtu_bytes if link.mtu_bytes != mtu_bytes else None,
                up=None,
            )
        self._put_on(requests, link, addresses)

    def link(self, requests: Requests) -> Link:
        link = requests.link(self.interface)
        if link is None:
            raise ExceptionPortError(
                f"interface {self.interface} of port {self.port} was deleted",
                "it is made again within a second",
            )
        return link

    def _put_on(
        self, requests: Requests, link: Link, addresses: tuple[IPv4Interface | IPv6Interface, ...]
    ) -> list[Address]:
        """Put those on that are missing. Returns those that were there before."""
        present = [a for a in requests.addresses() if a.index == link.index]
        there = {a.interface for a in present}
        for address in addresses:
            if address not in there:
                requests.add_address(link.index, address)
                log.info("%s: put %s on", self.interface, address)
        return present

    def queue(self) -> int:
        """Return the descriptor of a new attached queue, for the data plane; the caller closes it."""
        return self._open_queue()

    def close(self) -> None:
        """Let go of it; the interface stays."""
        if self._keeper is not None:
            os.close(self._keeper)
            self._keeper = None

    def _open_queue(self) -> int:
        if len(self.interface.encode()) >= IFNAMSIZ:
            raise ExceptionPortError(
                f"interface name {self.interface} of port {self.port} is longer than 15 bytes",
                f'port.{self.port}: exception = "a shorter name"',
            )
        try:
            descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ExceptionPortError(f"/dev/net/tun: {error.strerror}", "modprobe tun") from error
        flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE
        try:
            fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", self.interface.encode(), flags))
        except OSError as error:
            os.close(descriptor)
            raise self._refusal(error) from error
        return descriptor

    def _refusal(self, error: OSError) -> ExceptionPortError:
        if error.errno == errno.EPERM:
            return ExceptionPortError(
                f"interface {self.interface}: not permitted", "run control as root or with CAP_NET_ADMIN"
            )
        if error.errno in (errno.EINVAL, errno.EEXIST):
            return ExceptionPortError(
                f"there is an interface {self.interface} that is no multi-queue TAP",
                f'port.{self.port}: exception = "another name", or ip link delete {self.interface}',
            )
        if error.errno == errno.EBUSY:
            return ExceptionPortError(
                f"interface {self.interface} is used by another program",
                f'port.{self.port}: exception = "another name"',
            )
        return ExceptionPortError(f"interface {self.interface}: {error.strerror}", "journalctl -k")
