/* Lossless coding of a chunk of int32 rows, channel after channel (docs/codec.md). */
#ifndef BF_PREDICT_H
#define BF_PREDICT_H
#include <stdlib.h>

#include "ols.h"
#include "rangecoder.h"
#include "shapes.h"

#define BF_OWN 10 /* past differences of the channel itself */
#define BF_NEAR 6 /* at most so many channels that are already coded */
#define BF_TAPS 3 /* differences of each of them: now, one before, one after */
#define BF_FORGET 7 /* of the Gram matrix 1/128 is forgotten per 16 rows */
#define BF_RIDGE 1 /* ridge in quarters of the mean square error */
#define BF_RIDGE_NEAR 16 /* the same for coefficients of other channels */
#define BF_PRIOR 2 /* rows that the statistics of the channel before are worth */
#define BF_DONORS 8  /* channels back that statistics can be taken from */
#define BF_OUTLIER 9 /* a row whose squared error is so many times the mean does not teach */
#define BF_CONST 0 /* regressors 0 and 1: a constant and the level, then the differences */
#define BF_LEVEL 1
#define BF_FIRST_OWN 2
#define BF_HEAD (BF_FIRST_OWN + BF_OWN)
#define BF_PAD 16 /* zeros before the first difference */
#define BF_TOTAL 20
#define BF_RATES 4

enum { BF_MODE_OLS, BF_MODE_CONSTANT, BF_MODE_VERBATIM, BF_MODE_PALETTE };

typedef struct {                            /* what a channel leaves to later ones */
    int64_t gram[BF_HEAD + 1][BF_HEAD + 1]; /* statistics of its own past, target last */
    int64_t scale, power;                   /* last mean absolute error (Q12, at shift) and mean square */
    int shift, level;
} bf_prior;

typedef struct {
    int n, channels, bits;
    int32_t *x;      /* [channel][n] */
    int16_t *u;      /* [channel][BF_PAD + n + BF_PAD] differences, scaled to 9..10 bits */
    bf_ols ols;
    const bf_ols_ways *ways;
    int16_t rows[BF_OLS_BLOCK][BF_OLS_W];
    bf_prior prior[BF_DONORS]; /* of channel c at c % BF_DONORS */
    int prior_first;
    int64_t power; /* mean square of the error, in units of the target */
    int32_t guess;
} bf_coder;

typedef struct { /* what the stream says of a channel before its samples */
    int mode, donor, shift, level_shift, n_near, near[BF_NEAR], shape, rate;
} bf_plan;

static void bf_coder_free(bf_coder *k) {
    free(k->x);
    free(k->u);
}

static int bf_coder_init(bf_coder *k, int n, int channels, int bits, int lanes) {
    memset(k, 0, sizeof *k);
    k->ways = bf_ols_best(lanes);
    k->n = n;
    k->channels = channels;
    k->bits = bits;
    k->x = malloc(sizeof(int32_t) * (size_t)n * channels + 64);
    k->u = calloc((size_t)channels * (n + 2 * BF_PAD) + 64, sizeof(int16_t));
    if (k->x && k->u) {
        for (int i = 0; i < BF_DONORS; i++) k->prior[i].power = 1 << 19, k->prior[i].scale = 1 << 21;
        return 0;
    }
    bf_coder_free(k);
    return -1;
}

static inline int16_t *bf_u(const bf_coder *k, int c) { return k->u + (size_t)c * (k->n + 2 * BF_PAD) + BF_PAD; }
static inline int32_t *bf_x(const bf_coder *k, int c) { return k->x + (size_t)c * k->n; }

static inline int32_t bf_clip(int64_t v) { return (int32_t)(v > BF_U_MAX ? BF_U_MAX : v < -BF_U_MAX ? -BF_U_MAX : v); }

/* ---- prediction of one channel */

static void bf_resolve(bf_coder *k) {
    for (int i = 0; i < k->ols.n; i++)
        k->ols.ridge[i] = k->power * (i < BF_HEAD ? BF_RIDGE : BF_RIDGE_NEAR) / 4 + 1;
    k->ways->solve(&k->ols);
}

/* Channel c inherits from channel c - 1 - donor. */
static inline const bf_prior *bf_donor(const bf_coder *k, int c, int donor) { return &k->prior[(c + 2 * BF_DONORS - 1 - donor) % BF_DONORS]; }

static void bf_begin(bf_coder *k, const bf_plan *p, int c) {
    const bf_prior *from = bf_donor(k, c, p->donor);
    bf_ols *o = &k->ols;
    o->n = BF_HEAD + BF_TAPS * p->n_near;
    memset(o->gram, 0, sizeof o->gram[0] * (size_t)(o->n + 1));
    memset(o->pairs, 0, sizeof o->pairs);
    memset(k->rows, 0, sizeof k->rows);
    for (int i = 0; i < BF_HEAD; i++)
        for (int j = 0; j <= i; j++) o->gram[j][i] = from->gram[i][j];
    for (int j = 0; j < BF_HEAD; j++) o->gram[j][o->n] = from->gram[BF_HEAD][j];
    o->gram[o->n][o->n] = from->gram[BF_HEAD][BF_HEAD];
    k->power = from->power;
    bf_resolve(k);
}

/* What the sum says x[t] is, in Q8. */
static inline int64_t bf_mean(bf_coder *k, const bf_plan *p, int32_t before, int64_t sum) {
    sum = bf_limit(sum, (int64_t)1 << 40);
    k->guess = bf_clip(sum >> BF_Q_W);
    int64_t mean = (int64_t)before * 256 + bf_shift(sum, BF_Q_W - 8 - p->shift);
    int64_t top = (((int64_t)1 << (k->bits - 1)) - 1) * 256, low = -top - 256;
    return mean > top ? top : mean < low ? low : mean;
}

static inline int16_t bf_level(const bf_plan *p, const int32_t *x, int t) { return (int16_t)bf_clip(bf_shift((int64_t)x[t - 1] - x[0], p->level_shift)); }

/* Expected x[t] in Q8, 1 <= t < n. */
static inline int64_t bf_expect(bf_coder *k, const bf_plan *p, int c, int t) {
    int16_t *row = k->rows[(t - 1) % BF_OLS_BLOCK];
    const int16_t *u = bf_u(k, c);
    const int32_t *x = bf_x(k, c);
    row[BF_CONST] = 256;
    row[BF_LEVEL] = bf_level(p, x, t);
    memcpy(row + BF_FIRST_OWN, u + t - BF_OWN, sizeof *u * BF_OWN);
    int16_t *at = row + BF_HEAD;
    for (int i = 0; i < p->n_near; i++, at += BF_TAPS) {
        const int16_t *v = bf_u(k, p->near[i]) + t;
        at[0] = v[0], at[1] = v[-1], at[2] = v[1];
    }
    return bf_mean(k, p, x[t - 1], k->ways->dot(&k->ols, row));
}

static inline int bf_solves_at(int t) {
    if (t <= 64) return t % 16 == 0;
    if (t <= 192) return t % 32 == 0;
    if (t <= 512) return t % 64 == 0;
    return t % 128 == 0;
}

/* Whether row t teaches; its past is padding, or it is a step: both would teach a wrong spectrum. */
static inline int bf_teaches(bf_coder *k, int t, int32_t y) {
    int32_t off = y - k->guess;
    int64_t square = (int64_t)off * off, most = k->power * BF_OUTLIER + 16;
    k->power += ((square < most ? square : most) - k->power) >> (t < 32 ? 3 : 5);
    return t > BF_OWN && square <= most;
}

static inline void bf_learn(bf_coder *k, const bf_plan *p, int c, int t) {
    int64_t d = (int64_t)bf_x(k, c)[t] - bf_x(k, c)[t - 1];
    int16_t y = (int16_t)bf_clip(bf_shift(d, p->shift)), *row = k->rows[(t - 1) % BF_OLS_BLOCK];
    bf_u(k, c)[t] = y;
    row[k->ols.n] = y;
    if (!bf_teaches(k, t, y)) memset(row, 0, sizeof k->rows[0]);
    if (t % BF_OLS_BLOCK == 0) {
        for (int i = 0; i < BF_OLS_BLOCK; i += 2)
            for (int j = 0; j < BF_OLS_W; j++) k->ols.pairs[i / 2][j] = bf_pair(k->rows[i][j], k->rows[i + 1][j]);
        k->ways->add(&k->ols, BF_FORGET);
        if (bf_solves_at(t)) bf_resolve(k);
    }
}

/* Leaves the statistics to later channels, as if they were of BF_PRIOR rows. */
static void bf_bequeath(bf_coder *k, const bf_plan *p, int c, int64_t scale) {
    const bf_ols *o = &k->ols;
    bf_prior *to = &k->prior[c % BF_DONORS];
    int64_t weight = k->n + BF_PRIOR, most = (int64_t)BF_OLS_BLOCK << BF_FORGET;
    if (weight > most) weight = most;
    int right = bf_bit_length((uint64_t)(weight / BF_PRIOR)) - 1;
    for (int i = 0; i < BF_HEAD; i++)
        for (int j = 0; j <= i; j++) to->gram[i][j] = o->gram[j][i] >> right;
    for (int j = 0; j < BF_HEAD; j++) to->gram[BF_HEAD][j] = o->gram[j][o->n] >> right;
    to->gram[BF_HEAD][BF_HEAD] = o->gram[o->n][o->n] >> right;
    to->scale = scale;
    to->power = k->power;
    to->shift = p->shift;
    to->level = p->level_shift - p->shift;
}

/* A channel that predicts nothing passes on what the one before it left. */
static void bf_pass_on(bf_coder *k, int c) { k->prior[c % BF_DONORS] = *bf_donor(k, c, 0); }

/* ---- coding of one error: a distribution of known shape around the expectation */

typedef struct {
    const int32_t *shape;
    int64_t inverse;
    int drop;         /* low bits that are sent plain */
    int32_t limit;    /* cells -limit..limit, escapes outside */
    int32_t centre;   /* fraction of the expectation, Q8 */
    uint32_t room;
} bf_cells;

static inline void bf_cells_at(bf_cells *q, int shape, int64_t scale, int64_t mean) {
    q->shape = bf_shape[shape];
    int drop = bf_bit_length((uint64_t)scale) - 13;
    q->drop = drop > 0 ? drop : 0;
    q->inverse = ((int64_t)1 << 52) / scale; /* z = distance * inverse >> 36, in 1/4096 of a table step */
    q->limit = (int32_t)((10 * scale) >> (8 + q->drop)) + 1;
    q->centre = (int32_t)(mean & 255);
    q->room = (1u << BF_TOTAL) - (uint32_t)(2 * q->limit + 3);
}

/* Cumulative frequency of the lower edge of cell v, -limit <= v <= limit + 1. */
static inline uint32_t bf_edge(const bf_cells *q, int32_t v) {
    int64_t at = ((int64_t)v << (q->drop + 8)) - 128 - q->centre;
    uint64_t z = (uint64_t)(at < 0 ? -at : at) * (uint64_t)q->inverse >> 36;
    int32_t h;
    if (z >= (uint64_t)BF_SHAPE_STEPS << 12)
        h = q->shape[BF_SHAPE_STEPS];
    else {
        int32_t i = (int32_t)(z >> 12), f = (int32_t)(z & 4095);
        h = q->shape[i] + (int32_t)(((int64_t)(q->shape[i + 1] - q->shape[i]) * f) >> 12);
    }
    uint32_t level = (uint32_t)((1 << (BF_TOTAL - 1)) + (at < 0 ? -h : h));
    return (uint32_t)(((uint64_t)level * q->room) >> BF_TOTAL) + (uint32_t)(v + q->limit + 1);
}

static inline void bf_enc_error(bf_rc_enc *e, const bf_cells *q, int64_t error) {
    int64_t v = error >> q->drop;
    if (v < -q->limit) {
        bf_enc(e, 0, bf_edge(q, -q->limit), BF_TOTAL);
        bf_enc_golomb(e, (uint64_t)(-q->limit - 1 - v), 6);
    } else if (v > q->limit) {
        uint32_t top = bf_edge(q, q->limit + 1);
        bf_enc(e, top, (1u << BF_TOTAL) - top, BF_TOTAL);
        bf_enc_golomb(e, (uint64_t)(v - q->limit - 1), 6);
    } else {
        uint32_t low = bf_edge(q, (int32_t)v);
        bf_enc(e, low, bf_edge(q, (int32_t)v + 1) - low, BF_TOTAL);
    }
    bf_enc_bits(e, (uint32_t)(error & (((int64_t)1 << q->drop) - 1)), q->drop);
}

static inline int64_t bf_dec_error(bf_rc_dec *d, const bf_cells *q) {
    uint32_t target = bf_dec_target(d, BF_TOTAL);
    int64_t v;
    uint32_t low = bf_edge(q, -q->limit), top = bf_edge(q, q->limit + 1);
    if (target < low) {
        bf_dec_take(d, 0, low, BF_TOTAL);
        v = -q->limit - 1 - (int64_t)bf_dec_golomb(d, 6);
    } else if (target >= top) {
        bf_dec_take(d, top, (1u << BF_TOTAL) - top, BF_TOTAL);
        v = q->limit + 1 + (int64_t)bf_dec_golomb(d, 6);
    } else {
        int32_t a = -q->limit, b = q->limit + 1; /* edge(a) <= target < edge(b) */
        while (b - a > 1) {
            int32_t m = a + (b - a) / 2;
            uint32_t at = bf_edge(q, m);
            if (at <= target) {
                a = m;
                low = at;
            } else {
                b = m;
                top = at;
            }
        }
        bf_dec_take(d, low, top - low, BF_TOTAL);
        v = a;
    }
    if (v >> 33 != 0 && v >> 33 != -1) { /* beyond any sample, and the shift would wrap */
        bf_dec_refuse(d);
        return 0;
    }
    return (int64_t)((uint64_t)v << q->drop) | bf_dec_bits(d, q->drop);
}

/* Mean absolute error, Q8: what the next error is expected to be. */
static inline int64_t bf_scale_next(int64_t scale, int64_t error_q8, int t, int rate) {
    int most = bf_bit_length((uint64_t)t + 8) - 1;
    int r = rate < most ? rate : most;
    int64_t a = error_q8 < 0 ? -error_q8 : error_q8;
    scale += ((a << 4) - scale) >> r; /* kept in Q12 */
    return scale < 256 ? 256 : scale;
}

static inline int64_t bf_scale_first(const bf_coder *k, const bf_plan *p, int c) {
    const bf_prior *from = bf_donor(k, c, p->donor);
    int64_t s = bf_shift(from->scale, from->shift - p->shift);
    int64_t most = (int64_t)1 << 46;
    return s < 256 ? 256 : s > most ? most : s;
}

static const int bf_rates[BF_RATES] = {7, 6, 5, 4};
#include "predict_chunk.h"
#endif
