# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, autotestdict=False
"""CRC-32C of buffers; the lock is released for buffers over 4 KiB."""
from libc.stdint cimport uint8_t, uint32_t

cdef extern from "digest.h":
    const char *BF_EXT_DIGEST

cdef extern from "crc32c.h" nogil:
    void bf_crc_init()
    uint32_t bf_crc32c(uint32_t crc, const uint8_t *p, size_t n)
    uint32_t bf_crc_soft(uint32_t c, const uint8_t *p, size_t n)

bf_crc_init()
EXT_DIGEST = BF_EXT_DIGEST.decode()


def crc32c(const uint8_t[::1] data not None, uint32_t start=0):
    cdef size_t n = data.shape[0]
    cdef uint32_t c
    if n == 0:
        return start
    if n < 4096:
        return bf_crc32c(start, &data[0], n)
    with nogil:
        c = bf_crc32c(start, &data[0], n)
    return c


def crc32c_portable(const uint8_t[::1] data not None, uint32_t start=0):
    if data.shape[0] == 0:
        return start
    return <uint32_t>~bf_crc_soft(~start, &data[0], data.shape[0])
