# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True, auto_pickle=False, autotestdict=False
"""Counts of which sample entropy is made."""
from libc.stdint cimport int64_t, uint8_t

cdef extern from "entropy.h" nogil:
    enum:
        BF_MOST_SAMPLES
    void bf_entropy_count(
        const float *x, size_t n, size_t m, float tolerance, uint8_t *near, uint8_t *alike, int64_t *counts)

MOST_SAMPLES = BF_MOST_SAMPLES


def count_alike(const float[:, ::1] rows not None, const float[::1] tolerances not None, int m,
                int64_t[:, ::1] out not None):
    cdef float x[BF_MOST_SAMPLES]
    cdef uint8_t near[BF_MOST_SAMPLES]
    cdef uint8_t alike[BF_MOST_SAMPLES]
    cdef Py_ssize_t n = rows.shape[0], i, j
    if not 1 <= m <= 8:
        raise ValueError("m must be 1 to 8")
    if not m + 2 <= n <= BF_MOST_SAMPLES:
        raise ValueError(f"rows must be {m + 2} to {BF_MOST_SAMPLES}")
    if tolerances.shape[0] != rows.shape[1] or out.shape[0] != rows.shape[1] or out.shape[1] != 2:
        raise ValueError("tolerances must be (n_channels,), out (n_channels, 2)")
    with nogil:
        for j in range(rows.shape[1]):
            for i in range(n):
                x[i] = rows[i, j]
            out[j, 0] = out[j, 1] = 0
            bf_entropy_count(x, n, m, tolerances[j], near, alike, &out[j, 0])
