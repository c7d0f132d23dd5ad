/* CRC-32C (Castagnoli, reflected 0x82F63B78, init and xorout FFFFFFFF; check value E3069283).
 * SSE4.2 or ARMv8 CRC instructions where the CPU has them, else slicing by 8 (Intel, 2006). */
#ifndef BF_CRC32C_H
#define BF_CRC32C_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define BF_CRC_LONG 2048 /* bytes of one of the three lanes; a helmet frame of 7.4 kB holds one long round */
#define BF_CRC_SHORT 256

static uint32_t bf_crc_table[8][256];
static uint32_t bf_crc_shift[2][4][256]; /* a register moved over BF_CRC_LONG or _SHORT zero bytes */
static int bf_crc_hw;

static void bf_crc_init(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int k = 0; k < 8; k++) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
        bf_crc_table[0][n] = c;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int t = 1; t < 8; t++)
            bf_crc_table[t][n] = (bf_crc_table[t - 1][n] >> 8) ^ bf_crc_table[0][bf_crc_table[t - 1][n] & 255];
    for (int which = 0; which < 2; which++) {
        uint32_t power[32]; /* image of each register bit */
        for (int bit = 0; bit < 32; bit++) {
            uint32_t c = 1u << bit;
            for (int k = which ? BF_CRC_SHORT : BF_CRC_LONG; k; k--) c = (c >> 8) ^ bf_crc_table[0][c & 255];
            power[bit] = c;
        }
        for (int byte = 0; byte < 4; byte++)
            for (uint32_t n = 0; n < 256; n++) {
                uint32_t c = 0;
                for (int bit = 0; bit < 8; bit++)
                    if (n >> bit & 1) c ^= power[8 * byte + bit];
                bf_crc_shift[which][byte][n] = c;
            }
    }
#if defined(__x86_64__)
    bf_crc_hw = __builtin_cpu_supports("sse4.2");
#endif
}

static inline uint32_t bf_crc_over_zeros(int which, uint32_t c) {
    const uint32_t(*t)[256] = bf_crc_shift[which];
    return t[0][c & 255] ^ t[1][c >> 8 & 255] ^ t[2][c >> 16 & 255] ^ t[3][c >> 24];
}

static uint32_t bf_crc_soft(uint32_t c, const uint8_t *p, size_t n) {
    while (n >= 8) {
        uint32_t lo = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        c = bf_crc_table[7][lo & 255] ^ bf_crc_table[6][(lo >> 8) & 255] ^ bf_crc_table[5][(lo >> 16) & 255] ^
            bf_crc_table[4][lo >> 24] ^ bf_crc_table[3][p[4]] ^ bf_crc_table[2][p[5]] ^ bf_crc_table[1][p[6]] ^
            bf_crc_table[0][p[7]];
        p += 8;
        n -= 8;
    }
    while (n--) c = (c >> 8) ^ bf_crc_table[0][(c ^ *p++) & 255];
    return c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t bf_crc_sse(uint32_t c, const uint8_t *p, size_t n) {
    uint64_t s = c;
    /* The instruction takes 3 cycles and can start each cycle: three lanes at once, joined by a shift
     * over zeros (the method of M. Adler's crc32c.c). */
    for (int which = 0; which < 2; which++) {
        const size_t lane = which ? BF_CRC_SHORT : BF_CRC_LONG;
        for (; n >= 3 * lane; p += 3 * lane, n -= 3 * lane) {
            uint64_t s1 = 0, s2 = 0;
            for (size_t i = 0; i < lane; i += 8) {
                uint64_t a, b, d;
                memcpy(&a, p + i, 8);
                memcpy(&b, p + lane + i, 8);
                memcpy(&d, p + 2 * lane + i, 8);
                s = _mm_crc32_u64(s, a);
                s1 = _mm_crc32_u64(s1, b);
                s2 = _mm_crc32_u64(s2, d);
            }
            s = bf_crc_over_zeros(which, (uint32_t)s) ^ s1;
            s = bf_crc_over_zeros(which, (uint32_t)s) ^ s2;
        }
    }
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v;
        memcpy(&v, p, 8);
        s = _mm_crc32_u64(s, v);
    }
    c = (uint32_t)s;
    while (n--) c = _mm_crc32_u8(c, *p++);
    return c;
}
#endif

/* Continues a CRC: start with crc = 0; the result of one call is the start of the next. */
static uint32_t bf_crc32c(uint32_t crc, const uint8_t *p, size_t n) {
    uint32_t c = ~crc;
#if defined(__x86_64__)
    if (bf_crc_hw) return ~bf_crc_sse(c, p, n);
#endif
    return ~bf_crc_soft(c, p, n);
}
#endif
