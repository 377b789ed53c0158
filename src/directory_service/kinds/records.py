# SPDX-License-Identifier: Apache-2.0
"""The directory's records, as they stand in the store.

A record is (kind, name, values) with a 64-bit id that is never reused, the revision of its last change, and
an owner. Its store key is kind/name; what lives in a V-net has the name VNET/NAME.
"""

from collections.abc import Mapping
from sys import intern
from typing import Any

import msgpack
import msgspec

from directory_client.kinds.nouns import NOUNS
from directory_service.store.contract import Item

OWNERS = ("document", "operator", "import")  # what stands before wins
VNET_KINDS = frozenset(("vnet", *(noun.kind for noun in NOUNS if noun.of_vnet)))
FABRIC_KINDS = frozenset(noun.kind for noun in NOUNS) - VNET_KINDS


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record. `document` is the owner's name if it is a document; `revision` is its last change's.

    A directory has a million of them, and looks at the values of few: they stay packed as the store has
    them, and are unpacked each time they are asked for. It is a struct, as all of which there are so many: a
    frozen dataclass takes five times as long to make. None of them leads back to itself, so that the garbage
    collector need not look.
    """

    kind: str
    key: str
    id: int
    revision: int
    owner: str
    document: str
    packed: bytes  # as `encode` returns it

    @property
    def name(self) -> str:
        """The name, VNET/NAME for what lives in a V-net."""
        return self.key.partition("/")[2]

    @property
    def values(self) -> Mapping[str, Any]:
        """The values: a mapping of the caller's own, one for each look."""
        values: Mapping[str, Any] = _unpack(self.packed)[3]
        return values

    @property
    def vnet(self) -> str:
        """The V-net it belongs to, empty for what belongs to none."""
        return self.key.split("/", 2)[1] if self.kind in VNET_KINDS else ""

    @property
    def local_name(self) -> str:
        """The name inside its V-net."""
        inside = self.kind in VNET_KINDS and self.kind != "vnet"
        return self.key.split("/", 2)[2] if inside else self.name


_ANY = msgspec.msgpack.Decoder()
_HEAD = msgspec.msgpack.Decoder(tuple[int, str, str, msgspec.Raw])  # the values are passed over


def _unpack(packed: bytes) -> Any:
    """Return id, owner, document and values, and what a newer program has behind them. Raises ValueError."""
    try:
        return _ANY.decode(packed)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def make_record(
    key: str, id_: int, revision: int, owner: str, document: str, values: Mapping[str, Any]
) -> Record:
    """Return a record of a key kind/name."""
    packed = msgpack.packb([id_, owner, document, dict(values)])
    return Record(intern(key.partition("/")[0]), key, id_, revision, intern(owner), intern(document), packed)


def encode(record: Record) -> bytes:
    """Return the store's value; the same record always gives the same bytes."""
    return record.packed


def decode(item: Item) -> Record:
    """Return the record of a store item."""
    try:
        id_, owner, document, _ = _HEAD.decode(item.value)
    except msgspec.MsgspecError:
        id_, owner, document = _unpack(item.value)[:3]
    kind = intern(item.key.partition("/")[0])
    return Record(kind, item.key, id_, item.modified, intern(owner), intern(document), item.value)


def is_record_key(key: str) -> bool:
    """Tell records from the store's other keys."""
    kind = key.partition("/")[0]
    return kind in FABRIC_KINDS or kind in VNET_KINDS
