/* One width of the cascade; sos.h includes this once per instruction set with
 * BF_NAME(x), BF_TARGET, BF_V (doubles in a vector) and BF_U (vectors at once). */
#define BF_W (BF_V * BF_U)

typedef double BF_NAME(vd) __attribute__((vector_size(8 * BF_V), aligned(8), may_alias));
typedef float BF_NAME(vf) __attribute__((vector_size(4 * BF_V), aligned(4), may_alias));
typedef int32_t BF_NAME(vi) __attribute__((vector_size(4 * BF_V), aligned(4), may_alias));

/* n rows of BF_W channels; strides in values. `scale` is NULL for float rows, else one factor per channel.
 * `even`: b0 = b2 = 1 in every section and `gain` before the first, one operation less in each. */
__attribute__((always_inline)) BF_TARGET static inline void BF_NAME(tile)(
    const int n_sections, const int even, const double *coefficients, double gain, double *state, const void *in,
    size_t in_stride, const double *scale, float *out, size_t out_stride, size_t n) {
    typedef BF_NAME(vd) vd;
    vd s1[BF_MOST_SECTIONS][BF_U], s2[BF_MOST_SECTIONS][BF_U], factor[BF_U];
    for (int u = 0; u < BF_U; u++) {
        for (int k = 0; k < n_sections; k++) {
            s1[k][u] = *(const vd *)(state + (2 * k) * BF_W + u * BF_V);
            s2[k][u] = *(const vd *)(state + (2 * k + 1) * BF_W + u * BF_V);
        }
        if (scale) factor[u] = *(const vd *)(scale + u * BF_V);
    }
    for (size_t i = 0; i < n; i++) {
        vd x[BF_U];
        for (int u = 0; u < BF_U; u++) {
            if (scale) {
                const BF_NAME(vi) counts = *(const BF_NAME(vi) *)((const int32_t *)in + i * in_stride + u * BF_V);
                x[u] = __builtin_convertvector(counts, vd) * factor[u];
            } else {
                const BF_NAME(vf) values = *(const BF_NAME(vf) *)((const float *)in + i * in_stride + u * BF_V);
                x[u] = __builtin_convertvector(values, vd);
                if (even) x[u] *= gain;
            }
        }
#pragma GCC unroll 8
        for (int k = 0; k < n_sections; k++) {
            const double *c = coefficients + 5 * k;
            for (int u = 0; u < BF_U; u++) {
                vd in0 = x[u], in2 = x[u], y;
                if (!even) {
                    in0 *= c[0];
                    in2 *= c[2];
                }
                y = in0 + s1[k][u];
                s1[k][u] = c[1] * x[u] + (s2[k][u] - c[3] * y);
                s2[k][u] = in2 - c[4] * y;
                x[u] = y;
            }
        }
        for (int u = 0; u < BF_U; u++)
            *(BF_NAME(vf) *)(out + i * out_stride + u * BF_V) = __builtin_convertvector(x[u], BF_NAME(vf));
    }
    for (int u = 0; u < BF_U; u++)
        for (int k = 0; k < n_sections; k++) {
            *(vd *)(state + (2 * k) * BF_W + u * BF_V) = s1[k][u];
            *(vd *)(state + (2 * k + 1) * BF_W + u * BF_V) = s2[k][u];
        }
}

#define BF_TILE(S, even, scaled) \
    BF_NAME(tile)(S, even, coefficients, gain, state, in, in_stride, scaled, out, out_stride, n)
#define BF_CASE(S, even, scaled)     \
    case S:                          \
        BF_TILE(S, even, scaled);    \
        break;
#define BF_CASES(even, scaled)                  \
    switch (n_sections) {                       \
        BF_CASE(1, even, scaled)                \
        BF_CASE(2, even, scaled)                \
        BF_CASE(3, even, scaled)                \
        BF_CASE(4, even, scaled)                \
        BF_CASE(5, even, scaled)                \
        BF_CASE(6, even, scaled)                \
    default:                                    \
        BF_TILE(n_sections, even, scaled);      \
    }

BF_TARGET static void BF_NAME(run)(int n_sections, int even, const double *coefficients, double gain, double *state,
                                   const void *in, size_t in_stride, const double *scale, float *out,
                                   size_t out_stride, size_t n) {
    if (scale && even)
        BF_CASES(1, scale)
    else if (scale)
        BF_CASES(0, scale)
    else if (even)
        BF_CASES(1, NULL)
    else
        BF_CASES(0, NULL)
}

#undef BF_TILE
#undef BF_CASES
#undef BF_CASE
#undef BF_W
#undef BF_NAME
#undef BF_TARGET
#undef BF_V
#undef BF_U
