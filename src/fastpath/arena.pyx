# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The arena and its installer without a data plane, for tests and tools. No EAL, no root.

    with Arena(flows=4096, ports=["rack", "uplink"]) as arena:
        arena.apply(make(RecordType.VNET_SET, vni=7001, object_id=1, incarnation=1))
        rows, _ = arena.dump.flows()

What the installer hands to poll threads and clients is collected in C and drained by taken(). The clock is the
caller's: `now_ns` stands until it is set anew or tick() is called with another. One thread.
"""

import os

import numpy as np

from libc.errno cimport EAGAIN, EINPROGRESS
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strcmp

from .native cimport *

from fastpath.dump import Dump
from fastpath.records import FLOW_KEY, LOCATOR_KEY, RECORD, Refusal

CONTROL = 0xFF
_SECOND_NS = 1_000_000_000


cdef struct port_name:
    char name[17]
    uint16_t mtu_bytes

cdef struct released:
    uint64_t token
    uint64_t action
    fp_flow_key key

cdef struct sent:
    uint8_t kind
    uint32_t target
    uint32_t wire_id
    uint32_t len_bytes
    size_t offset

# What the hooks collect. Grown in C; a hook that gets no memory counts what it lost.
cdef struct collected:
    port_name ports[64]
    uint32_t port_count
    fp_record *emitted
    uint8_t *workers
    size_t emitted_count
    size_t emitted_room
    released *released_
    size_t released_count
    size_t released_room
    sent *sent_
    size_t sent_count
    size_t sent_room
    uint8_t *frames
    size_t frames_bytes
    size_t frames_room
    uint64_t lost


cdef bint _grow(void **at, size_t *room, size_t wanted, size_t size) noexcept nogil:
    cdef size_t more = room[0] if room[0] else 64
    cdef void *grown
    while more < wanted:
        more *= 2
    if more == room[0]:
        return True
    grown = realloc(at[0], more * size)
    if grown == NULL:
        return False
    at[0] = grown
    room[0] = more
    return True


cdef void _on_release(void *context, const fp_release *release) noexcept nogil:
    cdef collected *all = <collected *>context
    if not _grow(<void **>&all.released_, &all.released_room, all.released_count + 1, sizeof(released)):
        all.lost += 1
        return
    cdef released *row = &all.released_[all.released_count]
    row.token = release.token
    row.action = release.action
    row.key = release.key
    all.released_count += 1


cdef void _on_emit(void *context, uint8_t worker, const fp_record *record) noexcept nogil:
    cdef collected *all = <collected *>context
    cdef size_t room = all.emitted_room
    if not _grow(<void **>&all.emitted, &room, all.emitted_count + 1, sizeof(fp_record)):
        all.lost += 1
        return
    if not _grow(<void **>&all.workers, &all.emitted_room, all.emitted_count + 1, 1):
        all.lost += 1
        return
    all.emitted[all.emitted_count] = record[0]
    all.workers[all.emitted_count] = worker
    all.emitted_count += 1


cdef int _on_port(void *context, const char *name, uint16_t *mtu_bytes) noexcept nogil:
    cdef collected *all = <collected *>context
    cdef uint32_t i
    for i in range(all.port_count):
        if strcmp(all.ports[i].name, name) == 0:
            mtu_bytes[0] = all.ports[i].mtu_bytes
            return <int>i
    return -1


cdef void _on_send(void *context, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
                   uint32_t len_bytes) noexcept nogil:
    cdef collected *all = <collected *>context
    if not _grow(<void **>&all.sent_, &all.sent_room, all.sent_count + 1, sizeof(sent)):
        all.lost += 1
        return
    if not _grow(<void **>&all.frames, &all.frames_room, all.frames_bytes + len_bytes, 1):
        all.lost += 1
        return
    memcpy(all.frames + all.frames_bytes, frame, len_bytes)
    all.sent_[all.sent_count] = sent(kind, target, wire_id, len_bytes, all.frames_bytes)
    all.sent_count += 1
    all.frames_bytes += len_bytes


cdef class Arena:
    """An open arena, its installer and (the last reader number) a dump."""

    cdef fp_arena *arena
    cdef fp_installer *installer
    cdef collected hooks
    cdef public uint64_t now_ns
    cdef readonly object dump
    cdef readonly list ports

    def __init__(self, path=None, *, ports=("port0", "port1"), uint16_t mtu_bytes=1500, uint64_t now_ns=1000 * _SECOND_NS,
                 **config):
        """Open or adopt `path` (None: memory of its own) with members of struct fp_arena_config.

        Raises OSError (EBUSY: another process holds it) or ValueError for a configuration that cannot be.
        """
        cdef fp_arena_config limits = fp_arena_config(
            flows=1 << 16, locations=1 << 12, tunnels=256, vnets=64, ingresses=256, ports=16, threads=8,
            refusal_share_percent=10)
        for name, value in config.items():
            _configure(&limits, name, value)
        self.ports = list(ports)
        if len(self.ports) > min(64, limits.ports):
            raise ValueError(f"{len(self.ports)} ports: at most {min(64, limits.ports)}")
        for i, name in enumerate(self.ports):
            raw = name.encode()[:16]
            memcpy(self.hooks.ports[i].name, <const char *>raw, len(raw))
            self.hooks.ports[i].mtu_bytes = mtu_bytes
        self.hooks.port_count = len(self.ports)
        cdef bytes where = b"" if path is None else os.fsencode(path)
        _check(fp_arena_open(<const char *>where if path is not None else NULL, &limits, now_ns, &self.arena), path)
        self.now_ns = now_ns
        fp_arena_tick(self.arena, now_ns)
        cdef fp_installer_hooks hooks
        memset(&hooks, 0, sizeof(hooks))
        hooks.context = &self.hooks
        hooks.release = _on_release
        hooks.emit = _on_emit
        hooks.port_by_name = _on_port
        hooks.send = _on_send
        _check(fp_installer_create(self.arena, &hooks, &self.installer), path)
        self.dump = Dump(<size_t>self.arena, limits.threads - 1, self.ports)

    def close(self):
        """Close; a file stays to be adopted. Twice is fine."""
        if self.dump is not None:
            self.dump.close()
            self.dump = None
        if self.installer != NULL:
            fp_installer_destroy(self.installer)
            self.installer = NULL
        if self.arena != NULL:
            fp_arena_close(self.arena)
            self.arena = NULL

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __dealloc__(self):
        if self.installer != NULL:
            fp_installer_destroy(self.installer)
        if self.arena != NULL:
            fp_arena_close(self.arena)
        free(self.hooks.emitted)
        free(self.hooks.workers)
        free(self.hooks.released_)
        free(self.hooks.sent_)
        free(self.hooks.frames)

    @property
    def address(self):
        """Where struct fp_arena stands, for other modules of this package."""
        return <size_t>self._open()

    @property
    def adoption(self):
        """What opening found: a map with the members of struct fp_adoption_report."""
        cdef const fp_adoption_report *report = fp_arena_adoption(self._open())
        return {
            "how": ("new", "adopted", "cold_layout", "cold_crashes")[report.how],
            "vnets": report.vnets, "ingresses": report.ingresses, "tunnels": report.tunnels,
            "locations": report.locations, "flows": report.flows,
            "dropped_range": report.dropped_range, "dropped_twice": report.dropped_twice,
            "dropped_key": report.dropped_key, "dropped_vnet": report.dropped_vnet,
            "dropped_location": report.dropped_location, "dropped_tunnel": report.dropped_tunnel,
            "ns": report.ns,
        }

    def apply(self, records, worker=None, uint32_t tries=1):
        """Apply records in order, from this client (None: next hops from control, all else from worker 0); return
        their results: 0, or a negative errno.

        -EAGAIN means try again after a grace period; with `tries` > 1 it is, after a tick and with the readers
        that this object's caller left online.
        """
        self._open()
        rows = np.ascontiguousarray(records).reshape(-1).view(np.uint8).reshape(-1, FP_RECORD_BYTES)
        results = np.zeros(len(rows), np.int32)
        cdef const uint8_t[:, ::1] raw = rows
        cdef int32_t[::1] out = results
        cdef Py_ssize_t i
        cdef uint32_t attempt
        cdef uint8_t client = 0 if worker is None else worker
        for i in range(raw.shape[0]):
            if worker is None:
                client = CONTROL if (<const fp_record *>&raw[i, 0]).head.type == FP_RECORD_NEXTHOP_SET else 0
            for attempt in range(max(tries, 1)):
                out[i] = -EINPROGRESS
                while out[i] == -EINPROGRESS:
                    out[i] = fp_installer_apply(self.installer, client, <const fp_record *>&raw[i, 0], self.now_ns)
                if out[i] != -EAGAIN:
                    break
                fp_installer_tick(self.installer, self.now_ns)
        return results

    def share(self, uint32_t workers):
        """Share the V-nets out: worker w has those with vni % workers == w."""
        self._open()
        fp_installer_share(self.installer, workers)

    def tick(self, now_ns=None):
        """Let the installer go on; return whether there is more to do at once."""
        self._open()
        if now_ns is not None:
            self.now_ns = now_ns
        return bool(fp_installer_tick(self.installer, self.now_ns))

    def settle(self, now_ns=None):
        """Tick until nothing more is to be done at once."""
        while self.tick(now_ns):
            pass

    def advance(self, double seconds):
        """Move the clock forward and settle."""
        self.settle(self.now_ns + <uint64_t>(seconds * _SECOND_NS))

    def taken(self):
        """Return and forget what the hooks collected: {"emitted": [(worker, record row)], "released":
        [(token, action word, key bytes)], "sent": [(kind, target, wire_id, frame)]}."""
        cdef collected *all = &self.hooks
        cdef size_t i
        emitted = []
        if all.emitted_count:
            rows = np.frombuffer((<const char *>all.emitted)[:all.emitted_count * sizeof(fp_record)], RECORD)
            emitted = [(all.workers[i], rows[i]) for i in range(all.emitted_count)]
        gone = [(all.released_[i].token, all.released_[i].action,
                 (<const char *>&all.released_[i].key)[:sizeof(fp_flow_key)]) for i in range(all.released_count)]
        frames = [(all.sent_[i].kind, all.sent_[i].target, all.sent_[i].wire_id,
                   (<const char *>all.frames)[all.sent_[i].offset:all.sent_[i].offset + all.sent_[i].len_bytes])
                  for i in range(all.sent_count)]
        all.emitted_count = all.released_count = all.sent_count = all.frames_bytes = 0
        return {"emitted": emitted, "released": gone, "sent": frames}

    def refused(self):
        """Return how many records were refused, by name of the reason."""
        self._open()
        return {why.name: fp_installer_refused(self.installer, why.value) for why in Refusal}

    def lookup(self, keys, bint used=True):
        """Look keys (array of FLOW_KEY) up as a poll thread does; return their action words, 0 for a miss.

        `used`: stamp the ages of the hits.
        """
        self._open()
        rows = np.ascontiguousarray(keys, FLOW_KEY).reshape(-1)
        words = np.zeros(len(rows), np.uint64)
        cdef const uint8_t[:, ::1] raw = rows.view(np.uint8).reshape(-1, sizeof(fp_flow_key))
        cdef uint64_t[::1] out = words
        cdef const fp_flow_key *key
        cdef uint64_t hash
        cdef uint32_t entry
        cdef Py_ssize_t i
        for i in range(raw.shape[0]):
            key = <const fp_flow_key *>&raw[i, 0]
            fp_flow_lookup_bulk(self.arena, &key, 1, fp_arena_now_s(self.arena), &hash, &out[i], &entry)
            if used and out[i]:
                fp_flow_used(fp_flow_at(self.arena, entry), fp_arena_now_s(self.arena))
        return words

    def ingress_by_vlan(self, uint32_t port, uint32_t vlan):
        """Return the ingress index of (port index, VLAN), 0 if there is none."""
        return fp_ingress_by_vlan(self._open(), port, vlan)

    def ingress_by_locator(self, key):
        """Return the ingress index of a locator key (one row of LOCATOR_KEY), 0 if there is none."""
        self._open()
        cdef const uint8_t[::1] raw = np.asarray(key, LOCATOR_KEY).reshape(1).view(np.uint8)
        return fp_ingress_by_locator(self.arena, <const fp_locator_key *>&raw[0])

    def protocol_by_udp_port(self, uint16_t port):
        """Return the tunnel protocol that listens on a local UDP port, 0 if none does."""
        return fp_protocol_by_udp_port(self._open(), port)

    def header(self, uint32_t tunnel):
        """Return the outer header of a tunnel: (bytes, checksum_base), None if it has none."""
        cdef uint64_t word = fp_tunnel_at(self._open(), tunnel)
        cdef const fp_header *header = fp_header_at(self.arena, <uint32_t>(word >> 44))
        if header == NULL or header.len_bytes == 0:
            return None
        return (<const char *>header.bytes)[:header.len_bytes], header.checksum_base

    def flow_stats(self):
        """Return struct fp_flow_stats as a map."""
        cdef fp_flow_stats_t stats
        fp_flow_stats(self._open(), &stats)
        return stats

    def reader_register(self, uint32_t thread):
        """Register a reader (0 .. threads-2). Raises ValueError if there is no such number."""
        if fp_arena_reader_register(self._open(), thread) < 0:
            raise ValueError(f"no reader {thread}")

    def reader_unregister(self, uint32_t thread):
        fp_arena_reader_unregister(self._open(), thread)

    def reader_online(self, uint32_t thread):
        fp_arena_reader_online(self._open(), thread)

    def reader_offline(self, uint32_t thread):
        fp_arena_reader_offline(self._open(), thread)

    def reader_quiescent(self, uint32_t thread):
        fp_arena_reader_quiescent(self._open(), thread)

    cdef fp_arena *_open(self) except NULL:
        if self.arena == NULL or self.installer == NULL:
            raise ValueError("the arena is closed")
        return self.arena


def costs(**config):
    """Return the bytes that a configuration costs, by table."""
    cdef fp_arena_config limits = fp_arena_config(
        flows=1 << 16, locations=1 << 16, tunnels=1024, vnets=256, ingresses=4096, ports=16, threads=8,
        refusal_share_percent=10)
    cdef const char *names[32]
    cdef size_t sizes[32]
    cdef int n
    for name, value in config.items():
        _configure(&limits, name, value)
    n = _check(fp_arena_cost(&limits, names, sizes, 32), "configuration")
    return {names[i].decode(): sizes[i] for i in range(n)}


cdef _configure(fp_arena_config *limits, str name, value):
    if name == "flows":
        limits.flows = value
    elif name == "locations":
        limits.locations = value
    elif name == "tunnels":
        limits.tunnels = value
    elif name == "vnets":
        limits.vnets = value
    elif name == "ingresses":
        limits.ingresses = value
    elif name == "port_count":
        limits.ports = value
    elif name == "threads":
        limits.threads = value
    elif name == "refusal_share_percent":
        limits.refusal_share_percent = value
    else:
        raise ValueError(f"an arena has no limit named {name!r}")


cdef int _check(int rc, what) except -1:
    if rc >= 0:
        return rc
    if rc == -22:
        raise ValueError(f"arena {what or ''}: impossible limits")
    raise OSError(-rc, os.strerror(-rc), what)
