# SPDX-License-Identifier: Apache-2.0
"""Random small topologies, edits and queries for Hypothesis: crowded, so that everything touches everything."""

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from directory_client.addresses import pack_address
from directory_client.numbers import IngressKind, KeyClass, KeyFlag
from directory_service.decide import Query
from directory_service.integrity import find_faults
from directory_service.model import Snapshot, empty_snapshot
from directory_service.writer import Counter, Wanted, plan

VNI = 7001
GATEWAYS = ("g1", "g2", "g3")
FOREIGN = ("v1", "v2")
ENDPOINTS = ("e1", "e2", "e3", "e4", "e5")
ADDRESSES = tuple(f"10.0.0.{n}" for n in (1, 2, 3, 4, 5, 6, 9, 14))
SERVICE = "10.0.0.9"
GATEWAY_ADDRESS = "10.0.0.14"
ROUTES = ("10.0.0.8/29", "10.0.0.0/24", "192.168.0.0/16", "192.168.7.0/24")
EVERY_ADDRESS = (
    *ADDRESSES,
    "10.0.0.12",
    "10.0.1.1",
    "192.168.7.7",
    "192.168.1.1",
    "203.0.113.1",
    "0.0.0.1",
    "223.255.255.254",
)
GROUPS = ("web", "db")
MACS = {name: f"02:00:5e:00:00:{number:02x}" for number, name in enumerate(ENDPOINTS, 1)}
OTHER_MAC = "02:00:5e:00:00:77"
PORTS = (22, 80, 443, 5432)
SELECTORS = ("any", "group:web", "group:db", "10.0.0.0/30", "192.168.0.0/16", "10.0.0.2/32", *ENDPOINTS[:2])

Topology = Mapping[str, Mapping[str, Any]]


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """Draw what documents would declare: store key → values. Always fits together."""
    out: dict[str, dict[str, Any]] = {"site/s1": {}, "site/s2": {}}
    trust = st.sampled_from(["internet", "carrier", "own"])
    if draw(st.booleans()):
        out["profile/p1"] = draw(
            st.sampled_from(
                [{"protocol": "vxlan"}, {"protocol": "vxlan", "udp_port": 8472}, {"protocol": "esp"}]
            )
        )
    profiled = {"profile": "p1"} if "profile/p1" in out and draw(st.booleans()) else {}
    for name, sites in (("a", ["s1", "s2"]), ("b", ["s2", "s1"]), ("c", ["s1", "s1"])):
        if draw(st.integers(0, 3)):
            out["path/" + name] = {"sites": sites, "trust": draw(trust), **(profiled if name != "c" else {})}
    for number, name in enumerate(GATEWAYS, 1):
        site = draw(st.sampled_from(["s1", "s1", "s2"]))
        out["node/" + name] = {"kind": "gateway", "site": site, "locators": [f"192.0.2.{number}"]}
        if draw(st.integers(0, 9)) == 0:
            del out["node/" + name]["locators"]
    for number, name in enumerate(FOREIGN, 11):
        out["node/" + name] = {
            "kind": "vtep",
            "site": draw(st.sampled_from(["s1", "s2"])),
            "locators": [f"192.0.2.{number}"],
        }
        if draw(st.booleans()):
            out["node/" + name]["ids"] = {"red": draw(st.sampled_from([7001, 9001]))}
    vnet: dict[str, Any] = {"vni": VNI, "min_trust": draw(trust)}
    if draw(st.booleans()):
        vnet["gateway_addresses"] = [GATEWAY_ADDRESS]
    if draw(st.integers(0, 3)) == 0:
        vnet["relays"] = [draw(st.sampled_from(GATEWAYS))]
    out["vnet/red"] = vnet
    if draw(st.integers(0, 4)) == 0:
        out["vnet/blue"] = {"vni": 7002}
        out["peering/red/blue"] = {}
    places = []
    for gateway in GATEWAYS:
        for vlan in (101, 102):
            if (vlan == 101 and (gateway == "g1" or draw(st.booleans()))) or draw(st.integers(0, 4)) == 0:
                place = f"{gateway}/rack:{vlan}"
                places.append(place)
                out[f"attachment/red/{place}"] = {}
    _draw_endpoints(draw, out, places)
    _draw_routes(draw, out)
    for name in ("r1", "r2", "r3", "r4"):
        if draw(st.booleans()):
            out[f"rule/red/{name}"] = _draw_rule(draw, out)
    return out


def _draw_endpoints(draw: st.DrawFn, out: dict[str, dict[str, Any]], places: list[str]) -> None:
    free = list(
        draw(st.permutations([address for address in ADDRESSES if address not in (SERVICE, GATEWAY_ADDRESS)]))
    )
    for name in ENDPOINTS:
        if draw(st.integers(0, 4)) == 0:
            continue
        values: dict[str, Any] = {"mac": MACS[name]}
        addresses = [free.pop() for _ in range(draw(st.integers(0, 2))) if free]
        if addresses:
            values["addresses"] = addresses
        if draw(st.integers(0, 2)) == 0:
            values["services"] = [SERVICE]
        if draw(st.booleans()):
            values["preference"] = draw(st.sampled_from([50, 200]))
        if draw(st.integers(0, 3)) == 0:
            values["node"] = draw(st.sampled_from(FOREIGN))
        else:
            values["at"] = draw(st.lists(st.sampled_from(places), min_size=1, max_size=2, unique=True))
        groups = draw(st.lists(st.sampled_from(GROUPS), max_size=2, unique=True))
        if groups:
            values["groups"] = groups
        out[f"endpoint/red/{name}"] = values


def _draw_routes(draw: st.DrawFn, out: dict[str, dict[str, Any]]) -> None:
    endpoints = [key.rpartition("/")[2] for key in out if key.startswith("endpoint/")]
    for prefix in ROUTES:
        if draw(st.integers(0, 2)):
            continue
        via = draw(st.sampled_from([*FOREIGN, *endpoints]))
        more = {"router_mac": OTHER_MAC} if via in FOREIGN else {}
        out[f"route/red/{prefix}"] = {"via": via, **more}


def _draw_rule(draw: st.DrawFn, out: dict[str, dict[str, Any]]) -> dict[str, Any]:
    known = [one for one in SELECTORS if not one.startswith("e") or f"endpoint/red/{one}" in out]
    rule: dict[str, Any] = {
        "action": draw(st.sampled_from(["allow", "allow", "allow", "deny"])),
        "from": draw(st.sampled_from(known)),
        "to": draw(st.sampled_from(known)),
    }
    proto = draw(st.sampled_from(["any", "any", "tcp", "udp", "icmp"]))
    if proto != "any":
        rule["proto"] = proto
        if proto != "icmp" and draw(st.booleans()):
            rule["ports"] = draw(st.sampled_from([[22], [5432], [80, 443], ["20-100"], ["443-6000", 22]]))
    if draw(st.integers(0, 3)) == 0:
        rule["direction"] = "forward"
    if draw(st.booleans()):
        rule["priority"] = draw(st.sampled_from([1, 100, 200]))
    if rule["action"] == "allow" and draw(st.integers(0, 6)) == 0:
        rule["stateful"] = True
    return rule


@st.composite
def edits(draw: st.DrawFn) -> tuple[Topology, Topology]:
    """Draw a topology and one that comes after it: a few records taken from another one."""
    before = draw(topologies())
    other = draw(topologies())
    keys = sorted({*before, *other})
    taken = draw(st.sets(st.sampled_from(keys), min_size=1, max_size=draw(st.sampled_from([1, 1, 2, 4, 40]))))
    after = dict(before)
    for key in sorted(taken):
        if key in other:
            after[key] = other[key]
        else:
            after.pop(key, None)
    return before, after


def make_snapshot(topology: Topology, before: Snapshot | None = None, time_ms: int = 0) -> Snapshot:
    """Apply a topology to a snapshot (None: an empty one) as one commit."""
    before = before or empty_snapshot(1)
    wanted: dict[str, Wanted | None] = dict.fromkeys(before.records)
    wanted |= {key: Wanted(values, "document", "d") for key, values in topology.items()}
    next_id = max((record.id for record in before.records.values()), default=0) + 1 + before.revision * 1000
    changes, _ = plan(before, wanted, Counter(next_id, 0, 0))
    return before.with_changes(before.revision + 1, changes, time_ms)


def fits(snapshot: Snapshot) -> bool:
    """Tell whether the directory would have accepted these records."""
    return not list(find_faults(dict(snapshot.records)))


@st.composite
def queries(draw: st.DrawFn, snapshot: Snapshot) -> Query:
    """Draw a query; what it names may or may not be there."""
    attachments = [record.id for record in snapshot.records.values() if record.kind == "attachment"]
    nodes = [record.id for record in snapshot.records.values() if record.kind == "node"]
    kind = draw(st.sampled_from([IngressKind.ATTACHMENT, IngressKind.NODE]))
    ingress = draw(st.sampled_from((attachments or [0]) if kind == IngressKind.ATTACHMENT else nodes))
    key_class = draw(
        st.sampled_from(
            [KeyClass.BRIDGED, KeyClass.BRIDGED, KeyClass.ROUTED, KeyClass.NEIGHBOR, KeyClass.MAC]
        )
    )
    source, destination = draw(ends(key_class)), draw(ends(key_class))
    flags, protocol, ports = 0, 0, (0, 0)
    if key_class in (KeyClass.BRIDGED, KeyClass.ROUTED) and draw(st.booleans()):
        flags = int(KeyFlag.CONNECTION)
        protocol, ports = draw(st.sampled_from([1, 6, 6, 17, 47, 0])), draw(port_pairs())
    return Query(VNI, key_class, flags, protocol, kind, source, destination, *ports, ingress)


def ends(key_class: int) -> st.SearchStrategy[bytes]:
    """Draw a packed address of a key of this class."""
    if key_class == KeyClass.MAC:
        macs = [*MACS.values(), OTHER_MAC, "02:56:4e:00:1b:59"]
        return st.sampled_from([bytes.fromhex(mac.replace(":", "")).rjust(16, b"\0") for mac in macs])
    packed = [pack_address(text) for text in EVERY_ADDRESS]
    if key_class == KeyClass.NEIGHBOR:
        packed.append(bytes(16))
    return st.sampled_from(packed)


def port_pairs() -> st.SearchStrategy[tuple[int, int]]:
    """Draw (source port, destination port)."""
    port = st.sampled_from([*PORTS, 19, 21, 101, 6001, 40000, 0, 65535])
    return st.tuples(port, port)
