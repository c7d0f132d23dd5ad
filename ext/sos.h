/* Biquad cascade, direct form II transposed, vectors of channels, float64 state, float32 out.
 * All sections of a vector of channels stay in registers while a tile of rows passes. */
#ifndef BF_SOS_H
#define BF_SOS_H
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define BF_MOST_SECTIONS 16
#define BF_WIDEST 16  /* channels of the widest tile: state and scale are padded to it */
#define BF_TILE_ROWS 32 /* rows of a tile: 306 channels of them stay in the first cache */

#if defined(__x86_64__)
#define BF_NAME(x) bf_sos_avx512_##x
#define BF_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512")))
#define BF_V 8
#define BF_U 1
#include "sos_tile.h"
#define BF_NAME(x) bf_sos_avx2_##x
#define BF_TARGET __attribute__((target("avx2,fma")))
#define BF_V 4
#define BF_U 1
#include "sos_tile.h"
#endif
#define BF_NAME(x) bf_sos_plain_##x
#define BF_TARGET
#define BF_V 2
#define BF_U 2
#include "sos_tile.h"

typedef void (*bf_sos_run)(int, int, const double *, double, double *, const void *, size_t, const double *, float *,
                           size_t, size_t);

typedef struct {
    int n_sections, is_even;
    double gain;
    size_t n_channels, n_padded, width; /* width: channels of one tile */
    bf_sos_run run;
    double *coefficients; /* b0 b1 b2 a1 a2 of each section */
    double *state;        /* [tile][section][2][width] */
    double *scale;        /* NULL: float rows only; `gain` is in it */
    float *last;          /* newest finite input of each channel, held where one is not */
    uint64_t n_bad;
} bf_sos;

static const char *bf_sos_choose(bf_sos *f, int level) {
#if defined(__x86_64__)
    if (level >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma")) {
        f->run = bf_sos_avx512_run;
        f->width = 8;
        return "avx512";
    }
    if (level >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        f->run = bf_sos_avx2_run;
        f->width = 4;
        return "avx2";
    }
#endif
    (void)level;
    f->run = bf_sos_plain_run;
    f->width = 4;
    return "plain";
}

static int bf_sos_alloc(bf_sos *f) {
    f->n_padded = (f->n_channels + BF_WIDEST - 1) / BF_WIDEST * BF_WIDEST;
    f->coefficients = (double *)calloc((size_t)f->n_sections * 5, sizeof(double));
    f->state = (double *)calloc(f->n_padded * 2 * (size_t)f->n_sections, sizeof(double));
    f->last = (float *)calloc(f->n_padded, sizeof(float));
    return f->coefficients && f->state && f->last;
}

/* Sections with b0 = b2 (all that Butterworth and notch designs give, to the last bit or two) in the cheaper form. */
static void bf_sos_even(bf_sos *f) {
    f->gain = 1.0;
    f->is_even = 1;
    for (int k = 0; k < f->n_sections; k++) {
        const double *c = f->coefficients + 5 * k;
        if (c[0] == 0.0 || fabs(c[0] - c[2]) > 4 * DBL_EPSILON * fabs(c[0])) f->is_even = 0;
    }
    for (int k = 0; k < f->n_sections && f->is_even; k++) {
        double *c = f->coefficients + 5 * k;
        f->gain *= c[0];
        c[1] /= c[0];
        c[0] = c[2] = 1.0;
    }
}

static void bf_sos_free(bf_sos *f) {
    free(f->coefficients);
    free(f->state);
    free(f->scale);
    free(f->last);
}

/* Decaying state must not reach subnormal numbers: they are a hundred times slower. */
static inline uint64_t bf_flush_subnormals(void) {
#if defined(__x86_64__)
    uint32_t before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (1ull << 24)));
    return before;
#else
    return 0;
#endif
}
static inline void bf_restore_subnormals(uint64_t before) {
#if defined(__x86_64__)
    _mm_setcsr((uint32_t)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
#else
    (void)before;
#endif
}

static int bf_all_finite(const float *x, size_t n) {
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bad |= (uint32_t)((bits & 0x7F800000u) == 0x7F800000u);
    }
    return !bad;
}

/* A tile of all channels; the last, partial vector goes through a padded copy. */
static void bf_sos_rows(bf_sos *f, const void *in, float *out, size_t n) {
    const size_t w = f->width, step = 2 * (size_t)f->n_sections * w;
    double *state = f->state;
    size_t c = 0;
    for (; c + w <= f->n_channels; c += w, state += step)
        f->run(f->n_sections, f->is_even, f->coefficients, f->gain, state, (const uint32_t *)in + c, f->n_channels,
               f->scale ? f->scale + c : NULL, out + c, f->n_channels, n);
    if (c == f->n_channels) return;
    uint32_t padded[BF_TILE_ROWS * BF_WIDEST];
    float result[BF_TILE_ROWS * BF_WIDEST];
    const size_t rest = f->n_channels - c;
    memset(padded, 0, sizeof padded);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < rest; k++) padded[i * w + k] = ((const uint32_t *)in)[i * f->n_channels + c + k];
    f->run(f->n_sections, f->is_even, f->coefficients, f->gain, state, padded, w, f->scale ? f->scale + c : NULL, result, w, n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < rest; k++) out[i * f->n_channels + c + k] = result[i * w + k];
}

/* Copies a tile with each NaN or infinity replaced by the channel's newest finite value. */
static void bf_sos_hold(bf_sos *f, const float *in, float *held, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < f->n_channels; c++, in++, held++) {
            if (bf_all_finite(in, 1))
                f->last[c] = *in;
            else
                f->n_bad++;
            *held = f->last[c];
        }
}

/* 0 = no memory for the copy that damaged rows need. */
static int bf_sos_apply(bf_sos *f, const void *in, float *out, size_t n) {
    const uint64_t mode = bf_flush_subnormals();
    float *held = NULL;
    int ok = 1;
    for (size_t i = 0; i < n && ok; i += BF_TILE_ROWS) {
        const size_t rows = n - i < BF_TILE_ROWS ? n - i : BF_TILE_ROWS;
        const void *tile = (const uint32_t *)in + i * f->n_channels;
        if (!f->scale) {
            if (bf_all_finite((const float *)tile, rows * f->n_channels)) {
                memcpy(f->last, (const float *)tile + (rows - 1) * f->n_channels, 4 * f->n_channels);
            } else {
                if (!held) held = (float *)malloc(sizeof(float) * BF_TILE_ROWS * f->n_channels);
                if (!(ok = held != NULL)) break;
                bf_sos_hold(f, (const float *)tile, held, rows);
                tile = held;
            }
        }
        bf_sos_rows(f, tile, out + i * f->n_channels, rows);
    }
    free(held);
    bf_restore_subnormals(mode);
    return ok;
}

/* The state in which a constant input has been there for ever: y = G u, s1 = y - b0 u, s2 = b2 u - a2 y. */
static void bf_sos_settle(bf_sos *f, const double *row) {
    const size_t w = f->width;
    for (size_t c = 0; c < f->n_channels; c++) {
        double u = row[c] * f->gain, *s = f->state + c / w * 2 * (size_t)f->n_sections * w + c % w;
        for (int k = 0; k < f->n_sections; k++, s += 2 * w) {
            const double *q = f->coefficients + 5 * k;
            double y = u * (q[0] + q[1] + q[2]) / (1.0 + q[3] + q[4]);
            s[0] = y - q[0] * u;
            s[w] = q[2] * u - q[4] * y;
            u = y;
        }
    }
}
#endif
