/* Backward-adaptive least squares in integers: Gram matrix, Cholesky, prediction. Needs -fwrapv.

   Both sides run this on samples that are already coded, so no coefficient is ever stored. All
   numbers are fixed point; what could overflow on absurd data wraps, the same on every machine. */
#ifndef BF_OLS_H
#define BF_OLS_H
#include <stdint.h>
#include <string.h>

#define BF_OLS_MAX 39           /* regressors */
#define BF_OLS_W 48             /* and the target, last; a multiple of 16 */
#define BF_OLS_BLOCK 16         /* rows between additions to the Gram matrix: 16 * 2^26 fits int32 */
#define BF_U_MAX 8191           /* regressors are clipped to 14 bits */
#define BF_Q_W 18               /* fraction bits of a coefficient */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define BF_SIMD 1
#define BF_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define BF_SCALAR __attribute__((noinline, optimize("no-tree-vectorize")))
#else
#define BF_CLONES
#define BF_SCALAR
#endif

typedef struct {
    int n; /* regressors in use */
    int64_t gram[BF_OLS_W][BF_OLS_W] __attribute__((aligned(64))); /* upper triangle, the target in column n */
    int32_t pairs[BF_OLS_BLOCK / 2][BF_OLS_W] __attribute__((aligned(64))); /* two rows each: even low, odd high */
    int64_t weight[BF_OLS_W] __attribute__((aligned(64))); /* 32 bits each, 0 beyond n */
    int64_t ridge[BF_OLS_W]; /* added to the diagonal when solving */
} bf_ols;

typedef struct { /* where a regressor's values lie, one per row of a block */
    const int16_t *at[BF_OLS_W];
} bf_columns;

static inline int bf_bit_length(uint64_t v) { return v ? 64 - __builtin_clzll(v) : 0; }

static inline int64_t bf_shift(int64_t v, int right) { return right >= 0 ? v >> (right > 63 ? 63 : right) : (int64_t)((uint64_t)v << -right); }

static inline int32_t bf_pair(int16_t even, int16_t odd) { return (int32_t)((uint32_t)(uint16_t)even | (uint32_t)(uint16_t)odd << 16); }

/* sqrt((k + 64.5) * 2^16), k from 0 */
static const uint16_t bf_roots[192] = {
    2056, 2072, 2088, 2103, 2119, 2134, 2149, 2165, 2180, 2195, 2210, 2224, 2239, 2254, 2268, 2283,
    2297, 2311, 2325, 2339, 2353, 2367, 2381, 2395, 2408, 2422, 2435, 2449, 2462, 2475, 2489, 2502,
    2515, 2528, 2541, 2554, 2566, 2579, 2592, 2604, 2617, 2629, 2642, 2654, 2667, 2679, 2691, 2703,
    2715, 2727, 2739, 2751, 2763, 2775, 2787, 2798, 2810, 2822, 2833, 2845, 2856, 2868, 2879, 2891,
    2902, 2913, 2924, 2936, 2947, 2958, 2969, 2980, 2991, 3002, 3013, 3024, 3034, 3045, 3056, 3067,
    3077, 3088, 3099, 3109, 3120, 3130, 3141, 3151, 3161, 3172, 3182, 3192, 3203, 3213, 3223, 3233,
    3243, 3253, 3263, 3273, 3283, 3293, 3303, 3313, 3323, 3333, 3343, 3353, 3362, 3372, 3382, 3391,
    3401, 3411, 3420, 3430, 3439, 3449, 3458, 3468, 3477, 3487, 3496, 3505, 3515, 3524, 3533, 3543,
    3552, 3561, 3570, 3579, 3589, 3598, 3607, 3616, 3625, 3634, 3643, 3652, 3661, 3670, 3679, 3688,
    3697, 3705, 3714, 3723, 3732, 3741, 3749, 3758, 3767, 3775, 3784, 3793, 3801, 3810, 3819, 3827,
    3836, 3844, 3853, 3861, 3870, 3878, 3887, 3895, 3903, 3912, 3920, 3929, 3937, 3945, 3954, 3962,
    3970, 3978, 3987, 3995, 4003, 4011, 4019, 4027, 4036, 4044, 4052, 4060, 4068, 4076, 4084, 4092,
};

/* v < 2^62. Newton never falls below the root; two steps leave it or one more. */
static inline uint64_t bf_isqrt(uint64_t v) {
    if (!v) return 0;
    int up = __builtin_clzll(v) & ~1;
    uint64_t x = (uint64_t)bf_roots[(v << up >> 56) - 64] << 20 >> (up / 2);
    x = (x + v / x) >> 1;
    x = (x + v / x) >> 1;
    return x - (x * x > v);
}

static inline int64_t bf_pivot(int64_t num, int64_t *inverse) {
    if (num < 1 << 10) num = 1 << 10;
    if (num > (int64_t)1 << 31) num = (int64_t)1 << 31;
    int64_t root = (int64_t)bf_isqrt((uint64_t)num << 30);
    *inverse = (int64_t)(((uint64_t)1 << 60) / (uint64_t)root);
    return root > INT32_MAX ? INT32_MAX : root;
}

static inline int64_t bf_limit(int64_t v, int64_t limit) { return v > limit ? limit : v < -limit ? -limit : v; }

static inline int64_t bf_diagonal(const bf_ols *o, int i, int half) {
    int64_t a = bf_shift(o->gram[i][i] + o->ridge[i], 2 * half);
    return a + (a >> 20) + (a ? 0 : 1 << 28);
}

static inline void bf_halves(const bf_ols *o, int64_t *half) {
    for (int i = 0; i <= o->n; i++) half[i] = (bf_bit_length((uint64_t)(o->gram[i][i] + (i < o->n ? o->ridge[i] : 0))) - 29) >> 1;
}

/* Coefficients from the factor, low[k][i] of row i and column k; row n is the target. */
BF_SCALAR static void bf_substitute(bf_ols *o, const int64_t low[][BF_OLS_W], const int64_t *half) {
    int n = o->n;
    int64_t w[BF_OLS_W];
    for (int i = n - 1; i >= 0; i--) {
        int64_t s = low[i][n] << 20; /* Q50 */
        for (int k = n - 1; k > i; k--) s -= low[i][k] * w[k];
        w[i] = bf_limit(s / low[i][i], (int64_t)1 << 30); /* Q20 */
    }
    for (int i = 0; i < n; i++) {
        int up = (int)(half[n] - half[i]) + BF_Q_W - 20;
        o->weight[i] = bf_limit(up > 32 ? 0 : bf_shift(w[i], -up), (int64_t)1 << 30);
    }
    for (int i = n; i < BF_OLS_W; i++) o->weight[i] = 0;
}

/* ---- any machine */

/* gram += rows' * rows, of which 1/2^forget is forgotten first. */
static void bf_ols_add_plain(bf_ols *o, int forget) {
    int width = o->n + 1;
    for (int i = 0; i < width; i++)
        for (int j = i; j < width; j++) {
            int32_t sum = 0;
            for (int p = 0; p < BF_OLS_BLOCK / 2; p++) {
                int32_t a = o->pairs[p][i], b = o->pairs[p][j];
                sum += (int32_t)(int16_t)a * (int16_t)b + (a >> 16) * (b >> 16);
            }
            o->gram[i][j] += sum - (o->gram[i][j] >> forget);
        }
}

/* Coefficients from the Gram matrix: scaled to a diagonal of 2^28..2^30, ridge, Cholesky in Q30. */
static void bf_ols_solve_plain(bf_ols *o) {
    int n = o->n;
    int64_t low[BF_OLS_W][BF_OLS_W], half[BF_OLS_W], inverse;
    bf_halves(o, half);
    for (int j = 0; j < n; j++) /* row n: the target, so this is the forward substitution too */
        for (int i = j; i <= n; i++) {
            int64_t s = 0;
            for (int k = 0; k < j; k++) s += (int64_t)(int32_t)low[k][i] * (int32_t)low[k][j];
            if (i == j)
                low[j][j] = bf_pivot(bf_diagonal(o, j, (int)half[j]) - (s >> 30), &inverse);
            else
                low[j][i] = bf_limit(((bf_shift(o->gram[j][i], (int)(half[i] + half[j])) - (s >> 30)) * inverse) >> 30, INT32_MAX);
        }
    bf_substitute(o, (const int64_t(*)[BF_OLS_W])low, half);
}

static int64_t bf_ols_dot_plain(const bf_ols *o, const int16_t *row) {
    int64_t s = 0;
    for (int k = 0; k < o->n; k++) s += (int64_t)(int32_t)o->weight[k] * row[k];
    return s;
}

/* The dot products of a block of rows at once. */
static void bf_ols_dots_plain(const bf_ols *o, const bf_columns *columns, int64_t *sum) {
    for (int t = 0; t < BF_OLS_BLOCK; t++) {
        sum[t] = 0;
        for (int k = 0; k < o->n; k++) sum[t] += (int64_t)(int32_t)o->weight[k] * columns->at[k][t];
    }
}

/* ---- the same by vectors */

#ifdef BF_SIMD
#include <immintrin.h>
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define BF_V(name) name##_avx2
#define BF_LANES 4
#define BF_VEC __m256i
#define BF_MUL _mm256_mul_epi32
#define BF_MADD _mm256_madd_epi16
#define BF_ONE32(v) _mm256_set1_epi32(v)
#define BF_ONE64(v) _mm256_set1_epi64x(v)
#define BF_ADD32 _mm256_add_epi32
#define BF_WIDE16(p) _mm256_cvtepi16_epi64(_mm_loadl_epi64((const __m128i *)(p)))
#define BF_WIDE_LOW(v) _mm256_cvtepi32_epi64(_mm256_castsi256_si128(v))
#define BF_WIDE_HIGH(v) _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1))
#include "ols_simd.h"
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define BF_V(name) name##_v4
#define BF_LANES 8
#define BF_VEC __m512i
#define BF_MUL _mm512_mul_epi32
#define BF_MADD _mm512_madd_epi16
#define BF_ONE32(v) _mm512_set1_epi32(v)
#define BF_ONE64(v) _mm512_set1_epi64(v)
#define BF_ADD32 _mm512_add_epi32
#define BF_WIDE16(p) _mm512_cvtepi16_epi64(_mm_loadu_si128((const __m128i *)(p)))
#define BF_WIDE_LOW(v) _mm512_cvtepi32_epi64(_mm512_castsi512_si256(v))
#define BF_WIDE_HIGH(v) _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(v, 1))
#include "ols_simd.h"
#pragma GCC pop_options
#endif

typedef struct {
    void (*add)(bf_ols *o, int forget);
    void (*solve)(bf_ols *o);
    int64_t (*dot)(const bf_ols *o, const int16_t *row);
    void (*dots)(const bf_ols *o, const bf_columns *columns, int64_t *sum);
} bf_ols_ways;

/* What this processor does best with vectors of at most `lanes` 64-bit lanes; all give the same values. */
static const bf_ols_ways *bf_ols_best(int lanes) {
    static const bf_ols_ways plain = {bf_ols_add_plain, bf_ols_solve_plain, bf_ols_dot_plain, bf_ols_dots_plain};
#ifdef BF_SIMD
    static const bf_ols_ways avx2 = {bf_ols_add_avx2, bf_ols_solve_avx2, bf_ols_dot_avx2, bf_ols_dots_avx2};
    static const bf_ols_ways v4 = {bf_ols_add_v4, bf_ols_solve_v4, bf_ols_dot_v4, bf_ols_dots_v4};
    __builtin_cpu_init();
    if (lanes >= 8 && __builtin_cpu_supports("x86-64-v4")) return &v4;
    if (lanes >= 4 && __builtin_cpu_supports("x86-64-v3")) return &avx2;
#endif
    return &plain;
}
#endif
