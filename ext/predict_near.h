/* Which already coded channels help: whitened differences, their Gram matrix, greedy choice. Encoder only. */
#ifndef BF_PREDICT_NEAR_H
#define BF_PREDICT_NEAR_H

#define BF_WHITE 8
#define BF_NEAR_ROWS 1024
#define BF_NEAR_REACH 512 /* channels back that are looked at */
#define BF_COST_NEAR 33    /* a channel must take away this share of the rest per row: about 24 bits */

BF_CLONES static int32_t bf_dot16(const int16_t *a, const int16_t *b, int n) {
    int32_t s = 0;
    for (int k = 0; k < n; k++) s += (int32_t)a[k] * b[k];
    return s;
}

/* Common predictor of all channels from their summed autocorrelation. */
static void bf_common(bf_coder *k, bf_plan *plans) {
    bf_ols *o = &k->ols;
    int64_t lag[BF_WHITE + 1] = {0};
    int32_t look[BF_DONORS][BF_WHITE + 1] = {{0}}; /* normalised autocorrelation, Q14 */
    for (int c = 0; c < k->channels; c++) {
        if (plans[c].mode != BF_MODE_OLS) continue;
        const int16_t *u = bf_u(k, c);
        int64_t own[BF_WHITE + 1] = {0};
        for (int i = 0; i <= BF_WHITE; i++)
            for (int at = 0; at < k->n; at += 16) /* 16 * 2^26 fits */
                own[i] += bf_dot16(u + at, u + at - i, k->n - at < 16 ? k->n - at : 16);
        int32_t *mine = look[c % BF_DONORS], least = INT32_MAX;
        int32_t seen[BF_WHITE + 1];
        for (int i = 0; i <= BF_WHITE; i++) {
            lag[i] += own[i];
            seen[i] = (int32_t)((own[i] << 14) / (own[0] + 1));
        }
        for (int donor = 0; donor < BF_DONORS && donor < c; donor++) {
            const int32_t *other = look[(c - 1 - donor) % BF_DONORS];
            if (plans[c - 1 - donor].mode != BF_MODE_OLS) continue;
            int32_t away = 256 * donor;
            for (int i = 1; i <= BF_WHITE; i++) away += seen[i] > other[i] ? seen[i] - other[i] : other[i] - seen[i];
            if (away < least) least = away, plans[c].donor = donor;
        }
        memcpy(mine, seen, sizeof seen);
    }
    o->n = BF_WHITE;
    for (int i = 0; i <= BF_WHITE; i++)
        for (int j = 0; j <= i; j++) {
            int a = i == BF_WHITE ? 0 : i + 1, b = j == BF_WHITE ? 0 : j + 1;
            o->gram[j][i] = lag[a > b ? a - b : b - a];
        }
    memset(o->ridge, 0, sizeof o->ridge);
    k->ways->solve(o);
}

BF_CLONES static int bf_choose_near(bf_coder *k, bf_plan *plans) {
    int n = k->n < BF_NEAR_ROWS ? k->n : BF_NEAR_ROWS, channels = k->channels;
    if (k->n < 48 || channels < 2) return 0;
    int16_t *z = calloc((size_t)channels * n + 64, sizeof(int16_t));
    int32_t *root = calloc(channels, sizeof(int32_t));
    int32_t *work = malloc(sizeof(int32_t) * (size_t)channels * (BF_NEAR + 3));
    int reach = channels < BF_NEAR_REACH ? channels : BF_NEAR_REACH;
    int32_t *gram = malloc(sizeof(int32_t) * (size_t)channels * reach); /* [c][c - 1 - j] */
    if (!z || !root || !work || !gram) {
        free(z), free(root), free(work), free(gram);
        return -1;
    }
    bf_common(k, plans);
    for (int c = 0; c < channels; c++) {
        const int16_t *u = bf_u(k, c);
        int16_t *zc = z + (size_t)c * n;
        int64_t size = 0, white[BF_NEAR_ROWS];
        if (plans[c].mode != BF_MODE_OLS) continue;
        const int16_t *v = u + (k->n - n) / 2;
        for (int t = 0; t < n; t += BF_OLS_BLOCK) {
            bf_columns columns;
            int64_t sum[BF_OLS_BLOCK];
            for (int i = 0; i < BF_WHITE; i++) columns.at[i] = v + t - 1 - i;
            k->ways->dots(&k->ols, &columns, sum);
            for (int i = 0; i < BF_OLS_BLOCK && t + i < n; i++) {
                int64_t rest = v[t + i] - (sum[i] >> BF_Q_W);
                white[t + i] = rest;
                size += rest < 0 ? -rest : rest;
            }
        }
        int down = bf_bit_length((uint64_t)(size / n)) - 7;
        for (int t = 0; t < n; t++) zc[t] = (int16_t)bf_limit(bf_shift(white[t], down), 1023);
        root[c] = (int32_t)bf_isqrt((uint64_t)bf_dot16(zc, zc, n));
    }
    for (int c = 0; c < channels; c++)
        for (int j = c > reach ? c - reach : 0; j < c; j++) {
            int64_t norm = (int64_t)root[c] * root[j];
            int64_t g = norm ? ((int64_t)bf_dot16(z + (size_t)c * n, z + (size_t)j * n, n) << 30) / norm : 0;
            int64_t one = 1 << 30;
            gram[(size_t)c * reach + c - 1 - j] = (int32_t)(g > one ? one : g < -one ? -one : g);
        }
#define BF_G(a, b) ((a) == (b) ? 1 << 30 : (a) > (b) ? gram[(size_t)(a) * reach + (a) - 1 - (b)] : gram[(size_t)(b) * reach + (b) - 1 - (a)])
    for (int c = 1; c < channels; c++) {
        bf_plan *p = &plans[c];
        int from = c > reach ? c - reach : 0;
        int32_t *g = work, *h = work + channels, *low[BF_NEAR];
        for (int i = 0; i < BF_NEAR; i++) low[i] = work + (size_t)channels * (2 + i);
        if (p->mode != BF_MODE_OLS) continue;
        for (int j = from; j < c; j++) {
            g[j] = BF_G(c, j);
            h[j] = 1 << 30;
        }
        int64_t left = 1 << 30;
        int chosen[BF_NEAR];
        while (p->n_near < BF_NEAR) {
            int best = -1;
            int64_t most = 0;
            for (int j = from; j < c; j++) {
                if (h[j] < 1 << 23) continue; /* nothing new in it */
                int64_t square = (int64_t)g[j] * g[j];
                if (most >> 32 == 0 && square < (most + 1) * h[j]) continue; /* without a division: not better */
                int64_t score = square / h[j];
                if (score > most) most = score, best = j;
            }
            if (best < 0 || most * n < left * BF_COST_NEAR) break;
            int m = p->n_near++;
            chosen[m] = best;
            int64_t pivot = (int64_t)bf_isqrt((uint64_t)h[best] << 30);
            int64_t step = ((int64_t)g[best] << 30) / pivot;
            left -= most;
            if (left < 1 << 10) left = 1 << 10;
            for (int j = from; j < c; j++) {
                int64_t s = BF_G(best, j);
                for (int i = 0; i < m; i++) s -= ((int64_t)low[i][best] * low[i][j]) >> 30;
                int64_t l = (s << 30) / pivot;
                int64_t one = 1 << 30;
                l = l > one ? one : l < -one ? -one : l;
                low[m][j] = (int32_t)l;
                g[j] -= (int32_t)((step * l) >> 30);
                h[j] -= (int32_t)((l * l) >> 30);
            }
            h[best] = 0;
        }
        for (int i = 0; i < p->n_near; i++) { /* ascending */
            int at = i;
            for (; at > 0 && p->near[at - 1] > chosen[i]; at--) p->near[at] = p->near[at - 1];
            p->near[at] = chosen[i];
        }
    }
    free(z), free(root), free(work), free(gram);
    return 0;
}
#endif
