# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, auto_pickle=False, autotestdict=False
"""Send-on-delta: an event where a channel has moved by more than its threshold since its last event."""
cimport cython
from libc.math cimport fabs, isfinite
from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset


@cython.final
cdef class SendOnDelta:
    cdef Py_ssize_t n_channels
    cdef int64_t refractory
    cdef int64_t seen
    cdef double *thresholds
    cdef double *sent
    cdef int64_t *ready
    cdef int8_t *is_started

    def __cinit__(self):
        self.thresholds = self.sent = NULL
        self.ready = NULL
        self.is_started = NULL

    def __init__(self, const double[::1] thresholds not None, long long refractory=0):
        cdef Py_ssize_t j
        if self.sent != NULL:
            raise ValueError("a trigger is made once")
        if not 1 <= thresholds.shape[0] <= 1 << 20:
            raise ValueError("thresholds must hold one value for each channel")
        for j in range(thresholds.shape[0]):
            if not isfinite(thresholds[j]) or thresholds[j] < 0:
                raise ValueError("thresholds must be finite and not below 0")
        if not 0 <= refractory <= 1 << 40:
            raise ValueError("refractory must be a number of rows")
        self.n_channels = thresholds.shape[0]
        self.refractory = refractory
        self.thresholds = <double *>calloc(self.n_channels, sizeof(double))
        self.sent = <double *>calloc(self.n_channels, sizeof(double))
        self.ready = <int64_t *>calloc(self.n_channels, sizeof(int64_t))
        self.is_started = <int8_t *>calloc(self.n_channels, sizeof(int8_t))
        if self.thresholds == NULL or self.sent == NULL or self.ready == NULL or self.is_started == NULL:
            raise MemoryError
        for j in range(self.n_channels):
            self.thresholds[j] = thresholds[j]

    def __dealloc__(self):
        free(self.thresholds)
        free(self.sent)
        free(self.ready)
        free(self.is_started)

    def push(self, const float[:, ::1] rows not None, int64_t[::1] index not None, int32_t[::1] channel not None,
             int8_t[::1] direction not None, float[::1] value not None):
        cdef Py_ssize_t most = index.shape[0], n = 0, i = 0, j
        cdef double x
        if self.is_started == NULL or rows.shape[1] != self.n_channels:
            raise ValueError("rows must be float32 (n_samples, n_channels), C order")
        if channel.shape[0] != most or direction.shape[0] != most or value.shape[0] != most:
            raise ValueError("index, channel, direction and value must be of one length")
        if most < self.n_channels:
            raise ValueError("there must be room for an event of each channel")
        with nogil:
            while i < rows.shape[0] and most - n >= self.n_channels:
                for j in range(self.n_channels):
                    x = rows[i, j]
                    if not isfinite(x):
                        continue
                    if self.is_started[j]:
                        if self.seen < self.ready[j] or fabs(x - self.sent[j]) <= self.thresholds[j]:
                            continue
                        direction[n] = 1 if x > self.sent[j] else -1
                    else:
                        self.is_started[j] = 1
                        direction[n] = 0
                    index[n] = self.seen
                    channel[n] = <int32_t>j
                    value[n] = rows[i, j]
                    n += 1
                    self.sent[j] = x
                    self.ready[j] = self.seen + self.refractory + 1
                self.seen += 1
                i += 1
        return i, n

    def reset(self):
        self.seen = 0
        memset(self.is_started, 0, self.n_channels)
