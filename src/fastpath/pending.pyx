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

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from .native cimport *
from .rows cimport rows_of

cdef enum:
    _ROOM_MIN = 1024
    _NOBODY = 0xFFFFFFFF

cdef struct _Key:
    uint32_t vni
    fp_flow_key key

cdef struct _Question:
    _Key key
    uint64_t token  # 0: of a refresh
    uint32_t more  # first further token, _NOBODY: none
    uint32_t next  # of those that are free

cdef struct _Slot:
    uint32_t hash
    uint32_t number  # of a question, _NOBODY: free

cdef struct _Token:
    uint64_t token
    uint32_t next


cdef class Pending:
    """Questions stand in the order in which they came, and are answered in about that order, so that they are
    found in the processor's cache. What is searched at random is only a table of their numbers: open addressing,
    linear, at most half full; what leaves is closed up behind it."""

    cdef fp_secret _secret
    cdef _Slot *_slot
    cdef uint32_t _mask
    cdef uint32_t _count
    cdef _Question *_question  # half as many as slots
    cdef uint32_t _questions_used  # from here on none was ever used
    cdef uint32_t _free_question
    cdef _Token *_token
    cdef uint32_t _tokens_room
    cdef uint32_t _free  # list of unused tokens
    cdef readonly uint32_t joined_tokens

    def __cinit__(self):
        secret = os.urandom(sizeof(fp_secret))
        memcpy(&self._secret, <const char *>secret, sizeof(fp_secret))
        self._free = self._free_question = _NOBODY
        self._resize(_ROOM_MIN)

    def __dealloc__(self):
        free(self._slot)
        free(self._question)
        free(self._token)

    def __len__(self):
        return self._count

    def admit(self, rows):
        """Take MISS rows. Returns the numbers of those that have to be asked; the others wait along."""
        cdef Py_ssize_t i, n
        cdef const fp_record_miss *row = <const fp_record_miss *>rows_of(rows, sizeof(fp_record_miss), &n)
        cdef Py_ssize_t asked = 0
        numbers = np.empty(n, np.intp)
        cdef Py_ssize_t *number = <Py_ssize_t *>rows_of(numbers, sizeof(Py_ssize_t), &n)
        cdef _Key key
        cdef uint32_t hash
        cdef _Slot *slot
        cdef _Question *question
        for i in range(n):
            if self._count * 2 > self._mask:
                self._resize((self._mask + 1) * 2)
            hash = self._key_of(&row[i], &key)
            slot = self._find(&key, hash)
            if slot.number == _NOBODY:
                slot.hash = hash
                slot.number = self._take_question()
                question = &self._question[slot.number]
                question.key = key
                question.token = row[i].token
                question.more = _NOBODY
                self._count += 1
                number[asked] = i
                asked += 1
                continue
            question = &self._question[slot.number]
            if row[i].token != 0 and row[i].token != question.token:
                self._join(question, row[i].token)
        return numbers[:asked]

    def settle(self, rows):
        """Forget the keys of these MISS rows. Returns (numbers, tokens) of all that joined them meanwhile."""
        cdef Py_ssize_t i, n
        cdef const fp_record_miss *row = <const fp_record_miss *>rows_of(rows, sizeof(fp_record_miss), &n)
        cdef uint32_t at
        cdef _Key key
        cdef _Slot *slot
        numbers, tokens = [], []
        for i in range(n):
            slot = self._find(&key, self._key_of(&row[i], &key))
            if slot.number == _NOBODY:
                continue
            at = self._question[slot.number].more
            while at != _NOBODY:
                numbers.append(i)
                tokens.append(self._token[at].token)
                at = self._token_free(at)
            self._question[slot.number].next = self._free_question
            self._free_question = slot.number
            self._remove(<uint32_t>(slot - self._slot))
            if self._count == 0:  # from the beginning again
                self._questions_used, self._free_question = 0, _NOBODY
        return np.array(numbers, np.intp), np.array(tokens, np.uint64)

    def joined(self, rows):
        """Tell whether further tokens wait for any of these MISS rows."""
        cdef Py_ssize_t i, n
        cdef const fp_record_miss *row = <const fp_record_miss *>rows_of(rows, sizeof(fp_record_miss), &n)
        cdef _Key key
        cdef _Slot *slot
        for i in range(n if self.joined_tokens else 0):
            slot = self._find(&key, self._key_of(&row[i], &key))
            if slot.number != _NOBODY and self._question[slot.number].more != _NOBODY:
                return True
        return False

    def clear(self):
        """Forget everything."""
        cdef uint32_t i
        memset(self._slot, 0xFF, (<size_t>self._mask + 1) * sizeof(_Slot))
        self._count = self._questions_used = 0
        self._free_question = _NOBODY
        self.joined_tokens = 0
        self._free = _NOBODY
        for i in range(self._tokens_room):
            self._token[i].next = self._free
            self._free = i

    cdef uint32_t _key_of(self, const fp_record_miss *row, _Key *key) noexcept:
        """Fill in the key of a row; returns its hash."""
        key.vni = row.head.vni
        key.key = row.key
        cdef uint64_t hash = fp_hash_flow(&self._secret, &key.key) ^ key.vni * <uint64_t>0x9E3779B97F4A7C15
        return <uint32_t>(hash ^ hash >> 32)

    cdef _Slot *_find(self, const _Key *key, uint32_t hash) noexcept:
        """Where the key is, or the free slot where it belongs."""
        cdef uint32_t at = hash & self._mask
        cdef _Slot *slot = &self._slot[at]
        while slot.number != _NOBODY:
            if slot.hash == hash and memcmp(&self._question[slot.number].key, key, sizeof(_Key)) == 0:
                break
            at = (at + 1) & self._mask
            slot = &self._slot[at]
        return slot

    cdef void _remove(self, uint32_t hole) noexcept:
        """Close the gap: what probing would not find any more moves up."""
        cdef uint32_t at = hole
        while True:
            at = (at + 1) & self._mask
            if self._slot[at].number == _NOBODY:
                break
            if ((at - self._slot[at].hash) & self._mask) >= ((at - hole) & self._mask):
                self._slot[hole] = self._slot[at]
                hole = at
        self._slot[hole].number = _NOBODY
        self._count -= 1

    cdef uint32_t _take_question(self) noexcept:
        cdef uint32_t number = self._free_question
        if number != _NOBODY:
            self._free_question = self._question[number].next
            return number
        self._questions_used += 1
        return self._questions_used - 1

    cdef int _resize(self, uint32_t room) except -1:
        cdef uint32_t i, at, old_room = self._mask + 1 if self._slot != NULL else 0
        cdef _Slot *old = self._slot
        cdef _Question *question = <_Question *>realloc(self._question, (room // 2 + 1) * sizeof(_Question))
        if question == NULL:
            raise MemoryError
        self._question = question
        cdef _Slot *slot = <_Slot *>malloc(<size_t>room * sizeof(_Slot))
        if slot == NULL:
            raise MemoryError
        memset(slot, 0xFF, <size_t>room * sizeof(_Slot))
        self._slot = slot
        self._mask = room - 1
        for i in range(old_room):
            if old[i].number != _NOBODY:
                at = old[i].hash & self._mask
                while self._slot[at].number != _NOBODY:
                    at = (at + 1) & self._mask
                self._slot[at] = old[i]
        free(old)
        return 0

    cdef int _join(self, _Question *question, uint64_t token) except -1:
        cdef uint32_t at = question.more, i, room
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
        self._token[at].next = question.more
        question.more = at
        self.joined_tokens += 1
        return 0

    cdef uint32_t _token_free(self, uint32_t at) noexcept:
        cdef uint32_t next = self._token[at].next
        self._token[at].next = self._free
        self._free = at
        self.joined_tokens -= 1
        return next
