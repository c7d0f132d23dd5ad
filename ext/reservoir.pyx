# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, auto_pickle=False, autotestdict=False
"""Echo state network: states, and a linear readout of them."""
cimport cython
from libc.math cimport fabs, isfinite
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memcpy, memset

cdef extern from "reservoir.h" nogil:
    ctypedef struct bf_reservoir:
        size_t n_inputs, n_units, n_links
        float leak
        float *weights
        float *bias
        float *x
        float *last
        int32_t *from_ "from"
        float *in_ "in"
        uint64_t n_held
    int bf_reservoir_alloc(bf_reservoir *r)
    void bf_reservoir_free(bf_reservoir *r)
    void bf_reservoir_states(bf_reservoir *r, const float *rows, float *out, size_t n)
    void bf_reservoir_apply(
        bf_reservoir *r, const float *rows, const float *readout, float *out, size_t n, size_t n_outputs)

MOST_UNITS = 4096
MOST_INPUTS = 1024
LARGEST_WEIGHT = 1e3


cdef int check(const float[:, ::1] values, str name) except -1:
    cdef Py_ssize_t i, j
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            if not isfinite(values[i, j]) or fabs(values[i, j]) > <double>LARGEST_WEIGHT:
                raise ValueError(f"{name} must be finite and at most {LARGEST_WEIGHT:g}")
    return 0


@cython.final
cdef class EchoState:
    cdef bf_reservoir r

    def __cinit__(self):
        memset(&self.r, 0, sizeof(bf_reservoir))

    def __init__(self, const float[:, ::1] inputs not None, const float[:, ::1] bias not None,
                 const float[:, ::1] weights not None, const int32_t[:, ::1] links not None, double leak):
        cdef Py_ssize_t n = inputs.shape[1], k, j
        if self.r.x != NULL:
            raise ValueError("a reservoir is made once")
        if not 1 <= n <= MOST_UNITS or not 1 <= inputs.shape[0] <= MOST_INPUTS:
            raise ValueError(f"inputs must be (n_inputs, n_units), 1 to {MOST_INPUTS} and 1 to {MOST_UNITS}")
        if bias.shape[0] != 1 or bias.shape[1] != n:
            raise ValueError("bias must be (1, n_units)")
        if not 1 <= weights.shape[0] <= n or weights.shape[1] != n or links.shape[0] != weights.shape[0] \
                or links.shape[1] != n:
            raise ValueError("weights and links must be (n_links, n_units), at most a link from each unit")
        if not 0 < leak <= 1:
            raise ValueError("leak must be above 0 and at most 1")
        check(inputs, "inputs")
        check(bias, "bias")
        check(weights, "weights")
        for k in range(links.shape[0]):
            for j in range(n):
                if not 0 <= links[k, j] < n:
                    raise ValueError("links must name units")
        self.r.n_inputs = inputs.shape[0]
        self.r.n_units = n
        self.r.n_links = weights.shape[0]
        self.r.leak = <float>leak
        if not bf_reservoir_alloc(&self.r):
            raise MemoryError
        memcpy(self.r.in_, &inputs[0, 0], sizeof(float) * inputs.shape[0] * n)
        memcpy(self.r.bias, &bias[0, 0], sizeof(float) * n)
        memcpy(self.r.weights, &weights[0, 0], sizeof(float) * weights.shape[0] * n)
        memcpy(self.r.from_, &links[0, 0], sizeof(int32_t) * links.shape[0] * n)

    def __dealloc__(self):
        bf_reservoir_free(&self.r)

    @property
    def n_held(self):
        return self.r.n_held

    def states(self, const float[:, ::1] rows not None, float[:, ::1] out not None):
        self._rows(rows)
        if out.shape[0] != rows.shape[0] or <size_t>out.shape[1] != self.r.n_units:
            raise ValueError("out must be float32 (n_samples, n_units), C order")
        if rows.shape[0] == 0:
            return
        with nogil:
            bf_reservoir_states(&self.r, &rows[0, 0], &out[0, 0], rows.shape[0])

    def apply(self, const float[:, ::1] rows not None, const float[:, ::1] readout not None,
              float[:, ::1] out not None):
        self._rows(rows)
        if <size_t>readout.shape[0] != 1 + self.r.n_inputs + self.r.n_units or readout.shape[1] < 1:
            raise ValueError("readout must be (1 + n_inputs + n_units, n_outputs)")
        if out.shape[0] != rows.shape[0] or out.shape[1] != readout.shape[1]:
            raise ValueError("out must be float32 (n_samples, n_outputs), C order")
        if rows.shape[0] == 0:
            return
        with nogil:
            bf_reservoir_apply(&self.r, &rows[0, 0], &readout[0, 0], &out[0, 0], rows.shape[0], readout.shape[1])

    cdef int _rows(self, const float[:, ::1] rows) except -1:
        if self.r.x == NULL or <size_t>rows.shape[1] != self.r.n_inputs:
            raise ValueError("rows must be float32 (n_samples, n_inputs), C order")
        return 0

    def reset(self):
        memset(self.r.x, 0, sizeof(float) * self.r.n_units)
        memset(self.r.last, 0, sizeof(float) * self.r.n_inputs)
