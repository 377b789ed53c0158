# SPDX-License-Identifier: Apache-2.0
"""The table of rights: which role may ask what, about what, and how often. Pure.

Every type of message of both sockets has a row; a type or a role that is not in the table may not be used.
What a message says is checked by its handler; `Rights.check` is asked first.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from directory_client.kinds.nouns import find_noun
from directory_client.kinds.vnet import VNET
from directory_client.wire.messages import DirectoryError
from directory_service.protocol.authentication import Identity
from directory_service.rates import Rates


class Scope(Enum):
    """What a right reaches."""

    NOTHING = "nothing"
    OWN_NODE = "its own node"
    HOSTED = "V-nets that its node hosts"
    SHOWING = "what changes nothing"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Right:
    """What one role may do with one verb; `per_second` is for each key, and may come at once. None: another
    limit holds (rows a second of a V-net, writes a second of a key)."""

    scope: Scope
    per_second: int | None = None


_NOTHING = Right(Scope.NOTHING)


def _row(gateway: Right, others_per_second: int | None) -> dict[str, Right]:
    everything = Right(Scope.EVERYTHING, others_per_second)
    return {"gateway": gateway, "operator": everything, "local": everything}


# verb → role → right. The rates of a gateway's key serve its control and all of its workers.
RIGHTS: dict[str, dict[str, Right]] = {
    "resolve": _row(Right(Scope.OWN_NODE), None),
    "snapshot": _row(Right(Scope.OWN_NODE, 1_000), 10_000),  # each piece
    "locator": _row(Right(Scope.OWN_NODE, 1_000), 10_000),
    "heartbeat": _row(Right(Scope.OWN_NODE, 200), 10_000),
    "goodbye": _row(Right(Scope.OWN_NODE, 20), 10_000),
    "hello": _row(Right(Scope.OWN_NODE, 20), 10_000),
    "answer": _row(Right(Scope.OWN_NODE, 1_000), 10_000),
    "list": _row(Right(Scope.HOSTED, 20), 1_000),
    "export": _row(Right(Scope.HOSTED, 5), 100),
    "names": _row(Right(Scope.HOSTED, 20), 1_000),
    "history": _row(Right(Scope.HOSTED, 10), 200),
    "explain": _row(Right(Scope.HOSTED, 10), 500),
    "forward": _row(Right(Scope.SHOWING, 5), 200),
    "apply": _row(_NOTHING, None),
    "piece": _row(_NOTHING, None),
    "rollback": _row(_NOTHING, None),
    "set": _row(_NOTHING, None),
    "remove": _row(_NOTHING, None),
    "release": _row(_NOTHING, None),
    "reload": _row(_NOTHING, 5),
}


def right_of(identity: Identity, verb: str) -> Right:
    """Return what somebody may do with a verb; nothing, where the table does not say."""
    return RIGHTS.get(verb, {}).get(identity.role, _NOTHING)


class Rights:
    """Judges messages. The directory says which V-nets a node hosts, and which are in a document."""

    def __init__(self, directory: Any) -> None:
        self._directory = directory
        self._rates = {
            (verb, role): Rates(right.per_second)
            for verb, row in RIGHTS.items()
            for role, right in row.items()
            if right.per_second is not None
        }

    def check_rate(self, identity: Identity, verb: str, now: float) -> None:
        """Raise DirectoryError where somebody asks this too often, well or badly."""
        right = right_of(identity, verb)
        rates = self._rates.get((verb, identity.role))
        if rates is not None and not rates.take(identity.name, 1, now):
            raise DirectoryError(
                f"{identity.name} asks {verb} more than {right.per_second} times a second",
                "try again in a second",
            )

    def check(self, identity: Identity, verb: str, head: Any) -> None:
        """Raise DirectoryError where what is asked (a Request) is not theirs. Writes of a gateway are refused
        by their handler, which counts them."""
        if right_of(identity, verb).scope is not Scope.HOSTED:
            return
        hosted = self._directory.hosted(identity.name)
        vnet = getattr(head, "vnet", None)
        if isinstance(vnet, str) and vnet not in hosted:
            raise _not_theirs(identity, f"V-net {vnet:.80}")
        name = getattr(head, "name", None)
        if verb == "list" and _are_vnets(head.kind) and isinstance(name, str) and name not in hosted:
            raise _not_theirs(identity, f"V-net {name:.80}")

    def check_document(self, identity: Identity, verb: str, document: str) -> None:
        """Raise DirectoryError where somebody may not see a document. Looks at every record."""
        if right_of(identity, verb).scope is not Scope.HOSTED:
            return
        if not self._may_see_document(document, self._directory.hosted(identity.name), verb):
            raise _not_theirs(identity, f"document {document:.80}")

    def visible(
        self, identity: Identity, verb: str, kind: str, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return the rows of a list (of `kind`) or of the history that somebody may see."""
        noun = find_noun(kind)
        is_for_all = kind == "directories" or (noun is not None and noun.for_all)
        if right_of(identity, verb).scope is not Scope.HOSTED or is_for_all:
            return rows
        hosted = self._directory.hosted(identity.name)
        if verb == "history":
            return [row for row in rows if self._may_see_document(row.get("document", ""), hosted, verb)]
        if kind in ("document", "documents"):
            return [row for row in rows if self._may_see_document(row.get("name", ""), hosted, "history")]
        name = "name" if _are_vnets(kind) else "vnet"
        return [row for row in rows if row.get(name) in hosted]

    def _may_see_document(self, document: str, hosted: frozenset[str], verb: str) -> bool:
        """Whoever hosts one of its V-nets may know of a document; its text is for who hosts them all."""
        vnets: frozenset[str] = self._directory.document_vnets(document)
        return bool(vnets) and (vnets <= hosted if verb == "export" else bool(vnets & hosted))


def _are_vnets(kind: str) -> bool:
    return find_noun(kind) is VNET


def _not_theirs(identity: Identity, what: str) -> DirectoryError:
    return DirectoryError(
        f"{what} is not hosted by {identity.name}: its key does not show it",
        "ask at a gateway that hosts it, or with an operator's key (vnetctl --directory)",
    )
