/* 64-bit range coder with carry, totals up to 2^20. Integers only: the same bytes on every machine. */
#ifndef BF_RANGECODER_H
#define BF_RANGECODER_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t low, range;
    uint8_t *out;
    size_t at, cap;
    int full; /* what was written no longer fits: the caller takes another way */
} bf_rc_enc;

typedef struct {
    uint64_t code, range;
    const uint8_t *in;
    size_t at, len;
    int past; /* bytes read after the end; a whole body needs at most 7 */
} bf_rc_dec;

static inline void bf_enc_init(bf_rc_enc *e, uint8_t *out, size_t cap) {
    e->low = 0;
    e->range = ~0ull;
    e->out = out;
    e->at = 0;
    e->cap = cap;
    e->full = 0;
}

static inline void bf_enc_add(bf_rc_enc *e, uint64_t add) {
    e->low += add;
    if (e->low < add) /* the carry runs back through bytes of 255 */
        for (size_t p = e->at; p > 0 && ++e->out[--p] == 0;) {
        }
}

static inline void bf_enc_norm(bf_rc_enc *e) {
    while (e->range < (1ull << 32)) {
        if (e->at + 4 > e->cap) {
            e->full = 1;
            e->at = 0;
        }
        for (int i = 0; i < 4; i++) e->out[e->at++] = (uint8_t)(e->low >> (56 - 8 * i));
        e->low <<= 32;
        e->range <<= 32;
    }
}

static inline void bf_enc(bf_rc_enc *e, uint32_t cum, uint32_t freq, int total_bits) {
    uint64_t r = e->range >> total_bits;
    bf_enc_add(e, r * cum);
    e->range = r * freq;
    bf_enc_norm(e);
}

/* `n_bits` <= 32 equally likely bits */
static inline void bf_enc_bits(bf_rc_enc *e, uint32_t value, int n_bits) {
    if (n_bits > 16) {
        bf_enc(e, value >> 16, 1, n_bits - 16);
        value &= 0xffff;
        n_bits = 16;
    }
    if (n_bits) bf_enc(e, value, 1, n_bits);
}

/* Exp-Golomb of order k, value + 2^k < 2^41 */
static inline void bf_enc_golomb(bf_rc_enc *e, uint64_t value, int k) {
    value += 1ull << k;
    int length = 63 - __builtin_clzll(value);
    for (int i = k; i < length; i++) bf_enc_bits(e, 1, 1);
    bf_enc_bits(e, 0, 1);
    if (length > 32) bf_enc_bits(e, (uint32_t)(value >> 32) & ((1u << (length - 32)) - 1), length - 32);
    bf_enc_bits(e, (uint32_t)(length >= 32 ? value : value & ((1ull << length) - 1)), length > 32 ? 32 : length);
}

/* Ends the code with 1 to 8 bytes; the decoder reads zeros past the end. Returns bytes, 0 = did not fit. */
static inline size_t bf_enc_end(bf_rc_enc *e) {
    uint64_t value = 0;
    int keep = 64;
    for (int drop = 56; drop >= 0; drop -= 8) { /* the shortest number inside [low, low + range) */
        uint64_t mask = drop ? (1ull << drop) - 1 : 0;
        uint64_t up = (e->low + mask) & ~mask;
        if (up - e->low < e->range) {
            value = up;
            keep = 64 - drop;
            break;
        }
    }
    uint64_t add = value - e->low;
    bf_enc_add(e, add);
    if (e->full || e->at + 8 > e->cap) return 0;
    for (int i = 0; i < keep; i += 8) e->out[e->at++] = (uint8_t)(e->low >> (56 - i));
    return e->at;
}

/* The body is damaged: whoever looks at `past` sees it. */
static inline void bf_dec_refuse(bf_rc_dec *d) { d->past = 1 << 20; }

static inline uint64_t bf_dec_byte(bf_rc_dec *d) {
    if (d->at < d->len) return d->in[d->at++];
    d->past++;
    return 0;
}

static inline void bf_dec_init(bf_rc_dec *d, const uint8_t *in, size_t len) {
    d->in = in;
    d->len = len;
    d->at = 0;
    d->past = 0;
    d->range = ~0ull;
    d->code = 0;
    for (int i = 0; i < 8; i++) d->code = d->code << 8 | bf_dec_byte(d);
}

static inline void bf_dec_norm(bf_rc_dec *d) {
    while (d->range < (1ull << 32)) {
        for (int i = 0; i < 4; i++) d->code = d->code << 8 | bf_dec_byte(d);
        d->range <<= 32;
    }
}

/* Where the next symbol lies in [0, 2^total_bits); must be followed by bf_dec_take. */
static inline uint32_t bf_dec_target(bf_rc_dec *d, int total_bits) {
    uint64_t t = d->code / (d->range >> total_bits);
    uint64_t top = (1ull << total_bits) - 1;
    return (uint32_t)(t > top ? top : t);
}

static inline void bf_dec_take(bf_rc_dec *d, uint32_t cum, uint32_t freq, int total_bits) {
    uint64_t r = d->range >> total_bits;
    d->code -= r * cum;
    d->range = r * freq;
    bf_dec_norm(d);
}

static inline uint32_t bf_dec_bits(bf_rc_dec *d, int n_bits) {
    uint32_t high = 0, v;
    if (n_bits > 16) {
        high = bf_dec_target(d, n_bits - 16);
        bf_dec_take(d, high, 1, n_bits - 16);
        n_bits = 16;
    }
    if (!n_bits) return high;
    v = bf_dec_target(d, n_bits);
    bf_dec_take(d, v, 1, n_bits);
    return high << 16 | v;
}

static inline uint64_t bf_dec_golomb(bf_rc_dec *d, int k) {
    int length = k;
    while (bf_dec_bits(d, 1))
        if (++length > 40) { /* no encoder writes that: refuse */
            bf_dec_refuse(d);
            return 0;
        }
    uint64_t value = 1;
    if (length > 32) {
        value = value << (length - 32) | bf_dec_bits(d, length - 32);
        value = value << 32 | bf_dec_bits(d, 32);
    } else
        value = value << length | bf_dec_bits(d, length);
    return value - (1ull << k);
}
#endif
