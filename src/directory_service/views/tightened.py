# SPDX-License-Identifier: Apache-2.0
"""What a change forbids in a V-net, whoever is told of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from directory_client.vocabulary.numbers import ChangeKind
from directory_client.vocabulary.scopes import Scope
from directory_service.model.snapshot import Snapshot
from directory_service.views.scope import ScopedChange


@dataclass(frozen=True, slots=True)
class Tightened:
    """`scopes`: keys that may have lost a right at a revision. `left`: names of nodes that host the V-net no
    longer: there, all of it is forbidden."""

    vni: int
    revision: int
    scopes: tuple[Scope, ...]
    left: frozenset[str] = frozenset()


def find_tightened(
    before: Snapshot, after: Snapshot, name: str, changes: Iterable[ScopedChange]
) -> Tightened | None:
    """Return what was forbidden in a V-net, where `changes` are all that changed; None: nothing."""
    old, new = before.vnets.get(name), after.vnets.get(name)
    if old is None or new is None or new.vnet is None:
        return None
    if old.vnet is None:  # something in it could not be read: what was forbidden meanwhile is not known
        return Tightened(new.vnet.vni, after.revision, (Scope(),))
    scopes = tuple(
        change.scope for change in changes if change.kind == ChangeKind.TIGHTEN and not change.node
    )
    left = frozenset(old.attachments_by_node.keys() - new.attachments_by_node.keys())
    return Tightened(new.vnet.vni, after.revision, scopes, left) if scopes or left else None
