# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, auto_pickle=False, autotestdict=False
"""Rows and cursors of a mapped ring file. The layout's Python half is `brainforge_edge/rings/layout.py`."""
import os

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "ring.h" nogil:
    enum:
        BF_RESERVE
        BF_HEAD
        BF_WRITTEN
        BF_DURABLE
        BF_RECORDING
        BF_EPOCH
        BF_N_CURSORS
        BF_RING_CURSORS
        BF_RING_PITCH
    ctypedef struct bf_row_meta:
        uint64_t seq
        int64_t t_ns
        uint32_t incarnation
        uint16_t flags
        uint8_t gap_basis, gap_cause
        uint64_t gap_n, gap_plus_minus
    ctypedef struct bf_run:
        uint64_t row, n
        bf_row_meta meta
    ctypedef struct bf_ring:
        uint8_t *base
        size_t length
        uint64_t capacity, mask
        uint32_t stride, row_bytes, n_channels
        int is_24bit
        double period_ns
        uint8_t *data
    void bf_unpack_init()
    uint64_t bf_ring_get(const bf_ring *r, int which)
    int bf_ring_map(bf_ring *r, int fd, size_t length, size_t data_offset, int writable)
    void bf_ring_unmap(bf_ring *r)
    void bf_ring_wake(const bf_ring *r, int which)
    void bf_ring_set(const bf_ring *r, int which, uint64_t value)
    int bf_ring_wait(const bf_ring *r, int which, uint64_t beyond, int64_t deadline)
    void bf_ring_push(const bf_ring *r, const uint8_t *rows, uint64_t n, bf_row_meta meta)
    uint64_t bf_ring_room(const bf_ring *r, uint64_t guard)
    int bf_ring_whole(const bf_ring *r, uint64_t first)
    void bf_ring_copy(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out)
    size_t bf_ring_pack(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out)
    int64_t bf_ring_runs(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out, bf_run **runs)

cdef extern from "entry.h" nogil:
    ctypedef struct bf_entry_head:
        uint32_t incarnation
        uint64_t seq
    size_t bf_entry_bytes(const bf_ring *r, uint64_t n)
    int bf_entry_make(const bf_ring *r, uint64_t first, uint64_t n, uint32_t stream, uint32_t seed, uint64_t offset,
                      uint8_t *out, bf_entry_head *head)
    void bf_crc_init()

cdef extern from "<time.h>" nogil:
    ctypedef int clockid_t
    struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(clockid_t clock, timespec *t)
    clockid_t CLOCK_MONOTONIC

bf_unpack_init()
bf_crc_init()

RESERVE = BF_RESERVE
HEAD = BF_HEAD
WRITTEN = BF_WRITTEN
DURABLE = BF_DURABLE
RECORDING = BF_RECORDING
EPOCH = BF_EPOCH
CURSORS_OFFSET = BF_RING_CURSORS
CURSORS_PITCH = BF_RING_PITCH
META_BYTES = sizeof(bf_row_meta)
cdef size_t SMALL = 65536  # bytes that are moved sooner than the lock is given up and taken again

cdef int64_t _deadline(double timeout_s) noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec + <int64_t>(timeout_s * 1e9)


@cython.final
cdef class Ring:
    cdef bf_ring ring
    cdef bint writable
    cdef char kind

    def __cinit__(self):
        memset(&self.ring, 0, sizeof(bf_ring))

    def __init__(self, int fd, *, size_t length, size_t data_offset, uint64_t capacity, uint32_t stride,
                 uint32_t n_channels, str kind, bint packs_24bit, double period_ns, bint writable):
        cdef uint32_t width
        cdef int error
        if self.ring.base != NULL:
            raise ValueError("a ring is mapped once")
        if kind not in ("h", "i", "f", "d"):
            raise ValueError("kind must be one of h, i, f, d")
        self.kind = <char>ord(kind)
        width = {"h": 2, "i": 4, "f": 4, "d": 8}[kind]
        if capacity < 4 or capacity & (capacity - 1):
            raise ValueError("capacity must be a power of two")
        if stride % 64 or <uint64_t>n_channels * width + sizeof(bf_row_meta) > stride:
            raise ValueError("stride does not hold a row")
        if data_offset < 4096 or data_offset % 4096 or capacity > (length - data_offset) / stride:
            raise ValueError("length does not hold the rows")
        self.ring.capacity = capacity
        self.ring.mask = capacity - 1
        self.ring.stride = stride
        self.ring.n_channels = n_channels
        self.ring.row_bytes = n_channels * width
        self.ring.is_24bit = packs_24bit
        self.ring.period_ns = period_ns
        self.writable = writable
        with nogil:  # a helmet's ring takes up to seconds on a busy machine; other threads go on
            error = bf_ring_map(&self.ring, fd, length, data_offset, writable)
        if error < 0:
            raise ValueError("the file is shorter than length")
        if error:
            raise OSError(error, os.strerror(error))

    def __dealloc__(self):
        bf_ring_unmap(&self.ring)

    cdef int _check_range(self, uint64_t first, uint64_t n) except -1:
        if n > self.ring.capacity or first + n > bf_ring_get(&self.ring, BF_HEAD):
            raise ValueError("rows beyond head")
        return 0

    def cursor(self, int which):
        if not 0 <= which < BF_N_CURSORS:
            raise ValueError("no such cursor")
        return bf_ring_get(&self.ring, which)

    def advance(self, int which, uint64_t row):
        if not self.writable or not 0 <= which < BF_N_CURSORS:
            raise ValueError("not writable, or no such cursor")
        bf_ring_set(&self.ring, which, row)

    def lift(self, int which, row, int under):
        if not self.writable or not 0 <= which < BF_N_CURSORS or not 0 <= under < BF_N_CURSORS:
            raise ValueError("not writable, or no such cursor")
        if not bf_ring_get(&self.ring, which) <= row <= bf_ring_get(&self.ring, under):
            return False
        bf_ring_set(&self.ring, which, row)
        return True

    def wake(self, int which):
        if not self.writable or not 0 <= which < BF_N_CURSORS:
            raise ValueError("not writable, or no such cursor")
        bf_ring_wake(&self.ring, which)

    def wait(self, int which, uint64_t beyond, double timeout_s):
        cdef int interrupted
        cdef int64_t deadline
        if not 0 <= which < BF_N_CURSORS:
            raise ValueError("no such cursor")
        deadline = _deadline(min(max(timeout_s, 0.0), 3600.0))
        while True:
            with nogil:
                interrupted = bf_ring_wait(&self.ring, which, beyond, deadline)
            if not interrupted:
                return bf_ring_get(&self.ring, which)
            PyErr_CheckSignals()

    def room(self, uint64_t guard):
        return bf_ring_room(&self.ring, guard)

    def push(self, data, uint32_t incarnation, uint64_t seq, int64_t t_first_ns, uint16_t flags,
             uint8_t gap_basis, uint8_t gap_cause, uint64_t gap_n, uint64_t gap_plus_minus):
        cdef Py_buffer view
        cdef bf_row_meta meta
        cdef uint64_t n
        if not self.writable:
            raise ValueError("not writable")
        meta.seq, meta.t_ns, meta.incarnation, meta.flags = seq, t_first_ns, incarnation, flags
        meta.gap_basis, meta.gap_cause = gap_basis, gap_cause
        meta.gap_n, meta.gap_plus_minus = gap_n, gap_plus_minus
        PyObject_GetBuffer(data, &view, PyBUF_ND | PyBUF_FORMAT)
        try:
            if view.ndim != 2 or view.shape[1] != <Py_ssize_t>self.ring.n_channels or view.format[0] != self.kind \
                    or view.format[1] != 0:
                raise ValueError("data must be (n_samples, n_channels) of the ring's type, C order")
            n = <uint64_t>view.shape[0]
            if <size_t>view.len <= SMALL:
                bf_ring_push(&self.ring, <const uint8_t *>view.buf, n, meta)
            else:
                with nogil:
                    bf_ring_push(&self.ring, <const uint8_t *>view.buf, n, meta)
        finally:
            PyBuffer_Release(&view)
        return bf_ring_get(&self.ring, BF_HEAD)

    def read(self, uint64_t first, uint64_t n, out=None):
        cdef Py_buffer view
        cdef bf_run *runs = NULL
        cdef uint8_t *target = NULL
        cdef int64_t count, i
        cdef int whole
        cdef bf_run *run
        self._check_range(first, n)
        if out is not None:
            PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
            target = <uint8_t *>view.buf
        try:
            if out is not None and <uint64_t>view.len != n * self.ring.row_bytes:
                raise ValueError("out must hold exactly n rows")
            with nogil:
                count = bf_ring_runs(&self.ring, first, n, target, &runs)
                whole = bf_ring_whole(&self.ring, first)
            if count < 0:
                raise MemoryError
            if not whole:
                return None
            found = []
            for i in range(count):
                run = &runs[i]
                found.append((run.row, run.n, run.meta.incarnation, run.meta.seq, run.meta.t_ns, run.meta.flags,
                              run.meta.gap_basis, run.meta.gap_cause, run.meta.gap_n, run.meta.gap_plus_minus))
            return found
        finally:
            free(runs)
            if out is not None:
                PyBuffer_Release(&view)

    def copy(self, uint64_t first, uint64_t n, out):
        cdef Py_buffer view
        cdef int whole
        self._check_range(first, n)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            if <uint64_t>view.len != n * self.ring.row_bytes:
                raise ValueError("out must hold exactly n rows")
            with nogil:
                bf_ring_copy(&self.ring, first, n, <uint8_t *>view.buf)
                whole = bf_ring_whole(&self.ring, first)
        finally:
            PyBuffer_Release(&view)
        return bool(whole)

    def packed(self, uint64_t first, uint64_t n, out, uint64_t at=0):
        cdef Py_buffer view
        cdef int whole
        cdef uint64_t need = n * (3 * self.ring.n_channels if self.ring.is_24bit else self.ring.row_bytes)
        self._check_range(first, n)
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            if at > <uint64_t>view.len or need > <uint64_t>view.len - at:
                raise ValueError("out is too short for n rows")
            with nogil:
                bf_ring_pack(&self.ring, first, n, <uint8_t *>view.buf + at)
                whole = bf_ring_whole(&self.ring, first)
        finally:
            PyBuffer_Release(&view)
        return need if whole else -1

    def entry(self, uint64_t first, uint64_t n, out, *, uint32_t stream, uint32_t seed, uint64_t offset):
        cdef Py_buffer view
        cdef bf_entry_head head
        cdef int is_made
        cdef size_t need = bf_entry_bytes(&self.ring, n)
        self._check_range(first, n)
        if not n:
            raise ValueError("an entry has rows")
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            if <size_t>view.len < need:
                raise ValueError("out is too short for the entry")
            if need <= SMALL:
                is_made = bf_entry_make(&self.ring, first, n, stream, seed, offset, <uint8_t *>view.buf, &head)
            else:
                with nogil:
                    is_made = bf_entry_make(&self.ring, first, n, stream, seed, offset, <uint8_t *>view.buf, &head)
        finally:
            PyBuffer_Release(&view)
        return (head.incarnation, head.seq + n) if is_made else None
