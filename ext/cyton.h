/* Cyton packets (33 bytes: A0, number, 8 × i24 big-endian, 6 aux, C0..C6) out of a byte stream.
 * The packet has no checksum. In sync a packet counts when its first and last byte are right; out of sync
 * it must also be followed by A0, because a sample byte may look like a first byte. Whatever fails costs one byte. */
#ifndef BF_CYTON_H
#define BF_CYTON_H
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BF_CYTON_PACKET 33
#define BF_CYTON_CHANNELS 8

typedef struct {
    uint8_t *bytes;
    size_t length, room, consumed;
    size_t *packets; /* offsets */
    size_t n_packets, packets_room;
    int in_sync;
    uint64_t good, skipped, resyncs;
} bf_cyton;

static inline int bf_cyton_is_packet(const uint8_t *p) {
    return p[0] == 0xA0 && p[32] >= 0xC0 && p[32] <= 0xC6;
}

static int bf_cyton_scan(bf_cyton *s, const uint8_t *data, size_t n) {
    if (s->consumed) {
        memmove(s->bytes, s->bytes + s->consumed, s->length - s->consumed);
        s->length -= s->consumed;
        s->consumed = 0;
    }
    s->n_packets = 0;
    if (s->length + n > s->room) {
        size_t room = 2 * (s->length + n);
        uint8_t *p = (uint8_t *)realloc(s->bytes, room);
        if (!p) return 0;
        s->bytes = p;
        s->room = room;
    }
    if (n) memcpy(s->bytes + s->length, data, n);
    s->length += n;
    size_t most = s->length / BF_CYTON_PACKET;
    if (most > s->packets_room) {
        size_t *p = (size_t *)realloc(s->packets, 2 * most * sizeof *p);
        if (!p) return 0;
        s->packets = p;
        s->packets_room = 2 * most;
    }
    size_t at = 0;
    while (s->length - at >= (size_t)(BF_CYTON_PACKET + !s->in_sync)) {
        const uint8_t *p = s->bytes + at;
        if (bf_cyton_is_packet(p) && (s->in_sync || p[BF_CYTON_PACKET] == 0xA0)) {
            s->packets[s->n_packets++] = at;
            s->in_sync = 1;
            s->good++;
            at += BF_CYTON_PACKET;
            continue;
        }
        s->resyncs += (uint64_t)s->in_sync;
        s->in_sync = 0;
        s->skipped++;
        at++;
    }
    s->consumed = at;
    return 1;
}

/* Samples (n, 8), and per packet 8 bytes: number, end byte, 6 aux. */
static void bf_cyton_take(const bf_cyton *s, int32_t *samples, uint8_t *rest) {
    for (size_t k = 0; k < s->n_packets; k++, rest += 8) {
        const uint8_t *p = s->bytes + s->packets[k], *d = p + 2;
        for (int c = 0; c < BF_CYTON_CHANNELS; c++, d += 3)
            *samples++ = (int32_t)((uint32_t)d[0] << 24 | (uint32_t)d[1] << 16 | (uint32_t)d[2] << 8) >> 8;
        rest[0] = p[1];
        rest[1] = p[32];
        memcpy(rest + 2, p + 26, 6);
    }
}
#endif
