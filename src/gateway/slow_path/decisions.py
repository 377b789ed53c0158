# SPDX-License-Identifier: Apache-2.0
"""From the directory's decisions to FLOW_INSTALL records, column by column. Pure.

What a decision says is not believed beyond its form: an action that this version does not carry, or one that
names a location which is not there, becomes a drop with the reason `not_supported`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from directory_client.vocabulary.numbers import Granularity
from directory_client.vocabulary.reasons import all_reasons
from directory_client.wire.rows import DECISION, LOCATION
from fastpath.installs import Installs
from fastpath.records import Action, KeyFlag, RecordType, make
from gateway.slow_path.refusals import Group, Refusal

Rows = np.ndarray[Any, Any]

REASONS = {reason.name: reason.number for reason in all_reasons()}


def _table(size: int, numbers: Iterable[int]) -> Rows:
    table = np.zeros(size, bool)
    table[list(numbers)] = True
    return table


# Looked up by number: for the one miss of an idle gateway np.isin takes longer than all the rest.
_IS_REASON = _table(1 << 16, REASONS.values())
_CARRIED = np.zeros(256, np.uint8)
_CARRIED[[Action.DROP, Action.ANSWER, Action.NARROW]] = 1
_CARRIED[[Action.ENCAPSULATE, Action.DELIVER, Action.RELAY]] = 2  # with a destination only
_DROP = int(Action.DROP)
_BY_CONNECTION = int(Granularity.CONNECTION)
_IPV6 = int(KeyFlag.IPV6)
_INSTALLS = Installs(DECISION, LOCATION, _CARRIED, _IS_REASON, REASONS["not_supported"], _BY_CONNECTION)


def installs(rows: Rows, decisions: Rows, locations: Rows, incarnation: int) -> tuple[Rows, int]:
    """Make the records for MISS rows and, row for row, their decisions. Returns them, and how many decisions
    could not be carried."""
    found: tuple[Rows, int] = _INSTALLS.records(
        np.ascontiguousarray(rows),
        np.ascontiguousarray(decisions),
        np.ascontiguousarray(locations),
        incarnation,
    )
    return found


def drops(rows: Rows, reason: Rows, revision: Rows, lifetime_ms: Rows, incarnation: int) -> Rows:
    """Make the records for MISS rows that a known refusal answers."""
    return make(
        RecordType.FLOW_INSTALL,
        len(rows),
        vni=rows["head"]["vni"],
        revision=revision,
        key=rows["key"],
        reason=reason,
        action=Action.DROP,
        ingress_object=rows["ingress_object"],
        lifetime_ms=lifetime_ms,
        token=rows["token"],
        incarnation=incarnation,
    )


def endings(refused: Rows, is_full: Rows, incarnation: int) -> Rows:
    """Make the records that end what waits for decisions which the data plane will not take, `is_full`: for
    want of room."""
    return make(
        RecordType.RELEASE_DROP,
        len(refused),
        vni=refused["head"]["vni"],
        revision=refused["head"]["revision"],
        key=refused["key"],
        token=refused["token"],
        reason=np.where(is_full, REASONS["table_full"], REASONS["not_supported"]),
        action=Action.DROP,
        incarnation=incarnation,
    )


def refusals_of(
    rows: Rows, decisions: Rows, scopes: Rows, now_s: float
) -> tuple[list[tuple[int, Group, Refusal]], int]:
    """Find what refusals hold for: one (VNI, group of keys, refusal) for each scope, however many rows name
    it. Returns them, and how many were malformed."""
    scope = decisions["scope"]
    numbers = np.flatnonzero((decisions["action"] == _DROP) & (scope >= 0) & (scope < len(scopes)))
    if not len(numbers):
        return [], 0
    keys = rows["key"][numbers]
    which = scope[numbers].astype(np.uint64) << np.uint64(37)
    which |= keys["ingress"].astype(np.uint64) << np.uint64(5)
    which |= (keys["key_class"] & 15).astype(np.uint64) << np.uint64(1)
    which |= (keys["flags"] & _IPV6 != 0).astype(np.uint64)
    found, malformed = [], 0
    for number in numbers[np.unique(which, return_index=True)[1]].tolist():
        row, decision, key = rows[number], decisions[number], rows[number]["key"]
        row_scope, vni = scopes[decision["scope"]], int(row["head"]["vni"])
        if row_scope["vni"] not in (0, vni) or not _IS_REASON[decision["reason"]]:
            malformed += 1
            continue
        ipv6 = int(key["flags"] & _IPV6)
        group = (int(key["key_class"]), ipv6, int(row["ingress_kind"]), int(row["ingress_object"]))
        expires_s = now_s + int(decision["lifetime_ms"]) / 1000
        refusal = Refusal(row_scope, int(decision["reason"]), int(decision["revision"]), expires_s)
        found.append((vni, group, refusal))
    return found, malformed
