# SPDX-License-Identifier: Apache-2.0
"""Random small topologies, edits and queries: crowded, so that everything touches everything.

All is drawn from a random.Random, which a test makes from a seed that Hypothesis draws: drawn piece by piece,
topologies stay too plain for the queries to meet anything.
"""

from collections.abc import Mapping
from random import Random
from typing import Any

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.numbers import IngressKind, KeyClass, KeyFlag
from directory_service.decide.question import Query
from directory_service.documents.integrity import find_faults
from directory_service.documents.writer import Counter, Wanted, plan
from directory_service.model.snapshot import Snapshot, empty_snapshot

VNI = 7001
GATEWAYS = ("g1", "g2", "g3")
FOREIGN = ("v1", "v2")
ENDPOINTS = ("e1", "e2", "e3", "e4", "e5")
SERVICE = "10.0.0.9"
GATEWAY_ADDRESS = "10.0.0.14"
OWN_ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6")
ROUTES = ("10.0.0.8/29", "10.0.0.0/24", "192.168.0.0/16", "192.168.7.0/24")
OTHERS = ("10.0.0.12", "10.0.1.1", "192.168.7.7", "192.168.1.1", "203.0.113.1", "0.0.0.1", "223.255.255.254")
EVERY_ADDRESS = (*OWN_ADDRESSES, SERVICE, GATEWAY_ADDRESS, *OTHERS)
MACS = {name: f"02:00:5e:00:00:{number:02x}" for number, name in enumerate(ENDPOINTS, 1)}
OTHER_MAC = "02:00:5e:00:00:77"
EVERY_MAC = (*MACS.values(), OTHER_MAC, "02:56:4e:00:1b:59")
PORTS = (0, 19, 22, 21, 80, 101, 443, 5432, 6001, 40000, 65535)
SELECTORS = (
    "any",
    "any",
    "group:web",
    "group:db",
    "10.0.0.0/30",
    "192.168.0.0/16",
    "10.0.0.2/32",
    "e1",
    "e2",
)
ANSWER_PORT_LISTS = (["1-65535"], ["40-90", 443], ["32768-40000"])
PORT_LISTS = ([22], [5432], [80, 443], ["20-100"], [22, "443-6000"])

Topology = dict[str, dict[str, Any]]


def draw_topology(random: Random) -> Topology:
    """Draw what documents would declare: store key → values. Always fits together."""
    while True:
        topology = _draw(random)
        if fits(make_snapshot(topology)):
            return topology


def draw_edit(random: Random, before: Topology) -> Topology:
    """Draw a topology that may come after one: some records are those of another one. Fits together."""
    while True:
        other = _draw(random)
        if random.random() < 0.5:
            after = _edit_field(random, before, other)
            if after and fits(make_snapshot(after)):
                return after
            continue
        keys = sorted(key for key in {*before, *other} if before.get(key) != other.get(key))
        taken = random.sample(keys, min(len(keys), random.choice([1, 1, 1, 2, 3, 6, 40])))
        after = {key: values for key, values in before.items() if key not in taken}
        after |= {key: other[key] for key in taken if key in other}
        if "vnet/red" in after and fits(make_snapshot(after)):
            return after


def _edit_field(random: Random, before: Topology, other: Topology) -> Topology | None:
    """Take one field of one record from another topology; where an endpoint is counts as one."""
    kinds = random.choice([("endpoint",), ("endpoint",), ("node", "path", "vnet"), ("rule", "route")])
    keys = sorted(key for key in {*before} & {*other} if key.startswith(kinds) and before[key] != other[key])
    if not keys:
        return None
    key = random.choice(keys)
    fields = sorted({*before[key], *other[key]} - {"at", "node"}) + ["at"] * 3
    field = random.choice([one for one in fields if one not in ("mac", "vni")])
    names: tuple[str, ...] = (field,)
    for together in (("at", "node"), ("proto", "ports", "answer_ports", "direction", "action")):
        if field in together and key.startswith(("endpoint", "rule")):
            names = together
    values = {name: value for name, value in before[key].items() if name not in names}
    values |= {name: other[key][name] for name in names if name in other[key]}
    return {**before, key: values}


def _draw(random: Random) -> Topology:
    out: Topology = {"site/s1": {}, "site/s2": {}}
    profile = random.choice(
        [None, None, {"protocol": "vxlan", "udp_port": 8472}, {"protocol": "vxlan"}, {"protocol": "esp"}]
    )
    if profile:
        out["profile/p1"] = profile
    trusts = ["internet", "carrier", "carrier", "own"]
    for name, sites in (("a", ["s1", "s2"]), ("b", ["s2", "s1"]), ("c", ["s1", "s1"])):
        if random.random() < 0.6:
            out["path/" + name] = {"sites": sites, "trust": random.choice(trusts)}
            if profile and random.random() < 0.4:
                out["path/" + name]["profile"] = "p1"
    for number, name in enumerate((*GATEWAYS, *FOREIGN), 1):
        kind = "gateway" if name in GATEWAYS else "vtep"
        values = {"kind": kind, "site": random.choice(["s1", "s1", "s2"]), "locators": [f"192.0.2.{number}"]}
        if kind == "gateway" and random.random() < 0.1:
            del values["locators"]
        if kind == "vtep" and random.random() < 0.5:
            values["ids"] = {"red": random.choice([7001, 9001])}
        out["node/" + name] = values
    vnet: dict[str, Any] = {"vni": VNI}
    if random.random() < 0.4:
        vnet["min_trust"] = random.choice(["internet", "own"])
    if random.random() < 0.5:
        vnet["gateway_addresses"] = [GATEWAY_ADDRESS]
    if random.random() < 0.2:
        vnet["gateway_mac"] = "02:00:00:00:00:fe"
    if random.random() < 0.2:
        vnet["relays"] = [random.choice(GATEWAYS)]
    out["vnet/red"] = vnet
    if random.random() < 0.1:
        out["vnet/blue"] = {"vni": 7002}
        out["peering/red/blue"] = {}
    places = [f"{gateway}/rack:101" for gateway in GATEWAYS if gateway == "g1" or random.random() < 0.8]
    places += [f"{gateway}/rack:102" for gateway in GATEWAYS if random.random() < 0.3]
    out |= {f"attachment/red/{place}": {} for place in places}
    _draw_endpoints(random, out, places)
    endpoints = [key.rpartition("/")[2] for key in out if key.startswith("endpoint/")]
    for prefix in ROUTES:
        if random.random() < 0.4:
            via = random.choice([*FOREIGN, *endpoints])
            out[f"route/red/{prefix}"] = {"via": via, **({"router_mac": OTHER_MAC} if via in FOREIGN else {})}
    for name in ("r1", "r2", "r3", "r4"):
        if random.random() < 0.6:
            out[f"rule/red/{name}"] = _draw_rule(random, out)
    return out


def _draw_endpoints(random: Random, out: Topology, places: list[str]) -> None:
    free = random.sample(OWN_ADDRESSES, len(OWN_ADDRESSES))
    for name in ENDPOINTS:
        if random.random() < 0.2:
            continue
        values: dict[str, Any] = {"mac": MACS[name]}
        addresses = [free.pop() for _ in range(random.choice([0, 1, 1, 2])) if free]
        if addresses:
            values["addresses"] = addresses
        if random.random() < 0.4:
            values["services"] = [SERVICE]
        if random.random() < 0.3:
            values["preference"] = random.choice([50, 200])
        if random.random() < 0.25:
            values["node"] = random.choice(FOREIGN)
        else:
            values["at"] = random.sample(places, min(len(places), random.choice([1, 1, 2])))
        groups = [group for group in ("web", "db") if random.random() < 0.5]
        if groups:
            values["groups"] = groups
        out[f"endpoint/red/{name}"] = values


def _draw_rule(random: Random, out: Topology) -> dict[str, Any]:
    known = [one for one in SELECTORS if one not in ENDPOINTS or f"endpoint/red/{one}" in out]
    rule: dict[str, Any] = {
        "action": random.choice(["allow", "allow", "allow", "deny"]),
        "from": random.choice(known),
        "to": random.choice(known),
    }
    proto = random.choice(["any", "any", "any", "tcp", "tcp", "udp", "icmp"])
    if proto != "any":
        rule["proto"] = proto
        if proto != "icmp" and random.random() < 0.6:
            rule["ports"] = random.choice(PORT_LISTS)
    if random.random() < 0.25:
        rule["direction"] = "forward"
    elif rule["action"] == "allow" and proto != "icmp" and random.random() < 0.5:
        rule["answer_ports"] = random.choice(ANSWER_PORT_LISTS)
    if random.random() < 0.5:
        rule["priority"] = random.choice([1, 200])
    if rule["action"] == "allow" and random.random() < 0.1:
        rule["stateful"] = True
    return rule


def make_snapshot(
    topology: Mapping[str, Mapping[str, Any]], before: Snapshot | None = None, time_ms: int = 0
) -> Snapshot:
    """Apply a topology to a snapshot (None: an empty one) as one commit."""
    before = before or empty_snapshot(1)
    wanted: dict[str, Wanted | None] = dict.fromkeys(before.records)
    wanted |= {key: Wanted(values, "document", "d") for key, values in topology.items()}
    next_id = max((record.id for record in before.records.values()), default=0) + 1 + before.revision * 1000
    changes, _ = plan(before, wanted, Counter(next_id, 0, 0))
    return before.with_changes(before.revision + 1, changes, time_ms)


def draw_sightings(random: Random, snapshot: Snapshot, time_ms: int = 0) -> Snapshot:
    """Have some members be seen at one of their places, or not any more."""
    state = snapshot.vnets.get("red")
    if state is None or random.random() < 0.5:
        return snapshot
    seen = dict(state.sightings)
    for member in state.members.values():
        if random.random() < 0.5 and member.endpoint.at:
            seen[member.name] = str(random.choice(member.endpoint.at))
        elif random.random() < 0.2:
            seen.pop(member.name, None)
    return snapshot.with_sightings({"red": seen}, snapshot.facts + 1, time_ms)


def fits(snapshot: Snapshot) -> bool:
    """Tell whether the directory would have accepted these records."""
    return not list(find_faults(dict(snapshot.records)))


def draw_query(random: Random, snapshot: Snapshot) -> Query:
    """Draw a query whose source often lives where the packet came from."""
    state = snapshot.by_vni[VNI]
    key_class = random.choice(
        [KeyClass.BRIDGED] * 4 + [KeyClass.ROUTED, KeyClass.NEIGHBOR, KeyClass.NEIGHBOR, KeyClass.MAC]
    )
    source, destination = draw_end(random, key_class), draw_end(random, key_class)
    family = 0 if key_class == KeyClass.MAC else 4
    likely: list[tuple[int, int]] = []
    for holder in state.holders(family, source):
        spots = holder.member.spots if holder.member else ()
        likely += [(int(IngressKind.ATTACHMENT), spot.attachment) for spot in spots if spot.attachment]
        names = [spot.node for spot in spots] if holder.member else [holder.route.via] if holder.route else []
        likely += [(int(IngressKind.NODE), snapshot.fabric.nodes[name].id) for name in names]
    anywhere = [(int(IngressKind.ATTACHMENT), one) for one in state.attachments_by_id]
    anywhere += [(int(IngressKind.NODE), one) for one in snapshot.fabric.nodes_by_id]
    ingress = random.choice(likely if likely and random.random() < 0.8 else anywhere)
    flags, protocol, ports = 0, 0, (0, 0)
    if key_class in (KeyClass.BRIDGED, KeyClass.ROUTED) and random.random() < 0.6:
        flags = int(KeyFlag.CONNECTION)
        protocol, ports = (
            random.choice([0, 1, 6, 6, 6, 17, 17, 47]),
            (random.choice(PORTS), random.choice(PORTS)),
        )
    return Query(VNI, key_class, flags, protocol, ingress[0], source, destination, *ports, ingress[1])


def draw_end(random: Random, key_class: int) -> bytes:
    """Draw a packed address for a key of this class."""
    if key_class == KeyClass.MAC:
        return bytes.fromhex(random.choice(EVERY_MAC).replace(":", "")).rjust(16, b"\0")
    if key_class == KeyClass.NEIGHBOR and random.random() < 0.1:
        return bytes(16)
    return pack_address(random.choice(EVERY_ADDRESS))
