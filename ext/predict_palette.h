/* Channels of few values that mostly stay (held accelerometers, triggers): which value, by adaptive bits. */
#ifndef BF_PREDICT_PALETTE_H
#define BF_PREDICT_PALETTE_H

#define BF_PALETTE_BITS 6
#define BF_PALETTE (1 << BF_PALETTE_BITS)
#define BF_RUNS 16 /* contexts of "stays": for how many rows it has */

typedef struct {
    int size, bits;
    int64_t value[BF_PALETTE]; /* ascending */
    uint16_t stays[BF_RUNS], node[BF_PALETTE];
} bf_palette;

static void bf_palette_start(bf_palette *q) {
    q->bits = bf_bit_length((uint64_t)(q->size - 1));
    for (int i = 0; i < BF_RUNS; i++) q->stays[i] = 1 << 15;
    for (int i = 0; i < BF_PALETTE; i++) q->node[i] = 1 << 15;
}

static inline void bf_adapt(uint16_t *p, int bit) {
    if (bit)
        *p += (65535 - 64 - *p) >> 4;
    else
        *p -= (*p - 64) >> 4;
}

static inline void bf_enc_bit(bf_rc_enc *e, uint16_t *p, int bit) {
    bf_enc(e, bit ? 0 : *p, bit ? *p : 65536u - *p, 16);
    bf_adapt(p, bit);
}

static inline int bf_dec_bit(bf_rc_dec *d, uint16_t *p) {
    int bit = bf_dec_target(d, 16) < *p;
    bf_dec_take(d, bit ? 0 : *p, bit ? *p : 65536u - *p, 16);
    bf_adapt(p, bit);
    return bit;
}

/* 1 when the channel has at most BF_PALETTE values and stays in more than half of its rows. */
static int bf_palette_of(bf_palette *q, const int32_t *x, int n) {
    int stayed = 0;
    q->size = 0;
    for (int t = 0; t < n; t++) {
        if (t && x[t] == x[t - 1]) {
            stayed++;
            continue;
        }
        int at = q->size;
        while (at > 0 && q->value[at - 1] >= x[t]) at--;
        if (at < q->size && q->value[at] == x[t]) continue;
        if (q->size == BF_PALETTE) return 0;
        for (int i = q->size++; i > at; i--) q->value[i] = q->value[i - 1];
        q->value[at] = x[t];
    }
    return q->size > 1 && 2 * stayed > n;
}

static void bf_palette_encode(bf_rc_enc *e, bf_palette *q, const int32_t *x, int n) {
    bf_enc_bits(e, (uint32_t)q->size - 1, BF_PALETTE_BITS);
    bf_enc_golomb(e, (uint64_t)(q->value[0] < 0 ? -2 * q->value[0] - 1 : 2 * q->value[0]), 12);
    for (int i = 1; i < q->size; i++) bf_enc_golomb(e, (uint64_t)(q->value[i] - q->value[i - 1] - 1), 6);
    bf_palette_start(q);
    for (int t = 0, run = 0; t < n; t++) {
        if (t) {
            int stays = x[t] == x[t - 1];
            bf_enc_bit(e, &q->stays[run], stays);
            run = stays ? (run + 1 < BF_RUNS ? run + 1 : run) : 0;
            if (stays) continue;
        }
        int index = 0;
        while (q->value[index] != x[t]) index++;
        for (int b = q->bits - 1, at = 1; b >= 0; b--) {
            int bit = index >> b & 1;
            bf_enc_bit(e, &q->node[at], bit);
            at = 2 * at + bit;
        }
    }
}

/* 0, or -1 when the body is damaged */
static int bf_palette_decode(bf_rc_dec *d, int32_t *x, int n, int64_t low, int64_t top) {
    bf_palette q;
    q.size = (int)bf_dec_bits(d, BF_PALETTE_BITS) + 1;
    uint64_t z = bf_dec_golomb(d, 12);
    q.value[0] = z & 1 ? -(int64_t)(z >> 1) - 1 : (int64_t)(z >> 1);
    for (int i = 1; i < q.size; i++) q.value[i] = q.value[i - 1] + 1 + (int64_t)bf_dec_golomb(d, 6);
    if (q.value[0] < low || q.value[q.size - 1] > top) return -1;
    bf_palette_start(&q);
    for (int t = 0, run = 0; t < n; t++) {
        if (t) {
            int stays = bf_dec_bit(d, &q.stays[run]);
            run = stays ? (run + 1 < BF_RUNS ? run + 1 : run) : 0;
            if (stays) {
                x[t] = x[t - 1];
                continue;
            }
        }
        int index = 0;
        for (int b = q.bits - 1, at = 1; b >= 0; b--) {
            int bit = bf_dec_bit(d, &q.node[at]);
            index = 2 * index + bit;
            at = 2 * at + bit;
        }
        if (index >= q.size || d->past > 7) return -1;
        x[t] = (int32_t)q.value[index];
    }
    return 0;
}
#endif
