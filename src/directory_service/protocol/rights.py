# SPDX-License-Identifier: Apache-2.0
"""The table of rights: which role may ask what, about what, and how often. Pure.

Every type of message of both sockets has a row; a type or a role that is not in the table may not be used.
What a message says is checked by its handler; `Rights.check` is asked first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from directory_client.kinds.nouns import find_noun
from directory_client.kinds.vnet import VNET
from directory_client.vocabulary.verbs import SHOWING as SHOWING_VERBS
from directory_client.wire.messages import DirectoryError
from directory_service.protocol.authentication import Identity
from directory_service.rates import Rates


class Scope(Enum):
    """What a right reaches."""

    NOTHING = "nothing"
    OWN_NODE = "its own node"
    HOSTED = "V-nets that its node hosts"
    SHOWING = "what its own gateway shows, and what others show of V-nets that its node hosts"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Right:
    """What one role may do with one verb; `per_second` is for each key, and may come at once. None: another
    limit holds (rows a second of a V-net, writes a second of a key)."""

    scope: Scope
    per_second: int | None = None


_NOTHING = Right(Scope.NOTHING)
OF_A_VNET = frozenset({"flows"})  # what a gateway shows itself, not the directory, and of one V-net if asked


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
        scope = right_of(identity, verb).scope
        if scope is Scope.SHOWING:
            self._check_forwarded(identity, head.node, head.request)
        if scope is not Scope.HOSTED:
            return
        hosted = self._directory.hosted(identity.name)
        vnet = getattr(head, "vnet", None)
        if isinstance(vnet, str) and vnet not in hosted:
            raise _not_theirs(identity, f"V-net {vnet:.80}")
        name = getattr(head, "name", None)
        if verb == "list" and _are_vnets(head.kind) and isinstance(name, str) and name not in hosted:
            raise _not_theirs(identity, f"V-net {name:.80}")

    def _check_forwarded(self, identity: Identity, node: str, request: Mapping[str, Any]) -> None:
        """Raise DirectoryError where another gateway, whose key sees other V-nets, would show more than
        this one's key does."""
        verb, noun, args = request.get("verb"), request.get("noun"), request.get("args")
        if verb not in SHOWING_VERBS:
            raise DirectoryError(f"the key of gateway {identity.name} may only have others show things")
        if request.get("at") is not None:  # who is asked would pass it on with a key of its own
            raise DirectoryError(f"the key of gateway {identity.name} may not have others ask others")
        if node == identity.name:
            return
        vnet = args.get("vnet") if isinstance(args, Mapping) else None
        of_one = verb == "explain" or (verb == "show" and noun in OF_A_VNET)
        if (
            not of_one
            or not isinstance(vnet, str)
            or (isinstance(args, Mapping) and args.get("vni") is not None)
        ):
            raise DirectoryError(
                f"the key of gateway {identity.name} does not show what {node:.80} has, but for explain and"
                " the flows of a V-net that it hosts",
                "with an operator's key (vnetctl --directory … --at), or at that gateway",
            )
        if vnet not in self._directory.hosted(identity.name):
            raise _not_theirs(identity, f"V-net {vnet:.80}")

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
