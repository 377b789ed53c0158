# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""At which revision an object of a V-net was last told of: what gateway.tables stands on.

    told = Revisions(LOCATION)   # rows with columns object_id and revision; vni and way, if they have them
    numbers = told.newer(rows)   # those that are new or newer, noted from now on

One thread.
"""

import numpy as np

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.columns import place_of

from .native cimport *
from .rows cimport rows_of

cdef enum:
    _ROOM_MIN = 1024

cdef struct _Place:
    uint64_t object_id
    uint64_t revision
    uint32_t vni
    uint8_t way
    uint8_t used


cdef class Revisions:
    """Open addressing, linear, at most half full. Ids are hashes that the directory made: no secret is needed."""

    cdef _Place *_place
    cdef uint32_t _mask
    cdef uint32_t _count
    cdef Py_ssize_t _row_bytes
    cdef Py_ssize_t _object_at, _revision_at, _vni_at, _way_at  # -1: no such column, always 0

    def __cinit__(self, dtype):
        self._row_bytes = dtype.itemsize
        self._object_at, self._revision_at = place_of(dtype, "object_id")[0], place_of(dtype, "revision")[0]
        self._vni_at = place_of(dtype, "vni")[0] if "vni" in dtype.names else -1
        self._way_at = place_of(dtype, "way")[0] if "way" in dtype.names else -1
        self._mask = _ROOM_MIN - 1
        self._place = <_Place *>calloc(_ROOM_MIN, sizeof(_Place))
        if self._place == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._place)

    def __len__(self):
        return self._count

    def newer(self, rows):
        """Note these revisions; return the numbers of the rows that were not noted at that revision yet."""
        cdef Py_ssize_t i, n, found = 0
        cdef const uint8_t *row = rows_of(rows, self._row_bytes, &n)
        numbers = np.empty(n, np.intp)
        cdef Py_ssize_t *number = <Py_ssize_t *>rows_of(numbers, sizeof(Py_ssize_t), &n)
        cdef _Place *place
        cdef _Place told
        for i in range(n):
            self._read(row + i * self._row_bytes, &told)
            place = self._at(told.object_id, told.vni, told.way)
            if place.used and place.revision >= told.revision:
                continue
            self._put(place, told.object_id, told.vni, told.way, told.revision)
            number[found] = i
            found += 1
        return numbers[:found]

    def later(self, rows, numbers):
        """Return those of the numbers of rows of which a later revision is noted; notes nothing."""
        cdef Py_ssize_t i, n, known, found = 0
        cdef const uint8_t *row = rows_of(rows, self._row_bytes, &known)
        chosen = np.array(numbers, np.intp)
        cdef Py_ssize_t *number = <Py_ssize_t *>rows_of(chosen, sizeof(Py_ssize_t), &n)
        cdef _Place *place
        cdef _Place told
        for i in range(n if self._count else 0):
            if number[i] < 0 or number[i] >= known:
                raise IndexError(f"row {number[i]} of {known}")
            self._read(row + number[i] * self._row_bytes, &told)
            place = self._at(told.object_id, told.vni, told.way)
            if place.used and place.revision > told.revision:
                number[found] = number[i]
                found += 1
        return chosen[:found]

    cdef inline void _read(self, const uint8_t *row, _Place *told) noexcept:
        memset(told, 0, sizeof(told[0]))
        memcpy(&told.object_id, row + self._object_at, sizeof(told.object_id))
        memcpy(&told.revision, row + self._revision_at, sizeof(told.revision))
        if self._vni_at >= 0:
            memcpy(&told.vni, row + self._vni_at, sizeof(told.vni))
        if self._way_at >= 0:
            told.way = row[self._way_at]

    def get(self, uint64_t object_id, uint32_t vni=0, uint8_t way=0):
        """Return the revision noted, or None."""
        cdef _Place *place = self._at(object_id, vni, way)
        return place.revision if place.used else None

    def set(self, uint64_t revision, uint64_t object_id, uint32_t vni=0, uint8_t way=0):
        """Note a revision, whatever is noted."""
        self._put(self._at(object_id, vni, way), object_id, vni, way, revision)

    def pop(self, uint64_t object_id, uint32_t vni=0, uint8_t way=0):
        """Forget an object, if it is noted."""
        cdef _Place *place = self._at(object_id, vni, way)
        cdef uint32_t hole = <uint32_t>(place - self._place), at = hole, home
        if not place.used:
            return
        while True:
            at = (at + 1) & self._mask
            place = &self._place[at]
            if not place.used:
                break
            home = self._home(place.object_id, place.vni, place.way)
            if ((at - home) & self._mask) >= ((at - hole) & self._mask):
                self._place[hole] = place[0]
                hole = at
        self._place[hole].used = 0
        self._count -= 1

    def clear(self):
        """Forget everything."""
        memset(self._place, 0, (<size_t>self._mask + 1) * sizeof(_Place))
        self._count = 0

    cdef uint32_t _home(self, uint64_t object_id, uint32_t vni, uint8_t way) noexcept:
        cdef uint64_t hash = (object_id ^ <uint64_t>vni << 40 ^ <uint64_t>way << 32) * <uint64_t>0x9E3779B97F4A7C15
        return <uint32_t>(hash >> 32) & self._mask

    cdef _Place *_at(self, uint64_t object_id, uint32_t vni, uint8_t way) noexcept:
        cdef uint32_t at = self._home(object_id, vni, way)
        cdef _Place *place = &self._place[at]
        while place.used and not (place.object_id == object_id and place.vni == vni and place.way == way):
            at = (at + 1) & self._mask
            place = &self._place[at]
        return place

    cdef int _put(self, _Place *place, uint64_t object_id, uint32_t vni, uint8_t way, uint64_t revision) except -1:
        if not place.used:
            if self._count * 2 > self._mask:
                self._grow()
                place = self._at(object_id, vni, way)
            self._count += 1
        place.object_id, place.vni, place.way, place.used = object_id, vni, way, 1
        place.revision = revision
        return 0

    cdef int _grow(self) except -1:
        cdef _Place *old = self._place
        cdef uint32_t i, room = self._mask + 1
        cdef _Place *place = <_Place *>calloc(<size_t>room * 2, sizeof(_Place))
        if place == NULL:
            raise MemoryError
        self._place = place
        self._mask = room * 2 - 1
        for i in range(room):
            if old[i].used:
                self._at(old[i].object_id, old[i].vni, old[i].way)[0] = old[i]
        free(old)
        return 0
