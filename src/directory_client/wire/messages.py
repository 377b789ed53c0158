# SPDX-License-Identifier: Apache-2.0
"""Frame, pack and check the messages of docs/protocol.md §2: the only definition of the directory's wire.

A message is `[head, part …]`: the head a msgpack map, parts raw rows or msgpack. What comes in is hostile:
sizes, nesting, types and versions are checked here, and everything wrong is a `MalformedMessage`.

Numpy is only looked at, never copied: `rows_of` gives a read-only view of the frame.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
import numpy as np

from directory_client.wire.limits import TEXT_BYTES_MAX

VERSION = 1
DEPTH_MAX = 32  # of what is passed on; msgpack packs less deep than it unpacks
TOPIC = struct.Struct(">QI")  # node id, VNI; VNI 0: the node itself (heartbeats)
NODE_PREFIX = struct.Struct(">Q")

Frames = Sequence[bytes | memoryview]


class DirectoryError(Exception):
    """A refusal: a sentence, what to do about it, and vnetctl's exit status (1 refused, 2 the input is
    wrong)."""

    def __init__(self, error: str, fix: str = "", code: int = 1) -> None:
        super().__init__(error)
        self.error = error
        self.fix = fix
        self.code = code


class DirectorySilent(DirectoryError):
    """Nobody answered in time (exit status 3)."""

    def __init__(self, error: str, fix: str = "vnetctl show directories") -> None:
        super().__init__(error, fix, 3)


class MalformedMessage(DirectoryError):
    """Bytes that are no message of this protocol."""

    def __init__(
        self, error: str, fix: str = "compare with docs/protocol.md, section 2", id: int | None = None
    ) -> None:
        super().__init__(error, fix, 2)
        self.id = id


def pack(value: Any) -> bytes:
    """Pack a value that we made ourselves."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack(frame: bytes | memoryview, what: str = "part", limit_bytes: int = TEXT_BYTES_MAX) -> Any:
    """Unpack a hostile msgpack value; raises MalformedMessage."""
    if len(frame) > limit_bytes:
        raise MalformedMessage(f"{what} of {len(frame)} bytes, at most {limit_bytes} are taken")
    try:
        # Without explicit limits msgpack takes the length of the buffer as limit of every list, map and
        # string.
        return msgpack.unpackb(frame, max_ext_len=0)
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise MalformedMessage(f"{what} is not msgpack: {error or type(error).__name__}") from error


def is_too_deep(value: Any, most: int = DEPTH_MAX) -> bool:
    """Say whether lists and maps are nested deeper than `most`. Not recursive: the value is hostile."""
    level = [value]
    for _ in range(most):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += [one for one in each.values() if isinstance(one, (dict, list))]
            elif isinstance(each, list):
                inner += [one for one in each if isinstance(one, (dict, list))]
        if not inner:
            return False
        level = inner
    return True


def encode(head: Mapping[str, Any], *parts: Any) -> list[Any]:
    """Make the frames of a message. Parts are bytes or anything with the buffer protocol (numpy rows)."""
    return [msgpack.packb({"v": VERSION, **head}), *parts]


def encode_packed(head: Mapping[str, Any], pairs: int, body: bytes) -> list[Any]:
    """Make the frames of a message whose head has more pairs, which are packed already."""
    packer = msgpack.Packer()
    own = {"v": VERSION, **head}
    start: bytes = packer.pack_map_header(len(own) + pairs)
    return [b"".join((start, *(packer.pack(one) for pair in own.items() for one in pair), body))]


def decode(frames: Sequence[Any], limit_bytes: int = TEXT_BYTES_MAX) -> tuple[dict[str, Any], Sequence[Any]]:
    """Split a message into its head (checked: a map of version 1 with a usable id) and its parts."""
    if not frames:
        raise MalformedMessage("a message without a head")
    head = unpack(frames[0], "the head", limit_bytes)
    if not isinstance(head, dict):
        raise MalformedMessage(f"the head is a {type(head).__name__}, not a map")
    id = head.get("id")
    if id is not None and (isinstance(id, bool) or not isinstance(id, int)):
        raise MalformedMessage("id is not a whole number")
    version = head.get("v")
    if version != VERSION or isinstance(version, bool):
        raise MalformedMessage(
            f"version {version!r:.40} of the protocol, this side speaks {VERSION}",
            "use programs of one release",
            id,
        )
    return head, frames[1:]


def rows_of(frame: Any, dtype: np.dtype[Any], what: str) -> np.ndarray[Any, Any]:
    """Look at a frame as rows; read-only, not copied. Raises MalformedMessage on a part of a row."""
    if len(frame) % dtype.itemsize:
        raise MalformedMessage(
            f"{what}: {len(frame)} bytes are no whole number of {dtype.itemsize}-byte rows"
        )
    return np.frombuffer(frame, dtype=dtype)


def field(head: Mapping[str, Any], name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """Take a field of a head, checked for its type. Raises MalformedMessage; `...` means it has to be
    there."""
    value = head.get(name, default)
    if value is ...:
        raise MalformedMessage(f"{head.get('type', 'message')}: {name} is missing", id=head.get("id"))
    if value is default or (value is None and default is not ...):
        return default
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(k.__name__ for k in kinds)
        raise MalformedMessage(
            f"{head.get('type', 'message')}: {name} is not of type {wanted}", id=head.get("id")
        )
    return value


def names(head: Mapping[str, Any], name: str, default: Any = ...) -> list[str]:
    """Take a list of strings from a head."""
    value: list[str] = field(head, name, list, default)
    if not all(isinstance(item, str) for item in value or ()):
        raise MalformedMessage(
            f"{head.get('type', 'message')}: {name} is not a list of names", id=head.get("id")
        )
    return value


def topic_of(node_id: int, vni: int = 0) -> bytes:
    """Name the push topic of a V-net at a node; VNI 0 is the node's own."""
    return TOPIC.pack(node_id, vni)
