# SPDX-License-Identifier: Apache-2.0
"""`names`: what is called how, by object id. Control asks for the ids in its tables that it does not know
yet, and so asks for each once: a name never changes for an id. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set

from directory_service.model.snapshot import Snapshot


class Naming:
    """Remembers the names of one snapshot."""

    def __init__(self) -> None:
        self._of: Snapshot | None = None
        self._shown: dict[int, str] = {}  # nodes and profiles: everybody may see them
        self._vnets: dict[int, str] = {}

    def names(
        self, snapshot: Snapshot, ids: Sequence[int], may_see: Callable[[], Set[str]] | None
    ) -> list[str]:
        """Return a name for each id, "" for one that is not known, or may not be seen. `may_see` gives the
        V-nets that may be (None: all)."""
        if self._of is not snapshot:
            self._of = snapshot
            fabric = snapshot.fabric
            self._shown = {one.id: one.name for one in fabric.nodes.values()}
            self._shown |= {one.id: one.name for one in fabric.profiles.values()}
            self._vnets = {state.vnet.id: name for name, state in snapshot.vnets.items() if state.vnet}
        seen = None if may_see is None else may_see()
        vnets = (self._vnets.get(one, "") for one in ids)
        return [
            self._shown.get(one, "") or (name if seen is None or name in seen else "")
            for one, name in zip(ids, vnets, strict=True)
        ]
