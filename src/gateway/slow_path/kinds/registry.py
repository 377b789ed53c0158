# SPDX-License-Identifier: Apache-2.0
"""The kinds of operations; what is referred to stands first."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.slow_path.kinds.attachment import ATTACHMENT
from gateway.slow_path.kinds.ingress import INGRESS
from gateway.slow_path.kinds.kind import Maker, OperationKind
from gateway.slow_path.kinds.location import LOCATION
from gateway.slow_path.kinds.peering import PEERING
from gateway.slow_path.kinds.scope import SCOPE
from gateway.slow_path.kinds.tunnel import TUNNEL
from gateway.slow_path.kinds.vnet import VNET

KINDS: tuple[OperationKind, ...] = (VNET, PEERING, ATTACHMENT, TUNNEL, INGRESS, LOCATION, SCOPE)
# what stands, and the fields that tell it from others
KEYS: Mapping[str, tuple[str, ...]] = {kind.name: kind.keys for kind in KINDS if kind.keys is not None}
# operation → what makes the record that applies it
MAKERS: Mapping[str, Maker] = {
    **{kind.name: kind.sets for kind in KINDS},
    **{f"{kind.name}_removed": kind.removes for kind in KINDS if kind.removes is not None},
}
# type of record → the table that it needs room in
TABLES: Mapping[int, str] = {kind.record: kind.table for kind in KINDS if kind.record is not None}
# table → the operations that are told again where it had no room
TOLD_AGAIN: Mapping[str, tuple[str, ...]] = {
    table: tuple(kind.name for kind in KINDS if kind.table == table and kind.is_told_again)
    for table in dict.fromkeys(kind.table for kind in KINDS if kind.is_told_again and kind.table)
}
# tables of what comes with the next answer that names it
LAPSING = tuple(sorted({kind.table for kind in KINDS if kind.table and not kind.is_told_again}))
