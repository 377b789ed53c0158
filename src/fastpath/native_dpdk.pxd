# SPDX-License-Identifier: Apache-2.0
#
# The part of C whose headers include DPDK's: apart from native.pxd, so that modules without DPDK build without.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from .native cimport fp_arena, fp_arena_config, fp_installer


cdef extern from "fp_delay.h" nogil:
    enum:
        FP_DELAY_BUCKETS

    cdef struct fp_delay:
        uint64_t sum_ns
        uint64_t bucket[432]

    uint64_t fp_delay_from_ns(uint32_t bucket)
    void fp_delay_add(fp_delay *delay, uint64_t ns)


cdef extern from "fp_counters.h" nogil:
    enum:
        FP_REASONS_MAX
        FP_REASON_VNETS
        FP_COUNTER_PORTS
        FP_STAGE_MAX

    cdef struct fp_port_counters:
        uint64_t rx_packets
        uint64_t rx_bytes
        uint64_t tx_packets
        uint64_t tx_bytes
        uint64_t tx_full
        uint64_t exceptions

    cdef struct fp_pair_counters:
        uint64_t rx_packets
        uint64_t rx_bytes
        uint64_t tx_packets
        uint64_t tx_bytes

    cdef struct fp_reason_vnet:
        uint64_t object_id
        uint64_t packets
        uint32_t vni
        uint16_t vnet
        uint16_t reason

    cdef struct fp_counters:
        uint64_t received
        uint64_t forwarded
        uint64_t delivered
        uint64_t relayed
        uint64_t answered
        uint64_t icmp_sent
        uint64_t exceptions
        uint64_t dropped[128]
        fp_reason_vnet reason_vnet[1024]
        uint64_t reason_vnet_full
        fp_port_counters port[32]
        fp_pair_counters *vnet
        fp_pair_counters *tunnel
        uint64_t lookups
        uint64_t hits
        uint64_t narrowed
        uint64_t misses
        uint64_t miss_records
        uint64_t miss_ring_full
        uint64_t refreshes
        uint64_t held
        uint64_t held_now
        uint64_t released
        uint64_t expired
        uint64_t dropped_full
        uint64_t bursts
        uint64_t polls
        uint64_t cycles_busy
        uint64_t cycles_idle
        uint64_t sleeps
        uint64_t stage_cycles[6]
        fp_delay delay


cdef extern from "fp_thread.h" nogil:
    enum:
        FP_WORKERS_MAX

    cdef struct fp_thread:
        pass

    cdef struct fp_hold_limits:
        uint32_t packets
        uint32_t packets_per_vnet
        uint32_t packets_per_ingress
        uint32_t packets_per_flow
        uint32_t wait_ms
        uint32_t misses_per_ingress_s

    fp_counters *fp_thread_counters(fp_thread *thread)
    bint fp_reason_vnet_read(const fp_reason_vnet *pair, const fp_arena *arena, fp_reason_vnet *copy)
    void fp_thread_hold_limits(fp_thread *thread, const fp_hold_limits *limits)


cdef extern from "fp_port.h" nogil:
    enum:
        FP_PORTS_MAX
        FP_DEVICE_BYTES
        FP_VLANS

    cdef enum fp_port_role:
        FP_PORT_INSIDE
        FP_PORT_UNDERLAY
        FP_PORT_BOTH

    cdef struct fp_ether_addr "rte_ether_addr":
        uint8_t addr_bytes[6]

    cdef struct fp_port:
        char name[16]
        uint16_t index
        uint8_t role
        uint8_t up
        uint8_t live
        uint16_t mtu_bytes
        uint16_t rx_queues
        uint16_t tx_queues
        fp_ether_addr mac
        int exception_fd
        char driver[32]

    cdef struct fp_port_config:
        char name[16]
        char device[256]
        uint8_t role
        uint8_t has_mac
        uint8_t interrupt
        uint16_t mtu_bytes
        fp_ether_addr mac

    void fp_port_set_underlay_vlans(fp_port *port, const uint16_t *vlans, uint32_t n)

    cdef struct fp_error:
        char text[256]
        char fix[256]


cdef extern from "fp_dataplane.h" nogil:
    enum:
        FP_CPU_ANY
        FP_THREADS_MAX
        FP_WORKER_CONTROL
        FP_CLIENTS_MAX

    cdef enum fp_hugepages:
        FP_HUGEPAGES_AUTO
        FP_HUGEPAGES_ALWAYS
        FP_HUGEPAGES_NEVER

    cdef struct fp_eal_config:
        const char *file_prefix
        const char *control_cpus
        uint32_t memory_mb
        uint8_t hugepages
        uint8_t pci
        const char *log_prefix

    cdef struct fp_eal_report:
        uint64_t ns
        uint32_t memory_mb
        uint8_t hugepages
        uint8_t pci

    cdef enum fp_idle_mode:
        FP_IDLE_SLEEP
        FP_IDLE_SPIN
        FP_IDLE_INTERRUPT

    cdef struct fp_idle:
        uint8_t mode
        uint32_t max_sleep_us

    cdef struct fp_dataplane_config:
        const char *arena_path
        fp_arena_config arena
        const fp_port_config *ports
        uint32_t ports_n
        uint32_t threads
        uint32_t poll_cpu[64]
        uint32_t workers
        fp_idle idle
        fp_hold_limits hold
        uint32_t icmp_per_s
        uint32_t packet_buffers

    cdef struct fp_dataplane:
        pass

    cdef struct fp_start_report:
        uint64_t mempool_ns
        uint64_t arena_ns
        uint64_t ports_ns
        uint64_t threads_ns
        uint64_t first_packet_ns
        uint64_t started_ns
        uint32_t unpinned
        uint32_t mbufs

    cdef struct fp_thread_state:
        uint32_t index
        uint32_t cpu
        uint64_t polls
        uint64_t bursts
        uint64_t sleeps
        uint64_t cycles_busy
        uint64_t cycles_idle
        uint64_t received
        uint32_t held_now
        uint64_t cpu_ns
        uint64_t cycles_hz
        uint64_t stage_cycles[6]

    cdef struct fp_port_state:
        uint64_t rx_missed
        uint64_t rx_errors
        uint32_t speed_mbps
        fp_port_counters counters

    cdef struct fp_housekeeping_counters:
        uint64_t rounds
        uint64_t sleeps
        uint64_t applied
        uint64_t refused
        uint64_t waited
        uint64_t releases
        uint64_t release_waits
        uint64_t emitted
        uint64_t emit_lost
        uint64_t sent
        uint64_t send_lost
        uint64_t exception_out
        uint64_t exception_in
        uint64_t exception_lost
        uint64_t broken_rings
        uint64_t cpu_ns
        uint64_t indexes_misused

    cdef struct fp_client_config:
        uint8_t worker
        void *base
        size_t len_bytes
        int wake_client_fd
        int wake_self_fd

    cdef struct fp_client_state:
        int id
        uint8_t worker
        uint8_t live
        uint8_t broken
        uint64_t applied
        uint64_t refused
        uint64_t emitted
        uint64_t emit_lost
        uint32_t pending

    int fp_eal_start(const fp_eal_config *config, fp_eal_report *report, fp_error *error)
    int fp_dataplane_create(const fp_dataplane_config *config, fp_dataplane **dataplane, fp_error *error)
    int fp_dataplane_set_arena(fp_dataplane *dataplane, const char *path)
    int fp_dataplane_start(fp_dataplane *dataplane, fp_error *error)
    void fp_dataplane_stop(fp_dataplane *dataplane)
    void fp_dataplane_destroy(fp_dataplane *dataplane)
    uint32_t fp_dataplane_memory_mb(const fp_dataplane_config *config)
    void fp_dataplane_start_report(const fp_dataplane *dataplane, fp_start_report *report)
    fp_arena *fp_dataplane_arena(fp_dataplane *dataplane)
    const fp_port *fp_dataplane_port(const fp_dataplane *dataplane, uint32_t index)
    void fp_dataplane_set_idle(fp_dataplane *dataplane, const fp_idle *idle)
    int fp_dataplane_set_hold(fp_dataplane *dataplane, const fp_hold_limits *limits)
    void fp_dataplane_counters(fp_dataplane *dataplane, fp_counters *sum)
    int fp_dataplane_thread(fp_dataplane *dataplane, uint32_t thread, fp_thread_state *state)
    int fp_dataplane_port_state(fp_dataplane *dataplane, uint32_t index, fp_port_state *state)
    void fp_dataplane_housekeeping(fp_dataplane *dataplane, fp_housekeeping_counters *counters)
    int fp_exception_set(fp_dataplane *dataplane, uint32_t port, int fd)
    int fp_dataplane_set_underlay_vlans(fp_dataplane *dataplane, uint32_t port, const uint16_t *vlans, uint32_t n)
    int fp_client_add(fp_dataplane *dataplane, const fp_client_config *config)
    int fp_client_remove(fp_dataplane *dataplane, int client)
    int fp_client_at(fp_dataplane *dataplane, uint32_t i, fp_client_state *state)
    void fp_dataplane_call(fp_dataplane *dataplane, void (*call)(void *context) noexcept, void *context)
    fp_installer *fp_dataplane_installer(fp_dataplane *dataplane)
