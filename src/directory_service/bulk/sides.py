# SPDX-License-Identifier: Apache-2.0
"""What decide finds out about one address, remembered as a row: a *side* of a connection.

A side is an address (or MAC) of a V-net as seen from one node: who holds it, where that may come in, what the
rules see of it, where it is. Nothing in it depends on the other end, so that with n addresses n sides are
learned, by asking what decide asks, for n² pairs that are decided. An address about which that is not so (a
service address, the V-net's gateway) is a side too, of kind PLAIN: decide has to be asked.

`follow` takes up a snapshot. What a change may have touched is forgotten, and learned again when it is next
asked: for a change of endpoints that is their addresses, for any other the V-net, for one of the fabric all.
"""

import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from directory_client.vocabulary.addresses import ZERO
from directory_client.wire.rows import Rows
from directory_service.bulk.key_index import KeyIndex, mix
from directory_service.bulk.locations import Locations
from directory_service.bulk.scene import (
    FORGOTTEN,
    NOBODY,
    PLACES,
    PLAIN_SIDE,
    Description,
    RulesClass,
    Scene,
)
from directory_service.kinds.node import Node
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

SIDES_MAX = 1 << 20  # 96 MB with the index
TOGETHER_MIN = 8  # fewer addresses are described one by one: the calls of numpy take as long

SIDE = np.dtype(
    [
        ("high", "<u8"),  # the address, as two words of a QUERY row
        ("low", "<u8"),
        ("tag", "<u8"),  # the V-net, as seen from a node, and the family
        ("attachment", "<u8"),  # by which it may come in: up to two, 0 none
        ("other_attachment", "<u8"),
        ("node", "<u8"),  # from which it may come in: up to two, 0 none
        ("other_node", "<u8"),
        ("rules_class", "<u4"),  # those of one class are alike to the rules
        ("location", "<i4"),  # -1: none, or decide has to be asked
        ("source_spread", "<u4"),  # crc32(source + destination) is the one of the source xor
        ("destination_spread", "<u4"),  # the other of the destination
        ("kind", "u1"),
        ("hole_bits", "u1"),  # of NOBODY: around it is nobody
        ("has_mac", "u1"),  # packets of a MEMBER come from one MAC, its location's
        ("zero", "u1", (5,)),
    ]
)
_SIDE_BYTES = f"V{SIDE.itemsize}"
_TAG_SPREAD = np.uint64(0xA24BAED4963EE407)
_HIGH_SPREAD = np.uint64(0x9FB21C651E98DF25)


def _spread_tables(before: bytes, after: bytes) -> Any:
    """Return by place and value of a byte how it changes the CRC-32 of an address among others. The checksum
    is linear: what bytes change is changed by exclusive or."""
    none = zlib.crc32(before + ZERO + after)
    tables = np.zeros((len(ZERO), 256), np.uint32)
    for place in range(len(ZERO)):
        for bit in range(8):
            address = bytes(1 << bit if at == place else 0 for at in range(len(ZERO)))
            changes = zlib.crc32(before + address + after) ^ none
            tables[place, 1 << bit : 2 << bit] = tables[place, : 1 << bit] ^ np.uint32(changes)
    return tables


_SOURCE_SPREADS, _DESTINATION_SPREADS = _spread_tables(b"", ZERO), _spread_tables(ZERO, b"")
_NO_ADDRESSES_SPREAD = np.uint32(zlib.crc32(ZERO + ZERO))


def _spread(tables: Any, octets: Any) -> Any:
    """Return what each address, a row of bytes, changes."""
    used = np.flatnonzero(octets.any(axis=0))  # four of sixteen for IPv4
    return np.bitwise_xor.reduce(tables[used, octets[:, used]], axis=1, dtype=np.uint32)


class Sides:
    """See the module. Numbers are good until `follow` or `make_room`."""

    def __init__(self) -> None:
        self.locations = Locations()
        self.classes: list[RulesClass | None] = []
        self._snapshot: Snapshot | None = None
        self._index = KeyIndex()
        self._rows: Rows = np.zeros(1024, SIDE)
        self._scenes: dict[tuple[int, int], Scene] = {}  # (node id, VNI)
        self._families: list[tuple[Scene, int] | None] = []  # by tag
        self.clear()

    @property
    def count(self) -> int:
        """How many were learned since all were forgotten."""
        return self._count

    def clear(self) -> None:
        """Forget everything."""
        self.locations.clear()
        self.classes[:] = [None]
        self._index.clear()
        self._count = 1  # number 0 is a PLAIN side that no key leads to
        self._scenes.clear()
        self._families[:] = []
        self.generation = object()

    def make_room(self, sides: int) -> None:
        """Make sure that so many more can be learned, at worst by forgetting all."""
        if self._count + sides > SIDES_MAX or self.locations.full or len(self.classes) + sides > SIDES_MAX:
            self.clear()

    def follow(self, snapshot: Snapshot) -> None:
        """Go over to a snapshot; what may differ there is forgotten."""
        before, self._snapshot = self._snapshot, snapshot
        if before is snapshot:
            return
        if (
            before is None
            or before.fabric is not snapshot.fabric
            or before.incarnation != snapshot.incarnation
        ):
            self.clear()
            return
        left: list[tuple[int, bytes]] = []  # (tag, packed address): what may be another one now
        for key, scene in list(self._scenes.items()):
            state = snapshot.by_vni.get(key[1])
            if state is scene.state:
                continue
            step = state.step if state is not None else None
            if state is None or step is None or step.before is not scene.state.token or step.routes:
                self._drop(key)
                continue
            tags = scene.tags
            left += [(tags[family], address) for family, address in step.keys if family in tags]
            if step.populates:
                self._rows["kind"][scene.nobodies] = FORGOTTEN
                scene.nobodies.clear()
            scene.state = state
        self._forget(left)

    def tag(self, here: Node, state: VnetState, family: int) -> int:
        """Return the number that stands for a V-net seen from a node, and a family."""
        if state.vnet is None:
            raise ValueError("a V-net that is gone has no sides")
        scene = self._scenes.get((here.id, state.vnet.vni))
        if scene is None:
            scene = Scene(here, state, self.classes, self.locations)
            self._scenes[here.id, state.vnet.vni] = scene
        tag = scene.tags.get(family)
        if tag is None:
            tag = scene.tags[family] = len(self._families)
            self._families.append((scene, family))
        return tag

    def find(self, tags: Any, high: Any, low: Any) -> Rows:
        """Return the side of each address; those that are not known are learned."""
        marks = mix((tags * _TAG_SPREAD + high * _HIGH_SPREAD) ^ low)
        numbers = self._index.find(marks)
        sides = self._rows.take(np.maximum(numbers, 0))  # indexing takes thirty times as long
        missing = np.flatnonzero((numbers < 0) | (sides["kind"] == FORGOTTEN))
        if len(missing):
            _, first, which = np.unique(marks[missing], return_index=True, return_inverse=True)
            each = missing[first]
            found = self._number(marks[each], numbers[each])
            self._learn(found, tags[each], high[each], low[each])
            numbers[missing] = found[which]
            sides = self._rows.take(numbers)
        same = (sides["low"] == low) & (sides["high"] == high) & (sides["tag"] == tags)
        return sides if same.all() else self._rows.take(np.where(same, numbers, 0))

    def _number(self, marks: Any, numbers: Any) -> Any:
        """Give a number to each mark that has none yet."""
        new = np.flatnonzero(numbers < 0)
        last = self._count + len(new)
        if last > len(self._rows):
            more = max(last, 4 * len(self._rows)) - len(self._rows)
            self._rows = np.concatenate([self._rows, np.zeros(more, SIDE)])
        numbers[new] = np.arange(self._count, last)
        self._index.add(marks[new], numbers[new])
        self._count = last
        return numbers

    def _learn(self, numbers: Any, tags: Any, highs: Any, lows: Any) -> None:
        """Write the sides of addresses, each named once."""
        sides = np.zeros(len(numbers), SIDE)
        sides["high"], sides["low"], sides["tag"], sides["location"] = highs, lows, tags, -1
        words = np.stack((highs, lows), axis=1)
        octets = words.view(np.uint8)
        sides["source_spread"] = _spread(_SOURCE_SPREADS, octets)
        sides["destination_spread"] = _spread(_DESTINATION_SPREADS, octets) ^ _NO_ADDRESSES_SPREAD
        addresses = words.view(f"V{len(ZERO)}").reshape(-1).tolist()
        alone: list[tuple[int, int]] = []  # (place, tag) of those that are described one by one
        if (tags == tags[0]).all():
            self._learn_alike(int(tags[0]), range(len(numbers)), addresses, sides, alone)
        else:
            places: dict[int, list[int]] = {}
            for at, tag in enumerate(tags.tolist()):
                places.setdefault(tag, []).append(at)
            for tag, each in places.items():
                self._learn_alike(tag, each, addresses, sides, alone)
        if alone:
            self._learn_alone(alone, numbers, addresses, sides)
        self._rows.view(_SIDE_BYTES)[numbers] = sides.view(_SIDE_BYTES)

    def _learn_alike(
        self,
        tag: int,
        places: Sequence[int],
        addresses: Sequence[bytes],
        sides: Rows,
        alone: list[tuple[int, int]],
    ) -> None:
        """Fill in the sides at these places, which are of one V-net, node and family; those that have to be
        described one by one are left."""
        if (found := self._families[tag]) is None or self._snapshot is None:
            return
        scene, family = found
        others: Iterable[int] = range(len(places))
        if len(places) >= TOGETHER_MIN:
            some = sides.take(places)
            others = scene.describe_members(self._snapshot, family, [addresses[at] for at in places], some)
            sides.view(_SIDE_BYTES)[list(places)] = some.view(_SIDE_BYTES)
        alone += [(places[at], tag) for at in others]

    def _learn_alone(
        self, alone: Sequence[tuple[int, int]], numbers: Any, addresses: Sequence[bytes], sides: Rows
    ) -> None:
        """Fill in the sides at these places one by one: each column is written once for all of them."""
        described: list[Description] = []
        located: list[int] = []
        for place, tag in alone:
            if (found := self._families[tag]) is None or self._snapshot is None:
                described.append(PLAIN_SIDE)
                continue
            scene, family = found
            one = scene.describe(self._snapshot, family, addresses[place])
            if one.kind == NOBODY:
                scene.nobodies.append(int(numbers[place]))
            if one.location is not None:
                located.append(len(described))
            described.append(one)
        at = np.array([place for place, _ in alone])
        columns = zip(*described, strict=True)
        for name, values in zip(Description._fields, columns, strict=True):
            if name == "places":
                for column, each in zip(PLACES, zip(*values, strict=True), strict=True):
                    sides[column][at] = each
            elif name == "location":
                keys = [key for key in values if key is not None]
                sides[name][at[located]] = self.locations.numbers(keys) if keys else []
            else:
                sides[name][at] = values

    def _drop(self, key: tuple[int, int]) -> None:
        """Forget a V-net as seen from a node: no key leads to its sides any more."""
        scene = self._scenes.pop(key)
        for tag in scene.tags.values():
            self._families[tag] = None
        for classes in scene.class_numbers.values():
            for number in classes.values():
                self.classes[number] = None

    def _forget(self, left: Sequence[tuple[int, bytes]]) -> None:
        """Forget what was learned of addresses, given as (tag, packed): of all nodes at once, since a change
        waits for it."""
        if not left:
            return
        tags = np.array([tag for tag, _ in left], np.uint64)
        high, low = np.frombuffer(b"".join([address for _, address in left]), "<u8").reshape(-1, 2).T
        numbers = self._index.find(mix((tags * _TAG_SPREAD + high * _HIGH_SPREAD) ^ low))
        self._rows["kind"][numbers[numbers > 0]] = FORGOTTEN
