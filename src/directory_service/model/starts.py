# SPDX-License-Identifier: Apache-2.0
"""Which gateways have never been heard: they forward nothing, so that no change can be late at them.

That somebody was heard is a fact which is kept for good. Where the facts begin anew (another machine, a file
that was lost) nothing is known of nodes that were declared before: they may have been heard.
"""

from math import inf

import msgpack

from directory_service.facts.contract import Facts
from directory_service.kinds.records import Record

HEARD = "heard"
SINCE = "heard-since"


class Starts:
    """`realm` and `next_id` are the store's: a node with a lower id may have been heard before the facts
    began."""

    def __init__(self, facts: Facts, realm: int, next_id: int) -> None:
        self._facts = facts
        self._heard = {fact.owner for fact in facts.of_key(HEARD)}
        since = {fact.value for fact in facts.of_key(SINCE)}
        try:
            kept_realm, self._since = msgpack.unpackb(min(since))
        except (ValueError, TypeError):
            kept_realm, self._since = 0, 0
        if kept_realm != realm:
            self._since = next_id
            facts.put("", SINCE, msgpack.packb([realm, next_id]), inf)

    def heard(self, node: str) -> None:
        """Take it that a node's gateway has been heard."""
        if node not in self._heard:
            self._heard.add(node)
            self._facts.put(node, HEARD, b"", inf)

    def never(self, node: Record | None) -> bool:
        """Tell whether the gateway of a node has certainly never been heard."""
        return node is not None and node.id >= self._since and node.name not in self._heard
