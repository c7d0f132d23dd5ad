/* Pairs of stretches of one channel that stay within a tolerance, lag by lag. */
#ifndef BF_ENTROPY_H
#define BF_ENTROPY_H
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define BF_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define BF_CLONES
#endif

#define BF_MOST_SAMPLES 2048

/* counts[0], counts[1]: pairs alike over m and over m + 1 samples, among the first n - m stretches. */
BF_CLONES static void bf_entropy_count(const float *restrict x, size_t n, size_t m, float tolerance,
                                       uint8_t *restrict near, uint8_t *restrict alike, int64_t *counts) {
    for (size_t lag = 1; lag + m < n; lag++) {
        const size_t n_near = n - lag, n_pairs = n - lag - m;
        uint32_t short_ones = 0, long_ones = 0;
        const float *restrict y = x + lag;
        for (size_t i = 0; i < n_near; i++) near[i] = fabsf(x[i] - y[i]) <= tolerance;
        for (size_t i = 0; i < n_pairs; i++) alike[i] = near[i];
        for (size_t k = 1; k < m; k++)
            for (size_t i = 0; i < n_pairs; i++) alike[i] &= near[i + k];
        for (size_t i = 0; i < n_pairs; i++) short_ones += alike[i];
        for (size_t i = 0; i < n_pairs; i++) long_ones += alike[i] & near[i + m];
        counts[0] += short_ones;
        counts[1] += long_ones;
    }
}
#endif
