# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, auto_pickle=False, autotestdict=False
"""Biquad cascade across channels."""
cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport isfinite
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc
from libc.string cimport memset

cdef extern from "sos.h" nogil:
    enum:
        BF_MOST_SECTIONS
    ctypedef struct bf_sos:
        int n_sections
        double gain
        size_t n_channels, n_padded, width
        double *coefficients
        double *state
        double *scale
        float *last
        uint64_t n_bad
    const char *bf_sos_choose(bf_sos *f, int level)
    int bf_sos_alloc(bf_sos *f)
    void bf_sos_even(bf_sos *f)
    void bf_sos_free(bf_sos *f)
    int bf_sos_apply(bf_sos *f, const void *input, float *out, size_t n)
    void bf_sos_settle(bf_sos *f, const double *row)

MOST_SECTIONS = BF_MOST_SECTIONS


@cython.final
cdef class SosFilter:
    cdef bf_sos f
    cdef readonly str instructions

    def __cinit__(self):
        memset(&self.f, 0, sizeof(bf_sos))

    def __init__(self, const double[:, ::1] sos not None, size_t n_channels, const double[::1] scale=None,
                 int level=2):
        cdef Py_ssize_t k
        cdef int i
        cdef double a0, a1, a2
        if self.f.state != NULL:
            raise ValueError("a filter is made once")
        if sos.shape[1] != 6 or not 1 <= sos.shape[0] <= BF_MOST_SECTIONS:
            raise ValueError(f"sos must be (n_sections, 6) with 1 to {BF_MOST_SECTIONS} sections")
        if not 1 <= n_channels <= 1 << 20:
            raise ValueError("n_channels must be at least 1")
        self.f.n_sections = <int>sos.shape[0]
        self.f.n_channels = n_channels
        self.instructions = bf_sos_choose(&self.f, level).decode()
        if not bf_sos_alloc(&self.f):
            raise MemoryError
        for k in range(sos.shape[0]):
            for i in range(6):
                if not isfinite(sos[k, i]):
                    raise ValueError("coefficients must be finite")
            a0 = sos[k, 3]
            if a0 == 0:
                raise ValueError("a0 must not be 0")
            a1 = sos[k, 4] / a0
            a2 = sos[k, 5] / a0
            if not (-1 < a2 < 1 and -1 - a2 < a1 < 1 + a2):
                raise ValueError(f"section {k} is unstable")
            for i in range(3):
                self.f.coefficients[5 * k + i] = sos[k, i] / a0
            self.f.coefficients[5 * k + 3] = a1
            self.f.coefficients[5 * k + 4] = a2
        bf_sos_even(&self.f)
        if scale is not None:
            if <size_t>scale.shape[0] != n_channels:
                raise ValueError("scale must hold one factor for each channel")
            self.f.scale = <double *>calloc(self.f.n_padded, sizeof(double))
            if self.f.scale == NULL:
                raise MemoryError
            for k in range(scale.shape[0]):
                if not isfinite(scale[k]):
                    raise ValueError("scale must be finite")
                self.f.scale[k] = scale[k] * self.f.gain

    def __dealloc__(self):
        bf_sos_free(&self.f)

    @property
    def n_replaced(self):
        return self.f.n_bad

    def apply(self, rows, out):
        cdef Py_buffer source, target
        cdef int ok
        cdef char kind = b"i" if self.f.scale != NULL else b"f"
        PyObject_GetBuffer(rows, &source, PyBUF_ND | PyBUF_FORMAT)
        try:
            PyObject_GetBuffer(out, &target, PyBUF_ND | PyBUF_FORMAT | PyBUF_WRITABLE)
            try:
                if source.ndim != 2 or <size_t>source.shape[1] != self.f.n_channels or source.format[0] != kind \
                        or source.format[1] != 0:
                    raise ValueError("rows must be (n_samples, n_channels), C order, "
                                     + ("int32" if self.f.scale != NULL else "float32"))
                if target.ndim != 2 or target.shape[0] != source.shape[0] or target.shape[1] != source.shape[1] \
                        or target.format[0] != b"f" or target.format[1] != 0:
                    raise ValueError("out must be float32 of the shape of rows, C order")
                with nogil:
                    ok = bf_sos_apply(&self.f, source.buf, <float *>target.buf, source.shape[0])
            finally:
                PyBuffer_Release(&target)
        finally:
            PyBuffer_Release(&source)
        if not ok:
            raise MemoryError

    def reset(self):
        memset(self.f.state, 0, sizeof(double) * self.f.n_padded * 2 * <size_t>self.f.n_sections)
        memset(self.f.last, 0, sizeof(float) * self.f.n_padded)

    def settle(self, const double[::1] row not None):
        cdef Py_ssize_t k
        if <size_t>row.shape[0] != self.f.n_channels:
            raise ValueError("row must hold one value for each channel")
        for k in range(row.shape[0]):
            if not isfinite(row[k]):
                raise ValueError("row must be finite")
        bf_sos_settle(&self.f, &row[0])
        for k in range(row.shape[0]):
            self.f.last[k] = <float>row[k]
