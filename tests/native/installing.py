# SPDX-License-Identifier: Apache-2.0
"""Builds records for the installer's tests in the words of the directory."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import numpy as np

from fastpath import records
from fastpath.arena import Arena
from fastpath.records import (
    Action,
    ChangeKind,
    KeyClass,
    LocationKind,
    Protocol,
    RecordFlag,
    RecordType,
    make,
    make_keys,
)

RED, BLUE = 7001, 7002
RACK, SERVER, WEB, TUNNEL, FAR = 100, 200, 201, 500, 300  # objects of the arena that tests begin with
MS = 1_000_000
PORTS = ["rack", "uplink"]
KINDS = {"local": LocationKind.LOCAL, "tunnel": LocationKind.TUNNEL}


def ip(address) -> bytes:
    return bytes(12) + IPv4Address(address).packed


def open_arena(**config) -> Arena:
    return Arena(
        **(
            {"flows": 1024, "locations": 64, "tunnels": 16, "vnets": 8, "ingresses": 32, "ports": PORTS}
            | config
        )
    )


def vnet(vni, object_id=None, incarnation=1, revision=0, **more):
    return make(
        RecordType.VNET_SET,
        vni=vni,
        object_id=object_id or vni,
        incarnation=incarnation,
        revision=revision,
        **({"stale_max_s": 600, "gateway_mac": b"\x02\0\0\0\0\1"} | more),
    )


def vnet_remove(vni):
    return make(RecordType.VNET_REMOVE, vni=vni)


def snapshot_begin(vni, incarnation=1):
    return make(RecordType.SNAPSHOT_BEGIN, vni=vni, incarnation=incarnation)


def snapshot_end(vni, revision, incarnation=1):
    return make(RecordType.SNAPSHOT_END, vni=vni, revision=revision, incarnation=incarnation)


def tunnels_begin():
    return make(RecordType.SNAPSHOT_BEGIN)


def tunnels_end(workers=1):
    return make(RecordType.SNAPSHOT_END, workers=workers)


def attachment(vni, object_id, port="rack", vlan=0, **more):
    return make(RecordType.ATTACHMENT_SET, vni=vni, object_id=object_id, port=port, vlan=vlan, **more)


def attachment_remove(vni, object_id):
    return make(RecordType.ATTACHMENT_REMOVE, vni=vni, object_id=object_id)


def locator_key(remote, wire_id, local="192.0.2.1"):
    key = np.zeros(1, records.LOCATOR_KEY)
    key["local"] = np.frombuffer(ip(local), np.uint8)
    key["remote"] = np.frombuffer(ip(remote), np.uint8)
    key["wire_id"] = wire_id
    key["protocol"] = Protocol.VXLAN
    return key


def ingress(vni, node_id, remote, wire_id=None, flags=0, udp_port=4789, record_type=RecordType.INGRESS_SET):
    return make(
        record_type,
        vni=vni,
        node_id=node_id,
        key=locator_key(remote, wire_id or vni),
        ingress_flags=flags,
        udp_port=udp_port,
    )


def tunnel(object_id, remote="192.0.2.2", revision=0, **more):
    given = {
        "profile_id": 1,
        "node_id": 9,
        "local": ip("192.0.2.1"),
        "remote": ip(remote),
        "udp_port": 4789,
        "mtu_bytes": 1500,
        "protocol": Protocol.VXLAN,
        "ttl": 64,
    }
    return make(RecordType.TUNNEL_SET, object_id=object_id, revision=revision, **(given | more))


def nexthop(remote="192.0.2.2", count=1, mac=b"\x02\0\0\0\0\x99", mtu_bytes=0, port=1):
    row = make(
        RecordType.NEXTHOP_SET, local=ip("192.0.2.1"), remote=ip(remote), count=count, mtu_bytes=mtu_bytes
    )
    for i in range(count):
        row["hop"]["destination_mac"][0, i] = np.frombuffer(mac, np.uint8)
        row["hop"]["source_mac"][0, i] = np.frombuffer(b"\x02\0\0\0\0\x01", np.uint8)
        row["hop"]["port"][0, i] = port
    return row


def location(vni, object_id, kind="tunnel", target=500, revision=0, flags=0, **more):
    given = {"node_id": 9, "wire_id": vni, "mac": b"\x02\0\0\0\0\x22"}
    return make(
        RecordType.LOCATION_SET,
        vni=vni,
        object_id=object_id,
        kind=KINDS[kind],
        target_id=target,
        revision=revision,
        flags=flags,
        **(given | more),
    )


def location_remove(vni, object_id):
    return make(RecordType.LOCATION_REMOVE, vni=vni, object_id=object_id)


def peering(vni, to, record_type=RecordType.PEERING_SET):
    """The sender's word."""
    return make(record_type, vni=vni, to_vni=to)


def takes(vni, sender, record_type=RecordType.PEERING_SET):
    """The receiver's word: V-net `vni` takes what `sender` sends."""
    return make(record_type, vni=vni, from_vni=sender)


def change(
    vni,
    revision,
    source="0.0.0.0/0",
    destination="0.0.0.0/0",
    kind=ChangeKind.TIGHTEN,
    incarnation=1,
    either=0,
    flags=RecordFlag.FIRST | RecordFlag.LAST,
    protocol=0,
    ports=(0, 65535),
    scope_flags=0,
):
    scope = np.zeros(1, records.SCOPE)
    for name, prefix in (("source", IPv4Network(source)), ("destination", IPv4Network(destination))):
        scope[name] = np.frombuffer(ip(prefix.network_address), np.uint8)
        scope[f"{name}_bits"] = 96 + prefix.prefixlen
    scope["flags"] = either | scope_flags
    scope["protocol"] = protocol
    scope["port_low"], scope["port_high"] = ports
    return make(
        RecordType.CHANGE,
        vni=vni,
        revision=revision,
        scope=scope,
        kind=kind,
        incarnation=incarnation,
        flags=flags,
    )


def flow_key(ingress_index, source="10.0.0.1", destination="10.0.0.2", key_class=KeyClass.ROUTED, **more):
    return make_keys(
        ingress=ingress_index, source=ip(source), destination=ip(destination), key_class=key_class, **more
    )


def flow(
    vni,
    key,
    ingress_object,
    action=Action.ENCAPSULATE,
    destination=300,
    source=0,
    revision=0,
    incarnation=1,
    record_type=RecordType.FLOW_INSTALL,
    n=1,
    **more,
):
    reason = 40 if action == Action.DROP else 0
    given = {"lifetime_ms": 60_000, "refresh_ms": 0, "reason": reason}
    return make(
        record_type,
        n,
        vni=vni,
        key=key,
        ingress_object=ingress_object,
        action=action,
        destination_object=destination,
        source_object=source,
        revision=revision,
        incarnation=incarnation,
        **(given | more),
    )


def refusals(arena) -> list[str]:
    """Names of the refusals told to clients since the last look."""
    told = []
    for _, row in arena.taken()["emitted"]:
        if row["head"]["type"] == RecordType.REFUSED:
            refused = row.reshape(1).view(records.REFUSED)[0]
            told.append(records.Refusal(int(refused["why"])).name)
    return told


def all_rows(dump) -> list[dict]:
    """Every row of a table: dump is a method of Dump."""
    rows, cursor = dump(cursor=0)
    while cursor is not None:
        more, cursor = dump(cursor=cursor)
        rows += more
    return rows


def applied(arena, record, worker=None) -> bool:
    return not arena.apply(record, worker).any()


def action_of(arena, key) -> Action:
    return Action(int(arena.lookup(key)[0]) >> 56)
