# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Keys that are being asked about, with the hold tokens that wait for each.

What gateway.questions stands on: thousands of MISS rows at once, some 30 ns each, where a dict of bytes takes ten
times as long. Keys are hashed with a secret of this process: tenants choose them.

    pending = Pending()
    new = pending.admit(rows)                # numbers of the rows whose key nobody asked about yet
    numbers, tokens = pending.settle(rows)   # answered: further tokens that wait for row number n

One thread. Grows as needed; whoever calls bounds what is asked.
"""

import os

import numpy as np

from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from .native cimport *

cdef enum:
    _ROOM_MIN = 1024
    _NOBODY = 0xFFFFFFFF

cdef struct _Key:
    uint32_t vni
    fp_flow_key key

cdef struct _Place:
    _Key key
    uint64_t token  # 0: of a refresh
    uint32_t more  # first further token, _NOBODY: none
    uint32_t used

cdef struct _Token:
    uint64_t token
    uint32_t next


cdef class Pending:
    """Open addressing, linear, at most half full; what leaves is closed up behind it."""

    cdef fp_secret _secret
    cdef _Place *_place
    cdef uint32_t _mask
    cdef uint32_t _count
    cdef _Token *_token
    cdef uint32_t _tokens_room
    cdef uint32_t _free  # list of unused tokens
    cdef readonly uint32_t joined_tokens

    def __cinit__(self):
        secret = os.urandom(sizeof(fp_secret))
        memcpy(&self._secret, <const char *>secret, sizeof(fp_secret))
        self._mask = _ROOM_MIN - 1
        self._place = <_Place *>calloc(_ROOM_MIN, sizeof(_Place))
        self._free = _NOBODY
        if self._place == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._place)
        free(self._token)

    def __len__(self):
        return self._count

    def admit(self, rows):
        """Take MISS rows. Returns the numbers of those that have to be asked; the others wait along."""
        cdef const fp_record_miss[::1] row = rows
        cdef Py_ssize_t i, n = row.shape[0]
        cdef Py_ssize_t asked = 0
        numbers = np.empty(n, np.intp)
        cdef Py_ssize_t[::1] number = numbers
        cdef _Key key
        cdef _Place *place
        for i in range(n):
            if self._count * 2 > self._mask:
                self._grow()
            _key_of(&row[i], &key)
            place = self._find(&key)
            if not place.used:
                place.key = key
                place.token = row[i].token
                place.more = _NOBODY
                place.used = 1
                self._count += 1
                number[asked] = i
                asked += 1
            elif row[i].token != 0 and row[i].token != place.token:
                self._join(place, row[i].token)
        return numbers[:asked]

    def settle(self, rows):
        """Forget the keys of these MISS rows. Returns (numbers, tokens) of all that joined them meanwhile."""
        cdef const fp_record_miss[::1] row = rows
        cdef Py_ssize_t i, n = row.shape[0]
        cdef uint32_t at
        cdef _Key key
        cdef _Place *place
        numbers, tokens = [], []
        for i in range(n):
            _key_of(&row[i], &key)
            place = self._find(&key)
            if not place.used:
                continue
            at = place.more
            while at != _NOBODY:
                numbers.append(i)
                tokens.append(self._token[at].token)
                at = self._token_free(at)
            self._remove(<uint32_t>(place - self._place))
        return np.array(numbers, np.intp), np.array(tokens, np.uint64)

    def joined(self, rows):
        """Tell whether further tokens wait for any of these MISS rows."""
        cdef const fp_record_miss[::1] row = rows
        cdef Py_ssize_t i
        cdef _Key key
        cdef _Place *place
        for i in range(row.shape[0] if self.joined_tokens else 0):
            _key_of(&row[i], &key)
            place = self._find(&key)
            if place.used and place.more != _NOBODY:
                return True
        return False

    def clear(self):
        """Forget everything."""
        cdef uint32_t i
        memset(self._place, 0, (<size_t>self._mask + 1) * sizeof(_Place))
        self._count = 0
        self.joined_tokens = 0
        self._free = _NOBODY
        for i in range(self._tokens_room):
            self._token[i].next = self._free
            self._free = i

    cdef _Place *_find(self, const _Key *key) noexcept:
        """Where the key is, or the empty place where it belongs."""
        cdef uint32_t at = self._home(key)
        while self._place[at].used and memcmp(&self._place[at].key, key, sizeof(_Key)) != 0:
            at = (at + 1) & self._mask
        return &self._place[at]

    cdef uint32_t _home(self, const _Key *key) noexcept:
        cdef uint64_t hash = fp_hash_flow(&self._secret, &key.key) ^ key.vni * <uint64_t>0x9E3779B97F4A7C15
        return <uint32_t>(hash ^ hash >> 32) & self._mask

    cdef void _remove(self, uint32_t hole) noexcept:
        """Close the gap: what probing would not find any more moves up."""
        cdef uint32_t at = hole, home
        while True:
            at = (at + 1) & self._mask
            if not self._place[at].used:
                break
            home = self._home(&self._place[at].key)
            if ((at - home) & self._mask) >= ((at - hole) & self._mask):
                self._place[hole] = self._place[at]
                hole = at
        self._place[hole].used = 0
        self._count -= 1

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
                self._find(&old[i].key)[0] = old[i]
        free(old)
        return 0

    cdef int _join(self, _Place *place, uint64_t token) except -1:
        cdef uint32_t at = place.more, i, room
        cdef _Token *more
        while at != _NOBODY:
            if self._token[at].token == token:
                return 0
            at = self._token[at].next
        if self._free == _NOBODY:
            room = max(self._tokens_room * 2, <uint32_t>_ROOM_MIN)
            more = <_Token *>realloc(self._token, room * sizeof(_Token))
            if more == NULL:
                raise MemoryError
            self._token = more
            for i in range(self._tokens_room, room):
                more[i].next = self._free
                self._free = i
            self._tokens_room = room
        at = self._free
        self._free = self._token[at].next
        self._token[at].token = token
        self._token[at].next = place.more
        place.more = at
        self.joined_tokens += 1
        return 0

    cdef uint32_t _token_free(self, uint32_t at) noexcept:
        cdef uint32_t next = self._token[at].next
        self._token[at].next = self._free
        self._free = at
        self.joined_tokens -= 1
        return next


cdef void _key_of(const fp_record_miss *row, _Key *key) noexcept:
    key.vni = row.head.vni
    key.key = row.key
