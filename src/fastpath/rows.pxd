# SPDX-License-Identifier: Apache-2.0
# The rows of a numpy array as C sees them. A typed memoryview would have numpy write down the type of the rows and
# parse that again, for every call: several µs, as much as a hundred rows take.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t


cdef inline const uint8_t *rows_of(object rows, Py_ssize_t row_bytes, Py_ssize_t *count) except? NULL:
    """Return the first row, and how many there are. They stay where they are for as long as the caller holds the
    array. Raises ValueError if they do not lie one behind the other, or are no rows of so many bytes."""
    cdef Py_buffer view
    PyObject_GetBuffer(rows, &view, PyBUF_SIMPLE)
    cdef const uint8_t *first = <const uint8_t *>view.buf
    cdef Py_ssize_t nbytes = view.len
    PyBuffer_Release(&view)
    if rows.itemsize != row_bytes:
        raise ValueError(f"rows of {rows.itemsize} bytes, {row_bytes} are expected")
    count[0] = nbytes // row_bytes
    return first
