# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False, autotestdict=False
"""Packed 24-bit rows, and scanners that find frames in a byte stream."""
import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from "unpack.h" nogil:
    void bf_unpack_init()
    void bf_unpack24le(const uint8_t *p, int32_t *out, size_t n)
    void bf_pack24le(const int32_t *x, uint8_t *out, size_t n)
    void bf_unpack24le_plain(const uint8_t *p, int32_t *out, size_t n)
    void bf_pack24le_plain(const int32_t *x, uint8_t *out, size_t n)

cdef extern from "crc32c.h" nogil:
    void bf_crc_init()

cdef extern from "bfp.h" nogil:
    enum:
        BF_BFP_DATA
        BF_BFP_DIGITAL
        BF_FORMAT_I24
        BF_READ_END
        BF_READ_MEMORY
    ctypedef struct bf_bfp_item:
        uint8_t type, stream, flags, format, status_mode
        uint16_t boot, n_channels, descriptor
        uint32_t seq, n_frames, payload_bytes
        uint64_t ticks, index, n_samples
        size_t frame, payload
    ctypedef struct bf_bfp:
        uint8_t *bytes
        size_t length, consumed
        bf_bfp_item *items
        size_t n_items
        void *frames
        uint32_t max_payload
        double sample_ns
        int64_t due_ns
        uint64_t good, skipped, resyncs, bad_header, bad_crc, bad_layout
    void bf_bfp_init()
    uint16_t bf_crc16(const uint8_t *p, size_t n)
    uint32_t bf_bfp_width(uint8_t format)
    int bf_bfp_append(bf_bfp *s, const uint8_t *data, size_t n)
    int bf_bfp_scan(bf_bfp *s)
    int bf_bfp_read(bf_bfp *s, int fd, int wake, int64_t timeout_ns, size_t *got)
    void bf_bfp_rows(const bf_bfp *s, const bf_bfp_item *item, uint8_t *out)
    void bf_bfp_digital(const bf_bfp *s, const bf_bfp_item *item, uint8_t *out)

cdef extern from "cyton.h" nogil:
    ctypedef struct bf_cyton:
        uint8_t *bytes
        size_t *packets
        size_t n_packets
        uint64_t good, skipped, resyncs
    int bf_cyton_scan(bf_cyton *s, const uint8_t *data, size_t n)
    void bf_cyton_take(const bf_cyton *s, int32_t *samples, uint8_t *rest)

bf_unpack_init()
bf_crc_init()
bf_bfp_init()

cdef uint64_t SMALL = 65536  # bytes that are moved sooner than the lock is given up and taken again


def unpack24(const uint8_t[::1] data not None, int32_t[::1] out not None):
    cdef size_t n = out.shape[0]
    if <size_t>data.shape[0] != 3 * n:
        raise ValueError("data must hold 3 bytes for each value of out")
    if n:
        with nogil:
            bf_unpack24le(&data[0], &out[0], n)


def pack24(const int32_t[::1] values not None, uint8_t[::1] out not None):
    cdef size_t n = values.shape[0]
    if <size_t>out.shape[0] != 3 * n:
        raise ValueError("out must have 3 bytes for each value")
    if n:
        with nogil:
            bf_pack24le(&values[0], &out[0], n)


def unpack24_portable(const uint8_t[::1] data not None, int32_t[::1] out not None):
    if <size_t>data.shape[0] != 3 * <size_t>out.shape[0]:
        raise ValueError("data must hold 3 bytes for each value of out")
    if out.shape[0]:
        bf_unpack24le_plain(&data[0], &out[0], out.shape[0])


def pack24_portable(const int32_t[::1] values not None, uint8_t[::1] out not None):
    if <size_t>out.shape[0] != 3 * <size_t>values.shape[0]:
        raise ValueError("out must have 3 bytes for each value")
    if values.shape[0]:
        bf_pack24le_plain(&values[0], &out[0], values.shape[0])


def crc16(const uint8_t[::1] data not None):
    return bf_crc16(&data[0], data.shape[0]) if data.shape[0] else 0xFFFF


@cython.final
cdef class BfpScanner:
    cdef bf_bfp s

    def __cinit__(self):
        memset(&self.s, 0, sizeof(bf_bfp))

    def __init__(self, uint32_t max_payload=16384):
        if max_payload > 65535:
            raise ValueError("max_payload is a u16 on the wire")
        self.s.max_payload = max_payload

    def __dealloc__(self):
        free(self.s.bytes)
        free(self.s.items)
        free(self.s.frames)

    @property
    def frames(self):
        return self.s.good

    @property
    def skipped_bytes(self):
        return self.s.skipped

    @property
    def resyncs(self):
        return self.s.resyncs

    @property
    def bad_headers(self):
        return self.s.bad_header

    @property
    def bad_crcs(self):
        return self.s.bad_crc

    @property
    def bad_layouts(self):
        return self.s.bad_layout

    @property
    def pending_bytes(self):
        return self.s.length - self.s.consumed

    def feed(self, data):
        cdef Py_buffer view
        cdef int ok
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                ok = bf_bfp_append(&self.s, <const uint8_t *>view.buf, view.len) and bf_bfp_scan(&self.s)
        finally:
            PyBuffer_Release(&view)
        if not ok:
            raise MemoryError
        return self.items()

    def pace(self, double sfreq):
        self.s.sample_ns = 1e9 / sfreq if sfreq > 0 else 0.0
        self.s.due_ns = 0

    def read(self, int fd, int wake, double timeout_s):
        cdef size_t got = 0
        cdef int error
        cdef int64_t timeout_ns = <int64_t>(min(max(timeout_s, 0.0), 3600.0) * 1e9)
        with nogil:
            error = bf_bfp_read(&self.s, fd, wake, timeout_ns, &got)
        if error == BF_READ_MEMORY:
            raise MemoryError
        if error == BF_READ_END:
            raise EOFError
        if error:
            raise OSError(error, os.strerror(error))
        return got

    def items(self):
        cdef size_t i
        cdef bf_bfp_item *t
        items = []
        for i in range(self.s.n_items):
            t = &self.s.items[i]
            items.append((t.type, t.stream, t.flags, t.seq, t.n_frames, t.ticks, t.boot, t.index, t.n_samples,
                          t.n_channels, t.format, t.status_mode, t.descriptor))
        return items

    def reset(self):
        self.s.length = self.s.consumed = self.s.n_items = 0

    cdef bf_bfp_item *_item(self, size_t item) except NULL:
        if item >= self.s.n_items:
            raise IndexError("no such item in the last feed")
        return &self.s.items[item]

    def payload(self, size_t item):
        cdef bf_bfp_item *t = self._item(item)
        return PyBytes_FromStringAndSize(<const char *>self.s.bytes + t.payload, t.payload_bytes)

    def rows(self, size_t item, out):
        cdef Py_buffer view
        cdef bf_bfp_item *t = self._item(item)
        cdef uint64_t need
        if t.type != BF_BFP_DATA:
            raise ValueError("not a DATA item")
        need = t.n_samples * t.n_channels * (4 if t.format == BF_FORMAT_I24 else bf_bfp_width(t.format))
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            if <uint64_t>view.len != need:
                raise ValueError("out must hold exactly the item's rows")
            if need <= SMALL:
                bf_bfp_rows(&self.s, t, <uint8_t *>view.buf)
            else:
                with nogil:
                    bf_bfp_rows(&self.s, t, <uint8_t *>view.buf)
        finally:
            PyBuffer_Release(&view)

    def digital(self, size_t item, out):
        cdef Py_buffer view
        cdef bf_bfp_item *t = self._item(item)
        if t.type != BF_BFP_DATA or not t.flags & BF_BFP_DIGITAL:
            raise ValueError("the item has no digital words")
        PyObject_GetBuffer(out, &view, PyBUF_WRITABLE)
        try:
            if <uint64_t>view.len != 2 * t.n_samples:
                raise ValueError("out must hold one uint16 for each row")
            bf_bfp_digital(&self.s, t, <uint8_t *>view.buf)
        finally:
            PyBuffer_Release(&view)


@cython.final
cdef class CytonScanner:
    cdef bf_cyton s

    def __cinit__(self):
        memset(&self.s, 0, sizeof(bf_cyton))

    def __dealloc__(self):
        free(self.s.bytes)
        free(self.s.packets)

    @property
    def packets(self):
        return self.s.good

    @property
    def skipped_bytes(self):
        return self.s.skipped

    @property
    def resyncs(self):
        return self.s.resyncs

    def feed(self, data):
        cdef Py_buffer view
        cdef int ok
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            with nogil:
                ok = bf_cyton_scan(&self.s, <const uint8_t *>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        if not ok:
            raise MemoryError
        return self.s.n_packets

    def take(self, int32_t[:, ::1] samples not None, uint8_t[:, ::1] rest not None):
        if <size_t>samples.shape[0] != self.s.n_packets or samples.shape[1] != 8 \
                or rest.shape[0] != samples.shape[0] or rest.shape[1] != 8:
            raise ValueError("samples and rest must be (n_packets, 8)")
        if self.s.n_packets:
            with nogil:
                bf_cyton_take(&self.s, &samples[0, 0], &rest[0, 0])
