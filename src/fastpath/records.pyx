# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""The records that cross between the data plane and its clients, as numpy dtypes, and batches of them.

The dtypes and enums are made once, from what the C compiler says of native/include/fp_records.h and
fp_types.h, where their meaning stands. Batches are built column by column: a thousand rows cost about as much as one.

    rows = make(RecordType.FLOW_INSTALL, len(misses), vni=misses["head"]["vni"], key=misses["key"],
                token=misses["token"], action=Action.DROP, reason=40)
    client.send(rows)

Any thread; nothing here keeps state.
"""

from enum import IntEnum, IntFlag

import numpy as np

from .native cimport *

RECORD_BYTES = FP_RECORD_BYTES
RECORD_VERSION = FP_RECORD_VERSION
PACKET_SPAN_BYTES = FP_PACKET_SPAN_BYTES
CHANGES_KEPT = FP_CHANGES_KEPT
SAMPLE_EVERY = FP_SAMPLE_EVERY
DROP_REASONS_MAX = FP_DROP_MAX

_FORMATS = {"uint8_t": "u1", "uint16_t": "u2", "uint32_t": "u4", "uint64_t": "u8", "char": "S1"}


def _dtypes():
    """Return the dtype of every shared struct, by its name in C. A char array is text."""
    found = {}
    cdef const fp_layout_member *row = fp_layout_members
    while row.structure != NULL:
        name = row.structure.decode()
        size = row.structure_bytes
        members = []
        while row.structure != NULL and row.structure.decode() == name:
            kind = row.type.decode()
            base = found[kind] if kind in found else np.dtype(_FORMATS[kind])
            count = row.size_bytes // base.itemsize
            form = f"S{count}" if kind == "char" else base if count == 1 else (base, count)
            members.append((row.member.decode(), form, row.offset))
            row += 1
        names, formats, offsets = zip(*members, strict=True)
        found[name] = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
    return found


def _enum(kind, str name):
    """Return a Python enum of a C one, without the prefix that its members share and without ..._MAX."""
    values = {}
    cdef const fp_layout_value *row = fp_layout_values
    while row.enumeration != NULL:
        if row.enumeration.decode() == name:
            values[row.name.decode()] = row.value
        row += 1
    first, last = min(values), max(values)
    same = next(i for i in range(len(first)) if first[:i + 1] != last[:i + 1])
    prefix = first.rindex("_", 0, same) + 1
    members = {value[prefix:]: number for value, number in values.items() if not value.endswith("_MAX")}
    title = "".join(word.title() for word in name.split("_")[1:])
    return kind(title, members, module=__name__)


RecordType = _enum(IntEnum, "fp_record_type")
RecordFlag = _enum(IntFlag, "fp_record_flag")
Refusal = _enum(IntEnum, "fp_refusal")
KeyClass = _enum(IntEnum, "fp_key_class")
KeyFlag = _enum(IntFlag, "fp_key_flag")
Action = _enum(IntEnum, "fp_action")
ActionFlag = _enum(IntFlag, "fp_action_flag")
ChangeKind = _enum(IntEnum, "fp_change_kind")
ScopeFlag = _enum(IntFlag, "fp_scope_flag")
IngressKind = _enum(IntEnum, "fp_ingress_kind")
IngressFlag = _enum(IntFlag, "fp_ingress_flag")
Protocol = _enum(IntEnum, "fp_protocol")
LocationKind = _enum(IntEnum, "fp_location_kind")
TunnelState = _enum(IntEnum, "fp_tunnel_state")
SetMode = _enum(IntEnum, "fp_set_mode")

DTYPES = _dtypes()

FLOW_KEY = DTYPES["fp_flow_key"]
FLOW_ENTRY = DTYPES["fp_flow_entry"]
FLOW_BUCKET = DTYPES["fp_flow_bucket"]
FLOW_SIDE = DTYPES["fp_flow_side"]
SCOPE = DTYPES["fp_scope"]
CHANGE = DTYPES["fp_change"]
VNET = DTYPES["fp_vnet"]
INGRESS = DTYPES["fp_ingress"]
LOCATOR_KEY = DTYPES["fp_locator_key"]
LOCATION_HALF = DTYPES["fp_location_half"]
LOCATION = DTYPES["fp_location"]
HEADER = DTYPES["fp_header"]
NEXTHOP = DTYPES["fp_nexthop"]
NEXTHOP_GROUP = DTYPES["fp_nexthop_group"]
TUNNEL_INFO = DTYPES["fp_tunnel_info"]
TUNNEL_SET = DTYPES["fp_tunnel_set"]
HEAD = DTYPES["fp_record_head"]
RECORD = DTYPES["fp_record"]
MISS = DTYPES["fp_record_miss"]
LOCATOR = DTYPES["fp_record_locator"]
REFUSED = DTYPES["fp_record_refused"]
VNET_RECORD = DTYPES["fp_record_vnet"]
SNAPSHOT = DTYPES["fp_record_snapshot"]
ATTACHMENT = DTYPES["fp_record_attachment"]
INGRESS_RECORD = DTYPES["fp_record_ingress"]
TUNNEL = DTYPES["fp_record_tunnel"]
TUNNEL_GROUP = DTYPES["fp_record_tunnel_group"]
LOCATION_RECORD = DTYPES["fp_record_location"]
NEXTHOP_RECORD = DTYPES["fp_record_nexthop"]
PEERING = DTYPES["fp_record_peering"]
FLOW_RECORD = DTYPES["fp_record_flow"]
CHANGE_RECORD = DTYPES["fp_record_change"]
DIRECTORY_STATE = DTYPES["fp_record_directory_state"]
PACKET = DTYPES["fp_record_packet"]
SYNC = DTYPES["fp_record_sync"]

STRUCT_OF = {
    RecordType.MISS: DTYPES["fp_record_miss"],
    RecordType.REFRESH: DTYPES["fp_record_miss"],
    RecordType.UNKNOWN_LOCATOR: DTYPES["fp_record_locator"],
    RecordType.PACKET: DTYPES["fp_record_packet"],
    RecordType.REFUSED: DTYPES["fp_record_refused"],
    RecordType.TUNNEL_CHANGED: DTYPES["fp_record_tunnel"],
    RecordType.TUNNEL_UP: DTYPES["fp_record_tunnel"],
    RecordType.VNET_SET: DTYPES["fp_record_vnet"],
    RecordType.VNET_REMOVE: DTYPES["fp_record_vnet"],
    RecordType.SNAPSHOT_BEGIN: DTYPES["fp_record_snapshot"],
    RecordType.SNAPSHOT_END: DTYPES["fp_record_snapshot"],
    RecordType.ATTACHMENT_SET: DTYPES["fp_record_attachment"],
    RecordType.ATTACHMENT_REMOVE: DTYPES["fp_record_attachment"],
    RecordType.INGRESS_SET: DTYPES["fp_record_ingress"],
    RecordType.INGRESS_REMOVE: DTYPES["fp_record_ingress"],
    RecordType.TUNNEL_SET: DTYPES["fp_record_tunnel"],
    RecordType.TUNNEL_REMOVE: DTYPES["fp_record_tunnel"],
    RecordType.TUNNEL_GROUP_SET: DTYPES["fp_record_tunnel_group"],
    RecordType.LOCATION_SET: DTYPES["fp_record_location"],
    RecordType.LOCATION_REMOVE: DTYPES["fp_record_location"],
    RecordType.NEXTHOP_SET: DTYPES["fp_record_nexthop"],
    RecordType.PEERING_SET: DTYPES["fp_record_peering"],
    RecordType.PEERING_REMOVE: DTYPES["fp_record_peering"],
    RecordType.FLOW_INSTALL: DTYPES["fp_record_flow"],
    RecordType.CHANGE: DTYPES["fp_record_change"],
    RecordType.RELEASE_DROP: DTYPES["fp_record_flow"],
    RecordType.DIRECTORY_STATE: DTYPES["fp_record_directory_state"],
    RecordType.PACKET_OUT: DTYPES["fp_record_packet"],
    RecordType.SYNC: DTYPES["fp_record_sync"],
    RecordType.SYNCED: DTYPES["fp_record_sync"],
}


def make(record_type, n=1, *, flags=0, vni=0, revision=0, **columns):
    """Return n records of one type, ready to send; each column is one value for all rows or n of them.

    Addresses, MACs and other byte arrays are bytes (one value) or arrays of shape (n, length); what is not
    named is zero. Raises ValueError for a column that the type does not have or that does not fit.
    """
    record_type = RecordType(record_type)
    dtype = STRUCT_OF[record_type]
    rows = np.zeros(n, dtype)
    head = rows["head"]
    head["type"] = record_type
    head["version"] = FP_RECORD_VERSION
    head["flags"] = flags
    head["vni"] = vni
    head["revision"] = revision
    _fill(rows, record_type.name, columns)
    return rows


def make_keys(n=1, **columns):
    """Return n flow keys (struct fp_flow_key) from columns, as make() does."""
    rows = np.zeros(n, FLOW_KEY)
    _fill(rows, "flow key", columns)
    return rows


def select(records, record_type):
    """Return the records of one type, in order, as rows of that type's struct (a copy)."""
    record_type = RecordType(record_type)
    rows = np.ascontiguousarray(records).view(RECORD).reshape(-1)
    wanted = (rows["head"]["type"] == record_type) & (rows["head"]["version"] == FP_RECORD_VERSION)
    return rows[wanted].view(STRUCT_OF[record_type])


def join(batches):
    """Return several batches, of any types, as one array of plain records, in order."""
    # As bytes: numpy compares the members of structured types one by one before it joins them.
    raw = [np.ascontiguousarray(b).reshape(-1).view(np.uint8) for b in batches]
    return (raw[0] if len(raw) == 1 else np.concatenate(raw)).view(RECORD) if raw else np.zeros(0, RECORD)


def packet_spans(record_type, bytes frame, **columns):
    """Return the records that carry one frame, 88 bytes each. Raises ValueError for an empty frame."""
    if not frame:
        raise ValueError("a frame of no bytes cannot be sent")
    n = -(-len(frame) // FP_PACKET_SPAN_BYTES)
    rows = make(record_type, n, span=np.arange(n), frame_bytes=len(frame), **columns)
    padded = np.zeros(n * FP_PACKET_SPAN_BYTES, np.uint8)
    padded[:len(frame)] = np.frombuffer(frame, np.uint8)
    rows["data"] = padded.reshape(n, FP_PACKET_SPAN_BYTES)
    rows["head"]["flags"][0] |= RecordFlag.FIRST
    rows["head"]["flags"][-1] |= RecordFlag.LAST
    return rows


def _fill(rows, what, columns):
    for name, column in columns.items():
        if name not in rows.dtype.names:
            raise ValueError(f"{what} has no column {name!r}; it has {', '.join(rows.dtype.names)}")
        field = rows.dtype[name]
        if isinstance(column, (bytes, bytearray)) and field.subdtype is not None:
            if len(column) != field.itemsize:
                raise ValueError(f"{what}.{name}: {len(column)} bytes given, {field.itemsize} wanted")
            column = np.frombuffer(column, field.base).reshape(field.shape)
        elif isinstance(column, str):
            column = column.encode()
        if isinstance(column, bytes) and field.kind == "S" and len(column) > field.itemsize:
            raise ValueError(f"{what}.{name}: {column!r} is longer than {field.itemsize} bytes")
        rows[name] = column
