# SPDX-License-Identifier: Apache-2.0
"""The installer's tables in plain Python: what records do, without memory layout, slots or readers.

An independent model for comparing; slow and small on purpose. Objects are named by the directory's ids.
Every method returns True if the record is applied, False if it is refused. Revisions and quotas beyond what
the tests use (256 changes, table sizes) are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network


@dataclass(frozen=True)
class Scope:
    """Two prefixes, in either order if so said; pair-level keys have no ports to compare."""

    source: IPv4Network
    destination: IPv4Network
    either: bool = False

    def covers(self, source: IPv4Address, destination: IPv4Address) -> bool:
        there = source in self.source and destination in self.destination
        back = source in self.destination and destination in self.source
        return there or (self.either and back)


@dataclass
class Vnet:
    object_id: int
    incarnation: int
    floor: int
    applied: int = 0  # revision of the last snapshot
    changes: list[tuple[int, Scope]] = field(default_factory=list)
    peers: set[int] = field(default_factory=set)
    named: set[int] = field(default_factory=set)  # as peers, whether they are there or not
    snapshot: int | None = None  # incarnation of the one that runs
    fresh: set[tuple] = field(default_factory=set)  # set again since it began


@dataclass(frozen=True)
class FlowKey:
    vni: int
    ingress: int  # object
    source: IPv4Address
    destination: IPv4Address


@dataclass
class Flow:
    action: str
    source: int
    destination: int
    to: int
    revision: int
    stale: bool = False


class Tables:
    """All V-nets of one data plane."""

    def __init__(self) -> None:
        self.vnets: dict[int, Vnet] = {}
        self.attachments: dict[int, tuple[int, int, int]] = {}  # object -> vni, port, vlan
        self.ingresses: set[tuple[int, str]] = set()  # vni, remote: what comes from there is of this V-net
        self.tunnels: dict[int, tuple[str, int]] = {}  # object -> remote, revision
        self.named: set[int] = set()  # tunnels, by the one worker
        self.leaving: set[int] = set()
        self.locations: dict[
            tuple[int, int], tuple[str, int, int]
        ] = {}  # vni, object -> kind, target, revision
        self.flows: dict[FlowKey, Flow] = {}

    # ---- V-nets

    def vnet_set(self, vni: int, object_id: int, incarnation: int, revision: int) -> bool:
        if vni in self.vnets and self.vnets[vni].object_id != object_id:
            self.vnet_remove(vni)
        if vni not in self.vnets:
            self.vnets[vni] = Vnet(object_id, incarnation, revision)
        return True

    def vnet_remove(self, vni: int) -> bool:
        if vni not in self.vnets:
            return False
        del self.vnets[vni]
        for other in self.vnets.values():
            other.peers.discard(vni)
        self.attachments = {k: v for k, v in self.attachments.items() if v[0] != vni}
        self.ingresses = {one for one in self.ingresses if one[0] != vni}
        self.locations = {k: v for k, v in self.locations.items() if k[0] != vni}
        self.flows = {k: f for k, f in self.flows.items() if k.vni != vni and f.to != vni}
        return True

    def snapshot_begin(self, vni: int, incarnation: int) -> bool:
        vnet = self.vnets.get(vni)
        if vnet is None:
            return True
        if incarnation != vnet.incarnation:
            self.locations = {k: (v[0], v[1], 0 if k[0] == vni else v[2]) for k, v in self.locations.items()}
            self.tunnels = {k: (remote, 0) for k, (remote, _) in self.tunnels.items()}
        vnet.snapshot = incarnation
        vnet.fresh = set()
        return True

    def snapshot_end(self, vni: int, incarnation: int, revision: int) -> bool:
        vnet = self.vnets.get(vni)
        if vnet is None or incarnation != (vnet.incarnation if vnet.snapshot is None else vnet.snapshot):
            return False
        same = incarnation == vnet.incarnation
        if same and revision < vnet.floor:
            return False
        if vnet.snapshot is not None:
            for object_id in [o for o, a in self.attachments.items() if a[0] == vni]:
                if ("attachment", object_id) not in vnet.fresh:
                    self._attachment_drop(object_id)
            self.ingresses = {
                one for one in self.ingresses if one[0] != vni or ("ingress", one[1]) in vnet.fresh
            }
            vnet.named = {to for to in vnet.named if ("peer", to) in vnet.fresh}
            vnet.peers &= vnet.named
            self._close(lambda k, f: k.vni == vni and f.to != vni and f.to not in vnet.peers)
            for name in [k for k in self.locations if k[0] == vni and ("location", k[1]) not in vnet.fresh]:
                if not self._named(name):
                    del self.locations[name]
        if not same:
            vnet.changes = []
        vnet.floor = vnet.applied = revision
        vnet.incarnation = incarnation
        vnet.snapshot = None
        if not same:  # what another store has forbidden is not known
            self._close(lambda k, f: vni in (k.vni, f.to))
        for key, flow in self.flows.items():
            if vni in (key.vni, flow.to) and flow.revision < revision:
                flow.stale = True
        return True

    def change(self, vni: int, incarnation: int, revision: int, tighten: bool, scope: Scope) -> bool:
        vnet = self.vnets.get(vni)
        if vnet is None or incarnation != vnet.incarnation:
            return False
        if revision <= vnet.applied:
            return True
        vnet.changes.append((revision, scope))
        if tighten:
            self._close(lambda k, f: vni in (k.vni, f.to) and scope.covers(k.source, k.destination))
        else:
            for key, flow in self.flows.items():
                if vni in (key.vni, flow.to) and scope.covers(key.source, key.destination):
                    flow.stale = True
        return True

    def peering_set(self, vni: int, to: int) -> bool:
        if vni not in self.vnets or vni == to:
            return False
        self.vnets[vni].named.add(to)
        if to in self.vnets:
            self.vnets[vni].peers.add(to)
        self.vnets[vni].fresh.add(("peer", to))
        return True

    def peering_remove(self, vni: int, to: int) -> bool:
        if vni not in self.vnets or to not in self.vnets[vni].named:
            return False
        self.vnets[vni].named.discard(to)
        self.vnets[vni].peers.discard(to)
        self._close(lambda k, f: k.vni == vni and f.to == to)
        return True

    # ---- what packets come from and go to

    def attachment_set(self, vni: int, object_id: int, port: int, vlan: int) -> bool:
        vnet = self.vnets.get(vni)
        if vnet is None:
            return False
        if object_id in self.attachments and self.attachments[object_id][0] != vni:
            return False
        other = next(
            (o for o, a in self.attachments.items() if a[1:] == (port, vlan) and o != object_id), None
        )
        if other is not None:
            owner = self.vnets[self.attachments[other][0]]
            if owner.snapshot is None or ("attachment", other) in owner.fresh:
                return False
            self._attachment_drop(other)
        if object_id in self.attachments and self.attachments[object_id] != (vni, port, vlan):
            self._attachment_drop(object_id)
        self.attachments[object_id] = (vni, port, vlan)
        vnet.fresh.add(("attachment", object_id))
        return True

    def attachment_remove(self, vni: int, object_id: int) -> bool:
        if (
            vni not in self.vnets
            or object_id not in self.attachments
            or self.attachments[object_id][0] != vni
        ):
            return False
        self._attachment_drop(object_id)
        return True

    def ingress_set(self, vni: int, remote: str) -> bool:
        if vni not in self.vnets:
            return False
        self.ingresses.add((vni, remote))
        self.vnets[vni].fresh.add(("ingress", remote))
        return True

    def ingress_remove(self, vni: int, remote: str) -> bool:
        if (vni, remote) not in self.ingresses:
            return False
        self.ingresses.remove((vni, remote))
        return True

    def tunnel_set(self, object_id: int, remote: str, revision: int) -> bool:
        if object_id in self.tunnels:
            known, newest = self.tunnels[object_id]
            if known != remote:
                return False
            self.named.add(object_id)
            self.leaving.discard(object_id)
            if revision < newest:
                return False
        self.named.add(object_id)
        self.tunnels[object_id] = (remote, revision)
        return True

    def tunnel_remove(self, object_id: int) -> bool:
        if object_id not in self.tunnels:
            return False
        self.named.discard(object_id)
        self.leaving.add(object_id)
        return True

    def tunnels_begin(self) -> bool:
        self.named = set()
        return True

    def tunnels_end(self) -> bool:
        self.leaving |= self.tunnels.keys() - self.named
        return True

    def tunnels_settle(self) -> None:
        """Those that are leaving go with the last location that leads there."""
        used = {target for kind, target, _ in self.locations.values() if kind == "tunnel"}
        for object_id in self.leaving - used:
            self.leaving.discard(object_id)
            self.tunnels.pop(object_id, None)

    def location_set(
        self, vni: int, object_id: int, kind: str, target: int, revision: int, if_present: bool
    ) -> bool:
        vnet = self.vnets.get(vni)
        if vnet is None:
            return False
        if if_present and (vni, object_id) not in self.locations:
            return True
        if kind == "local" and (target not in self.attachments or self.attachments[target][0] != vni):
            return False
        if kind == "tunnel" and (
            target not in self.tunnels or (vni, self.tunnels[target][0]) not in self.ingresses
        ):
            return False
        if (vni, object_id) in self.locations and revision < self.locations[vni, object_id][2]:
            return False
        self.locations[vni, object_id] = (kind, target, revision)
        vnet.fresh.add(("location", object_id))
        return True

    def location_remove(self, vni: int, object_id: int) -> bool:
        if (vni, object_id) not in self.locations:
            return False
        self._location_drop((vni, object_id))
        return True

    # ---- flows

    def flow_install(
        self,
        key: FlowKey,
        action: str,
        source: int,
        destination: int,
        to: int,
        revision: int,
        incarnation: int,
    ) -> bool:
        vnet = self.vnets.get(key.vni)
        if vnet is None or incarnation != vnet.incarnation:
            return False
        if self.attachments.get(key.ingress, (0,))[0] != key.vni:
            return False
        if action == "drop":
            source = destination = 0
            to = key.vni
        if to != key.vni and (to not in self.vnets or to not in vnet.peers):
            return False
        if source and (key.vni, source) not in self.locations:
            return False
        if action != "drop" and (to, destination) not in self.locations:
            return False
        if self._late(key, key.vni, revision) or (to != key.vni and self._late(key, to, revision)):
            return False
        self.flows[key] = Flow(action, source, destination, to, revision)
        return True

    def _late(self, key: FlowKey, vni: int, revision: int) -> bool:
        vnet = self.vnets[vni]
        covered = any(r > revision and s.covers(key.source, key.destination) for r, s in vnet.changes)
        return revision < vnet.floor or covered

    def _named(self, location: tuple[int, int]) -> bool:
        return any(
            location in ((k.vni, f.source), (f.to, f.destination))
            for k, f in self.flows.items()
            if f.action != "drop"
        )

    def _close(self, wanted) -> None:
        self.flows = {k: f for k, f in self.flows.items() if not wanted(k, f)}

    def _attachment_drop(self, object_id: int) -> None:
        del self.attachments[object_id]
        for name in [k for k, v in self.locations.items() if v[:2] == ("local", object_id)]:
            self._location_drop(name)
        self._close(lambda k, f: k.ingress == object_id)

    def _location_drop(self, name: tuple[int, int]) -> None:
        del self.locations[name]
        self._close(lambda k, f: f.action != "drop" and name in ((k.vni, f.source), (f.to, f.destination)))
