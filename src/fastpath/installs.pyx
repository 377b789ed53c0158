# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""FLOW_INSTALL records from MISS rows and, row for row, decisions: one pass, some 15 ns a row.

What the columns mean and what may be believed of them stands in gateway.decisions, which calls this; here is only
what has to be fast. Any thread; nothing here keeps state.
"""

import numpy as np

from fastpath.records import FLOW_RECORD

from .native cimport *


def install_records(rows, decisions, locations, const uint8_t[::1] carried, const uint8_t[::1] reasons,
                    uint16_t not_supported, uint8_t by_connection, uint64_t incarnation):
    """Return (records, how many decisions could not be carried).

    `carried`: by action, 0: not carried, 1: carried, 2: needs a destination. `reasons`: by number, whether it is a
    reason. `by_connection`: the granularity that makes a key without ports narrow. Raises IndexError if there
    are fewer decisions than rows.
    """
    cdef Py_ssize_t i, n = len(rows), bad = 0
    if len(decisions) < n:
        raise IndexError(f"{len(decisions)} decisions for {n} rows")
    found = np.zeros(n, FLOW_RECORD)
    if n == 0:
        return found, 0
    cdef const fp_record_miss[::1] row = rows
    cdef fp_record_flow[::1] record = found
    cdef const uint8_t[:] action = decisions["action"], granularity = decisions["granularity"]
    cdef const uint16_t[:] reason = decisions["reason"]
    cdef const int32_t[:] source = decisions["source_location"], destination = decisions["destination_location"]
    cdef const uint32_t[:] lifetime_ms = decisions["lifetime_ms"], refresh_ms = decisions["refresh_ms"]
    cdef const uint64_t[:] revision = decisions["revision"]
    cdef Py_ssize_t known = len(locations)
    cdef const uint64_t[:] object_id = locations["object_id"]
    cdef const uint32_t[:] vni = locations["vni"]
    cdef const uint8_t[:] way = locations["way"]
    cdef uint8_t does
    cdef bint is_bad
    for i in range(n):
        does = action[i]
        if granularity[i] == by_connection and _can_narrow(&row[i].key):
            does = FP_ACTION_NARROW
        is_bad = carried[does] == 0 or source[i] >= known or destination[i] >= known
        is_bad = is_bad or (carried[does] == 2 and destination[i] < 0)
        is_bad = is_bad or (does == FP_ACTION_DROP and not reasons[reason[i]])
        if is_bad:
            does = FP_ACTION_DROP
            bad += 1
        record[i].head.type = FP_RECORD_FLOW_INSTALL
        record[i].head.version = FP_RECORD_VERSION
        record[i].head.vni = row[i].head.vni
        record[i].head.revision = revision[i]
        record[i].key = row[i].key
        record[i].action = does
        record[i].ingress_object = row[i].ingress_object
        record[i].lifetime_ms = lifetime_ms[i] if lifetime_ms[i] else 1
        record[i].refresh_ms = refresh_ms[i]
        record[i].token = row[i].token
        record[i].incarnation = incarnation
        if does == FP_ACTION_DROP:
            record[i].reason = not_supported if is_bad else reason[i]
            continue
        if does == FP_ACTION_NARROW:
            continue
        if source[i] >= 0:
            record[i].source_object = object_id[source[i]]
            record[i].ways = <uint8_t>(way[source[i]] << 4)
        if destination[i] >= 0:
            record[i].destination_object = object_id[destination[i]]
            record[i].ways |= way[destination[i]]
            if vni[destination[i]] != row[i].head.vni:
                record[i].destination_vni = vni[destination[i]]
    return found, bad


cdef inline bint _can_narrow(const fp_flow_key *key) noexcept:
    return (key.flags & FP_KEY_CONNECTION) == 0 and (
        key.key_class == FP_CLASS_ROUTED or key.key_class == FP_CLASS_BRIDGED)
