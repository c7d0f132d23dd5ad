# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, autotestdict=False
"""Lossless coding of int32 rows: prediction and a range coder, integers only."""
from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "predict.h" nogil:
    int64_t bf_encode(
        const int32_t *rows, int n, int channels, int bits, uint8_t *out, size_t cap,
        int lanes)
    int bf_decode(
        const uint8_t *body, size_t length, int n, int channels, int bits, int32_t *rows,
        int lanes)


cdef int check(const int32_t[:, ::1] rows, int bits) except -1:
    if not 2 <= bits <= 32:
        raise ValueError("bits must be 2 to 32")
    if rows.shape[0] < 1 or rows.shape[1] < 1 or rows.shape[0] * rows.shape[1] > 1 << 24:
        raise ValueError("rows must hold 1 to 2^24 values")
    return <int>rows.shape[0]


def encode(
        const int32_t[:, ::1] rows not None, int bits, uint8_t[::1] out not None, *, int lanes=8):
    cdef int64_t done
    cdef int n = check(rows, bits), channels = <int>rows.shape[1]
    if out.shape[0] < 64:
        raise ValueError("out must have at least 64 bytes")
    with nogil:
        done = bf_encode(&rows[0, 0], n, channels, bits, &out[0], out.shape[0], lanes)
    if done < 0:
        raise MemoryError
    return done


def decode(
        const uint8_t[::1] body not None, int bits, int32_t[:, ::1] out not None, *, int lanes=8):
    cdef int status
    cdef int n = check(out, bits), channels = <int>out.shape[1]
    if body.shape[0] < 1:
        return False
    with nogil:
        status = bf_decode(&body[0], body.shape[0], n, channels, bits, &out[0, 0], lanes)
    if status == -2:
        raise MemoryError
    return status == 0
