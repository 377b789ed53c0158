# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Rings of 128-byte records between the data plane and one client, and the client's connection.

RingClient is what the slow path, control and observers use; RingMemory is the data plane's half: one sealed
memfd a client. Needs no DPDK. An object belongs to one thread.

    client = RingClient("/run/vnet-gateway/gw1/dataplane.sock", hello="slow-path", worker=0, workers=2)
    poller.register(client.fileno())
    while client.prepare_sleep():
        poller.poll()
        client.woke()
        rows = client.drain(4096)
        client.send(answers(rows))
"""

import fcntl
import mmap
import os
import socket

import msgpack
import numpy as np

from fastpath.records import RECORD

from .native cimport *

PROTOCOL_VERSION = 1
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_MESSAGE_BYTES_MAX = 1 << 20
_RECORD_BYTES = FP_RECORD_BYTES
_DOORBELL_BYTES = 4096  # more than rings wait in the pipe at a time


class DataPlaneUnreachable(ConnectionError):
    """The data plane does not answer on its socket, refuses, or broke a ring. Connect anew."""

    def __init__(self, path, problem, fix):
        super().__init__(f"{path}: {problem}; {fix}")
        self.path = path
        self.problem = problem
        self.fix = fix


cdef class RingEnd:
    """One side of one ring. Keeps the memory that it stands in."""

    cdef fp_ring_end end
    cdef object memory

    def __cinit__(self, RingMemory memory, uint32_t ring, bint producer):
        self.memory = memory
        cdef fp_ring_side side = FP_RING_PRODUCER if producer else FP_RING_CONSUMER
        cdef int rc = fp_ring_attach(&self.end, memory.base, memory.len_bytes, ring, side)
        if rc < 0:
            raise ValueError(f"ring {ring}: {os.strerror(-rc)}")

    def write(self, records):
        """Write records in order; return how many found room."""
        cdef const uint8_t[::1] raw = _raw(records)
        cdef uint32_t n = <uint32_t>(raw.shape[0] // _RECORD_BYTES)
        if n == 0:
            return 0
        return fp_ring_write(&self.end, <const fp_record *>&raw[0], n)

    def read(self, uint32_t limit):
        """Return up to `limit` records as an array of bytes, shape (n, 128)."""
        found = np.empty((limit, _RECORD_BYTES), np.uint8)
        cdef uint8_t[:, ::1] raw = found
        if limit == 0:
            return found
        cdef uint32_t n = fp_ring_read(&self.end, <fp_record *>&raw[0, 0], limit)
        return found[:n]

    def pending(self):
        """Return how many records could be read now."""
        return fp_ring_pending(&self.end)

    def sleep(self, bint sleeping):
        """Say whether this consumer wants a doorbell."""
        fp_ring_sleep(&self.end, sleeping)

    def wanted(self):
        """Return whether the consumer sleeps and must be rung now."""
        return fp_ring_wanted(&self.end)

    @property
    def broken(self):
        """Whether the other side wrote an impossible index: nothing more is read or written."""
        return bool(self.end.broken)

    @property
    def overflows(self):
        """Records that found no room."""
        return self.end.overflows


cdef class RingMemory:
    """A mapped memfd of rings: `miss_rings` towards the client and, numbered last, one install ring.

    Made by the data plane (create) and mapped by the client (from_descriptor). `address` is where it is
    mapped, for C code of other modules; valid until close().
    """

    cdef object _map
    cdef uint8_t[::1] _view
    cdef void *base
    cdef readonly size_t len_bytes
    cdef readonly int fd
    cdef readonly uint32_t miss_rings

    def __init__(self):
        raise TypeError("use RingMemory.create() or RingMemory.from_descriptor()")

    @staticmethod
    def create(uint32_t miss_rings, uint32_t miss_slots=4096, uint32_t install_slots=8192):
        """Make, format and seal a memfd. Raises ValueError for impossible numbers."""
        cdef size_t total = fp_rings_bytes(miss_rings, miss_slots, install_slots)
        if total == 0:
            raise ValueError(
                f"{miss_rings} miss rings of {miss_slots} slots and {install_slots} install slots: "
                "slots are powers of two from 16 to 2^20, rings 1 to 79"
            )
        fd = os.memfd_create("vnet-gateway-rings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, total)
            memory = RingMemory._map_descriptor(fd, total, miss_rings)
            fp_rings_format((<RingMemory>memory).base, total, miss_rings, miss_slots, install_slots)
            # Neither side can shrink it under the other (SIGBUS).
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(fd)
            raise
        return memory

    @staticmethod
    def from_descriptor(int fd, size_t total_bytes, uint32_t miss_rings):
        """Map rings that the data plane made; takes the descriptor over. Raises ValueError if it is odd."""
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("the memory of the rings is not sealed")
        size = os.fstat(fd).st_size
        if size != total_bytes:
            raise ValueError(f"the memory of the rings has {size} bytes, not {total_bytes}")
        cdef RingMemory memory = RingMemory._map_descriptor(fd, total_bytes, miss_rings)
        if (<fp_rings_header *>memory.base).miss_rings != miss_rings:
            raise ValueError(f"the memory of the rings has not {miss_rings} miss rings")
        return memory

    @staticmethod
    def _map_descriptor(int fd, size_t total_bytes, uint32_t miss_rings):
        cdef RingMemory self = RingMemory.__new__(RingMemory)
        # With all pages: else each is looked up when it is first used, while packets wait.
        self._map = mmap.mmap(fd, total_bytes, mmap.MAP_SHARED | mmap.MAP_POPULATE)
        self._view = self._map
        self.base = &self._view[0]
        self.len_bytes = total_bytes
        self.fd = fd
        self.miss_rings = miss_rings
        return self

    @property
    def address(self):
        """Where the rings are mapped in this process."""
        return <uint64_t>self.base

    def end(self, uint32_t ring, bint producer):
        """Attach one side of one ring (miss_rings: the install ring). Once per side."""
        return RingEnd(self, ring, producer)

    def close(self):
        """Close the descriptor. The mapping goes when the last RingEnd does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


cdef class RingClient:
    """A connection to the data plane: rings (unless an observer) and questions."""

    cdef readonly str path
    cdef readonly dict answer
    cdef object _socket
    cdef object _memory
    cdef fp_ring_end _miss[80]
    cdef fp_ring_end _install
    cdef uint32_t _rings
    cdef uint32_t _first
    cdef int _wake_fd
    cdef int _kick_fd
    cdef readonly uint64_t sent
    cdef readonly uint64_t drained

    def __cinit__(self):
        self._wake_fd = -1
        self._kick_fd = -1

    def __init__(self, path, hello="slow-path", uint32_t worker=0, uint32_t workers=1, double timeout_s=5.0):
        """Connect and greet. Raises DataPlaneUnreachable if nobody answers within timeout_s or it refuses."""
        self.path = os.fspath(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(timeout_s)
            self._connect(hello, worker, workers)
        except BaseException:
            self.close()
            raise

    def _connect(self, hello, worker, workers):
        try:
            self._socket.connect(self.path)
        except OSError as error:
            raise DataPlaneUnreachable(
                self.path, f"no data plane answers ({error.strerror or error})", "start it: vnet-gateway run CONFIG"
            ) from error
        question = {"v": PROTOCOL_VERSION, "hello": hello, "worker": worker, "workers": workers}
        answer, descriptors = self._exchange(question, (), 3)
        try:
            if not answer.get("ok"):
                raise DataPlaneUnreachable(
                    self.path, f"refused: {answer.get('error', 'no reason given')}", answer.get("fix") or "see its log"
                )
            self.answer = answer
            if hello != "observer":
                self._attach(answer, descriptors)
        except BaseException:
            for fd in descriptors:
                os.close(fd)
            raise

    def _attach(self, answer, descriptors):
        if len(descriptors) != 3:
            raise self._odd(f"{len(descriptors)} descriptors came with the greeting, not 3")
        rings = answer.get("miss_rings")
        total = answer.get("total_bytes")
        if not isinstance(rings, int) or not isinstance(total, int) or not 1 <= rings < FP_RINGS_MAX:
            raise self._odd("impossible number of rings")
        cdef RingMemory memory
        cdef uint32_t i
        try:
            memory = RingMemory.from_descriptor(descriptors[0], total, rings)
        except (ValueError, OSError) as error:
            raise self._odd(str(error)) from error
        self._memory = memory
        self._rings = rings
        for i in range(self._rings):
            if fp_ring_attach(&self._miss[i], memory.base, memory.len_bytes, i, FP_RING_CONSUMER) < 0:
                raise self._odd(f"ring {i} is malformed")
        if fp_ring_attach(&self._install, memory.base, memory.len_bytes, self._rings, FP_RING_PRODUCER) < 0:
            raise self._odd("the install ring is malformed")
        self._wake_fd = descriptors[1]
        self._kick_fd = descriptors[2]
        descriptors.clear()
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self._kick_fd, False)

    def drain(self, uint32_t limit):
        """Return up to `limit` records, a copy, dtype fastpath.records.RECORD, taken fairly from all rings.

        Raises DataPlaneUnreachable if a ring broke.
        """
        cdef uint32_t n = 0, i, ring, share, took, there = 0
        cdef bint whole = False
        for i in range(self._rings):
            there += fp_ring_pending(&self._miss[i])
        limit = min(limit, there)  # no megabyte is asked for and given back for a single record
        found = np.empty((limit, _RECORD_BYTES), np.uint8)
        cdef uint8_t[:, ::1] raw = found
        if limit == 0:
            self._check_rings()
            return found.view(RECORD)[:, 0]
        share = max(1, limit // self._rings)
        # First everybody up to a share, then whoever has more; another ring begins each time.
        while n < limit:
            took = n
            for i in range(self._rings):
                ring = (self._first + i) % self._rings
                if n < limit:
                    n += fp_ring_read(&self._miss[ring], <fp_record *>&raw[n, 0],
                                      limit - n if whole else min(share, limit - n))
            if whole or n == took:
                break
            whole = True
        self._first = (self._first + 1) % self._rings
        self._check_rings()
        self.drained += n
        return found[:n].view(RECORD)[:, 0]

    cdef int _check_rings(self) except -1:
        cdef uint32_t i
        for i in range(self._rings):
            if self._miss[i].broken:
                raise self._odd(f"miss ring {i} has an impossible index")
        return 0

    def send(self, records):
        """Write records (any array of 128-byte rows) in order; return how many found room.

        Rings the data plane if it sleeps. Raises DataPlaneUnreachable if the ring broke.
        """
        cdef const uint8_t[::1] raw = _raw(records)
        cdef uint32_t n = <uint32_t>(raw.shape[0] // _RECORD_BYTES)
        cdef uint32_t done = 0
        if self._rings == 0:
            raise self._odd("an observer has no rings")
        if n > 0:
            done = fp_ring_write(&self._install, <const fp_record *>&raw[0], n)
        if self._install.broken:
            raise self._odd("the install ring has an impossible index")
        if fp_ring_wanted(&self._install):
            _ring(self._kick_fd)
        self.sent += done
        return done

    def prepare_sleep(self):
        """Ask for a doorbell. True: poll fileno() now; False: records came meanwhile, drain first."""
        cdef uint32_t i, pending = 0
        for i in range(self._rings):
            fp_ring_sleep(&self._miss[i], True)
        for i in range(self._rings):
            pending += fp_ring_pending(&self._miss[i])
        if pending:
            for i in range(self._rings):
                fp_ring_sleep(&self._miss[i], False)
        return pending == 0

    def woke(self):
        """Take the doorbell back and silence it."""
        cdef uint32_t i
        for i in range(self._rings):
            fp_ring_sleep(&self._miss[i], False)
        try:
            os.read(self._wake_fd, _DOORBELL_BYTES)
        except BlockingIOError:
            pass

    def fileno(self):
        """Return the descriptor that is readable when the data plane rings; -1 for an observer."""
        return self._wake_fd

    def connection_fileno(self):
        """Return the socket: it hangs up when the data plane ends."""
        return self._socket.fileno()

    def ask(self, dict question, descriptors=()):
        """Ask one question (docs/protocol.md section 1), with descriptors to hand over; return the answer.

        Raises DataPlaneUnreachable if no answer comes in time.
        """
        return self._exchange({"v": PROTOCOL_VERSION, **question}, descriptors, 0)[0]

    @property
    def ports(self):
        """The ports as greeted: a list of {"name", "index", "role", "mac", "mtu_bytes"}."""
        return self.answer.get("ports", [])

    @property
    def threads(self):
        """How many poll threads there are."""
        return self.answer.get("threads", 0)

    @property
    def overflows(self):
        """Records that found no room in the install ring."""
        return self._install.overflows

    def close(self):
        """Hang up. Twice is fine."""
        if self._socket is not None:
            self._socket.close()
        for fd in (self._wake_fd, self._kick_fd):
            if fd >= 0:
                os.close(fd)
        self._wake_fd = self._kick_fd = -1
        if self._memory is not None:
            self._rings = 0
            self._memory.close()
            self._memory = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _exchange(self, question, descriptors, wanted):
        received = []
        try:
            message = msgpack.packb(question)
            if descriptors:
                socket.send_fds(self._socket, [message], list(descriptors))
            else:
                self._socket.send(message)
            raw, received, flags, _ = socket.recv_fds(self._socket, _MESSAGE_BYTES_MAX, max(wanted, 1))
            if not raw:
                raise DataPlaneUnreachable(self.path, "the data plane hung up", "connect anew")
            if flags & socket.MSG_TRUNC:
                raise self._odd("an answer too long for the socket")
            answer = msgpack.unpackb(raw)
            if not isinstance(answer, dict):
                raise self._odd("an answer that is no map")
            if not wanted:
                _close_all(received)
            return answer, received
        except TimeoutError as error:
            raise DataPlaneUnreachable(
                self.path, "the data plane does not answer in time", "see its log; is it stopped?"
            ) from error
        except DataPlaneUnreachable:
            _close_all(received)
            raise
        except (OSError, msgpack.UnpackException, ValueError) as error:
            _close_all(received)
            raise DataPlaneUnreachable(self.path, f"the connection broke ({error})", "connect anew") from error

    def _odd(self, problem):
        return DataPlaneUnreachable(self.path, problem, "connect anew; if it lasts, both sides differ in version")


def _raw(records):
    array = np.ascontiguousarray(records)
    if array.nbytes % _RECORD_BYTES:
        raise ValueError(f"{array.nbytes} bytes are no number of 128-byte records")
    return array.reshape(-1).view(np.uint8)


def _ring(fd):
    # Full (nobody reads it any more) is as good as rung.
    try:
        os.eventfd_write(fd, 1)
    except BlockingIOError:
        pass


def _close_all(descriptors):
    while descriptors:
        os.close(descriptors.pop())
