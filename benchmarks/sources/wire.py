# SPDX-License-Identifier: Apache-2.0
"""A veth as a member's cable: numbered frames leave at a chosen rate, and arrive with the kernel's stamp.

What arrives is left in the socket until the sending is over: looking at it meanwhile would take processor
time from what is measured."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time

import numpy as np
import numpy.typing as npt

ETH_P_ALL = 3
PACKET_OUTGOING = 4
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
BUFFER_BYTES = 1 << 29
FRAME_BYTES = 60
NUMBER_AT = 42  # in the UDP payload
TICK_S = 0.001

Rows = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

_IOVEC = np.dtype([("base", "<u8"), ("len", "<u8")])
_MMSGHDR = np.dtype(
    [
        ("name", "<u8", 2),
        ("iov", "<u8"),
        ("iovlen", "<u8"),
        ("control", "<u8", 3),
        ("sent", "<u4"),
        ("pad", "<u4"),
    ]
)
_LIBC = ctypes.CDLL(None, use_errno=True)


def mac(kind: int, numbers: Numbers) -> Rows:
    """MACs 02:KIND:00:NN:NN:NN."""
    found = np.zeros((len(numbers), 6), np.uint8)
    found[:, 0], found[:, 1] = 2, kind
    found[:, 3:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:]
    return found


def udp_frames(source_mac: Rows, source: Numbers, destination_mac: Rows, destination: Numbers) -> Rows:
    """UDP over IPv4 over Ethernet, 60 bytes each, with their number in the payload."""
    rows = np.zeros((len(source), FRAME_BYTES), np.uint8)
    rows[:, 0:6], rows[:, 6:12] = destination_mac, source_mac
    rows[:, 12:14] = (0x08, 0x00)
    total = FRAME_BYTES - 14
    rows[:, 14:26] = np.frombuffer(struct.pack("!BBHHHBBH", 0x45, 0, total, 0, 0, 64, 17, 0), np.uint8)
    for at, addresses in ((26, source), (30, destination)):
        rows[:, at : at + 4] = addresses.astype(">u4").view(np.uint8).reshape(-1, 4)
    words = rows[:, 14:34].copy().view(">u2").sum(axis=1, dtype=np.int64)
    words = (words & 0xFFFF) + (words >> 16)
    words = (words & 0xFFFF) + (words >> 16)
    rows[:, 24:26] = (0xFFFF - words).astype(">u2").view(np.uint8).reshape(-1, 2)
    rows[:, 34:42] = np.frombuffer(struct.pack("!HHHH", 4000, 5000, total - 20, 0), np.uint8)
    rows[:, NUMBER_AT : NUMBER_AT + 4] = np.arange(len(rows)).astype(">u4").view(np.uint8).reshape(-1, 4)
    return rows


class Wire:
    """The end of a veth that the member has."""

    def __init__(self, interface: str) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def send(self, rows: Rows, per_s: float) -> npt.NDArray[np.int64]:
        """Send frames in order, a batch every millisecond; return when each was sent (ns since 1970)."""
        rows = np.ascontiguousarray(rows)
        vectors = np.zeros(len(rows), _IOVEC)
        vectors["base"] = rows.ctypes.data + np.arange(len(rows)) * rows.shape[1]
        vectors["len"] = rows.shape[1]
        messages = np.zeros(len(rows), _MMSGHDR)
        messages["iov"] = vectors.ctypes.data + np.arange(len(rows)) * _IOVEC.itemsize
        messages["iovlen"] = 1
        sent_ns = np.zeros(len(rows), np.int64)
        start_s, done = time.monotonic(), 0
        while done < len(rows):
            due = min(len(rows), int((time.monotonic() - start_s) * per_s) + 1)
            if due <= done:
                time.sleep(max(TICK_S, (done + 1) / per_s - (time.monotonic() - start_s)))
                continue
            sent_ns[done:due] = time.time_ns()
            done += self._send(messages, done, due - done)
            time.sleep(TICK_S)
        return sent_ns

    def _send(self, messages: np.ndarray, first: int, count: int) -> int:
        at = messages.ctypes.data + first * _MMSGHDR.itemsize
        done: int = _LIBC.sendmmsg(self._socket.fileno(), ctypes.c_void_p(at), min(count, 1024), 0)
        if done < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return done

    def received(self, count: int) -> npt.NDArray[np.int64]:
        """Return when each numbered frame arrived (ns since 1970); 0: it did not. Takes all that is there."""
        found = np.zeros(count, np.int64)
        while True:
            try:
                data, control, _, address = self._socket.recvmsg(FRAME_BYTES + 4, 64)
            except BlockingIOError:
                return found
            if address[2] == PACKET_OUTGOING or len(data) < NUMBER_AT + 4 or data[23:24] != b"\x11":
                continue
            number = int.from_bytes(data[NUMBER_AT : NUMBER_AT + 4], "big")
            if number < count and not found[number]:
                seconds, nanoseconds = struct.unpack("qq", control[0][2])
                found[number] = seconds * 1_000_000_000 + nanoseconds
