# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""FLOW_INSTALL records from MISS rows and, row for row, decisions: one pass, some 15 ns a row.

What the columns mean and what may be believed of them stands in gateway.decisions, which calls this; here is only
what has to be fast. Any thread; nothing here keeps state.
"""

import numpy as np

from libc.string cimport memcpy

from fastpath.columns import place_of
from fastpath.records import FLOW_RECORD

from .native cimport *
from .rows cimport rows_of

cdef struct _Decision:
    uint8_t action
    uint8_t granularity
    uint16_t reason
    int32_t source
    int32_t destination
    uint32_t lifetime_ms
    uint32_t refresh_ms
    uint64_t revision


cdef class Installs:
    """How decisions are read and carried out: made once.

    `decision`, `location`: their types, with the columns of the directory's wire. `carried`: by action, 0: not
    carried, 1: carried, 2: needs a destination. `reasons`: by number, whether it is a reason. `by_connection`: the
    granularity that makes a key without ports narrow.
    """

    cdef Py_ssize_t _decision_bytes, _location_bytes
    cdef Py_ssize_t _action_at, _granularity_at, _reason_at, _source_at, _destination_at
    cdef Py_ssize_t _lifetime_at, _refresh_at, _revision_at
    cdef Py_ssize_t _object_at, _vni_at, _way_at
    cdef uint8_t _carried[256]
    cdef uint8_t _is_reason[65536]
    cdef uint16_t _not_supported
    cdef uint8_t _by_connection

    def __init__(self, decision, location, carried, reasons, uint16_t not_supported, uint8_t by_connection):
        cdef const uint8_t[::1] table
        self._decision_bytes, self._location_bytes = decision.itemsize, location.itemsize
        self._action_at, self._granularity_at, self._reason_at = _places(decision, "action", "granularity", "reason")
        self._source_at, self._destination_at = _places(decision, "source_location", "destination_location")
        self._lifetime_at, self._refresh_at = _places(decision, "lifetime_ms", "refresh_ms")
        self._revision_at, = _places(decision, "revision")
        self._object_at, self._vni_at, self._way_at = _places(location, "object_id", "vni", "way")
        table = np.ascontiguousarray(carried, np.uint8)
        memcpy(self._carried, &table[0], min(table.nbytes, sizeof(self._carried)))
        table = np.ascontiguousarray(reasons, np.uint8)
        memcpy(self._is_reason, &table[0], min(table.nbytes, sizeof(self._is_reason)))
        self._not_supported, self._by_connection = not_supported, by_connection

    def records(self, rows, decisions, locations, uint64_t incarnation):
        """Return (records, how many decisions could not be carried). Raises IndexError if there are fewer
        decisions than rows."""
        cdef Py_ssize_t i, n, decided, known, bad = 0
        cdef const fp_record_miss *row = <const fp_record_miss *>rows_of(rows, sizeof(fp_record_miss), &n)
        cdef const uint8_t *decision = rows_of(decisions, self._decision_bytes, &decided)
        cdef const uint8_t *location = rows_of(locations, self._location_bytes, &known)
        if decided < n:
            raise IndexError(f"{decided} decisions for {n} rows")
        found = np.zeros(n, FLOW_RECORD)
        cdef fp_record_flow *record = <fp_record_flow *>rows_of(found, sizeof(fp_record_flow), &n)
        cdef _Decision said
        for i in range(n):
            self._read(decision + i * self._decision_bytes, &said)
            bad += not self._is_carried(&row[i].key, &said, known)
            record[i].head.type = FP_RECORD_FLOW_INSTALL
            record[i].head.version = FP_RECORD_VERSION
            record[i].head.vni = row[i].head.vni
            record[i].head.revision = said.revision
            record[i].key = row[i].key
            record[i].action = said.action
            record[i].ingress_object = row[i].ingress_object
            record[i].lifetime_ms = said.lifetime_ms if said.lifetime_ms else 1
            record[i].refresh_ms = said.refresh_ms
            record[i].token = row[i].token
            record[i].incarnation = incarnation
            if said.action == FP_ACTION_DROP:
                record[i].reason = said.reason
            elif said.action != FP_ACTION_NARROW:
                if said.source >= 0:
                    self._lead_from(location + said.source * self._location_bytes, &record[i])
                if said.destination >= 0:
                    self._lead_to(location + said.destination * self._location_bytes, &record[i])
        return found, bad

    cdef inline void _read(self, const uint8_t *row, _Decision *said) noexcept:
        said.action, said.granularity = row[self._action_at], row[self._granularity_at]
        memcpy(&said.reason, row + self._reason_at, sizeof(said.reason))
        memcpy(&said.source, row + self._source_at, sizeof(said.source))
        memcpy(&said.destination, row + self._destination_at, sizeof(said.destination))
        memcpy(&said.lifetime_ms, row + self._lifetime_at, sizeof(said.lifetime_ms))
        memcpy(&said.refresh_ms, row + self._refresh_at, sizeof(said.refresh_ms))
        memcpy(&said.revision, row + self._revision_at, sizeof(said.revision))

    cdef inline bint _is_carried(self, const fp_flow_key *key, _Decision *said, Py_ssize_t known) noexcept:
        """Look whether a decision says something that can be done; if not it becomes a drop."""
        if said.granularity == self._by_connection and _can_narrow(key):
            said.action = FP_ACTION_NARROW
        cdef uint8_t carried = self._carried[said.action]
        if carried != 0 and said.source < known and said.destination < known:
            if carried != 2 or said.destination >= 0:
                if said.action != FP_ACTION_DROP or self._is_reason[said.reason]:
                    return True
        said.action, said.reason = FP_ACTION_DROP, self._not_supported
        return False

    cdef inline void _lead_from(self, const uint8_t *location, fp_record_flow *record) noexcept:
        memcpy(&record.source_object, location + self._object_at, sizeof(record.source_object))
        record.ways |= <uint8_t>(location[self._way_at] << 4)

    cdef inline void _lead_to(self, const uint8_t *location, fp_record_flow *record) noexcept:
        cdef uint32_t vni
        memcpy(&record.destination_object, location + self._object_at, sizeof(record.destination_object))
        record.ways |= location[self._way_at]
        memcpy(&vni, location + self._vni_at, sizeof(vni))
        if vni != record.head.vni:
            record.destination_vni = vni


def _places(dtype, *names):
    return tuple([place_of(dtype, name)[0] for name in names])


cdef inline bint _can_narrow(const fp_flow_key *key) noexcept:
    return (key.flags & FP_KEY_CONNECTION) == 0 and (
        key.key_class == FP_CLASS_ROUTED or key.key_class == FP_CLASS_BRIDGED)
