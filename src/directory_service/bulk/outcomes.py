# SPDX-License-Identifier: Apache-2.0
"""How rows end whose two sides are known: decide's comparisons, for all rows together."""

from typing import Any, NamedTuple

import numpy as np

from directory_client.vocabulary.numbers import Action
from directory_client.vocabulary.reasons import reason_number
from directory_client.vocabulary.scopes import PORT_MAX
from directory_client.wire.rows import SCOPE, Rows
from directory_service.bulk.port_rules import Connections
from directory_service.bulk.scene import MEMBER, NOBODY
from directory_service.bulk.sides import Sides
from directory_service.bulk.verdicts import ALLOW, PORTS, Verdicts

ASK, DELIVER, ENCAPSULATE, NARROW, REFUSED = range(5)
UNKNOWN_SOURCE, SPOOFED, UNKNOWN_DESTINATION, SAME_SEGMENT = range(5, 9)
ACTIONS = np.array([0, Action.DELIVER, Action.ENCAPSULATE, Action.NARROW, *[Action.DROP] * 5], np.uint8)
_NAMES = ("unknown_source", "spoofed", "unknown_destination", "same_segment")
_REASONS = np.array([0] * 5 + [reason_number(name) for name in _NAMES], np.uint16)

# Where the rules have spoken: by verdict, whether the destination is here, whether the packet came in here,
# and whether the key has ports.
_JUDGED = np.full((3, 2, 2, 2), REFUSED, np.uint8)
_JUDGED[ALLOW, 1] = DELIVER
_JUDGED[ALLOW, 0, 1] = ENCAPSULATE
_JUDGED[ALLOW, 0, 0] = ASK  # it has left, or never was here
_JUDGED[PORTS, :, :, 0] = NARROW
_JUDGED[PORTS, :, :, 1] = ASK
_BY_VERDICT = _JUDGED.reshape(-1)

# What is left of an address cut to so many bits, as two words of a row.
_CUTS = np.array([((1 << 128) - (1 << (128 - bits))).to_bytes(16, "big") for bits in range(129)]).view("<u8")
_HIGH_CUTS, _LOW_CUTS = np.ascontiguousarray(_CUTS.reshape(129, 2).T)


class Columns(NamedTuple):
    """Rows to be decided; from `at_origin` on either one value for each row or one for all."""

    head: Any  # the first eight bytes of a QUERY row
    ports: Any  # the eight bytes with its ports
    source: tuple[Any, Any]
    destination: tuple[Any, Any]
    ingress: Any
    tag: Any
    at_origin: Any
    routed: Any  # sent to the gateway's MAC
    looks: Any  # the data plane is to look from which MAC the packets come
    connection: Any  # the key has ports
    spoofs: Any  # who is not known to live at the ingress may not come in by it
    lonely: Any  # who is not in the V-net is nowhere
    any_bits: Any  # of the prefix that holds all addresses of the family


class Outcomes(NamedTuple):
    """For each row how it ends; ASK: decide has to say. `scopes` are those of the rows `scoped`."""

    outcome: Any
    reason: Any
    rule_id: Any
    source_location: Any  # number, -1: none
    location: Any  # of the destination, likewise
    spread: Any
    refused: Any
    scoped: Any
    scopes: Rows


def find_outcomes(columns: Columns, sides: Sides, verdicts: Verdicts) -> Outcomes:
    """Say how rows end."""
    count = len(columns.head)
    both = sides.find(
        np.concatenate((columns.tag, columns.tag)),
        np.concatenate((columns.source[0], columns.destination[0])),
        np.concatenate((columns.source[1], columns.destination[1])),
    )
    source, destination = both[:count], both[count:]
    source_is, destination_is = source["kind"], destination["kind"]
    admitted = (source_is == MEMBER) & _comes_from_there(columns, source)
    location = destination["location"].astype(np.int64)
    judged = admitted & (destination_is == MEMBER) & (location >= 0)
    outcome = np.zeros(count, np.uint8)
    reason = np.zeros(count, np.uint16)
    rule_id = np.zeros(count, np.uint64)
    if not judged.all():
        known = (destination_is == MEMBER) | (destination_is == NOBODY)
        outcome[known & (source_is == NOBODY)] = UNKNOWN_SOURCE
        outcome[known & (source_is == MEMBER) & ~admitted & columns.spoofs] = SPOOFED
        outcome[admitted & (destination_is == NOBODY) & columns.lonely] = UNKNOWN_DESTINATION
    rows = np.flatnonzero(judged)
    by_ports = np.zeros(0, np.int64)  # which rows the rules were asked about by their ports
    if len(rows):
        pick = slice(None) if len(rows) == count else rows  # indexing by all of them would copy
        part = columns if len(rows) == count else _part(columns, rows)
        classes = source["rules_class"][pick], destination["rules_class"][pick]
        verdict = verdicts.find(*classes, sides.classes)
        at = np.flatnonzero((verdict["kind"] == PORTS) & part.connection)
        if len(at):
            by_ports = rows[at]
            verdicts.decide_ports(verdict, at, _connections(columns, by_ports))
        outcome[pick] = _judge(part, verdict, sides.locations.are_here(location[pick]))
        reason[pick], rule_id[pick] = verdict["reason"], verdict["rule_id"]
    met = sides.locations.are_on(location, columns.ingress)
    met &= judged & columns.at_origin & np.logical_not(columns.routed)
    if met.any():
        outcome[met], rule_id[met] = SAME_SEGMENT, 0
    ends = outcome >= UNKNOWN_SOURCE
    if ends.any():
        reason[ends] = _REASONS[outcome[ends]]
    goes = (outcome == DELIVER) | (outcome == ENCAPSULATE)
    if not goes.all():
        location[~goes] = -1
        rule_id[outcome == NARROW] = 0
    refused = scoped = np.flatnonzero(outcome >= REFUSED)
    looks = goes & columns.looks & (source["has_mac"] != 0)
    source_location = np.where(looks, source["location"].astype(np.int64), -1)
    spread = source["source_spread"] ^ destination["destination_spread"]
    scopes = _scopes(columns, source, destination, outcome, refused)
    by_ports = by_ports[outcome[by_ports] == REFUSED]
    if len(by_ports):
        numbers = verdicts.find(
            source["rules_class"][by_ports], destination["rules_class"][by_ports], sides.classes
        )["number"]
        at = np.searchsorted(refused, by_ports)
        kept = _narrow_scopes(scopes, at, numbers, _connections(columns, by_ports), verdicts)
        scoped, scopes = refused[kept], scopes[kept]
    return Outcomes(outcome, reason, rule_id, source_location, location, spread, refused, scoped, scopes)


def _narrow_scopes(scopes: Rows, at: Any, numbers: Any, connections: Connections, verdicts: Verdicts) -> Any:
    """Put protocol and ports into the scopes of refusals that the rules base on them. Returns which scopes
    can be told at all."""
    kept = np.ones(len(scopes), bool)
    for number in np.unique(numbers).tolist():
        alike = np.flatnonzero(numbers == number)
        part = connections.part(alike)
        ranges = verdicts.like_ports(number, part)
        kept[at[alike]] = [one is not None for one in ranges]
        low, high = zip(*(one or (0, 0) for one in ranges), strict=True)
        scopes["protocol"][at[alike]] = part.protocol
        scopes["port_low"][at[alike]], scopes["port_high"][at[alike]] = low, high
    return kept


def _part(columns: Columns, rows: Any) -> Columns:
    """Return what `_judge` needs of some rows."""
    return columns._replace(at_origin=_of(columns.at_origin, rows), connection=_of(columns.connection, rows))


def _connections(columns: Columns, rows: Any) -> Connections:
    protocol = (columns.head[rows] >> np.uint64(48) & np.uint64(255)).astype(np.int64)
    ports = columns.ports[rows].astype("<u8").view(">u2").reshape(len(rows), 4).astype(np.int64)
    return Connections(protocol, ports[:, 0], ports[:, 1])


def _comes_from_there(columns: Columns, source: Rows) -> Any:
    """Tell of which rows the source lives where the packet came in."""
    ingress, at_origin = columns.ingress, columns.at_origin
    if np.ndim(at_origin) == 0:
        one, other = ("attachment", "other_attachment") if at_origin else ("node", "other_node")
        return (source[one] == ingress) | (source[other] == ingress)
    here = (source["attachment"] == ingress) | (source["other_attachment"] == ingress)
    return np.where(at_origin, here, (source["node"] == ingress) | (source["other_node"] == ingress))


def _judge(columns: Columns, verdict: Rows, here: Any) -> Any:
    at = verdict["kind"] * np.uint8(8)
    at |= here * np.uint8(4)
    return _BY_VERDICT[at | columns.at_origin * np.uint8(2) | columns.connection * np.uint8(1)]


def _scopes(columns: Columns, source: Rows, destination: Rows, outcome: Any, rows: Any) -> Rows:
    """Make for each of these rows the widest scope in which its refusal holds."""
    scopes = np.zeros(len(rows), SCOPE)
    if not len(rows):
        return scopes
    how = outcome[rows]
    source_bits = np.where(how == UNKNOWN_SOURCE, source["hole_bits"][rows], 128)
    destination_bits = np.where(how == UNKNOWN_DESTINATION, destination["hole_bits"][rows], 128)
    any_bits = _of(columns.any_bits, rows)
    destination_bits = np.where((how == UNKNOWN_SOURCE) | (how == SPOOFED), any_bits, destination_bits)
    words = scopes.view("<u8").reshape(len(rows), -1)
    words[:, 0] = columns.source[0][rows] & _HIGH_CUTS[source_bits]
    words[:, 1] = columns.source[1][rows] & _LOW_CUTS[source_bits]
    words[:, 2] = columns.destination[0][rows] & _HIGH_CUTS[destination_bits]
    words[:, 3] = columns.destination[1][rows] & _LOW_CUTS[destination_bits]
    scopes["source_bits"], scopes["destination_bits"] = source_bits, destination_bits
    scopes["port_high"] = PORT_MAX
    scopes["vni"] = columns.head[rows] & np.uint64(0xFFFFFFFF)
    return scopes


def _of(values: Any, rows: Any) -> Any:
    return values[rows] if np.ndim(values) else values
