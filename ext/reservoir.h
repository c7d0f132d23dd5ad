/* An echo state network: leaky tanh units, each with the same number of connections, float32.
 * Every sum runs in one order and without contraction, so that chunks, and CPUs, change no bit. */
#ifndef BF_RESERVOIR_H
#define BF_RESERVOIR_H
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define BF_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define BF_CLONES
#endif

#define BF_LARGEST_INPUT 1e6f /* beyond it a value is held like one that is no number: sums stay finite */
#define BF_SMALLEST_STATE 1e-30f

typedef struct {
    size_t n_inputs, n_units, n_links;
    float leak;
    float *in;      /* [input][unit] */
    float *bias;    /* [unit] */
    float *weights; /* [link][unit] */
    int32_t *from;  /* [link][unit] */
    float *x, *drive, *last;
    uint64_t n_held;
} bf_reservoir;

static int bf_reservoir_alloc(bf_reservoir *r) {
    r->in = (float *)calloc(r->n_inputs * r->n_units, sizeof(float));
    r->bias = (float *)calloc(r->n_units, sizeof(float));
    r->weights = (float *)calloc(r->n_links * r->n_units, sizeof(float));
    r->from = (int32_t *)calloc(r->n_links * r->n_units, sizeof(int32_t));
    r->x = (float *)calloc(r->n_units, sizeof(float));
    r->drive = (float *)calloc(r->n_units, sizeof(float));
    r->last = (float *)calloc(r->n_inputs, sizeof(float));
    return r->in && r->bias && r->weights && r->from && r->x && r->drive && r->last;
}

static void bf_reservoir_free(bf_reservoir *r) {
    free(r->in);
    free(r->bias);
    free(r->weights);
    free(r->from);
    free(r->x);
    free(r->drive);
    free(r->last);
}

/* (e^2v - 1) / (e^2v + 1), with e^2v - 1 = 2^k q + (2^k - 1) and q = e^s - 1 of the rest s, |s| <= ln 2 / 2:
 * small values keep their precision. libm's would make the result depend on its version. */
static inline float bf_tanh(float v) {
    union {
        int32_t i;
        float f;
    } power;
    float y = v > 9.0f ? 18.0f : v < -9.0f ? -18.0f : 2.0f * v;
    float k = (y * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest whole number */
    float s = (y - k * 0.693145752f) - k * 1.42860677e-6f;   /* ln 2 in two parts, the first exact in k */
    float q = s * (1.0f + s * (0.5f + s * (1.0f / 6 + s * (1.0f / 24 + s * (1.0f / 120 + s * (1.0f / 720))))));
    power.i = ((int32_t)k + 127) << 23;
    float e = power.f * q + (power.f - 1.0f);
    return e / (e + 2.0f);
}

BF_CLONES static void bf_reservoir_step(const bf_reservoir *r, const float *restrict u, float *restrict x,
                                        float *restrict drive) {
    const size_t n = r->n_units;
    const float leak = r->leak, keep = 1.0f - leak;
    memcpy(drive, r->bias, n * sizeof(float));
    for (size_t i = 0; i < r->n_inputs; i++) {
        const float *restrict in = r->in + i * n;
        const float value = u[i];
        for (size_t j = 0; j < n; j++) drive[j] += in[j] * value;
    }
    for (size_t k = 0; k < r->n_links; k++) {
        const float *restrict w = r->weights + k * n;
        const int32_t *restrict from = r->from + k * n;
        for (size_t j = 0; j < n; j++) drive[j] += w[j] * x[from[j]];
    }
    for (size_t j = 0; j < n; j++) {
        float next = keep * x[j] + leak * bf_tanh(drive[j]);
        x[j] = fabsf(next) < BF_SMALLEST_STATE ? 0.0f : next;
    }
}

/* The row, with what cannot be used replaced by that input's newest usable value, in `last`. */
static void bf_reservoir_take(bf_reservoir *r, const float *row) {
    for (size_t i = 0; i < r->n_inputs; i++) {
        if (fabsf(row[i]) <= BF_LARGEST_INPUT) {
            r->last[i] = row[i];
        } else {
            r->n_held++;
        }
    }
}

static void bf_reservoir_states(bf_reservoir *r, const float *rows, float *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bf_reservoir_take(r, rows + i * r->n_inputs);
        bf_reservoir_step(r, r->last, r->x, r->drive);
        memcpy(out + i * r->n_units, r->x, r->n_units * sizeof(float));
    }
}

/* readout: [1, inputs, units][output] */
static void bf_reservoir_apply(bf_reservoir *r, const float *rows, const float *readout, float *out, size_t n,
                               size_t n_outputs) {
    for (size_t i = 0; i < n; i++, out += n_outputs) {
        bf_reservoir_take(r, rows + i * r->n_inputs);
        bf_reservoir_step(r, r->last, r->x, r->drive);
        for (size_t o = 0; o < n_outputs; o++) {
            const float *w = readout + o;
            double sum = *w;
            for (size_t j = 0; j < r->n_inputs; j++) sum += (double)*(w += n_outputs) * r->last[j];
            for (size_t j = 0; j < r->n_units; j++) sum += (double)*(w += n_outputs) * r->x[j];
            out[o] = (float)sum;
        }
    }
}
#endif
