# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Rows of the arena's tables as maps with the names of the screens (docs/protocol.md section 1).

A Dump is a reader of the arena with a number of its own: one thread uses it, beside the writer and the poll
threads. Work is bounded per call; cursor None means that the table has ended.

    dump = Dump(arena_address, reader, port_names=["rack", "uplink"])
    rows, cursor = dump.flows(cursor=0, limit=512, vni=None)
"""

import ipaddress

from .native cimport *
from libc.stdlib cimport free, malloc

from fastpath.records import Action, KeyClass, TunnelState

LIMIT = 512
LIMIT_MAX = 4096

_CLASSES = {int(c): c.name.lower() for c in KeyClass}
_ACTIONS = {int(a): a.name.lower() for a in Action}
_STATES = {int(s): s.name.lower() for s in TunnelState}
_LOCATION_KINDS = {FP_LOCATION_LOCAL: "local", FP_LOCATION_TUNNEL: "tunnel", FP_LOCATION_SET: "set"}
_INGRESS_KINDS = {FP_INGRESS_ATTACHMENT: "attachment", FP_INGRESS_NODE: "node"}


cdef class Dump:
    """Rows of an open arena. The arena must outlive it."""

    cdef fp_arena *arena
    cdef uint32_t reader
    cdef bint registered
    cdef object port_names

    def __init__(self, size_t address, uint32_t reader, port_names=()):
        """Register reader number `reader`. Raises ValueError if the arena has no such reader."""
        self.arena = <fp_arena *>address
        self.reader = reader
        self.port_names = list(port_names)
        if fp_arena_reader_register(self.arena, reader) < 0:
            raise ValueError(f"the arena has no reader {reader}: give it more threads")
        self.registered = True
        fp_arena_reader_offline(self.arena, reader)

    def close(self):
        """Give the reader number back. Twice is fine."""
        if self.registered:
            fp_arena_reader_unregister(self.arena, self.reader)
            self.registered = False

    def flows(self, uint32_t cursor=0, uint32_t limit=LIMIT, vni=None):
        """Return (rows, cursor); fewer rows than `limit` does not mean the end."""
        cdef uint32_t n = max(FP_BUCKET_SLOTS, min(limit, LIMIT_MAX))
        cdef fp_dump_flow *rows = <fp_dump_flow *>_room(n, sizeof(fp_dump_flow))
        cdef uint32_t only = vni or 0
        try:
            with nogil:
                n = fp_dump_flows(self.arena, self.reader, &cursor, only, rows, n)
            return [_flow(&rows[i]) for i in range(n)], _next(cursor)
        finally:
            free(rows)

    def locations(self, uint32_t cursor=0, uint32_t limit=LIMIT, vni=None):
        """Return (rows, cursor)."""
        cdef uint32_t n = max(1, min(limit, LIMIT_MAX))
        cdef fp_dump_location *rows = <fp_dump_location *>_room(n, sizeof(fp_dump_location))
        cdef uint32_t only = vni or 0
        try:
            with nogil:
                n = fp_dump_locations(self.arena, self.reader, &cursor, only, rows, n)
            return [_location(&rows[i]) for i in range(n)], _next(cursor)
        finally:
            free(rows)

    def tunnels(self, uint32_t cursor=0, uint32_t limit=LIMIT):
        """Return (rows, cursor); without the counters, which the data plane adds."""
        cdef uint32_t n = max(1, min(limit, LIMIT_MAX))
        cdef fp_dump_tunnel *rows = <fp_dump_tunnel *>_room(n, sizeof(fp_dump_tunnel))
        try:
            with nogil:
                n = fp_dump_tunnels(self.arena, self.reader, &cursor, rows, n)
            return [self._tunnel(&rows[i]) for i in range(n)], _next(cursor)
        finally:
            free(rows)

    def vnets(self, uint32_t cursor=0, uint32_t limit=LIMIT):
        """Return (rows, cursor); without the counters. `index` is the V-net's index in the arena."""
        cdef uint32_t n = max(1, min(limit, LIMIT_MAX))
        cdef fp_dump_vnet *rows = <fp_dump_vnet *>_room(n, sizeof(fp_dump_vnet))
        try:
            with nogil:
                n = fp_dump_vnets(self.arena, self.reader, &cursor, rows, n)
            return [_vnet(&rows[i]) for i in range(n)], _next(cursor)
        finally:
            free(rows)

    def ingresses(self, uint32_t cursor=0, uint32_t limit=LIMIT, vni=None):
        """Return (rows, cursor)."""
        cdef uint32_t n = max(1, min(limit, LIMIT_MAX))
        cdef fp_dump_ingress *rows = <fp_dump_ingress *>_room(n, sizeof(fp_dump_ingress))
        cdef uint32_t only = vni or 0
        try:
            with nogil:
                n = fp_dump_ingresses(self.arena, self.reader, &cursor, only, rows, n)
            return [self._ingress(&rows[i]) for i in range(n)], _next(cursor)
        finally:
            free(rows)

    cdef _port(self, uint32_t index):
        return self.port_names[index] if index < len(self.port_names) else str(index)

    cdef _tunnel(self, fp_dump_tunnel *row):
        cdef fp_tunnel_info *info = &row.info
        hops = [
            {
                "port": self._port(row.nexthops.hop[i].port),
                "destination_mac": _mac(row.nexthops.hop[i].destination_mac),
                "source_mac": _mac(row.nexthops.hop[i].source_mac),
                "vlan": row.nexthops.hop[i].vlan,
            }
            for i in range(min(row.nexthops.count, FP_NEXTHOPS_MAX))
        ]
        return {
            "tunnel": row.tunnel,
            "object_id": info.object_id,
            "profile_id": info.profile_id,
            "node_id": info.node_id,
            "local_locator": _address(info.local),
            "remote_locator": _address(info.remote),
            "protocol": row.protocol.decode(),
            "udp_port": info.udp_port,
            "ttl": info.ttl,
            "dscp": info.dscp,
            "dscp_copy": bool(info.dscp_copy),
            "mtu_bytes": row.mtu_bytes,
            "inner_mtu_bytes": row.inner_mtu_bytes,
            "state": _STATES.get(row.state, str(row.state)),
            "next_hops": hops,
            "references": info.references,
            "revision": info.revision,
        }

    cdef _ingress(self, fp_dump_ingress *row):
        cdef fp_ingress *record = &row.record
        attachment = record.kind == FP_INGRESS_ATTACHMENT
        return {
            "ingress": row.ingress,
            "kind": _INGRESS_KINDS.get(record.kind, str(record.kind)),
            "object_id": record.object_id,
            "vni": record.vni,
            "port": self._port(record.port) if attachment else None,
            "vlan": record.vlan if attachment else None,
            "mtu_bytes": record.mtu_bytes if attachment else None,
            "references": record.references,
            "relay": bool(record.flags & FP_INGRESS_RELAY),
            "foreign": bool(record.flags & FP_INGRESS_FOREIGN),
            "check": bool(record.flags & FP_INGRESS_CHECK),
        }


cdef _flow(fp_dump_flow *row):
    cdef fp_flow_key *key = &row.key
    cdef uint64_t word = row.action
    action = <int>(word >> 56)
    macs = key.key_class == FP_CLASS_MAC
    connection = bool(key.flags & FP_KEY_CONNECTION)
    level = "connection" if connection else "destination" if key.flags & FP_KEY_DESTINATION else "pair"
    return {
        "vni": row.vni,
        "source": _mac(&key.source[10]) if macs else _address(key.source),
        "destination": _mac(&key.destination[10]) if macs else _address(key.destination),
        "source_port": _swap(key.source_port) if connection else None,
        "destination_port": _swap(key.destination_port) if connection else None,
        "protocol": key.protocol if connection else None,
        "class": _CLASSES.get(key.key_class, str(key.key_class)),
        "level": level,
        "action": _ACTIONS.get(action, str(action)),
        "reason": fp_drop_name(word & 0xffffff).decode() if action == FP_ACTION_DROP else None,
        "tunnel": row.tunnel or None,
        "revision": row.revision,
        "stale": bool(word >> 48 & FP_ACTION_STALE),
        "age_s": row.idle_s,
        "expires_in_s": row.expires_in_s,
        "packets": row.packets,
        "bytes": row.bytes,
        "ingress": key.ingress,
        "source_object": row.source_object or None,
        "destination_object": row.destination_object or None,
    }


cdef _location(fp_dump_location *row):
    return {
        "location": row.location,
        "object_id": row.object_id,
        "vni": row.vni,
        "way": row.way,
        "kind": _LOCATION_KINDS.get(row.half.kind, str(row.half.kind)),
        "target": row.half.target,
        "node": row.half.node,
        "wire_id": row.half.wire_id,
        "mac": _mac(row.half.mac),
    }


cdef _vnet(fp_dump_vnet *row):
    gateway = _address(row.gateway_address)
    return {
        "vni": row.vni,
        "object_id": row.object_id,
        "incarnation": row.incarnation,
        "revision": row.revision,
        "floor": row.floor,
        "in_force": row.in_force,
        "gateway_mac": _mac(row.gateway_mac),
        "gateway_address": None if gateway == "0.0.0.0" else gateway,
        "quota_flows": row.quota_flows,
        "quota_misses_per_s": row.quota_misses_per_s,
        "stale_max_s": row.stale_max_s,
        "flows": row.flows,
        "drops_resident": row.drops_resident,
        "worker": row.worker,
        "index": row.vnet,
    }


cdef void *_room(uint32_t n, size_t size) except NULL:
    cdef void *room = malloc(n * size)
    if room == NULL:
        raise MemoryError
    return room


cdef _next(uint32_t cursor):
    return None if cursor == FP_DUMP_END else cursor


cdef _address(const uint8_t *address):
    raw = (<const char *>address)[:16]
    return str(ipaddress.IPv4Address(raw[12:]) if not any(raw[:12]) else ipaddress.IPv6Address(raw))


cdef _mac(const uint8_t *mac):
    return (<const char *>mac)[:6].hex(":")


cdef int _swap(uint16_t port) noexcept:
    return (port >> 8) | ((port & 0xff) << 8)
