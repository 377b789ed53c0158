# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""One poll thread's pipeline on a bench, for tests: frames go in as bytes and come out as bytes.

A Probe has ring-backed ports named port0, port1 ..., an arena filled by records through the installer, and
two workers whose rings are read here. Time is what step() is told. EAL starts with the first Probe and
cannot start twice in a process. One Python thread.

    probe = Probe([PortSpec(role=INSIDE, mac=...), PortSpec(role=UNDERLAY, mac=...)])
    probe.apply(records.make(...))
    probe.inject(0, frame)
    probe.step(now_ns)
    probe.sent()            # [(port, frame), ...]
"""

import os
from dataclasses import dataclass

from libc.string cimport memcpy, memset

from .delay cimport delay_dict
from .native cimport *
from .rig cimport *

INSIDE = 1
UNDERLAY = 2
BOTH = 3

_started = []


def delay_of(delays_ns):
    """Return the histogram of these delays as DataPlane.counters() returns that of first packets."""
    cdef fp_delay delay
    memset(&delay, 0, sizeof(delay))
    for ns in delays_ns:
        fp_delay_add(&delay, ns)
    return delay_dict(&delay)


@dataclass(frozen=True)
class PortSpec:
    """A port of the bench. mtu_bytes: largest IP packet; 0: any."""

    role: int
    mac: bytes
    mtu_bytes: int = 1500
    partial_checksums: bool = False


cdef class Probe:
    """See the module. Limits default to those of a gateway."""

    cdef rig *rig
    cdef uint8_t buffer[RIG_FRAME_BYTES]

    def __cinit__(self, ports, *, uint32_t ring_slots=512, uint32_t mbufs=2047, uint32_t miss_slots=512,
                  uint32_t flows=4096, uint32_t icmp_per_s=1000, uint32_t exceptions_per_s=0, hold=None,
                  uint32_t tunnels=64):
        cdef rig_config config
        cdef int rc
        memset(&config, 0, sizeof(config))
        if not 0 < len(ports) <= RIG_PORTS_MAX:
            raise ValueError(f"{len(ports)} ports: 1 to {RIG_PORTS_MAX}")
        for i, port in enumerate(ports):
            config.port[i].role = port.role
            config.port[i].mtu_bytes = port.mtu_bytes
            config.port[i].partial_checksums = port.partial_checksums
            for k, byte in enumerate(port.mac):
                config.port[i].mac[k] = byte
        config.ports = len(ports)
        config.ring_slots = ring_slots
        config.mbufs = mbufs
        config.miss_slots = miss_slots
        config.icmp_per_s = icmp_per_s
        config.exceptions_per_s = exceptions_per_s
        config.arena.flows = flows
        config.arena.locations = 1024
        config.arena.tunnels = tunnels
        config.arena.vnets = 16
        config.arena.ingresses = 64
        config.arena.ports = 16
        config.arena.threads = 1
        config.arena.refusal_share_percent = 50
        self._limits(&config.hold, hold or {})
        if not _started:
            self._check(rig_eal(), "EAL")
            _started.append(True)
        rc = rig_create(&config, &self.rig)
        if rc < 0:
            self.rig = NULL
        self._check(rc, "the bench")

    def close(self):
        """Free everything; what is still held counts as shutdown."""
        if self.rig != NULL:
            rig_destroy(self.rig)
            self.rig = NULL

    def __dealloc__(self):
        self.close()

    cdef int _limits(self, fp_hold_limits *limits, hold) except -1:
        limits.packets = hold.get("packets", 1024)
        limits.packets_per_vnet = hold.get("packets_per_vnet", 1024)
        limits.packets_per_ingress = hold.get("packets_per_ingress", 512)
        limits.packets_per_flow = hold.get("packets_per_flow", 16)
        limits.wait_ms = hold.get("wait_ms", 1000)
        limits.misses_per_ingress_s = hold.get("misses_per_ingress_s", 0)
        return 0

    def _check(self, int rc, what):
        if rc < 0:
            raise OSError(-rc, os.strerror(-rc), what)
        return rc

    def apply(self, rows, uint64_t now_ns):
        """Apply a batch of records in order; return the installer's result of each (0 or -errno)."""
        cdef bytes raw = rows.tobytes()
        cdef const uint8_t *data = raw
        cdef fp_record record
        cdef size_t i
        results = []
        for i in range(len(raw) // sizeof(fp_record)):
            memcpy(&record, data + i * sizeof(record), sizeof(record))
            results.append(rig_apply(self.rig, &record, now_ns))
        return results

    def maintain(self, uint64_t now_ns):
        """Let the installer do its periodic work until there is no more."""
        rig_maintain(self.rig, now_ns)

    def attach(self, uint32_t worker, bint attached):
        """Give a worker a new, empty ring, or take it away."""
        self._check(rig_attach(self.rig, worker, attached), f"worker {worker}")

    def hold_limits(self, **hold):
        """Set the hold's limits while it runs."""
        cdef fp_hold_limits limits
        self._limits(&limits, hold)
        fp_thread_hold_limits(rig_thread(self.rig), &limits)

    def inject(self, uint32_t port, bytes frame, uint32_t segments=1):
        """Put a frame into a port's receive ring."""
        self._check(rig_inject(self.rig, port, <const uint8_t *>frame, len(frame), segments), f"port {port}")

    def step(self, uint64_t now_ns):
        """Tick at this time, receive all that waits, flush."""
        with nogil:
            rig_step(self.rig, now_ns)

    def sent(self):
        """Return and forget what was sent: [(port, frame), ...], port by port, in order."""
        return self._frames(False)

    def exceptions(self):
        """Return and forget the frames for this gateway itself: [(port, frame), ...]."""
        return self._frames(True)

    cdef _frames(self, bint exceptions):
        cdef uint32_t port = 0, len_bytes = 0
        frames = []
        while (rig_exception(self.rig, &port, self.buffer, &len_bytes) if exceptions
               else rig_sent(self.rig, &port, self.buffer, &len_bytes)):
            frames.append((port, self.buffer[:len_bytes]))
        return frames

    def records(self, uint32_t worker):
        """Return and forget what the worker's ring holds: bytes of 128-byte records."""
        cdef fp_record record
        rows = []
        while rig_record(self.rig, worker, &record):
            rows.append((<uint8_t *>&record)[:FP_RECORD_BYTES])
        return b"".join(rows)

    def emitted(self):
        """Return and forget what the installer emitted: bytes of 128-byte records."""
        cdef fp_record record
        rows = []
        while rig_emitted(self.rig, &record):
            rows.append((<uint8_t *>&record)[:FP_RECORD_BYTES])
        return b"".join(rows)

    def doorbells(self):
        """Return the bit mask of workers to be woken, and clear it."""
        return rig_doorbells(self.rig)

    def worker_sleeps(self, uint32_t worker):
        """Let a worker say that it sleeps and wants its doorbell rung."""
        rig_worker_sleeps(self.rig, worker)

    def send_inner(self, uint8_t kind, uint32_t target, uint32_t wire_id, bytes frame):
        """Queue a frame as housekeeping does. kind 0: as it is, target a port; else a location kind."""
        self._check(rig_send_inner(self.rig, kind, target, wire_id, <const uint8_t *>frame, len(frame)), "send")

    def set_underlay_vlans(self, uint32_t port, vlans):
        """Say in which VLANs tunnel packets come in by a port."""
        cdef uint16_t numbers[64]
        for i, vlan in enumerate(vlans):
            numbers[i] = vlan
        fp_port_set_underlay_vlans(rig_port_at(self.rig, port), numbers, len(vlans))

    def ingress_by_vlan(self, uint32_t port, uint32_t vlan):
        """Return the index of an attachment's ingress, 0 if there is none."""
        return fp_ingress_by_vlan(rig_arena(self.rig), port, vlan)

    def ingress_by_locator(self, bytes local, bytes remote, uint32_t wire_id, uint8_t protocol=1):
        """Return the index of a remote node's ingress, 0 if there is none. Addresses have 16 bytes."""
        cdef fp_locator_key key
        memset(&key, 0, sizeof(key))
        memcpy(key.local, <const uint8_t *>local, 16)
        memcpy(key.remote, <const uint8_t *>remote, 16)
        key.wire_id = wire_id
        key.protocol = protocol
        return fp_ingress_by_locator(rig_arena(self.rig), &key)

    def vnet_by_vni(self, uint32_t vni):
        """Return the index of a live V-net, 0 if there is none."""
        cdef const fp_vnet *vnet
        cdef uint32_t i
        for i in range(1, 17):
            vnet = fp_vnet_at(rig_arena(self.rig), i)
            if vnet != NULL and vnet.vni == vni and vnet.flags & FP_VNET_LIVE:
                return i
        return 0

    def tunnel_by_id(self, uint64_t object_id):
        """Return the index that a tunnel has, or had last; 0 if there is none."""
        cdef uint32_t i
        for i in range(1, 65):
            if fp_tunnel_info_at(rig_arena(self.rig), i).object_id == object_id:
                return i
        return 0

    def counters(self):
        """Return the counters by name. dropped: by reason's name; reason_vnet: by that and VNI; mbufs: how many are
        in use."""
        cdef uint32_t cursor = 0
        cdef uint64_t value = 0
        cdef fp_counters *c = fp_thread_counters(rig_thread(self.rig))
        cdef const char *name = rig_counter(self.rig, &cursor, &value)
        cdef fp_reason_vnet pair
        found = {}
        while name != NULL:
            found[name.decode()] = value
            name = rig_counter(self.rig, &cursor, &value)
        found["dropped"] = {fp_drop_name(i).decode(): c.dropped[i]
                            for i in range(FP_REASONS_MAX) if c.dropped[i]}
        found["reason_vnet"] = {}
        for i in range(FP_REASON_VNETS):
            if fp_reason_vnet_read(&c.reason_vnet[<int>i], rig_arena(self.rig), &pair):
                found["reason_vnet"][fp_drop_name(pair.reason).decode(), pair.vni] = pair.packets
        found["delay"] = delay_dict(&c.delay)
        found["ports"] = [c.port[i] for i in range(RIG_PORTS_MAX)]
        found["vnets"] = [c.vnet[i] for i in range(17)]
        found["tunnels"] = [c.tunnel[i] for i in range(65)]
        found["mbufs"] = rig_mbufs_in_use(self.rig)
        return found

    def flow_used_s(self, uint32_t entry):
        """Return the second in which a flow was used last, by entry index."""
        return fp_flow_at(rig_arena(self.rig), entry).used_s

    def flow_side(self, uint32_t entry):
        """Return the samples of a flow by entry index."""
        return fp_flow_side_at(rig_arena(self.rig), entry)[0]

    def flow_find(self, bytes key):
        """Return the entry index of a 44-byte key, 0 if there is none."""
        return fp_flow_find(rig_arena(self.rig), <const fp_flow_key *><const uint8_t *>key)
