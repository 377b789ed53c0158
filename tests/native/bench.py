# SPDX-License-Identifier: Apache-2.0
"""A pipeline and its oracle side by side: tables are filled in both, frames go through both."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

import model
from fastpath import records
from fastpath.probe import PortSpec, Probe
from fastpath.records import KeyClass, KeyFlag, RecordType
from model_packets import (
    INSIDE,
    Action,
    Attachment,
    Key,
    Location,
    Outcome,
    Port,
    Remote,
    Sent,
    Tables,
    Tunnel,
    Vnet,
)

INCARNATION = 7
SECOND = 1_000_000_000
MS = 1_000_000
CLASSES = {
    "routed": KeyClass.ROUTED,
    "bridged": KeyClass.BRIDGED,
    "mac": KeyClass.MAC,
    "neighbor": KeyClass.NEIGHBOR,
}


def wide(address: bytes) -> bytes:
    """IPv4 or MAC as it stands in 16 bytes."""
    return bytes(16 - len(address)) + address


def drop_number(name: str) -> int:
    from pathlib import Path
    from re import findall

    text = (Path(__file__).resolve().parents[2] / "native/drop_reasons.def").read_text()
    return {found: int(number) for number, found in findall(r"REASON\((\d+), (\w+)", text)}[name]


class Bench:
    """Names of objects are numbers that it counts out; revision stands still unless a test moves it."""

    def __init__(self, ports: list[Port], **limits: object) -> None:
        self.ports = ports
        self.tables = Tables(ports=ports)
        self.model = model.Pipeline(self.tables)
        specs = [PortSpec(p.role, p.mac, p.mtu, p.partial_checksums) for p in ports]
        self.probe = Probe(specs, **limits)
        for number, port in enumerate(ports):
            if port.underlay_vlans is not None:
                self.probe.set_underlay_vlans(number, sorted(port.underlay_vlans))
        self.now = 1000 * SECOND
        self.objects: dict[object, int] = {}
        self.entropy_seen: dict[bytes, int] = {}
        self.injected = 0
        self.probe.step(self.now)

    def object_id(self, thing: object) -> int:
        return self.objects.setdefault(thing, len(self.objects) + 100)

    def apply(self, rows: np.ndarray) -> None:
        results = self.probe.apply(rows, self.now)
        assert results == [0] * len(results), (results, rows, self.refusals())

    def refusals(self) -> list[tuple[int, int]]:
        raw = np.frombuffer(self.probe.emitted(), records.RECORD)
        rows = records.select(raw, RecordType.REFUSED)
        return [(int(row["refused_type"]), int(row["why"])) for row in rows]

    # -- tables ----------------------------------------------------------------------------------

    def add_vnet(self, vnet: Vnet, **more: int) -> Vnet:
        self.set_vnet(vnet, **more)
        for kind in (RecordType.SNAPSHOT_BEGIN, RecordType.SNAPSHOT_END):
            self.apply(records.make(kind, vni=vnet.vni, revision=1, incarnation=INCARNATION))
        return vnet

    def set_vnet(self, vnet: Vnet, **more: int) -> None:
        self.tables.vnets[vnet.vni] = vnet
        self.apply(
            records.make(
                RecordType.VNET_SET,
                vni=vnet.vni,
                revision=1,
                object_id=self.object_id(("vnet", vnet.vni)),
                incarnation=INCARNATION,
                gateway_mac=vnet.gateway_mac,
                gateway_address=wide(vnet.gateway_address),
                **more,
            )
        )

    def add_attachment(self, vnet: Vnet, port: int, vlan: int, mtu: int = 0) -> Attachment:
        found = Attachment(vnet.vni, port, vlan, mtu or self.ports[port].mtu)
        self.tables.attachments[port, vlan] = found
        self.apply(
            records.make(
                RecordType.ATTACHMENT_SET,
                vni=vnet.vni,
                revision=1,
                object_id=self.object_id(found),
                port=f"port{port}",
                vlan=vlan,
                mtu_bytes=mtu,
            )
        )
        return found

    def add_remote(
        self,
        vnet: Vnet,
        node: int,
        local: bytes,
        remote: bytes,
        *,
        wire_id: int | None = None,
        udp_port: int = 4789,
        check: bool = False,
    ) -> Remote:
        wire_id = vnet.vni if wire_id is None else wire_id
        foreign = wire_id != vnet.vni
        found = Remote(vnet.vni, node, not foreign and not check)
        self.tables.locators[local, remote, wire_id] = found
        self.tables.udp_ports.add(udp_port)
        key = np.zeros(1, records.LOCATOR_KEY)
        key["local"], key["remote"] = list(wide(local)), list(wide(remote))
        key["wire_id"], key["protocol"] = wire_id, 1
        self.apply(
            records.make(
                RecordType.INGRESS_SET,
                vni=vnet.vni,
                revision=1,
                key=key,
                node_id=node,
                udp_port=udp_port,
                ingress_flags=(records.IngressFlag.FOREIGN if foreign else 0)
                | (records.IngressFlag.CHECK if check else 0),
            )
        )
        return found

    def add_tunnel(self, tunnel: Tunnel, node: int) -> Tunnel:
        self.apply(
            records.make(
                RecordType.TUNNEL_SET,
                revision=1,
                object_id=self.object_id(tunnel),
                profile_id=1,
                node_id=node,
                local=wide(tunnel.local),
                remote=wide(tunnel.remote),
                udp_port=tunnel.udp_port,
                mtu_bytes=tunnel.mtu,
                protocol=1,
                ttl=tunnel.ttl,
                dscp=tunnel.dscp,
                dscp_copy=tunnel.dscp_copy,
            )
        )
        if tunnel.hop is not None:
            self.set_hops(tunnel, [tunnel.hop])
        return tunnel

    def set_hops(self, tunnel: Tunnel, hops: list[tuple[bytes, bytes, int, int]]) -> None:
        rows = records.make(
            RecordType.NEXTHOP_SET,
            revision=1,
            local=wide(tunnel.local),
            remote=wide(tunnel.remote),
            count=len(hops),
        )
        for i, (destination, source, port, vlan) in enumerate(hops):
            hop = rows["hop"][0][i]
            hop["destination_mac"], hop["source_mac"] = list(destination), list(source)
            hop["port"], hop["vlan"] = port, vlan
        self.apply(rows)

    def add_set(self, vnet_tunnels: list[Tunnel], weights: list[int], mode: int) -> int:
        number = self.object_id(("set", len(self.objects)))
        for first in range(0, len(weights), 8):  # so many a record
            flags = (4 if first == 0 else 0) | (2 if first + 8 >= len(weights) else 0)
            rows = records.make(
                RecordType.TUNNEL_GROUP_SET,
                revision=1,
                flags=flags,
                object_id=number,
                mode=mode,
                count=len(weights),
            )
            tunnels = [self.object_id(tunnel) for tunnel in vnet_tunnels[first : first + 8]]
            rows["tunnel"][0][: len(tunnels)] = tunnels
            rows["weight"][0][: len(tunnels)] = weights[first : first + 8]
            self.apply(rows)
        return number

    def add_location(self, location: Location, name: object, target_id: int = 0, kind: int = 0) -> Location:
        """A second call for the same name moves it."""
        local = isinstance(location.target, Attachment)
        self.objects[location] = self.object_id((location.vni, name))
        self.apply(
            records.make(
                RecordType.LOCATION_SET,
                vni=location.vni,
                revision=1,
                object_id=self.objects[location],
                target_id=target_id or self.object_id(location.target),
                node_id=location.node,
                wire_id=location.wire_id,
                kind=kind or (1 if local else 2),
                mac=location.mac,
            )
        )
        return location

    def ingress_index(self, ingress: Attachment | Remote) -> int:
        if isinstance(ingress, Attachment):
            return self.probe.ingress_by_vlan(ingress.port, ingress.vlan)
        local, remote, wire_id = next(k for k, v in self.tables.locators.items() if v == ingress)
        return self.probe.ingress_by_locator(wide(local), wide(remote), wire_id)

    def native_key(self, key: Key) -> np.ndarray:
        protocol, source_port, destination_port = key.connection or (0, 0, 0)
        return records.make_keys(
            source=wide(key.source),
            destination=wide(key.destination),
            protocol=protocol,
            source_port=struct.unpack("<H", struct.pack("!H", source_port))[0],
            destination_port=struct.unpack("<H", struct.pack("!H", destination_port))[0],
            key_class=CLASSES[key.key_class],
            flags=KeyFlag.CONNECTION if key.connection else 0,
            ingress=self.ingress_index(key.ingress),
        )

    def flow_rows(
        self, key: Key, action: Action, *, token: int = 0, lifetime_ms: int = 600_000
    ) -> np.ndarray:
        number = records.Action
        op = {"drop": number.DROP, "answer": number.ANSWER, "narrow": number.NARROW}.get(action.op)
        if op is None:
            assert action.destination is not None
            inside = isinstance(key.ingress, Attachment)
            if isinstance(action.destination.target, Attachment):
                op = number.DELIVER
            else:
                op = number.ENCAPSULATE if inside else number.RELAY
        ingress = key.ingress.node if isinstance(key.ingress, Remote) else self.object_id(key.ingress)
        return records.make(
            RecordType.FLOW_INSTALL,
            vni=key.ingress.vni,
            revision=1,
            key=self.native_key(key),
            reason=drop_number(action.reason) if action.op == "drop" else 0,
            action=op,
            ingress_object=ingress,
            source_object=self.objects[action.source] if action.source else 0,
            destination_object=self.objects[action.destination] if action.destination else 0,
            destination_vni=action.destination.vni if action.destination else 0,
            lifetime_ms=lifetime_ms,
            token=token,
            incarnation=INCARNATION,
        )

    def add_flow(self, key: Key, action: Action, **more: int) -> None:
        self.tables.flows[key] = action
        self.apply(self.flow_rows(key, action, **more))

    def try_flow(self, key: Key, action: Action) -> bool:
        """Add a flow if the installer lets it through."""
        if self.probe.apply(self.flow_rows(key, action), self.now) != [0]:
            self.probe.emitted()
            return False
        self.tables.flows[key] = action
        return True

    def allow(self, key: Key, destination: Location, source: Location | None = None) -> None:
        self.add_flow(key, Action("forward", destination=destination, source=source))

    # -- frames ----------------------------------------------------------------------------------

    def send(self, *frames: tuple[int, bytes], segments: int = 1) -> None:
        """Inject and step, a burst at a time."""
        for at in range(0, len(frames), 32):
            for port, frame in frames[at : at + 32]:
                self.probe.inject(port, frame, segments)
                self.injected += 1
            self.probe.step(self.now)

    def through(self, port: int, frame: bytes) -> Outcome:
        """Send one frame; return what happened to it, told from counters, rings and ports alone."""
        before = self.probe.counters()
        self.send((port, frame))
        after = self.probe.counters()
        self.assert_accounted(after)
        sent = tuple(self.blank(number, out) for number, out in self.probe.sent())
        exceptions = self.probe.exceptions()
        reasons = {
            name: count - before["dropped"].get(name, 0)
            for name, count in after["dropped"].items()
            if count != before["dropped"].get(name, 0)
        }
        hows = [how for how in ("forwarded", "delivered", "relayed", "answered") if after[how] != before[how]]
        if exceptions:
            assert exceptions == [(port, self.model.handed_over(port, frame))]
            hows.append("exception")
        if reasons:
            hows.append("dropped")
        if after["held_now"] != before["held_now"]:
            hows.append("held")
        assert len(hows) == 1, (hows, reasons)
        return Outcome(hows[0], next(iter(reasons), ""), sent)

    def compare(self, port: int, frame: bytes) -> Outcome:
        """One frame through both. Nothing may stay held: a held key is dropped afterwards."""
        expected = self.model.receive(port, frame)
        got = self.through(port, frame)
        told = replace(expected, key=None, locator=None)
        assert got == told, f"port {port}: {frame.hex()}\nnative: {got}\nmodel:  {told}"
        if expected.how == "held" and expected.key is None:  # a later fragment: its first one does not come
            unknown = self.probe.counters()["dropped"].get("fragment_unknown", 0)
            self.now += 100 * MS
            self.probe.step(self.now)
            after = self.probe.counters()
            assert (after["held_now"], after["dropped"]["fragment_unknown"]) == (0, unknown + 1)
            return Outcome("dropped", "fragment_unknown")
        if expected.how == "held":
            assert expected.key is not None
            rows = records.select(
                np.frombuffer(self.probe.records(self.worker(expected.key)), records.RECORD), RecordType.MISS
            )
            assert len(rows) == 1
            assert rows["key"].tobytes() == self.native_key(expected.key).tobytes()
            self.now += SECOND + 200 * MS  # it expires
            self.probe.step(self.now)
            self.probe.records(0), self.probe.records(1)
            assert self.probe.counters()["held_now"] == 0
        return expected

    def worker(self, key: Key) -> int:
        return 0

    def blank(self, port: int, frame: bytes) -> Sent:
        """What was sent, with the outer UDP source port taken out if it is a tunnel packet of ours."""
        at = 14 + (4 if frame[12:14] == b"\x81\x00" else 0)
        udp = at + 20
        if self.ports[port].role == INSIDE or len(frame) < udp + 16 or frame[at + 9] != 17:
            return Sent(port, frame)
        (source_port,) = struct.unpack_from("!H", frame, udp)
        assert source_port >= 49152
        return Sent(port, frame[:udp] + b"\0\0" + frame[udp + 2 :], udp)

    def assert_accounted(self, counters: dict) -> None:
        ended = sum(counters[how] for how in ("forwarded", "delivered", "relayed", "answered", "exceptions"))
        assert counters["received"] == ended + sum(counters["dropped"].values()) + counters["held_now"]
        assert counters["received"] == self.injected
