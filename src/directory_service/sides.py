# SPDX-License-Identifier: Apache-2.0
"""What decide finds out about one address, remembered as a row: a *side* of a connection.

A side is an address (or MAC) of a V-net as seen from one node: who holds it, where that may come in, what the
rules see of it, where it is. Nothing in it depends on the other end, so that with n addresses n sides are
learned, by asking what decide asks, for n² pairs that are decided. An address about which that is not so (a
service address, the V-net's gateway) is a side too, of kind PLAIN: decide has to be asked.

`follow` takes up a snapshot. What a change may have touched is forgotten, and learned again when it is next
asked: for a change of endpoints that is their addresses, for any other the V-net, for one of the fabric all.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from directory_client.addresses import ZERO
from directory_client.rows import Rows
from directory_service.decide import is_gateway_address
from directory_service.key_index import KeyIndex, mix
from directory_service.locate import find_location, object_of
from directory_service.locations import Locations
from directory_service.model import Snapshot
from directory_service.records import Node
from directory_service.rules import RuleSet
from directory_service.vnet import FAMILY_IPV4, FAMILY_MAC, Holder, VnetState

SIDES_MAX = 1 << 20  # 96 MB with the index
PLAIN, MEMBER, NOBODY, FORGOTTEN = 0, 1, 2, 3

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
        ("zero", "u1", (6,)),
    ]
)
_SIDE = struct.Struct("<QQQQQQQIiIIBB6x")
_TAG_SPREAD = np.uint64(0xA24BAED4963EE407)
_HIGH_SPREAD = np.uint64(0x9FB21C651E98DF25)
_NO_ADDRESSES_SPREAD = zlib.crc32(ZERO + ZERO)
_UNUSED_BYTES = {FAMILY_IPV4: 12, FAMILY_MAC: 10}


class _Description(NamedTuple):
    places: tuple[int, ...]
    rules_class: int
    location: int
    kind: int
    hole_bits: int


_NOWHERE = (0, 0, 0, 0)
_PLAIN_SIDE = _Description(_NOWHERE, 0, -1, PLAIN, 0)


class Scene:
    """A V-net as seen from a node, and what of it was learned."""

    def __init__(self, here: Node, state: VnetState) -> None:
        self.here = here
        self.state = state
        self.tags: dict[int, int] = {}  # by family
        self.classes: dict[tuple[bool, int], int] = {}  # (MAC, selectors) → rules class
        self.nobodies: list[int] = []  # numbers of sides


class RulesClass(NamedTuple):
    """What the rules see of a side."""

    rule_set: RuleSet
    mac: bool
    mask: int


class Sides:
    """See the module. Numbers are good until `follow` or `make_room`."""

    def __init__(self) -> None:
        self.locations = Locations()
        self.classes: list[RulesClass | None] = []
        self._snapshot: Snapshot | None = None
        self._index = KeyIndex()
        self._set_rows(np.zeros(1024, SIDE))
        self._scenes: dict[tuple[int, int], Scene] = {}  # (node id, VNI)
        self._families: list[tuple[Scene, int] | None] = []  # by tag
        self.clear()

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
        for key, scene in list(self._scenes.items()):
            state = snapshot.by_vni.get(key[1])
            if state is scene.state:
                continue
            step = state.step if state is not None else None
            if state is None or step is None or step.before is not scene.state.token or step.routes:
                self._drop(key)
                continue
            self._forget(scene, step.keys)
            if step.populates:
                self._rows["kind"][scene.nobodies] = FORGOTTEN
                scene.nobodies.clear()
            scene.state = state

    def tag(self, here: Node, state: VnetState, family: int) -> int:
        """Return the number that stands for a V-net seen from a node, and a family."""
        if state.vnet is None:
            raise ValueError("a V-net that is gone has no sides")
        scene = self._scenes.get((here.id, state.vnet.vni))
        if scene is None:
            scene = self._scenes[here.id, state.vnet.vni] = Scene(here, state)
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

    def _set_rows(self, rows: Rows) -> None:
        self._rows = rows
        self._bytes = rows.view(np.uint8).data

    def _number(self, marks: Any, numbers: Any) -> Any:
        """Give a number to each mark that has none yet."""
        new = np.flatnonzero(numbers < 0)
        last = self._count + len(new)
        if last > len(self._rows):
            more = max(last, 4 * len(self._rows)) - len(self._rows)
            self._set_rows(np.concatenate([self._rows, np.zeros(more, SIDE)]))
        numbers[new] = np.arange(self._count, last)
        self._index.add(marks[new], numbers[new])
        self._count = last
        return numbers

    def _learn(self, numbers: Any, tags: Any, highs: Any, lows: Any) -> None:
        columns = (column.tolist() for column in (numbers, tags, highs, lows))
        for number, tag, high, low in zip(*columns, strict=True):
            address = high.to_bytes(8, "little") + low.to_bytes(8, "little")
            places, rules_class, location, kind, hole_bits = self._describe(tag, address, number)
            spread, other_spread = (
                zlib.crc32(address + ZERO) ^ _NO_ADDRESSES_SPREAD,
                zlib.crc32(ZERO + address),
            )
            row = (high, low, tag, *places, rules_class, location, spread, other_spread, kind, hole_bits)
            _SIDE.pack_into(self._bytes, number * _SIDE.size, *row)

    def _describe(self, tag: int, address: bytes, number: int) -> _Description:
        found = self._families[tag]
        if found is None:
            return _PLAIN_SIDE
        scene, family = found
        state, unused = scene.state, _UNUSED_BYTES.get(family, 0)
        if any(address[:unused]) or is_gateway_address(state, address, family):
            return _PLAIN_SIDE
        holders = state.find_holders(family, address)
        if not holders:
            scene.nobodies.append(number)
            return _Description(_NOWHERE, 0, -1, NOBODY, state.hole(family, address))
        if len(holders) > 1:
            return _PLAIN_SIDE
        holder = holders[0]
        member = holder.member
        nodes = [
            self._node_id(name)
            for name in (member.nodes if member else (holder.route.via,) if holder.route else ())
        ]
        attachments = [*member.attachments] if member else []
        if len(attachments) > 2 or len(nodes) > 2:
            return _PLAIN_SIDE
        places = (*(*attachments, 0, 0)[:2], *(*nodes, 0, 0)[:2])
        rules_class = self._class_of(scene, family == FAMILY_MAC, state.find_mask(family, address, holder))
        return _Description(places, rules_class, self._locate(scene, holder), MEMBER, 0)

    def _node_id(self, name: str) -> int:
        node = self._snapshot.fabric.nodes.get(name) if self._snapshot else None
        return node.id if node else 0

    def _class_of(self, scene: Scene, mac: bool, mask: int) -> int:
        number = scene.classes.get((mac, mask))
        if number is None:
            number = scene.classes[mac, mask] = len(self.classes)
            self.classes.append(RulesClass(scene.state.rule_set, mac, mask))
        return number

    def _locate(self, scene: Scene, holder: Holder) -> int:
        if self._snapshot is None:
            return -1
        object_id = object_of(holder)
        location = find_location(self._snapshot, scene.state, scene.here, holder, object_id).location
        return -1 if location is None else self.locations.number(location)

    def _drop(self, key: tuple[int, int]) -> None:
        """Forget a V-net as seen from a node: no key leads to its sides any more."""
        scene = self._scenes.pop(key)
        for tag in scene.tags.values():
            self._families[tag] = None
        for number in scene.classes.values():
            self.classes[number] = None

    def _forget(self, scene: Scene, keys: Iterable[tuple[int, bytes]]) -> None:
        """Forget what was learned of addresses, given as (family, packed)."""
        for family, address in keys:
            tag = scene.tags.get(family)
            if tag is None:
                continue
            words = np.frombuffer(address, "<u8")
            tags, high, low = (np.array([word], np.uint64) for word in (tag, *words.tolist()))
            number = self._index.find(mix((tags * _TAG_SPREAD + high * _HIGH_SPREAD) ^ low))[0]
            if number > 0:
                self._rows["kind"][number] = FORGOTTEN
