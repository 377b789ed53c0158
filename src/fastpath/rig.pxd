# SPDX-License-Identifier: Apache-2.0
#
# The test bench in native/tests/rig.h. It is no part of a gateway, so native.pxd does not have it.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from .native cimport fp_arena, fp_arena_config, fp_record

from .native_dpdk cimport *


cdef extern from "rig.h" nogil:
    enum:
        RIG_PORTS_MAX
        RIG_WORKERS
        RIG_FRAME_BYTES
    cdef struct rig_port:
        uint8_t role
        uint8_t mac[6]
        uint8_t partial_checksums
        uint16_t mtu_bytes
    cdef struct rig_config:
        rig_port port[8]
        uint32_t ports, ring_slots, mbufs, miss_slots
        fp_arena_config arena
        fp_hold_limits hold
        uint32_t icmp_per_s, exceptions_per_s
    cdef struct rig:
        pass
    int rig_eal()
    int rig_create(const rig_config *config, rig **out)
    void rig_destroy(rig *r)
    int rig_apply(rig *r, const fp_record *record, uint64_t now_ns)
    void rig_maintain(rig *r, uint64_t now_ns)
    int rig_attach(rig *r, uint32_t worker, bint attached)
    int rig_inject(rig *r, uint32_t port, const uint8_t *frame, uint32_t len_bytes, uint32_t segments)
    void rig_step(rig *r, uint64_t now_ns)
    bint rig_sent(rig *r, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes)
    bint rig_exception(rig *r, uint32_t *port, uint8_t *buffer, uint32_t *len_bytes)
    bint rig_record(rig *r, uint32_t worker, fp_record *record)
    uint32_t rig_doorbells(rig *r)
    void rig_worker_sleeps(rig *r, uint32_t worker)
    bint rig_emitted(rig *r, fp_record *record)
    int rig_send_inner(rig *r, uint8_t kind, uint32_t target, uint32_t wire_id, const uint8_t *frame,
                       uint32_t len_bytes)
    const char *rig_counter(rig *r, uint32_t *cursor, uint64_t *value)
    fp_arena *rig_arena(rig *r)
    fp_thread *rig_thread(rig *r)
    fp_port *rig_port_at "rig_port"(rig *r, uint32_t port)
    uint32_t rig_mbufs_in_use(const rig *r)
