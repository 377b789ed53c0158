# SPDX-License-Identifier: Apache-2.0
"""What an operator's request (docs/protocol.md, section 3) means to the directory (section 2.2). Pure.

Control passes such requests on; vnetctl uses this itself where there is no gateway, only a directory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds.nouns import NOUN_OF, NOUNS
from directory_client.wire.limits import AT_ONCE_BYTES_MAX, DOCUMENT_BYTES_MAX, PIECE_BYTES
from directory_client.wire.messages import DirectoryError, MalformedMessage, Request, check
from directory_client.wire.requests import REQUESTS

DIRECTORY_NOUNS = frozenset({"documents", *(noun.plural for noun in NOUNS)})
RECORD_KINDS = frozenset(NOUN_OF)
READS = frozenset({"export", "history"})
HISTORY_ROWS = 20  # where nobody says how many
LONG_S = 30.0  # for what may take long
WRITES = frozenset({"apply", "piece", "rollback", "set", "remove", "release"})


@dataclass(frozen=True, slots=True)
class Message:
    """What is asked over the directory's write socket, and how long an answer may take."""

    request: Request
    timeout_s: float = 10.0

    @property
    def type(self) -> str:
        """What it asks for."""
        return self.request.type

    @property
    def fields(self) -> dict[str, Any]:
        """What it says, by name."""
        said = ((name, getattr(self.request, name)) for name in self.request.__struct_fields__)
        return {name: value for name, value in said if value is not None and name not in ("v", "id")}


def message_of(request: Mapping[str, Any]) -> Message:
    """Translate a request whose verb or noun is the directory's. Raises DirectoryError (code 2) for values
    that are none."""
    verb, noun, name = request.get("verb"), request.get("noun"), request.get("name")
    args: Mapping[str, Any] = request.get("args") or {}
    said = {key: value for key, value in args.items() if value is not None and value != ""}
    said.pop("wait_ms", None)  # how long to wait for gateways is for who asks the directory itself
    match verb:
        case "show":
            return _message("list", {"kind": noun, "vnet": said.get("vnet"), "name": name}, "show")
        case "apply":
            if not said.get("text") and said.get("upload") is None:
                raise DirectoryError("the document is empty", "vnetctl apply -f topology.toml", 2)
            message = _message("apply", {"name": "topology.toml", **said}, timeout_s=LONG_S)
            if said.get("upload") is None:
                check_size_at_once(message.fields["text"])
            return message
        case "piece":
            return _message("piece", said, "apply")
        case "rollback":
            return _message("rollback", said, timeout_s=LONG_S)
        case "set" | "remove":
            if not isinstance(noun, str) or noun not in RECORD_KINDS:
                known = " ".join(sorted(RECORD_KINDS))
                raise DirectoryError(f"{noun!r:.40} cannot be changed", f"one of: {known}", 2)
            return _message(verb, {"values": {}, **said, "kind": noun, "name": name}, f"{noun} {verb}")
        case "explain":
            return _message("explain", said)
        case "history":
            return _message("history", {"limit": HISTORY_ROWS, **said, "document": name})
        case "export":
            return _message("export", {**said, "document": name})
        case "release":
            return _message("release", {**said, "node": name})
        case "reload":
            return _message("reload", {})
    raise DirectoryError(f"{verb!r:.40} is no verb", "vnetctl --help", 2)


def _message(type: str, said: Mapping[str, Any], command: str = "", timeout_s: float = 10.0) -> Message:
    """Return what is declared of what is said. Raises DirectoryError."""
    present = {key: value for key, value in said.items() if value is not None and value != ""}
    try:
        return Message(check({**present, "type": type}, REQUESTS[type], type), timeout_s)
    except MalformedMessage as error:
        raise DirectoryError(error.error, f"vnetctl {command or type} --help", 2) from None


def check_document_size(text: str) -> None:
    """Raise DirectoryError for a document that no directory takes, before it is sent."""
    size = byte_length(text)
    if size > DOCUMENT_BYTES_MAX:
        raise DirectoryError(
            f"the document has {size} bytes, more than DOCUMENT_BYTES_MAX, {DOCUMENT_BYTES_MAX}",
            "make several documents of it",
            2,
        )


def check_size_at_once(text: str) -> None:
    """Raise DirectoryError for a document that does not fit into one message."""
    size = byte_length(text)
    if size > AT_ONCE_BYTES_MAX:
        raise DirectoryError(
            f"the document has {size} bytes, and one message at most AT_ONCE_BYTES_MAX, {AT_ONCE_BYTES_MAX}",
            "vnetctl apply sends it in pieces",
            2,
        )


def byte_length(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def pieces_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield a text in pieces that fit into messages, each with the number of characters before it."""
    step = PIECE_BYTES // (1 if text.isascii() else 4)
    for at in range(0, len(text), step):
        yield at, text[at : at + step]
