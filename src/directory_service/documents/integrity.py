# SPDX-License-Identifier: Apache-2.0
"""Whether records fit together: every name they use is there, no number or address is used twice.

Checked on all records that there would be after a change, so that what is removed is noticed as well.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from directory_client.vocabulary.addresses import pack_address
from directory_client.vocabulary.names import derive_gateway_mac, format_mac, parse_place, suggest
from directory_service.documents.doubts import find_doubts
from directory_service.kinds.records import Record
from directory_service.model.fabric import Presence


class Fault(NamedTuple):
    """What does not fit: the record's key, the field at fault if it is one, the problem and a remedy."""

    key: str
    field: str | None
    problem: str
    fix: str


def find_faults(records: Mapping[str, Record]) -> Iterator[Fault]:
    """Yield what does not fit together."""
    yield from _Checker(records).all()


def find_warnings(
    records: Mapping[str, Record], names: Iterable[str], presences: Mapping[str, Presence]
) -> Iterator[str]:
    """Yield sentences on what fits but may not be meant, about the records of these keys."""
    named = [record for key in names if (record := records.get(key)) is not None]
    groups: dict[str, set[str]] = {}
    if any(record.kind == "rule" for record in named):
        for record in records.values():
            if record.kind == "endpoint":
                groups.setdefault(record.vnet, set()).update(record.values.get("groups", ()))
    for record_ in named:
        vnet = records.get("vnet/" + record_.vnet) if record_.vnet else None
        yield from find_doubts(record_, vnet.values if vnet is not None else {})
        if record_.kind == "rule":
            for side in ("from", "to"):
                group = record_.values[side].removeprefix("group:")
                known = groups.get(record_.vnet, set())
                if group != record_.values[side] and group not in known:
                    yield f"rule {record_.name}: nobody is in group {group}; {suggest(group, known)}"
        elif record_.kind == "attachment":
            place = parse_place(record_.local_name)
            said = presences.get(place.node)
            if said is not None and place.port not in said.ports:
                ports = ", ".join(said.ports) or "none"
                here = f"{place.node} has no inside port {place.port}"
                yield f"attachment {record_.name}: {here}; it has {ports}"


class _Attached:
    """The attachments of a V-net: their places, by node, and the nodes that have one, where `node` says
    all."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.places = {record.local_name for record in records}
        self.by_node: dict[str, list[str]] = {}
        for place in self.places:
            self.by_node.setdefault(place.partition("/")[0], []).append(place)
        self.once = {node for node, places in self.by_node.items() if len(places) == 1}


class _Checker:
    def __init__(self, records: Mapping[str, Record]) -> None:
        self.by_kind: dict[str, dict[str, Record]] = {}
        self.ranges: dict[tuple[str, ...], list[tuple[bool, bytes, bytes]]] = {}
        self.inside: dict[str, dict[str, list[Record]]] = {}
        for record in sorted(records.values(), key=lambda record: record.revision):  # the newest is at fault
            self.by_kind.setdefault(record.kind, {})[record.name] = record
            if record.vnet:
                self.inside.setdefault(record.vnet, {}).setdefault(record.kind, []).append(record)

    def all(self) -> Iterator[Fault]:
        for record in self._of("path").values():
            for site in record.values["sites"]:
                yield from self._known(record, "sites", "site", site)
            if record.values.get("profile"):
                yield from self._known(record, "profile", "profile", record.values["profile"])
        yield from self._nodes()
        yield from self._vnets()
        for vnet, kinds in self.inside.items():
            owner = self._of("vnet").get(vnet)
            if owner is None:
                record = next(record for records in kinds.values() for record in records)
                yield Fault(
                    record.key,
                    None,
                    f"V-net {vnet} is not declared",
                    suggest_new("vnet", vnet, self._of("vnet")),
                )
                continue
            yield from self._endpoints(owner, kinds)
            yield from self._routes(owner, kinds)
            yield from self._rules(kinds)
        yield from self._attachments()

    def _of(self, kind: str) -> dict[str, Record]:
        return self.by_kind.get(kind, {})

    def _known(self, record: Record, field: str | None, kind: str, name: str) -> Iterator[Fault]:
        if name not in self._of(kind):
            fix = suggest_new(kind, name, self._of(kind))
            yield Fault(record.key, field, f"{kind} {name} is not declared", fix)

    def _nodes(self) -> Iterator[Fault]:
        locators: dict[str, str] = {}
        for record in self._of("node").values():
            if record.values.get("site"):
                yield from self._known(record, "site", "site", record.values["site"])
            for locator in record.values.get("locators", ()):
                if locator in locators:
                    problem = f"locator {locator} is already node {locators[locator]}'s"
                    yield Fault(record.key, "locators", problem, "give each node its own")
                locators[locator] = record.name
            wires: dict[int, str] = {}
            for vnet, wire in record.values.get("ids", {}).items():
                yield from self._known(record, "ids", "vnet", vnet)
                if wire in wires:
                    problem = f"id {wire} stands for {wires[wire]} and for {vnet}"
                    yield Fault(record.key, "ids", problem, "use each id once")
                wires[wire] = vnet
            if wires:
                yield from self._wires(record, wires)

    def _wires(self, record: Record, wires: Mapping[int, str]) -> Iterator[Fault]:
        """A V-net that has no id of its own at a peer stands there with its VNI."""
        for vnet in self._of("vnet").values():
            if vnet.name in record.values["ids"]:
                continue
            other = wires.get(vnet.values["vni"])
            if other is not None and self._lives_at(vnet.name, record.name):
                problem = f"id {vnet.values['vni']} stands for {other} and is the VNI of {vnet.name}"
                yield Fault(record.key, "ids", problem, f"give {vnet.name} an id of its own here")

    def _lives_at(self, vnet: str, node: str) -> bool:
        kinds = self.inside.get(vnet, {})
        return any(record.values.get("node") == node for record in kinds.get("endpoint", ())) or any(
            record.values["via"] == node for record in kinds.get("route", ())
        )

    def _vnets(self) -> Iterator[Fault]:
        vnis: dict[int, str] = {}
        for record in self._of("vnet").values():
            vni = record.values["vni"]
            if vni in vnis:
                problem = f"vni {vni} is already V-net {vnis[vni]}'s"
                free = next(number for number in range(vni + 1, vni + 2 + len(vnis)) if number not in vnis)
                yield Fault(record.key, "vni", problem, f"choose another, for example {free}")
            vnis[vni] = record.name
            for relay in record.values.get("relays", ()):
                yield from self._known(record, "relays", "node", relay)
            for address in record.values.get("gateway_addresses", ()):
                yield from self._in_prefixes(record, record, "gateway_addresses", address)
        for record in self._of("peering").values():
            other = record.local_name
            if other == record.vnet:
                yield Fault(record.key, None, f"V-net {other} is its own peer", "remove it")
            yield from self._known(record, None, "vnet", other)

    def _in_prefixes(self, vnet: Record, record: Record, field: str, address: str) -> Iterator[Fault]:
        prefixes = tuple(vnet.values.get("prefixes", ()))
        if not prefixes or self._is_inside(address, prefixes):
            return
        problem = f"{address} is outside the prefixes of {vnet.name}: {', '.join(prefixes)}"
        wider = ipaddress.ip_network(f"{address}/{64 if ':' in address else 24}", strict=False)
        yield Fault(record.key, field, problem, f'correct it, or add "{wider}" to vnet.{vnet.name}.prefixes')

    def _is_inside(self, address: str, prefixes: tuple[str, ...]) -> bool:
        packed = pack_address(address)
        ranges = self._ranges_of(prefixes)
        return any(low <= packed <= high for ipv6, low, high in ranges if ipv6 == (":" in address))

    def _ranges_of(self, prefixes: tuple[str, ...]) -> list[tuple[bool, bytes, bytes]]:
        """Return (is IPv6, first, last packed address) of each prefix."""
        ranges = self.ranges.get(prefixes)
        if ranges is None:
            networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
            ranges = [
                (net.version == 6, pack_address(net.network_address), pack_address(net.broadcast_address))
                for net in networks
            ]
            self.ranges[prefixes] = ranges
        return ranges

    def _attachments(self) -> Iterator[Fault]:
        places: dict[str, Record] = {}
        for record in self._of("attachment").values():
            place = parse_place(record.local_name)
            yield from self._known(record, "nodes", "node", place.node)
            node = self._of("node").get(place.node)
            if node is not None and node.values["kind"] != "gateway":
                problem = f"{place.node} is a {node.values['kind']}: only gateways of ours have attachments"
                yield Fault(record.key, "nodes", problem, f'endpoints there say node = "{place.node}"')
            other = places.get(record.local_name)
            if other is not None:
                problem = f"{place} is already attached to V-net {other.vnet}"
                yield Fault(record.key, "vlan", problem, "choose another VLAN or port")
            places[record.local_name] = record

    def _endpoints(self, vnet: Record, kinds: Mapping[str, list[Record]]) -> Iterator[Fault]:
        here = _Attached(kinds.get("attachment", ()))
        prefixes = tuple(vnet.values.get("prefixes", ()))
        gateway_mac = vnet.values.get("gateway_mac") or format_mac(derive_gateway_mac(vnet.values["vni"]))
        macs: dict[str, str] = {gateway_mac: "the V-net's gateway"}
        held: dict[str, str] = dict.fromkeys(vnet.values.get("gateway_addresses", ()), "the V-net's gateway")
        services: dict[str, str] = {}
        for record in kinds.get("endpoint", ()):
            values = record.values
            mac = values["mac"]
            if mac in macs:
                yield Fault(
                    record.key, "mac", f"mac {mac} is already {macs[mac]}'s", "give each endpoint its own"
                )
            macs[mac] = record.name
            for address in values.get("addresses", ()):
                if prefixes and not self._is_inside(address, prefixes):
                    yield from self._in_prefixes(vnet, record, "addresses", address)
                if address in held:
                    fix = "give each endpoint its own; an address that several serve goes into services"
                    yield Fault(record.key, "addresses", f"{address} is already {held[address]}'s", fix)
                held[address] = record.name
            for address in values.get("services", ()):
                yield from self._in_prefixes(vnet, record, "services", address)
                services[address] = record.key
            node = values.get("node")
            if node is None or node not in here.once or node not in self._of("node"):
                yield from self._places(record, values, here)
        for address, key in services.items():
            if address in held:
                fix = "an address is either one endpoint's or a service of several"
                yield Fault(key, "services", f"{address} is already {held[address]}'s", fix)

    def _places(self, record: Record, values: Mapping[str, Any], here: "_Attached") -> Iterator[Fault]:
        for place in values.get("at", ()):
            node = parse_place(place).node
            yield from self._known(record, "at", "node", node)
            if node in self._of("node") and place not in here.places:
                fix = f"{suggest(place, here.places)}, or declare it: [[vnet.{record.vnet}.attachment]]"
                yield Fault(record.key, "at", f"V-net {record.vnet} has no attachment {place}", fix)
        name = values.get("node")
        if not name:
            return
        yield from self._known(record, "node", "node", name)
        node_record = self._of("node").get(name)
        if node_record is None or node_record.values["kind"] != "gateway":
            return
        there = sorted(here.by_node.get(name, ()))
        if not there:
            fix = f'declare one: [[vnet.{record.vnet}.attachment]] with nodes = ["{name}"]'
            yield Fault(record.key, "node", f"V-net {record.vnet} has no attachment on {name}", fix)
        elif len(there) > 1:
            fix = f'say which: at = ["{there[0]}"]'
            problem = f"V-net {record.vnet} has {len(there)} attachments on {name}: {', '.join(there)}"
            yield Fault(record.key, "node", problem, fix)

    def _routes(self, vnet: Record, kinds: Mapping[str, list[Record]]) -> Iterator[Fault]:
        endpoints = {record.local_name for record in kinds.get("endpoint", ())}
        for record in kinds.get("route", ()):
            via = record.values["via"]
            node = self._of("node").get(via)
            if via in endpoints:
                if node is not None:
                    problem = f"{via} is a node and an endpoint of {vnet.name}"
                    yield Fault(record.key, "via", problem, "rename one of them")
                for field in ("router_mac", "id"):
                    if field in record.values:
                        problem = f"behind an endpoint a route has no {field}"
                        yield Fault(record.key, field, problem, "remove it")
            elif node is None:
                fix = suggest(via, endpoints | self._of("node").keys())
                yield Fault(record.key, "via", f"{via} is no node and no endpoint of {vnet.name}", fix)
            elif node.values["kind"] == "gateway":
                problem = f"{via} is a gateway of ours: it does not say who there routes the prefix"
                yield Fault(record.key, "via", problem, "name the endpoint behind which it is")
            elif node.values["kind"] == "vtep" and "router_mac" not in record.values:
                problem = f"the router's MAC at {via} is missing"
                yield Fault(record.key, "via", problem, 'add router_mac = "02:…"')

    def _rules(self, kinds: Mapping[str, list[Record]]) -> Iterator[Fault]:
        endpoints = {record.local_name for record in kinds.get("endpoint", ())}
        for record in kinds.get("rule", ()):
            for side in ("from", "to"):
                selector = record.values[side]
                if selector == "any" or selector.startswith("group:") or "/" in selector:
                    continue
                if selector not in endpoints:
                    problem = f"{selector} is no endpoint of {record.vnet}"
                    yield Fault(
                        record.key, side, problem, f"{suggest(selector, endpoints)}; a group is group:NAME"
                    )


def suggest_new(kind: str, name: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or how to declare it."""
    near = suggest(name, known)
    declare = f"declare it: [{kind}.{name}]"
    return f"{near} Or {declare}" if near.startswith("did you mean") else declare
