# SPDX-License-Identifier: Apache-2.0
"""What a dry run asks the gateways, and how their answers become the flows to decide again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from directory_service.editor import Applied

VNETS_MAX = 16  # more V-nets than these: every flow is asked for


def questions(preview: Applied, limit: int) -> list[tuple[str, dict[str, Any]]]:
    """Return (node, admin request) to ask: the flows of the V-nets that the diff names, of all where it
    reaches further."""
    if not preview.diff:
        return []
    requests = [_request(vnet, limit) for vnet in _vnets(preview)]
    new = {line["name"] for line in preview.diff if (line["sign"], line["kind"]) == ("+", "node")}
    return [(node, request) for node in preview.gateways if node not in new for request in requests]


def rows_of_flows(
    answers: Sequence[tuple[int, str, dict[str, Any]]],
) -> tuple[list[dict[str, Any]], int, set[str]]:
    """Return the rows with their node added, how many flows the gateways did not send, and who could not
    say. Of a row that no gateway of ours sends, with values in values, only the node is left."""
    rows: list[dict[str, Any]] = []
    unseen = 0
    failed: set[str] = set()
    for _, node, answer in sorted(answers, key=lambda answer: answer[:2]):
        found, more = answer.get("rows"), answer.get("more")
        if answer.get("ok") is False or not isinstance(found, list):
            failed.add(node)
        else:
            rows += [
                {**(row if _is_flat(row) else {}), "node": node} for row in found if isinstance(row, dict)
            ]
        if isinstance(more, int) and more > 0:
            unseen += more
    return rows, unseen, failed


def _is_flat(row: dict[str, Any]) -> bool:
    return not any(isinstance(value, (dict, list)) for value in row.values())


def _vnets(preview: Applied) -> list[str | None]:
    vnets: set[str] = set()
    new: set[str] = set()  # nobody can have flows of these
    for line in preview.diff:
        kind, name = str(line.get("kind", "")), str(line.get("name", ""))
        if "/" in name:
            vnets.add(name.partition("/")[0])
        elif kind == "vnet":
            (new if line.get("sign") == "+" else vnets).add(name)
        else:
            return [None]  # a node, site, path or profile: any V-net may use it
    known = sorted(vnets - new)
    return [None] if len(known) > VNETS_MAX else [*known]


def _request(vnet: str | None, limit: int) -> dict[str, Any]:
    args: dict[str, Any] = {"limit": limit}
    if vnet is not None:
        args["vnet"] = vnet
    return {"v": 1, "id": 0, "verb": "show", "noun": "flows", "name": None, "args": args}
