# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Columns of packed rows, by name: where they stand, and copied into rows of another type in one pass.

    queries = Transcript(MISS, QUERY, {"vni": "head.vni", "source": "key.source"})
    rows = queries.rows(misses)              # what is not named is zero
    rows = queries.rows(misses, numbers)     # of these rows only

Any thread; nothing here keeps state.
"""

import numpy as np

from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

from .rows cimport rows_of

cdef enum:
    _RUNS_MAX = 32

cdef struct _Run:
    uint16_t source
    uint16_t target
    uint16_t n_bytes


def place_of(dtype, str name):
    """Return where a column begins and how many bytes it has; of a member of a member: "head.vni"."""
    offset = 0
    for part in name.split("."):
        dtype, at = (dtype.base if dtype.subdtype else dtype).fields[part][:2]
        offset += at
    return offset, dtype.itemsize


cdef class Transcript:
    """`columns`: target → source, copied byte by byte. `constants`: numbers that every row has. Raises ValueError
    for columns of different sizes."""

    cdef _Run _run[_RUNS_MAX]
    cdef int _runs
    cdef Py_ssize_t _source_bytes, _target_bytes
    cdef object _target, _empty
    cdef bytes _template

    def __init__(self, source, target, columns, *, constants=None):
        template = np.zeros(1, target)
        cells = template.view(np.uint8)
        for name, value in (constants or {}).items():
            at, size = place_of(target, name)
            cells[at:at + size] = np.frombuffer(int(value).to_bytes(size, "little"), np.uint8)
        self._template = template.tobytes()
        self._target, self._empty = target, np.zeros(0, target)
        self._source_bytes, self._target_bytes = source.itemsize, target.itemsize
        places = [(place_of(target, to), place_of(source, name)) for to, name in columns.items()]
        for (to, size), (at, source_size) in sorted(places):
            if size != source_size:
                raise ValueError(f"a column of {source_size} bytes does not fit into one of {size}")
            self._add(at, to, size)

    cdef int _add(self, int source, int target, int n_bytes) except -1:
        """Add a column, to the one before it if they lie together on both sides."""
        cdef _Run *last = &self._run[self._runs - 1] if self._runs else NULL
        if last != NULL and last.source + last.n_bytes == source and last.target + last.n_bytes == target:
            last.n_bytes += <uint16_t>n_bytes
            return 0
        if self._runs == _RUNS_MAX:
            raise ValueError("too many columns")
        self._run[self._runs] = _Run(<uint16_t>source, <uint16_t>target, <uint16_t>n_bytes)
        self._runs += 1
        return 0

    def rows(self, source, numbers=None):
        """Return rows of the target type, for each row or for those with these numbers (of type intp)."""
        cdef Py_ssize_t n, known, i, number
        cdef const uint8_t *first = rows_of(source, self._source_bytes, &known)
        cdef const Py_ssize_t *chosen = NULL
        n = known
        if numbers is not None:
            chosen = <const Py_ssize_t *>rows_of(numbers, sizeof(Py_ssize_t), &n)
        if n == 0:
            return self._empty
        found = np.empty(n, self._target)
        cdef uint8_t *to = <uint8_t *>rows_of(found, self._target_bytes, &n)
        cdef const uint8_t *template = self._template
        for i in range(n):
            number = chosen[i] if chosen != NULL else i
            if number < 0 or number >= known:
                raise IndexError(f"row {number} of {known}")
            memcpy(to, template, self._target_bytes)
            self._copy(first + number * self._source_bytes, to)
            to += self._target_bytes
        return found

    cdef inline void _copy(self, const uint8_t *source, uint8_t *target) noexcept:
        cdef int i
        cdef const _Run *run
        for i in range(self._runs):
            run = &self._run[i]
            if run.n_bytes == 8:
                memcpy(target + run.target, source + run.source, 8)
            elif run.n_bytes == 4:
                memcpy(target + run.target, source + run.source, 4)
            elif run.n_bytes == 1:
                target[run.target] = source[run.source]
            else:
                memcpy(target + run.target, source + run.source, run.n_bytes)
