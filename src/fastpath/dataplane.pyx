# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The data plane: EAL, ports, poll threads and housekeeping, all in C; the interpreter only starts, asks, stops.

    start_eal("vnet-gw1-4711", settings, control_cpus=(0, 1))
    plane = DataPlane(settings)      # packet memory; neither ports nor tables yet: what a spare does early
    plane.start()                    # tables (adopted where they are there), ports, threads
    client = plane.add_client(0, memory, wake_client_fd, wake_self_fd)
    plane.counters()
    plane.stop()

Calls may come from any Python thread; none holds the GIL while it waits.
"""

import errno
from dataclasses import dataclass

from libc.string cimport memcpy, memset

from .delay cimport delay_dict
from .native cimport *
from .native_dpdk cimport *

CONTROL = FP_WORKER_CONTROL
WORKERS_MAX = FP_WORKERS_MAX
STAGES = ("rx", "parse", "lookup", "act", "tx", "other")

_ROLES = {"inside": FP_PORT_INSIDE, "underlay": FP_PORT_UNDERLAY, "both": FP_PORT_BOTH}
_IDLE = {"sleep": FP_IDLE_SLEEP, "spin": FP_IDLE_SPIN, "interrupt": FP_IDLE_INTERRUPT}
_HUGEPAGES = {"auto": FP_HUGEPAGES_AUTO, "always": FP_HUGEPAGES_ALWAYS, "never": FP_HUGEPAGES_NEVER}
_ADOPTION = {
    FP_ARENA_NEW: "new",
    FP_ARENA_ADOPTED: "adopted",
    FP_ARENA_COLD_LAYOUT: "cold: another layout or size",
    FP_ARENA_COLD_CRASHES: "cold: crashes within a minute, again and again",
}


class DataPlaneError(RuntimeError):
    """The data plane could not do it; `fix` says what to do, `errno` why."""

    def __init__(self, text, fix, number):
        super().__init__(text)
        self.fix = fix
        self.errno = number


@dataclass(frozen=True)
class PortSettings:
    """One port. `mac` None: the device's own."""

    name: str
    device: str
    role: str = "inside"
    mtu_bytes: int = 1500
    mac: str | None = None


@dataclass(frozen=True)
class HoldSettings:
    """Limits of what waits for decisions, per poll thread."""

    packets: int = 8192
    packets_per_vnet: int = 2048
    packets_per_ingress: int = 1024
    packets_per_flow: int = 16
    wait_ms: int = 1000
    misses_per_ingress_s: int = 50000


cdef class Settings:
    """All that a data plane is made of, checked as far as it can be without DPDK."""

    cdef fp_dataplane_config c
    cdef fp_port_config port[32]
    cdef bytes _arena_path
    cdef readonly tuple ports
    cdef readonly bint has_pci

    def __init__(self, ports, *, arena_path=None, capacity=None, poll_cpus=(), uint32_t workers=1, str idle="sleep",
                 uint32_t max_sleep_us=900, hold=HoldSettings(), uint32_t packet_buffers=0, uint32_t icmp_per_s=1000):
        """`capacity` maps members of struct fp_arena_config to numbers; `poll_cpus` empty: one thread that
        floats; None among them: that thread floats. Raises ValueError naming the value."""
        memset(&self.c, 0, sizeof(self.c))
        self.ports = tuple(ports)
        if not 1 <= len(self.ports) <= FP_PORTS_MAX:
            raise ValueError(f"{len(self.ports)} ports, not 1 to {FP_PORTS_MAX}")
        if idle not in _IDLE:
            raise ValueError(f"idle is {idle!r}, not one of {', '.join(_IDLE)}")
        cpus = tuple(poll_cpus) or (None,)
        if len(cpus) > FP_THREADS_MAX:
            raise ValueError(f"{len(cpus)} poll threads, not 1 to {FP_THREADS_MAX}")
        self._arena_path = None if arena_path is None else str(arena_path).encode()
        self.c.arena_path = NULL if self._arena_path is None else <const char *>self._arena_path
        self._set_capacity(capacity or {}, len(cpus))
        for i, port in enumerate(self.ports):
            self._set_port(i, port, idle == "interrupt")
        self.c.ports = self.port
        self.c.ports_n = <uint32_t>len(self.ports)
        self.c.threads = <uint32_t>len(cpus)
        for i, cpu in enumerate(cpus):
            self.c.poll_cpu[i] = <uint32_t>FP_CPU_ANY if cpu is None else cpu
        self.c.workers = workers
        self.c.idle.mode = _IDLE[idle]
        self.c.idle.max_sleep_us = max_sleep_us
        _fill_hold(&self.c.hold, hold)
        self.c.packet_buffers = packet_buffers
        self.c.icmp_per_s = icmp_per_s

    cdef _set_capacity(self, capacity, threads):
        self.c.arena = fp_arena_config(
            flows=capacity.get("flows", 65536), locations=capacity.get("locations", 65536),
            tunnels=capacity.get("tunnels", 1024), vnets=capacity.get("vnets", 256),
            ingresses=capacity.get("ingresses", 4096), ports=FP_PORTS_MAX,
            threads=max(capacity.get("threads", 8), threads) + 1,  # the last reader is whoever dumps
            refusal_share_percent=capacity.get("refusal_share_percent", 10))

    cdef _set_port(self, i, port, interrupt):
        name, device = port.name.encode(), port.device.encode()
        if not 0 < len(name) < FP_PORT_NAME_BYTES:
            raise ValueError(f"port name {port.name!r} has not 1 to {FP_PORT_NAME_BYTES - 1} characters")
        if not 0 < len(device) < FP_DEVICE_BYTES:
            raise ValueError(f"port {port.name}: device has not 1 to {FP_DEVICE_BYTES - 1} characters")
        if port.role not in _ROLES:
            raise ValueError(f"port {port.name}: role is {port.role!r}, not one of {', '.join(_ROLES)}")
        cdef fp_port_config *c = &self.port[<int>i]
        memset(c, 0, sizeof(c[0]))
        memcpy(c.name, <const char *>name, len(name))
        memcpy(c.device, <const char *>device, len(device))
        c.role = _ROLES[port.role]
        c.mtu_bytes = port.mtu_bytes
        pci = is_pci(port.device)
        c.interrupt = interrupt and pci
        self.has_pci = self.has_pci or pci
        if port.mac is not None:
            mac = bytes.fromhex(port.mac.replace(":", ""))
            if len(mac) != 6:
                raise ValueError(f"port {port.name}: mac is {port.mac!r}")
            memcpy(c.mac.addr_bytes, <const char *>mac, 6)
            c.has_mac = 1

    @property
    def memory_mb(self):
        """Packet memory that it needs, in MB."""
        return fp_dataplane_memory_mb(&self.c)

    @property
    def threads(self):
        return self.c.threads

    @property
    def workers(self):
        return self.c.workers

    @property
    def dump_reader(self):
        """The reader number of the arena that is nobody's: for fastpath.dump.Dump."""
        return self.c.arena.threads - 1

    @property
    def arena_path(self):
        return None if self._arena_path is None else self._arena_path.decode()

    def arena_cost(self):
        """Return what each table costs: a list of (name, bytes)."""
        cdef const char *names[64]
        cdef size_t sizes[64]
        cdef int i, n = fp_arena_cost(&self.c.arena, names, sizes, 64)
        if n < 0:
            raise ValueError(f"capacity: {_reason(-n)}")
        return [((<bytes>names[i]).decode(), sizes[i]) for i in range(n)]


def is_pci(str device):
    """Return whether a device is a PCI address ("3b:00.0", "0000:3b:00.0") and not a virtual one."""
    address = device.partition(",")[0]
    return address.count(":") in (1, 2) and "." in address and all(c in "0123456789abcdefABCDEF:." for c in address)


def start_eal(str file_prefix, Settings settings, *, control_cpus=(), str hugepages="auto", str log_prefix="dpdk: "):
    """Start EAL for a data plane of these settings; once a process, slow. Returns {"ns", "memory_mb",
    "hugepages"}. Raises DataPlaneError."""
    cdef fp_eal_config config
    cdef fp_eal_report report
    cdef fp_error error
    cdef bytes prefix = file_prefix.encode(), log = log_prefix.encode()
    cdef bytes cpus = ",".join(str(cpu) for cpu in sorted(control_cpus)).encode()
    cdef int rc
    memset(&config, 0, sizeof(config))
    memset(&error, 0, sizeof(error))
    config.file_prefix = prefix
    config.control_cpus = <const char *>cpus if cpus else NULL
    config.memory_mb = settings.memory_mb
    config.hugepages = _HUGEPAGES[hugepages]
    config.pci = settings.has_pci
    config.log_prefix = log
    with nogil:
        rc = fp_eal_start(&config, &report, &error)
    _check(rc, &error)
    return {"ns": report.ns, "memory_mb": report.memory_mb, "hugepages": bool(report.hugepages)}


cdef class DataPlane:
    """One data plane. EAL must have been started."""

    cdef fp_dataplane *c
    cdef readonly Settings settings
    cdef readonly bint running

    def __cinit__(self, Settings settings):
        cdef fp_error error
        cdef int rc
        memset(&error, 0, sizeof(error))
        self.settings = settings
        with nogil:
            rc = fp_dataplane_create(&settings.c, &self.c, &error)
        _check(rc, &error)

    def __dealloc__(self):
        cdef fp_dataplane *c = self.c
        self.c = NULL
        if c != NULL:
            with nogil:
                fp_dataplane_destroy(c)

    def start(self, arena_path=None):
        """Open the tables (at `arena_path`; None: where the settings say) and the ports and start the threads.
        Raises DataPlaneError; nothing runs then."""
        cdef fp_error error
        cdef int rc
        memset(&error, 0, sizeof(error))
        if arena_path is not None:
            rc = fp_dataplane_set_arena(self.c, str(arena_path).encode())
            if rc < 0:
                raise OSError(-rc, "tables")
        with nogil:
            rc = fp_dataplane_start(self.c, &error)
        _check(rc, &error)
        self.running = True

    def stop(self):
        """Stop the threads, close ports and tables; the tables' file stays. Twice is fine."""
        self.running = False
        with nogil:
            fp_dataplane_stop(self.c)

    def start_report(self):
        """Return where the time of start() went: {"mempool_ns", "arena_ns", "ports_ns", "threads_ns",
        "started_ns", "first_packet_ns" (CLOCK_BOOTTIME; 0: none yet), "unpinned", "mbufs"}."""
        cdef fp_start_report report
        fp_dataplane_start_report(self.c, &report)
        return report

    def adoption(self):
        """Return what start() found in the tables' file: {"how", "vnets", …, "dropped_range", …, "ns"}."""
        self._need_running()
        cdef const fp_adoption_report *report = fp_arena_adoption(fp_dataplane_arena(self.c))
        found = dict(report[0])
        found["how"] = _ADOPTION.get(found["how"], "unknown")
        found["adopted"] = report.how == FP_ARENA_ADOPTED
        return found

    def table_pages(self):
        """Return what pages the tables lie on: {"len_bytes", "huge_bytes", "huge_page_bytes" (0: none)}."""
        self._need_running()
        cdef fp_arena_pages_t pages
        with nogil:
            fp_arena_pages(fp_dataplane_arena(self.c), &pages)
        return pages

    def lookup_variant(self):
        """Return which compilation of the flow look-up this processor runs: "avx512", "avx2", "baseline"."""
        self._need_running()
        return fp_arena_tables(fp_dataplane_arena(self.c)).flow_lookup.variant.decode()

    def arena_address(self):
        """Return where the arena's handle is, for fastpath.dump.Dump; valid until stop()."""
        self._need_running()
        return <size_t>fp_dataplane_arena(self.c)

    def incarnation(self):
        """Return the number of this life of the tables: another one at every start."""
        self._need_running()
        return fp_arena_incarnation(fp_dataplane_arena(self.c))

    def counters(self):
        """Return (counters, drops, delay): sums over all threads; drops is a list of (reason name, VNI or
        None where unknown, packets), delay that of first packets: {"sum_ns", "buckets": [[from_ns, below_ns,
        packets], …]} without those that are empty."""
        self._need_running()
        cdef fp_counters sum
        cdef fp_flow_stats_t flows
        memset(&sum, 0, sizeof(sum))
        with nogil:
            fp_dataplane_counters(self.c, &sum)
            fp_flow_stats(fp_dataplane_arena(self.c), &flows)
        counters = {
            "received": sum.received, "forwarded": sum.forwarded, "delivered": sum.delivered,
            "relayed": sum.relayed, "answered": sum.answered, "icmp_sent": sum.icmp_sent,
            "exceptions": sum.exceptions, "lookups": sum.lookups, "hits": sum.hits, "narrowed": sum.narrowed,
            "misses": sum.misses, "miss_records": sum.miss_records, "miss_ring_full": sum.miss_ring_full,
            "refreshes": sum.refreshes, "held": sum.held, "held_now": sum.held_now, "released": sum.released,
            "expired": sum.expired, "dropped_full": sum.dropped_full, "reason_vnet_full": sum.reason_vnet_full,
            "bursts": sum.bursts, "polls": sum.polls, "cycles_busy": sum.cycles_busy,
            "cycles_idle": sum.cycles_idle, "sleeps": sum.sleeps,
            "flows": flows.resident, "flows_max": self.settings.c.arena.flows,
            "flows_inserted": flows.inserted, "flows_expired": flows.expired,
            "flows_evicted": flows.evicted_bucket + flows.evicted_hand, "flows_waited": flows.waited,
        }
        return counters, _drops(&sum), delay_dict(&sum.delay)

    def pair_counters(self, indexes, bint tunnels):
        """Return {index: (tx_packets, tx_bytes, rx_packets, rx_bytes)} for V-net or tunnel indexes."""
        self._need_running()
        cdef uint32_t n = 1 + (self.settings.c.arena.tunnels if tunnels else self.settings.c.arena.vnets)  # 1 .. n - 1
        cdef fp_counters sum
        cdef bytearray room = bytearray(n * sizeof(fp_pair_counters))
        cdef fp_pair_counters *pair = <fp_pair_counters *><char *>room
        memset(&sum, 0, sizeof(sum))
        if tunnels:
            sum.tunnel = pair
        else:
            sum.vnet = pair
        with nogil:
            fp_dataplane_counters(self.c, &sum)
        return {i: (pair[<int>i].tx_packets, pair[<int>i].tx_bytes, pair[<int>i].rx_packets, pair[<int>i].rx_bytes)
                for i in indexes if 0 <= i < n}

    def ports(self):
        """Return a row per port, as dump "ports" gives them."""
        self._need_running()
        cdef const fp_port *port
        cdef fp_port_state state
        cdef uint32_t i
        rows = []
        for i in range(<uint32_t>len(self.settings.ports)):
            port = fp_dataplane_port(self.c, i)
            if port == NULL or fp_dataplane_port_state(self.c, i, &state) < 0:
                continue
            configured = self.settings.ports[i]
            rows.append({
                "name": configured.name, "index": i, "role": configured.role, "device": configured.device,
                "driver": (<bytes>port.driver).decode(), "mac": _mac(&port.mac), "mtu_bytes": port.mtu_bytes,
                "up": bool(port.up), "speed_mbps": state.speed_mbps, "rx_queues": port.rx_queues,
                "tx_queues": port.tx_queues, "rx_packets": state.counters.rx_packets,
                "rx_bytes": state.counters.rx_bytes, "tx_packets": state.counters.tx_packets,
                "tx_bytes": state.counters.tx_bytes, "tx_full": state.counters.tx_full,
                "rx_missed": state.rx_missed, "rx_errors": state.rx_errors,
                "exceptions": state.counters.exceptions, "exception": port.exception_fd >= 0,
            })
        return rows

    def threads(self):
        """Return a row per poll thread, as dump "threads" gives them."""
        self._need_running()
        cdef fp_thread_state state
        cdef uint32_t i
        rows = []
        for i in range(self.settings.c.threads):
            if fp_dataplane_thread(self.c, i, &state) < 0:
                continue
            rows.append({
                "thread": f"poll-{i}", "cpu": None if state.cpu == <uint32_t>FP_CPU_ANY else state.cpu,
                "packets": state.received, "bursts": state.bursts, "polls": state.polls, "sleeps": state.sleeps,
                "cycles_busy": state.cycles_busy, "cycles_idle": state.cycles_idle, "cycles_hz": state.cycles_hz,
                "stage_cycles": {name: state.stage_cycles[k] for k, name in enumerate(STAGES)},
                "held_now": state.held_now, "cpu_s": state.cpu_ns / 1e9,
            })
        return rows

    def housekeeping(self):
        """Return what the housekeeping thread counts."""
        cdef fp_housekeeping_counters counters
        fp_dataplane_housekeeping(self.c, &counters)
        return counters

    def set_idle(self, str mode, uint32_t max_sleep_us):
        """Change how poll threads wait: "sleep" or "spin". Live."""
        if mode not in ("sleep", "spin"):
            raise ValueError(f"idle is {mode!r}: only sleep and spin can be changed while it runs")
        cdef fp_idle idle
        idle.mode = _IDLE[mode]
        idle.max_sleep_us = max_sleep_us
        with nogil:
            fp_dataplane_set_idle(self.c, &idle)

    def set_hold(self, hold):
        """Change the limits of what waits for decisions. Live."""
        self._need_running()
        cdef fp_hold_limits limits
        cdef int rc
        _fill_hold(&limits, hold)
        with nogil:
            rc = fp_dataplane_set_hold(self.c, &limits)
        _done(rc)

    def set_exception(self, str port, int fd):
        """Take over a TAP queue for the exception traffic of a port. Raises KeyError, OSError."""
        self._need_running()
        names = [configured.name for configured in self.settings.ports]
        if port not in names:
            raise KeyError(port)
        cdef uint32_t index = names.index(port)
        cdef int rc
        with nogil:
            rc = fp_exception_set(self.c, index, fd)
        _done(rc)

    def set_underlay_vlans(self, str port, vlans):
        """Say in which VLANs (0: untagged) tunnel packets come in by a port. Raises KeyError, ValueError, OSError."""
        self._need_running()
        names = [configured.name for configured in self.settings.ports]
        if port not in names:
            raise KeyError(port)
        cdef uint16_t numbers[FP_VLANS]
        cdef uint32_t n = 0
        for vlan in sorted(set(vlans)):
            if not 0 <= vlan < FP_VLANS:
                raise ValueError(f"VLAN {vlan}")
            numbers[n] = vlan
            n += 1
        _done(fp_dataplane_set_underlay_vlans(self.c, names.index(port), numbers, n))

    def add_client(self, uint8_t worker, memory, int wake_client_fd, int wake_self_fd):
        """Give a client's rings (fastpath.rings.RingMemory) to the threads; returns its id. The caller keeps
        memory and descriptors until remove_client, or until the worker's next add_client. Raises OSError."""
        self._need_running()
        cdef fp_client_config config
        cdef int rc
        config.worker = worker
        config.base = <void *><size_t>memory.address
        config.len_bytes = memory.len_bytes
        config.wake_client_fd = wake_client_fd
        config.wake_self_fd = wake_self_fd
        with nogil:
            rc = fp_client_add(self.c, &config)
        _done(rc)
        return rc

    def remove_client(self, int client):
        """Take a client's rings away from the threads. One that was replaced is none any more: nothing happens."""
        cdef int rc
        self._need_running()
        with nogil:
            rc = fp_client_remove(self.c, client)
        _done(rc)

    def clients(self):
        """Return {id: {"worker", "records_in", "records_out", "overflows", "refused", "broken", "pending"}}."""
        cdef fp_client_state state
        cdef uint32_t i = 0
        found = {}
        while fp_client_at(self.c, i, &state) == 0:
            i += 1
            if state.live:
                found[state.id] = {
                    "worker": state.worker, "records_in": state.applied + state.refused,
                    "records_out": state.emitted, "overflows": state.emit_lost, "refused": state.refused,
                    "broken": bool(state.broken), "pending": state.pending,
                }
        return found

    cdef _need_running(self):
        if not self.running:
            raise DataPlaneError("the data plane does not run", "start it first", errno.ESHUTDOWN)


cdef _drops(fp_counters *sum):
    cdef int i
    rows = []
    known = {}
    for i in range(FP_REASON_VNETS):
        if sum.reason_vnet[i].packets:
            reason = sum.reason_vnet[i].reason
            rows.append((_reason_name(reason), sum.reason_vnet[i].vni, sum.reason_vnet[i].packets))
            known[reason] = known.get(reason, 0) + sum.reason_vnet[i].packets
    for i in range(FP_REASONS_MAX):
        rest = sum.dropped[i] - known.get(i, 0) if sum.dropped[i] > known.get(i, 0) else 0
        if rest:
            rows.append((_reason_name(i), None, rest))
    return rows


cdef _reason_name(int reason):
    return (<bytes>fp_drop_name(reason)).decode()


cdef void _fill_hold(fp_hold_limits *limits, hold):
    limits.packets = hold.packets
    limits.packets_per_vnet = hold.packets_per_vnet
    limits.packets_per_ingress = hold.packets_per_ingress
    limits.packets_per_flow = hold.packets_per_flow
    limits.wait_ms = hold.wait_ms
    limits.misses_per_ingress_s = hold.misses_per_ingress_s


cdef _mac(const fp_ether_addr *mac):
    return ":".join(f"{mac.addr_bytes[i]:02x}" for i in range(6))


cdef _reason(int number):
    import os
    return os.strerror(number)


cdef int _done(int rc) except -1:
    if rc < 0:
        raise OSError(-rc, _reason(-rc))
    return 0


cdef int _check(int rc, fp_error *error) except -1:
    if rc < 0:
        text = (<bytes>error.text).decode("utf-8", "replace") or _reason(-rc)
        raise DataPlaneError(text, (<bytes>error.fix).decode("utf-8", "replace"), -rc)
    return 0
