# SPDX-License-Identifier: Apache-2.0
"""What an operator's request (docs/protocol.md, section 3) means to the directory (section 2.2). Pure.

Control passes such requests on; vnetctl uses this itself where there is no gateway, only a directory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from directory_client.kinds.nouns import NOUN_OF, NOUNS
from directory_client.wire.limits import DOCUMENT_BYTES_MAX
from directory_client.wire.messages import DirectoryError

DIRECTORY_NOUNS = frozenset({"documents", *(noun.plural for noun in NOUNS)})
RECORD_KINDS = frozenset(NOUN_OF)
READS = frozenset({"export", "history"})
WRITES = frozenset({"apply", "rollback", "set", "remove", "release"})


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the directory's write socket: its type, fields, and how long an answer may take."""

    type: str
    fields: dict[str, Any]
    timeout_s: float = 10.0


def message_of(request: Mapping[str, Any]) -> Message:
    """Translate a request whose verb or noun is the directory's. Raises DirectoryError (code 2) for values
    that are none."""
    verb, name, args = request.get("verb"), request.get("name"), request.get("args") or {}
    user = {"user": _text(args, "user", "")}
    fields: dict[str, Any]
    if verb == "show":
        return Message(
            "list", {"kind": request.get("noun"), "vnet": _text(args, "vnet"), "name": _name(name)}
        )
    if verb == "apply":
        take_over = args.get("take_over") or []
        if not isinstance(take_over, list) or not all(isinstance(item, str) for item in take_over):
            raise DirectoryError("take_over is no list of names", "vnetctl apply --help", 2)
        fields = {
            "text": _text(args, "text"),
            "name": _text(args, "name", "topology.toml"),
            "dry_run": args.get("dry_run") is True,
            "take_over": take_over,
            "comment": _text(args, "comment", ""),
        }
        if fields["text"] is None:
            raise DirectoryError("the document is empty", "vnetctl apply -f topology.toml", 2)
        check_document_size(fields["text"])
        if args.get("expect_revision") is not None:
            fields["expect_revision"] = _number(args, "expect_revision", None, 0, 1 << 62)
        return Message("apply", fields | user, 30.0)
    if verb == "reload":
        return Message("reload", {})
    if verb == "export":
        return Message("export", {"document": _name(name, "the document's name")})
    if verb == "history":
        return Message("history", {"document": _name(name), "limit": _number(args, "limit", 20, 1, 10_000)})
    if verb == "rollback":
        fields = {
            "revision": _number(args, "revision", None, 0, 1 << 62),
            "dry_run": args.get("dry_run") is True,
        }
        return Message("rollback", fields | user, 30.0)
    if verb in ("set", "remove"):
        kind, values = request.get("noun"), args.get("values") or {}
        if kind not in RECORD_KINDS:
            raise DirectoryError(
                f"{kind!r} cannot be changed", f"one of: {' '.join(sorted(RECORD_KINDS))}", 2
            )
        if not isinstance(values, dict):
            raise DirectoryError("values is no map", f"vnetctl {kind} --help", 2)
        fields = {"kind": kind, "name": _name(name, "the name")}
        return Message(str(verb), fields | user | ({"values": values} if verb == "set" else {}))
    if verb == "release":
        return Message("release", {"node": _name(name, "the gateway's name"), **user})
    if verb == "explain":
        fields = {key: _text(args, key) for key in ("vnet", "source", "destination", "protocol", "node")}
        for key in ("vnet", "source", "destination"):
            if not fields[key]:
                raise DirectoryError(f"{key} is missing", "vnetctl explain red web-1 db-1 tcp 5432", 2)
        for key, most in (("port", 65_535), ("source_port", 65_535), ("revision", 1 << 62)):
            if args.get(key) is not None:
                fields[key] = _number(args, key, None, 0, most)
        return Message("explain", fields)
    raise DirectoryError(f"{verb!r:.40} is no verb", "vnetctl --help", 2)


def check_document_size(text: str) -> None:
    """Raise DirectoryError for a document that no directory takes, before it is sent."""
    size = len(text.encode())
    if size > DOCUMENT_BYTES_MAX:
        raise DirectoryError(
            f"the document has {size} bytes, more than DOCUMENT_BYTES_MAX, {DOCUMENT_BYTES_MAX}",
            "make several documents of it",
            2,
        )


def _text(args: Mapping[str, Any], key: str, default: str | None = None) -> str | None:
    value = args.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise DirectoryError(f"{key} is no text", "vnetctl --help", 2)
    return value


def _name(name: Any, required: str = "") -> str | None:
    if name is None and not required:
        return None
    if not isinstance(name, str) or not name:
        raise DirectoryError(f"{required or 'name'} is missing or no text", "vnetctl --help", 2)
    return name


def _number(args: Mapping[str, Any], key: str, default: int | None, least: int, most: int) -> int:
    value = args.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise DirectoryError(f"{key} {value!r:.40} is no number from {least} to {most}", "vnetctl --help", 2)
    return value
