/* The vector form of ols.h, included once per instruction set with BF_LANES 64-bit lanes. No guard: see there. */

static void BF_V(bf_ols_add)(bf_ols *o, int forget) {
    int width = o->n + 1, ends = (width + 2 * BF_LANES - 1) / (2 * BF_LANES);
    for (int b = 0; b < ends; b++) {
        BF_VEC pair[BF_OLS_BLOCK / 2];
        int at = b * 2 * BF_LANES, most = at + 2 * BF_LANES < width ? at + 2 * BF_LANES : width;
        for (int p = 0; p < BF_OLS_BLOCK / 2; p++) pair[p] = *(const BF_VEC *)&o->pairs[p][at];
        for (int i = 0; i < most; i++) {
            BF_VEC even = BF_MADD(pair[0], BF_ONE32(o->pairs[0][i])), odd = BF_MADD(pair[1], BF_ONE32(o->pairs[1][i]));
            for (int p = 2; p < BF_OLS_BLOCK / 2; p += 2) {
                even = BF_ADD32(even, BF_MADD(pair[p], BF_ONE32(o->pairs[p][i])));
                odd = BF_ADD32(odd, BF_MADD(pair[p + 1], BF_ONE32(o->pairs[p + 1][i])));
            }
            BF_VEC sum = BF_ADD32(even, odd), *g = (BF_VEC *)&o->gram[i][at];
            g[0] += BF_WIDE_LOW(sum) - (g[0] >> forget);
            g[1] += BF_WIDE_HIGH(sum) - (g[1] >> forget);
        }
    }
}

/* Column j of the factor in `tiles` vectors from row `at` on. */
static inline __attribute__((always_inline)) void BF_V(bf_tiles)(const int64_t low[][BF_OLS_W], int j, int at, int tiles, BF_VEC *s) {
    BF_VEC sum[4];
    for (int b = 0; b < tiles; b++) sum[b] = BF_ONE64(0);
    for (int k = 0; k < j; k++) {
        BF_VEC one = BF_ONE64(low[k][j]);
        for (int b = 0; b < tiles; b++) sum[b] += BF_MUL(one, *(const BF_VEC *)&low[k][at + b * BF_LANES]);
    }
    for (int b = 0; b < tiles; b++) s[b] = sum[b];
}

static void BF_V(bf_ols_solve)(bf_ols *o) {
    int n = o->n;
    int64_t low[BF_OLS_W][BF_OLS_W] __attribute__((aligned(64)));
    int64_t half[BF_OLS_W] __attribute__((aligned(64))) = {0};
    int64_t s[BF_OLS_W] __attribute__((aligned(64))), inverse;
    bf_halves(o, half);
    for (int j = 0; j < n; j++) {
        int first = j & -BF_LANES, at = first;
        while (at <= n) {
            int tiles = (n + BF_LANES - at) / BF_LANES;
            const int64_t(*rows)[BF_OLS_W] = (const int64_t(*)[BF_OLS_W])low;
            if (tiles >= 4) {
                tiles = 4;
                BF_V(bf_tiles)(rows, j, at, 4, (BF_VEC *)&s[at]);
            } else if (tiles == 3)
                BF_V(bf_tiles)(rows, j, at, 3, (BF_VEC *)&s[at]);
            else if (tiles == 2)
                BF_V(bf_tiles)(rows, j, at, 2, (BF_VEC *)&s[at]);
            else
                BF_V(bf_tiles)(rows, j, at, 1, (BF_VEC *)&s[at]);
            at += tiles * BF_LANES;
        }
        int64_t root = bf_pivot(bf_diagonal(o, j, (int)half[j]) - (s[j] >> 30), &inverse);
        BF_VEC limit = BF_ONE64(INT32_MAX), by = BF_ONE64(inverse), own = BF_ONE64(half[j]), none = BF_ONE64(0);
        for (at = first; at <= n; at += BF_LANES) {
            BF_VEC right = *(const BF_VEC *)&half[at] + own; /* -30 .. 36 */
            BF_VEC back = right < none, a = *(const BF_VEC *)&o->gram[j][at];
            a = (a >> (right & ~back)) << (-right & back);
            BF_VEC v = ((a - (*(const BF_VEC *)&s[at] >> 30)) * by) >> 30;
            BF_VEC over = v > limit;
            v = (over & limit) | (~over & v);
            BF_VEC under = v < -limit;
            *(BF_VEC *)&low[j][at] = (under & -limit) | (~under & v);
        }
        low[j][j] = root;
    }
    bf_substitute(o, (const int64_t(*)[BF_OLS_W])low, half);
}

static int64_t BF_V(bf_ols_dot)(const bf_ols *o, const int16_t *row) {
    BF_VEC sum = BF_ONE64(0);
    for (int k = 0; k < o->n; k += BF_LANES) sum += BF_MUL(*(const BF_VEC *)&o->weight[k], BF_WIDE16(row + k));
    int64_t s = 0;
    for (int k = 0; k < BF_LANES; k++) s += sum[k];
    return s;
}

static void BF_V(bf_ols_dots)(const bf_ols *o, const bf_columns *columns, int64_t *sum) {
    BF_VEC s[BF_OLS_BLOCK / BF_LANES];
    for (int b = 0; b < BF_OLS_BLOCK / BF_LANES; b++) s[b] = BF_ONE64(0);
    for (int k = 0; k < o->n; k++) {
        BF_VEC w = BF_ONE64(o->weight[k]);
        for (int b = 0; b < BF_OLS_BLOCK / BF_LANES; b++) s[b] += BF_MUL(w, BF_WIDE16(columns->at[k] + b * BF_LANES));
    }
    memcpy(sum, s, sizeof s);
}

#undef BF_V
#undef BF_LANES
#undef BF_VEC
#undef BF_MUL
#undef BF_MADD
#undef BF_ONE32
#undef BF_ONE64
#undef BF_ADD32
#undef BF_WIDE16
#undef BF_WIDE_LOW
#undef BF_WIDE_HIGH
