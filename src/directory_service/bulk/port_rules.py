# SPDX-License-Identifier: Apache-2.0
"""Rules that look at ports, for many connections between sides that are alike to them (rules.first_match,
rules.like_ports)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from directory_service.kinds.rule import ALL_PORTS, WITH_PORTS
from directory_service.model.rules import Match, like_ports

_WITH_PORTS = sorted(WITH_PORTS)


class Connections(NamedTuple):
    """Protocol and ports of rows, as arrays."""

    protocol: Any
    source_port: Any
    destination_port: Any

    def part(self, rows: Any) -> "Connections":
        """Return some of the rows."""
        return Connections(self.protocol[rows], self.source_port[rows], self.destination_port[rows])


def first_matches(matches: Sequence[Match], rows: Connections) -> Any:
    """Return for each row the number of the match that decides it, -1 if there is none."""
    first = np.full(len(rows.protocol), -1)
    undecided = np.ones(len(rows.protocol), bool)
    for number, match in enumerate(matches):
        hits = undecided & _matches(match, rows)
        first[hits] = number
        undecided &= ~hits
        if not undecided.any():
            break
    return first


def like_destination_ports(matches: Sequence[Match], rows: Connections) -> list[tuple[int, int] | None]:
    """Return for each row the destination ports for which the rules say the same whatever the source port;
    None if that cannot be said."""
    known: dict[tuple[int, int], tuple[int, int] | None] = {}
    found = []
    for protocol, port in zip(rows.protocol.tolist(), rows.destination_port.tolist(), strict=True):
        key = protocol, port
        if key not in known:
            known[key] = like_ports(tuple(matches), protocol, port) if protocol else None
        found.append(known[key])
    return found


def _matches(match: Match, rows: Connections) -> Any:
    rule = match.rule
    among = np.zeros(len(rows.protocol), bool)
    if match.forward:
        among |= _in_ranges(rule.ports or ALL_PORTS, rows.destination_port)
    if match.backward:
        answers = _in_ranges(rule.answer_ports, rows.destination_port)
        if not rule.protocol:
            answers |= ~np.isin(rows.protocol, _WITH_PORTS)
        elif rule.protocol not in WITH_PORTS:
            answers[:] = True
        among |= answers & _in_ranges(rule.ports or ALL_PORTS, rows.source_port)
    return among & (rows.protocol == rule.protocol) if rule.protocol else among


def _in_ranges(ranges: Sequence[tuple[int, int]], ports: Any) -> Any:
    inside = np.zeros(len(ports), bool)
    for low, high in ranges:
        inside |= (ports >= low) & (ports <= high)
    return inside
