# SPDX-License-Identifier: Apache-2.0
"""What a change does that its records do not show: warnings at apply."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from directory_service.kinds.records import Record
from directory_service.model.snapshot import Snapshot
from directory_service.model.vnet import VnetState

SHOWN_MAX = 5
_OF_LINKS = frozenset(("site", "path", "profile", "node", "vnet"))

Change = tuple[Record | None, Record | None]


def find_consequences(before: Snapshot, after: Snapshot, changes: Sequence[Change]) -> Iterator[str]:
    """Yield sentences about what changes (before, after) make of one snapshot."""
    if any((record := was or now) is not None and record.kind in _OF_LINKS for was, now in changes):
        yield from _parted(before, after)


def _parted(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Tell of V-nets that have nodes in two sites between which there was a way, and is none."""
    lost: dict[tuple[str, str], list[str]] = {}
    for name, state in after.vnets.items():
        old = before.vnets.get(name)
        if old is None or old.vnet is None or state.vnet is None:
            continue
        sites = sorted(_sites(after, state) & _sites(before, old))
        for pair in combinations(sites, 2):
            had = _has_way(before, pair, old.vnet.min_trust)
            if had and not _has_way(after, pair, state.vnet.min_trust):
                lost.setdefault(pair, []).append(name)
    for (one, other), names in lost.items():
        more = f" and {len(names) - SHOWN_MAX} more" if len(names) > SHOWN_MAX else ""
        who = f"V-net{'s' if len(names) > 1 else ''} {', '.join(names[:SHOWN_MAX])}{more}"
        yield f"no path is left between the sites {one} and {other} for {who}"


def _sites(snapshot: Snapshot, state: VnetState) -> set[str]:
    nodes: Iterable[str] = state.nodes_concerned()
    known = snapshot.fabric.nodes
    return {known[name].site for name in nodes if name in known and known[name].site}


def _has_way(snapshot: Snapshot, sites: tuple[str, str], min_trust: int) -> bool:
    return any(path.trust >= min_trust for path in snapshot.fabric.paths_between(*sites))
