# SPDX-License-Identifier: Apache-2.0
"""Frame, pack and check the messages of docs/protocol.md, section 2: the only definition of the directory's
wire.

A message is `[head, part …]`: the head a msgpack map, parts raw rows or msgpack. What comes in is hostile:
sizes, nesting, types and versions are checked here, and everything wrong is a `MalformedMessage`. What a head
says is declared as a `Head` (greeting.py, questions.py, requests.py, answers.py, pushes.py); fields that it
does not declare are skipped, unread, so that a newer end may say more.

Rows are in rows.py, with numpy, which this file does without: a tool that asks for no decisions starts in two
thirds of the time.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, TypeVar, cast

import msgpack
import msgspec

from directory_client.wire.limits import DEPTH_MAX, TEXT_BYTES_MAX

VERSION = 1
VERSIONS = (1, 1)  # the least and the most that this side reads: those of this release and of the one before
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


ASK_THE_GATEWAY = "vnetctl show directories"


class DirectorySilent(DirectoryError):
    """Nobody answered in time (exit status 3)."""

    def __init__(self, error: str, fix: str = ASK_THE_GATEWAY) -> None:
        super().__init__(error, fix, 3)


class MalformedMessage(DirectoryError):
    """Bytes that are no message of this protocol."""

    def __init__(
        self, error: str, fix: str = "compare with docs/protocol.md, section 2", id: int | None = None
    ) -> None:
        super().__init__(error, fix, 2)
        self.id = id


class OtherVersion(MalformedMessage):
    """A message of a version that is not spoken here."""

    why = "version"
    speaks = VERSIONS


class UnknownType(MalformedMessage):
    """A message of a type that is not known here: of a newer release, perhaps."""

    why = "unknown_type"


def _version() -> int:
    return VERSION


class Head(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What every head says. What stands at its default is not sent. Of a Head that `is_free` some fields are
    of any type: those are made of text, bytes, numbers, lists and maps only."""

    is_free: ClassVar[bool] = False
    v: int = msgspec.field(default_factory=_version)  # so that it is sent, though it is the default
    id: int | None = None


class Request(Head, tag_field="type", kw_only=True):
    """What asks for something; the class's tag is the type."""

    @property
    def type(self) -> str:
        """What it asks for."""
        return str(self.__struct_config__.tag)


class Envelope(msgspec.Struct):
    """What is read of a head before it is known of what type it is."""

    v: int | None = None
    id: int | None = None
    type: str = ""


class _Numbered(msgspec.Struct):
    id: int | None = None


AnyHead = TypeVar("AnyHead", bound=msgspec.Struct)


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


def read(frame: bytes | memoryview, kind: type[AnyHead], what: str = "", id: int | None = None) -> AnyHead:
    """Read a hostile head, of a size that was looked at, as what it is declared to be. `what` names it in a
    refusal. Raises MalformedMessage, which says what is wrong with which field."""
    return cast(AnyHead, read_part(frame, kind, what, id, len(frame)))


def read_part(
    frame: bytes | memoryview,
    kind: Any,
    what: str = "",
    id: int | None = None,
    limit_bytes: int = TEXT_BYTES_MAX,
) -> Any:
    """Read a hostile part as what it is declared to be. Raises MalformedMessage."""
    what = what or "the head"
    if len(frame) > limit_bytes:
        raise MalformedMessage(f"{what} of {len(frame)} bytes, at most {limit_bytes} are taken", id=id)
    try:
        if getattr(kind, "is_free", False):
            return msgspec.convert(unpack(frame, what, limit_bytes), kind)
        return decoder_of(kind).decode(frame)
    except msgspec.ValidationError as error:
        raise MalformedMessage(complaint(error, what), id=id) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(f"{what} is not msgpack: {error}", id=id) from None


def check(head: Mapping[str, Any], kind: type[AnyHead], what: str = "the head") -> AnyHead:
    """Return a hostile head that is unpacked already as what it is declared to be. Raises
    MalformedMessage."""
    try:
        return msgspec.convert(head, kind)
    except msgspec.ValidationError as error:
        raise MalformedMessage(complaint(error, what)) from None


@lru_cache(maxsize=256)
def decoder_of(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what reads a declared type."""
    return msgspec.msgpack.Decoder(kind)


def complaint(error: msgspec.ValidationError, what: str) -> str:
    """Say in the words of this house what is wrong with a value that is not as declared."""
    text, _, place = str(error).partition(" - at ")
    field = place.strip("`").removeprefix("$").removeprefix(".")
    if missing := re.fullmatch(r"Object missing required field `(.*)`", text):
        field, text = f"{field}.{missing[1]}".strip("."), "missing"
    text = text[:1].lower() + text[1:].replace("`", "")
    return ": ".join(part for part in (what, field, text) if part)


def read_envelope(frames: Sequence[Any], limit_bytes: int = TEXT_BYTES_MAX) -> Envelope:
    """Read what a message is. Raises MalformedMessage, with the message's id if it has one."""
    if not frames:
        raise MalformedMessage("a message without a head")
    frame = frames[0]
    try:
        envelope: Envelope = read_part(frame, Envelope, limit_bytes=limit_bytes)
    except MalformedMessage as error:
        error.id = _id_of(frame) if len(frame) <= limit_bytes else None
        raise
    check_version(envelope.v, envelope.id)
    return envelope


def check_version(version: int | None, id: int | None = None) -> None:
    """Raise OtherVersion for one that is not spoken here."""
    least, most = VERSIONS
    if version is None or not least <= version <= most:
        spoken = f"{least}" if least == most else f"{least} to {most}"
        raise OtherVersion(
            f"version {version} of the protocol, this side speaks {spoken}",
            "use programs of this release, or of the one before or after",
            id,
        )


def _id_of(frame: bytes | memoryview) -> int | None:
    try:
        return read(frame, _Numbered).id
    except MalformedMessage:
        return None


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


def encode(head: Head | Mapping[str, Any], *parts: Any) -> list[Any]:
    """Make the frames of a message. Parts are bytes or anything with the buffer protocol (numpy rows).

    Raises ValueError, TypeError or OverflowError for what others sent and cannot be packed again."""
    if isinstance(head, Head):
        try:
            return [msgspec.msgpack.encode(head), *parts]
        except RecursionError:
            raise ValueError("it is nested too deep") from None
    return [msgpack.packb({"v": VERSION, **head}), *parts]


def encode_packed(head: Mapping[str, Any], pairs: int, body: bytes) -> list[Any]:
    """Make the frames of a message whose head has more pairs, which are packed already."""
    packer = msgpack.Packer()
    own = {"v": VERSION, **head}
    start: bytes = packer.pack_map_header(len(own) + pairs)
    return [b"".join((start, *(packer.pack(one) for pair in own.items() for one in pair), body))]


def decode(frames: Sequence[Any], limit_bytes: int = TEXT_BYTES_MAX) -> tuple[dict[str, Any], Sequence[Any]]:
    """Split a message into its head, as a map of a version that is spoken here, and its parts."""
    envelope = read_envelope(frames, limit_bytes)
    head = unpack(frames[0], "the head", limit_bytes)
    if not isinstance(head, dict):
        raise MalformedMessage(f"the head is a {type(head).__name__}, not a map", id=envelope.id)
    return head, frames[1:]


def topic_of(node_id: int, vni: int = 0) -> bytes:
    """Name the push topic of a V-net at a node; VNI 0 is the node's own."""
    return TOPIC.pack(node_id, vni)
