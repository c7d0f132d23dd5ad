/* Packed 24-bit little-endian <-> int32; byte shuffles where the CPU has them.
 * The vector loops read (unpack) and write (pack) up to 8 bytes past the values they yield, so each
 * stops early enough to stay inside its buffers and leaves the rest to the plain loop. */
#ifndef BF_UNPACK_H
#define BF_UNPACK_H
#include <stddef.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

static void bf_unpack24le_plain(const uint8_t *p, int32_t *out, size_t n) {
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t)((uint32_t)p[3 * i] << 8 | (uint32_t)p[3 * i + 1] << 16 | (uint32_t)p[3 * i + 2] << 24) >> 8;
}

static void bf_pack24le_plain(const int32_t *x, uint8_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t v = (uint32_t)x[i];
        out[3 * i] = (uint8_t)v;
        out[3 * i + 1] = (uint8_t)(v >> 8);
        out[3 * i + 2] = (uint8_t)(v >> 16);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void bf_unpack24le_avx2(const uint8_t *p, int32_t *out, size_t n) {
    const __m256i spread = _mm256_setr_epi8(-1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11,
                                            -1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11);
    size_t i = 0;
    for (; i + 10 <= n; i += 8, p += 24) {
        __m256i v = _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)p)),
                                            _mm_loadu_si128((const __m128i *)(p + 12)), 1);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_srai_epi32(_mm256_shuffle_epi8(v, spread), 8));
    }
    bf_unpack24le_plain(p, out + i, n - i);
}

__attribute__((target("ssse3"))) static void bf_pack24le_ssse3(const int32_t *x, uint8_t *out, size_t n) {
    const __m128i close = _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1);
    size_t i = 0;
    for (; i + 6 <= n; i += 4, out += 12)
        _mm_storeu_si128((__m128i *)out, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(x + i)), close));
    bf_pack24le_plain(x + i, out, n - i);
}
#endif

static int bf_has_avx2, bf_has_ssse3;

static void bf_unpack_init(void) {
#if defined(__x86_64__)
    bf_has_avx2 = __builtin_cpu_supports("avx2") != 0;
    bf_has_ssse3 = __builtin_cpu_supports("ssse3") != 0;
#endif
}

static inline void bf_unpack24le(const uint8_t *p, int32_t *out, size_t n) {
#if defined(__x86_64__)
    if (bf_has_avx2) {
        bf_unpack24le_avx2(p, out, n);
        return;
    }
#endif
    bf_unpack24le_plain(p, out, n);
}

static inline void bf_pack24le(const int32_t *x, uint8_t *out, size_t n) {
#if defined(__x86_64__)
    if (bf_has_ssse3) {
        bf_pack24le_ssse3(x, out, n);
        return;
    }
#endif
    bf_pack24le_plain(x, out, n);
}
#endif
