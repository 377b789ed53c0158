# SPDX-License-Identifier: Apache-2.0
"""The rows of the directory's wire, as numpy dtypes (docs/protocol.md, section 2.1).

All are packed and little-endian, but for members noted as wire order. Addresses are 16 bytes; IPv4 stands
in the last four. Unused bytes are zero.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from directory_client.wire.messages import MalformedMessage

Rows = NDArray[np.void]

_ADDRESS = ("u1", (16,))
_MAC = ("u1", (6,))


def _packed(size: int, *fields: tuple[str, str] | tuple[str, tuple[str, tuple[int, ...]]]) -> np.dtype:
    """Make a packed dtype and check its size; ValueError if it is another."""
    flat = [(field[0], *field[1]) if isinstance(field[1], tuple) else field for field in fields]
    dtype = np.dtype(flat)
    if dtype.itemsize != size:
        raise ValueError(f"row of {dtype.itemsize} bytes, {size} are specified")
    return dtype


QUERY = _packed(
    64,
    ("vni", "<u4"),
    ("key_class", "u1"),
    ("key_flags", "u1"),
    ("protocol", "u1"),
    ("ingress_kind", "u1"),
    ("source", _ADDRESS),
    ("destination", _ADDRESS),
    ("source_port", ">u2"),
    ("destination_port", ">u2"),
    ("source_mac_end", ("u1", (4,))),  # of the packet that was missed; 0: of a flow that was in use
    ("ingress_object", "<u8"),
    ("current_object", "<u8"),
)

DECISION = _packed(
    48,
    ("action", "u1"),
    ("granularity", "u1"),
    ("reason", "<u2"),
    ("source_location", "<i4"),
    ("destination_location", "<i4"),
    ("scope", "<i4"),
    ("lifetime_ms", "<u4"),
    ("refresh_ms", "<u4"),
    ("revision", "<u8"),
    ("rule_id", "<u8"),
    ("zero", "<u8"),
)

LOCATION = _packed(
    64,
    ("vni", "<u4"),
    ("way", "u1"),
    ("kind", "u1"),
    ("mac", _MAC),
    ("object_id", "<u8"),
    ("target_id", "<u8"),
    ("node_id", "<u8"),
    ("wire_id", "<u4"),
    ("zero0", "<u4"),
    ("revision", "<u8"),
    ("zero1", ("u1", (12,))),
)

TUNNEL = _packed(
    96,
    ("object_id", "<u8"),
    ("profile_id", "<u8"),
    ("node_id", "<u8"),
    ("local", _ADDRESS),
    ("remote", _ADDRESS),
    ("udp_port", "<u2"),
    ("mtu_bytes", "<u2"),
    ("protocol", "u1"),
    ("ttl", "u1"),
    ("dscp", "u1"),
    ("dscp_copy", "u1"),
    ("backup_id", "<u8"),
    ("revision", "<u8"),
    ("zero0", "<u8"),
    ("zero1", ("u1", (8,))),
)

SCOPE = _packed(
    48,
    ("source", _ADDRESS),
    ("destination", _ADDRESS),
    ("source_bits", "u1"),
    ("destination_bits", "u1"),
    ("protocol", "u1"),
    ("flags", "u1"),
    ("port_low", "<u2"),
    ("port_high", "<u2"),
    ("vni", "<u4"),
    ("kind", "u1"),
    ("zero", ("u1", (3,))),
)


def rows_of(frame: Any, dtype: np.dtype[Any], what: str) -> np.ndarray[Any, Any]:
    """Look at a frame as rows; read-only, not copied. Raises MalformedMessage on a part of a row."""
    if len(frame) % dtype.itemsize:
        raise MalformedMessage(
            f"{what}: {len(frame)} bytes are no whole number of {dtype.itemsize}-byte rows"
        )
    return np.frombuffer(frame, dtype=dtype)
