# SPDX-License-Identifier: Apache-2.0
"""What the rules say of two rules classes (sides.py), found once for each pair of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from directory_client.vocabulary.reasons import reason_number
from directory_client.wire.rows import Rows
from directory_service.bulk.key_index import KeyIndex, mix
from directory_service.bulk.port_rules import Connections, first_matches, like_destination_ports
from directory_service.bulk.scene import RulesClass
from directory_service.kinds.rule import Rule
from directory_service.model.rules import Match, is_pair, of_macs

VERDICTS_MAX = 1 << 20
ALLOW, REFUSE, PORTS = 0, 1, 2

VERDICT = np.dtype([("rule_id", "<u8"), ("number", "<u4"), ("reason", "<u2"), ("kind", "u1"), ("zero", "u1")])
ALIKE_MIN = 4  # fewer rows of one pair of classes are faster decided one by one
_HALF = np.uint64(32)


class Verdicts:
    """See the module. PORTS: the two addresses alone do not decide."""

    def __init__(self) -> None:
        self._index = KeyIndex()
        self._rows: Rows = np.zeros(1024, VERDICT)
        self._reasons = {name: reason_number(name) for name in ("no_rule", "denied", "not_supported")}
        self.clear()

    def clear(self) -> None:
        """Forget everything: the classes are numbered anew."""
        self._index.clear()
        self._matches: dict[int, tuple[Match, ...]] = {}  # of PORTS, by number

    def make_room(self, pairs: int) -> None:
        """Make sure that so many more can be remembered, at worst by forgetting all."""
        if len(self._index) + pairs > VERDICTS_MAX:
            self.clear()

    def find(self, sources: Any, destinations: Any, classes: Sequence[RulesClass | None]) -> Rows:
        """Return the verdict of each pair of classes, which are given by their numbers, from 1."""
        # A mark says which pair it is: two numbers of 32 bits, mixed without losing any.
        marks = mix(sources.astype(np.uint64) << _HALF | destinations)
        numbers = self._index.find(marks)
        missing = np.flatnonzero(numbers < 0)
        if len(missing):
            _, first, which = np.unique(marks[missing], return_index=True, return_inverse=True)
            each = missing[first]
            pairs = zip(sources[each].tolist(), destinations[each].tolist(), strict=True)
            count = len(self._index)
            for number, (source, destination) in enumerate(pairs, count):
                self._learn(number, classes[source], classes[destination])
            found = np.arange(count, count + len(each))
            self._index.add(marks[each], found)
            numbers[missing] = found[which]
        return self._rows.take(numbers)

    def _learn(self, number: int, source: RulesClass | None, destination: RulesClass | None) -> None:
        if source is None or destination is None or source.rule_set is not destination.rule_set:
            raise ValueError("two classes of different V-nets: rules say nothing of them")
        matches = source.rule_set.matches(source.mask, destination.mask)
        if source.mac:
            matches = of_macs(matches)
        if is_pair(matches):
            rule_id, reason, kind = self._say(matches[0].rule if matches else None)
        else:
            rule_id, reason, kind = 0, 0, PORTS
            self._matches[number] = matches
        if number == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros(3 * number, VERDICT)])
        self._rows[number] = (rule_id, number, reason, kind, 0)

    def _say(self, rule: Rule | None) -> tuple[int, int, int]:
        """Return rule id, reason and kind of the verdict of a rule, None: of no rule."""
        if rule is None:
            return 0, self._reasons["no_rule"], REFUSE
        if not rule.refuses:
            return rule.id, 0, ALLOW
        return rule.id, self._reasons["not_supported" if rule.allow else "denied"], REFUSE

    def decide_ports(self, verdicts: Rows, at: Any, connections: Connections) -> None:
        """Put what the rules say of ports in place of the PORTS that stands at these places, but where few
        are alike."""
        numbers = verdicts["number"][at]
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            if len(rows) < ALIKE_MIN:
                continue
            matches = self._matches[number]
            said = [self._say(match.rule) for match in matches] + [self._say(None)]
            first = first_matches(matches, connections.part(rows))
            for name, values in zip(("rule_id", "reason", "kind"), zip(*said, strict=True), strict=True):
                verdicts[name][at[rows]] = np.array(values, VERDICT[name])[first]

    def like_ports(self, number: int, connections: Connections) -> list[tuple[int, int] | None]:
        """Return the destination ports for which a verdict says the same (port_rules)."""
        return like_destination_ports(self._matches[number], connections)
