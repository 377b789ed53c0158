# SPDX-License-Identifier: Apache-2.0
"""All exception ports of this gateway: made or adopted, configured, their queues handed to the data plane."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Interface, IPv6Interface

from gateway.control.rings import ControlRings
from gateway.state.state import State
from gateway.underlay.exception_port import ExceptionPort, ExceptionPortError
from gateway.underlay.netlink import NetlinkError, Requests
from gateway.underlay.nexthop import UnderlayPort

log = logging.getLogger(__name__)


class ExceptionPorts:
    """One TAP per underlay port. Problems stand in `state.exception_problems`; they stop nothing else."""

    def __init__(self, state: State, requests: Requests) -> None:
        self._state = state
        self._requests = requests
        self._ports = {
            port.name: ExceptionPort(port.name, port.exception or port.name)
            for port in state.configuration.ports.values()
            if port.is_underlay
        }
        self._handed: set[str] = set()

    @property
    def interfaces(self) -> list[str]:
        return [port.interface for port in self._ports.values()]

    def adopt(self) -> None:
        """Take hold of TAPs that are there already: before there is a data plane to say which MAC they
        have."""
        for port in self._ports.values():
            if self._requests.link(port.interface) is not None:
                self._attempt(port, partial(port.open, self._requests))

    def connect(self, rings: ControlRings) -> list[UnderlayPort]:
        """Give every underlay port of the data plane its TAP; return those that have one."""
        self._handed.clear()
        return self.repair(rings)

    def repair(self, rings: ControlRings) -> list[UnderlayPort]:
        """Do what is missing: TAPs and addresses that were deleted meanwhile, ports that failed before."""
        found = []
        for row in rings.ports:
            port = self._ports.get(str(row.get("name")))
            if port is None:
                continue
            there = self._requests.link(port.interface) is not None
            if port.port not in self._handed or not there:
                self._handed.discard(port.port)
                if self._attempt(port, partial(self._set_up, port, row, rings)):
                    self._handed.add(port.port)
            else:
                self._attempt(port, partial(port.keep, self._requests, *self._wanted(port, row)))
            if port.port in self._handed:
                found.append(UnderlayPort(int(row["index"]), port.port, port.interface))
        return found

    def close(self) -> None:
        for port in self._ports.values():
            port.close()

    def _set_up(self, port: ExceptionPort, row: dict[str, object], rings: ControlRings) -> None:
        how = port.open(self._requests)
        port.configure(self._requests, *self._wanted(port, row))
        refused = rings.hand_over(port.port, port.queue())
        if refused:
            raise ExceptionPortError(
                f"the data plane did not take the exception queue: {refused}", "vnetctl show ports"
            )
        self._state.events.add("exception_up", f"port {port.port}: interface {port.interface} {how}")

    def _wanted(
        self, port: ExceptionPort, row: dict[str, object]
    ) -> tuple[str, int, tuple[IPv4Interface | IPv6Interface, ...]]:
        """MAC, MTU in bytes and addresses that the port's interface shall have."""
        configured = self._state.configuration.ports[port.port]
        return str(row["mac"]), int(str(row.get("mtu_bytes") or configured.mtu_bytes)), configured.addresses

    def _attempt(self, port: ExceptionPort, action: Callable[[], object]) -> bool:
        try:
            action()
        except ExceptionPortError as error:
            problem = (str(error), error.fix)
        except NetlinkError as error:
            problem = (f"interface {port.interface}: {error.strerror}", f"ip -d link show {port.interface}")
        else:
            self._state.exception_problems.pop(port.port, None)
            return True
        if self._state.exception_problems.get(port.port) != problem:
            log.warning("port=%s %s; %s", port.port, *problem)
        self._state.exception_problems[port.port] = problem
        return False
