/* Plans, chunk headers, encoder and decoder: the outer half of predict.h. */
#ifndef BF_PREDICT_CHUNK_H
#define BF_PREDICT_CHUNK_H
#include "predict_palette.h"

static inline uint64_t bf_zigzag(int64_t v) { return (uint64_t)(v << 1) ^ (uint64_t)(v >> 63); }
static inline int64_t bf_unzigzag(uint64_t v) { return (int64_t)(v >> 1) ^ -(int64_t)(v & 1); }
static inline int bf_first_order(const bf_coder *k) { return k->prior_first > 3 ? k->prior_first - 3 : 0; }

static void bf_put_plan(bf_rc_enc *e, bf_coder *k, const bf_plan *p, int c) {
    static const uint32_t cum[5] = {0, 13, 14, 15, 16};
    int32_t first = bf_x(k, c)[0];
    bf_enc(e, cum[p->mode], cum[p->mode + 1] - cum[p->mode], 4);
    if (p->mode == BF_MODE_VERBATIM || p->mode == BF_MODE_PALETTE) return;
    uint64_t z = bf_zigzag(first);
    bf_enc_golomb(e, z, bf_first_order(k));
    k->prior_first = bf_bit_length(z);
    if (p->mode == BF_MODE_CONSTANT) return;
    const bf_prior *from = bf_donor(k, c, p->donor);
    bf_enc_golomb(e, (uint64_t)p->donor, 0);
    bf_enc_golomb(e, bf_zigzag(p->shift - from->shift), 0);
    bf_enc_golomb(e, bf_zigzag(p->level_shift - p->shift - from->level), 0);
    bf_enc_bits(e, (uint32_t)p->shape, 3);
    bf_enc_bits(e, (uint32_t)p->rate, 2);
    bf_enc_bits(e, (uint32_t)p->n_near, 3);
    for (int i = 0, from = 0; i < p->n_near; i++) {
        int span = c - from;
        int bits = bf_bit_length((uint64_t)(span - 1));
        bf_enc_bits(e, (uint32_t)(p->near[i] - from), bits);
        from = p->near[i] + 1;
    }
}

/* 0, or -1 when the body is damaged */
static int bf_get_plan(bf_rc_dec *d, bf_coder *k, bf_plan *p, int c, int64_t *first) {
    memset(p, 0, sizeof *p);
    uint32_t m = bf_dec_target(d, 4);
    p->mode = m < 13 ? BF_MODE_OLS : (int)m - 12;
    bf_dec_take(d, m < 13 ? 0 : m, m < 13 ? 13 : 1, 4);
    if (p->mode == BF_MODE_VERBATIM || p->mode == BF_MODE_PALETTE) return 0;
    uint64_t z = bf_dec_golomb(d, bf_first_order(k));
    *first = bf_unzigzag(z);
    k->prior_first = bf_bit_length(z);
    if (k->prior_first > 40) return -1;
    if (p->mode == BF_MODE_CONSTANT) return 0;
    uint64_t donor = bf_dec_golomb(d, 0);
    if (donor >= BF_DONORS) return -1;
    p->donor = (int)donor;
    const bf_prior *from = bf_donor(k, c, p->donor);
    int64_t shift = from->shift + bf_unzigzag(bf_dec_golomb(d, 0));
    int64_t level = shift + from->level + bf_unzigzag(bf_dec_golomb(d, 0));
    if (shift < -12 || shift > 24 || level < -12 || level > 24) return -1;
    p->shift = (int)shift;
    p->level_shift = (int)level;
    p->shape = (int)bf_dec_bits(d, 3);
    p->rate = (int)bf_dec_bits(d, 2);
    p->n_near = (int)bf_dec_bits(d, 3);
    if (p->shape >= BF_SHAPES || p->n_near > BF_NEAR || p->n_near > c) return -1;
    for (int i = 0, from = 0; i < p->n_near; i++) {
        int span = c - from;
        if (span < 1) return -1;
        p->near[i] = from + (int)bf_dec_bits(d, bf_bit_length((uint64_t)(span - 1)));
        if (p->near[i] >= c) return -1;
        from = p->near[i] + 1;
    }
    return 0;
}

/* Rows [n][channels] of a body; 0, or a negative number: -1 damaged, -2 no memory. */
BF_CLONES static int bf_decode(const uint8_t *in, size_t len, int n, int channels, int bits, int32_t *rows, int lanes) {
    bf_coder *k = aligned_alloc(64, sizeof *k);
    if (!k || bf_coder_init(k, n, channels, bits, lanes)) {
        free(k);
        return -2;
    }
    int64_t top = ((int64_t)1 << (bits - 1)) - 1, low = -top - 1;
    bf_rc_dec d;
    bf_dec_init(&d, in, len);
    int status = 0;
    for (int c = 0; c < channels && !status; c++) {
        bf_plan p;
        int64_t first = 0;
        int32_t *x = bf_x(k, c);
        if (bf_get_plan(&d, k, &p, c, &first) || first > top || first < low || d.past > 7) {
            status = -1;
        } else if (p.mode == BF_MODE_VERBATIM) {
            for (int t = 0; t < n; t++) x[t] = (int32_t)((int64_t)bf_dec_bits(&d, bits) + low);
            if (d.past > 7) status = -1;
            bf_pass_on(k, c);
        } else if (p.mode == BF_MODE_PALETTE) {
            if (bf_palette_decode(&d, x, n, low, top)) status = -1;
            bf_pass_on(k, c);
        } else if (p.mode == BF_MODE_CONSTANT) {
            for (int t = 0; t < n; t++) x[t] = (int32_t)first;
            bf_pass_on(k, c);
        } else {
            x[0] = (int32_t)first;
            bf_begin(k, &p, c);
            int64_t scale = bf_scale_first(k, &p, c);
            for (int t = 1; t < n; t++) {
                int64_t mean = bf_expect(k, &p, c, t);
                bf_cells q;
                bf_cells_at(&q, p.shape, scale >> 4, mean);
                int64_t value = (mean >> 8) + bf_dec_error(&d, &q);
                if (value > top || value < low || d.past > 7) {
                    status = -1;
                    break;
                }
                x[t] = (int32_t)value;
                scale = bf_scale_next(scale, value * 256 - mean, t, bf_rates[p.rate]);
                bf_learn(k, &p, c, t);
            }
            bf_bequeath(k, &p, c, scale);
        }
    }
    if (!status && (d.at < d.len || d.past > 7)) status = -1; /* a whole body is read to its last byte */
    if (!status)
        for (int t = 0; t < n; t++)
            for (int c = 0; c < channels; c++) rows[(size_t)t * channels + c] = bf_x(k, c)[t];
    bf_coder_free(k);
    free(k);
    return status;
}

/* ---- encoder */

/* log2(v) in 1/256, v >= 1 */
static inline int32_t bf_log2_q8(uint32_t v) {
    static const uint8_t frac[33] = {0, 11, 22, 33, 43, 53, 63, 73, 82, 91, 100, 109, 117, 125, 134, 142, 150,
                                     157, 165, 172, 179, 186, 193, 200, 206, 213, 219, 226, 232, 238, 244, 250, 255};
    int b = bf_bit_length(v) - 1;
    uint32_t m = b >= 5 ? v >> (b - 5) : v << (5 - b);
    return (b << 8) + frac[m & 31];
}

#define BF_SAMPLED 4 /* the length is taken from every fourth error */

/* Scales at the sampled rows, all rates at once. */
static void bf_sample_scales(const bf_coder *k, const bf_plan *p, int c, const int64_t *mean, int64_t *scales) {
    const int32_t *x = bf_x(k, c);
    int64_t scale[BF_RATES];
    for (int r = 0; r < BF_RATES; r++) scale[r] = bf_scale_first(k, p, c);
    for (int t = 1; t < k->n; t++) {
        if (t % BF_SAMPLED == 0)
            for (int r = 0; r < BF_RATES; r++) *scales++ = scale[r] >> 4;
        for (int r = 0; r < BF_RATES; r++) scale[r] = bf_scale_next(scale[r], (int64_t)x[t] * 256 - mean[t], t, bf_rates[r]);
    }
}

/* About the length of the errors in bits/256 with this shape and rate. */
BF_CLONES static int64_t bf_cost(const bf_coder *k, int c, const int64_t *mean, const int64_t *scales, int shape, int rate) {
    const int32_t *x = bf_x(k, c);
    int64_t cost = 0;
    for (int t = BF_SAMPLED; t < k->n; t += BF_SAMPLED, scales += BF_RATES) {
        bf_cells q;
        bf_cells_at(&q, shape, scales[rate], mean[t]);
        int64_t error = x[t] - (mean[t] >> 8);
        int64_t v = error >> q.drop;
        uint32_t freq;
        if (v < -q.limit || v > q.limit) {
            int64_t beyond = (v < 0 ? -v : v) - q.limit;
            freq = v < 0 ? bf_edge(&q, -q.limit) : (1u << BF_TOTAL) - bf_edge(&q, q.limit + 1);
            cost += 256 * (2 * bf_bit_length((uint64_t)beyond + 64) - 7);
        } else
            freq = bf_edge(&q, (int32_t)v + 1) - bf_edge(&q, (int32_t)v);
        cost += 256 * (BF_TOTAL + q.drop) - bf_log2_q8(freq);
    }
    return cost * BF_SAMPLED;
}

/* Steps of one to where the length no longer falls; returns the length. */
static int64_t bf_tune(const bf_coder *k, bf_plan *p, int c, const int64_t *mean, int64_t *scales) {
    bf_sample_scales(k, p, c, mean, scales);
    int64_t best = bf_cost(k, c, mean, scales, p->shape, p->rate);
    for (int which = 0; which < 2; which++) {
        int *value = which ? &p->shape : &p->rate, most = which ? BF_SHAPES : BF_RATES;
        for (int step = -1; step <= 1; step += 2) {
            int moved = 0;
            while (*value + step >= 0 && *value + step < most) {
                *value += step;
                int64_t cost = bf_cost(k, c, mean, scales, p->shape, p->rate);
                if (cost >= best) {
                    *value -= step;
                    break;
                }
                best = cost;
                moved = 1;
            }
            if (moved) break;
        }
    }
    return best;
}

#include "predict_near.h"

static void bf_shifts(bf_coder *k, int c, bf_plan *p) {
    const int32_t *x = bf_x(k, c);
    uint64_t d = 0, l = 0;
    int moved = 0;
    for (int t = 1; t < k->n; t++) {
        int64_t a = (int64_t)x[t] - x[t - 1], b = (int64_t)x[t] - x[0];
        d += (uint64_t)(a < 0 ? -a : a);
        l += (uint64_t)(b < 0 ? -b : b);
        moved |= a != 0;
    }
    memset(p, 0, sizeof *p);
    bf_palette palette;
    p->mode = !moved ? BF_MODE_CONSTANT : bf_palette_of(&palette, x, k->n) ? BF_MODE_PALETTE : BF_MODE_OLS;
    int n = k->n > 1 ? k->n - 1 : 1;
    p->shift = bf_bit_length(d / n) - 10;
    p->level_shift = bf_bit_length(l / n) - 10;
    int16_t *u = bf_u(k, c);
    if (p->mode == BF_MODE_OLS)
        for (int t = 1; t < k->n; t++) u[t] = (int16_t)bf_clip(bf_shift((int64_t)x[t] - x[t - 1], p->shift));
}

/* bf_expect and bf_learn for the rows from `from` to the next solution: the encoder knows them all. */
static void bf_block(bf_coder *k, const bf_plan *p, int c, int from, int64_t *mean) {
    static const int16_t constant[BF_OLS_BLOCK] = {[0 ... BF_OLS_BLOCK - 1] = 256};
    const int32_t *x = bf_x(k, c);
    const int16_t *u = bf_u(k, c) + from;
    int16_t level[BF_OLS_BLOCK] = {0};
    int rows = k->n - from < BF_OLS_BLOCK ? k->n - from : BF_OLS_BLOCK, width = BF_HEAD;
    int64_t sum[BF_OLS_BLOCK];
    uint32_t kept[BF_OLS_BLOCK / 2] = {0};
    bf_columns columns;
    for (int i = 0; i < rows; i++) level[i] = bf_level(p, x, from + i);
    columns.at[BF_CONST] = constant;
    columns.at[BF_LEVEL] = level;
    for (int i = 0; i < BF_OWN; i++) columns.at[BF_FIRST_OWN + i] = u - BF_OWN + i;
    for (int i = 0; i < p->n_near; i++) {
        const int16_t *v = bf_u(k, p->near[i]) + from;
        columns.at[width++] = v, columns.at[width++] = v - 1, columns.at[width++] = v + 1;
    }
    k->ways->dots(&k->ols, &columns, sum);
    for (int i = 0; i < rows; i++) {
        mean[i] = bf_mean(k, p, x[from + i - 1], sum[i]);
        if (bf_teaches(k, from + i, u[i])) kept[i / 2] |= i % 2 ? 0xffff0000 : 0xffff;
    }
    if (rows < BF_OLS_BLOCK) return;
    columns.at[width++] = u;
    for (int j = 0; j < width; j++)
        for (int i = 0; i < BF_OLS_BLOCK; i += 2)
            k->ols.pairs[i / 2][j] = bf_pair(columns.at[j][i], columns.at[j][i + 1]) & (int32_t)kept[i / 2];
    k->ways->add(&k->ols, BF_FORGET);
    if (bf_solves_at(from + BF_OLS_BLOCK - 1)) bf_resolve(k);
}

/* Bytes written, 0 when `cap` is too small (packed is as good), -2 no memory. */
BF_CLONES static int64_t bf_encode(const int32_t *rows, int n, int channels, int bits, uint8_t *out, size_t cap, int lanes) {
    bf_coder *k = aligned_alloc(64, sizeof *k);
    bf_plan *plans = malloc(sizeof(bf_plan) * channels);
    int64_t *mean = malloc(sizeof(int64_t) * (n + 1));
    int64_t *scales = malloc(sizeof(int64_t) * BF_RATES * (n / BF_SAMPLED + 1)), done = -2;
    if (k && plans && mean && scales && !bf_coder_init(k, n, channels, bits, lanes)) {
        for (int from = 0; from < channels; from += 16) /* a cache line of each row */
            for (int t = 0; t < n; t++)
                for (int c = from; c < channels && c < from + 16; c++) bf_x(k, c)[t] = rows[(size_t)t * channels + c];
        for (int c = 0; c < channels; c++) bf_shifts(k, c, &plans[c]);
        if (bf_choose_near(k, plans) == 0) {
            bf_rc_enc e;
            bf_enc_init(&e, out, cap);
            for (int c = 0; c < channels && !e.full; c++) {
                bf_plan *p = &plans[c];
                const int32_t *x = bf_x(k, c);
                if (p->mode != BF_MODE_OLS) {
                    bf_palette palette;
                    bf_put_plan(&e, k, p, c);
                    if (p->mode == BF_MODE_PALETTE && bf_palette_of(&palette, x, n)) bf_palette_encode(&e, &palette, x, n);
                    bf_pass_on(k, c);
                    continue;
                }
                bf_begin(k, p, c);
                for (int t = 1; t < n; t += BF_OLS_BLOCK) bf_block(k, p, c, t, mean + t);
                if (c) p->shape = plans[c - 1].shape, p->rate = plans[c - 1].rate;
                int64_t best = bf_tune(k, p, c, mean, scales);
                if (best > (int64_t)256 * bits * n) p->mode = BF_MODE_VERBATIM;
                bf_put_plan(&e, k, p, c);
                if (p->mode == BF_MODE_VERBATIM) {
                    uint32_t low = 1u << (bits - 1);
                    for (int t = 0; t < n; t++) bf_enc_bits(&e, (uint32_t)x[t] + low, bits);
                    memset(bf_u(k, c), 0, sizeof(int16_t) * n);
                    bf_pass_on(k, c);
                    continue;
                }
                int64_t s = bf_scale_first(k, p, c);
                for (int t = 1; t < n; t++) {
                    bf_cells q;
                    bf_cells_at(&q, p->shape, s >> 4, mean[t]);
                    bf_enc_error(&e, &q, x[t] - (mean[t] >> 8));
                    s = bf_scale_next(s, (int64_t)x[t] * 256 - mean[t], t, bf_rates[p->rate]);
                }
                bf_bequeath(k, p, c, s);
            }
            done = (int64_t)bf_enc_end(&e);
        }
        bf_coder_free(k);
    }
    free(k);
    free(plans);
    free(mean);
    free(scales);
    return done;
}
#endif
