# SPDX-License-Identifier: Apache-2.0
"""What an admin request means to the directory: pure translation of docs/protocol.md section 3 to section
2.2."""

from __future__ import annotations

from typing import Any

from gateway.job import AskDirectory, Refused

DIRECTORY_NOUNS = frozenset({"vnets", "endpoints", "nodes", "sites", "paths", "profiles", "rules", "routes"})
DIRECTORY_NOUNS |= {"attachments", "groups", "documents", "peerings"}
RECORD_KINDS = frozenset(
    {"vnet", "endpoint", "node", "site", "path", "profile", "rule", "route", "attachment"}
)
WRITES = frozenset({"apply", "rollback", "set", "remove"})
READS = frozenset({"export", "history"})


def text_of(value: Any, what: str, *, optional: bool = True) -> str | None:
    if value is None and optional:
        return None
    if not isinstance(value, str) or not value:
        raise Refused(f"{what} is missing or no text", "vnetctl --help", 2)
    return value


def question(request: dict[str, Any]) -> AskDirectory:
    """Translate a request whose verb or noun is the directory's. Raises Refused for bad values."""
    verb = request.get("verb")
    args = request.get("args") or {}
    name = request.get("name")
    if verb == "show":
        fields = {
            "kind": request.get("noun"),
            "vnet": text_of(args.get("vnet"), "vnet"),
            "name": text_of(name, "name"),
        }
        return AskDirectory("list", fields)
    if verb == "apply":
        take_over = args.get("take_over") or []
        if not isinstance(take_over, list) or not all(isinstance(item, str) for item in take_over):
            raise Refused("take_over is no list of names", "vnetctl apply --help", 2)
        fields = {
            "text": text_of(args.get("text"), "text", optional=False),
            "name": text_of(args.get("name"), "name") or "topology.toml",
            "dry_run": args.get("dry_run") is True,
            "take_over": take_over,
            "comment": text_of(args.get("comment"), "comment") or "",
            "user": text_of(args.get("user"), "user") or "",
        }
        return AskDirectory("apply", fields, timeout_s=30.0)
    if verb == "export":
        return AskDirectory("export", {"document": text_of(name, "the document's name", optional=False)})
    if verb == "history":
        limit = args.get("limit", 20)
        if not isinstance(limit, int) or not 0 < limit <= 10_000:
            raise Refused(f"limit {limit!r} is not between 1 and 10000", "vnetctl history --help", 2)
        return AskDirectory("history", {"document": text_of(name, "the document's name"), "limit": limit})
    if verb == "rollback":
        revision = args.get("revision")
        if not isinstance(revision, int) or isinstance(revision, bool) or revision < 0:
            raise Refused(f"revision {revision!r} is no number", "vnetctl history", 2)
        fields = {"revision": revision, "user": text_of(args.get("user"), "user") or ""}
        fields["dry_run"] = args.get("dry_run") is True
        return AskDirectory("rollback", fields, timeout_s=30.0)
    if verb in ("set", "remove"):
        kind = request.get("noun")
        if kind not in RECORD_KINDS:
            raise Refused(f"{kind!r} cannot be changed", f"one of: {' '.join(sorted(RECORD_KINDS))}", 2)
        values = args.get("values") or {}
        if not isinstance(values, dict):
            raise Refused("values is no map", f"vnetctl {kind} --help", 2)
        fields = {
            "kind": kind,
            "name": text_of(name, "name", optional=False),
            "values": values,
            "user": text_of(args.get("user"), "user") or "",
        }
        return AskDirectory(str(verb), fields)
    raise Refused(f"{verb!r} is no verb", "vnetctl --help", 2)
