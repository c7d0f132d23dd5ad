/* BFP/1 frames out of a byte stream. Rule: sync, 24 bytes, version and header CRC-16, length, CRC-32C; whatever
 * fails costs one byte. What is found depends on the bytes alone, never on how they were split into reads. */
#ifndef BF_BFP_H
#define BF_BFP_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll */
#endif
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "unpack.h"

#define BF_BFP_HEAD 24
#define BF_BFP_TAIL 4
#define BF_BFP_DATA_HEAD 16
#define BF_BFP_DATA 1
#define BF_BFP_FIRST 0x01
#define BF_BFP_DROPPED 0x02
#define BF_BFP_SATURATED 0x08
#define BF_BFP_DIGITAL 0x40
#define BF_BFP_READ 65536 /* bytes of one call at most */
#define BF_REST_LEAST_NS 2000000 /* frames that come faster are not rested for */
#define BF_REST_MARGIN_NS 200000 /* woken this much after a frame that was waited for */
#define BF_REST_STEP_NS 10000 /* … and then this much earlier each time */
#define BF_TTY_PIECE 4095 /* a terminal gives at most this at a time: as much as this, and there may be more */
enum { BF_READ_MEMORY = -2, BF_READ_END = -1 };
enum { BF_FORMAT_I16 = 0x02, BF_FORMAT_I24 = 0x03, BF_FORMAT_I32 = 0x04, BF_FORMAT_F32 = 0x14 };

/* One frame, or DATA frames of one stream that follow each other without a gap and with one layout. */
typedef struct {
    uint8_t type, stream, flags, format, status_mode;
    uint16_t boot, n_channels, descriptor;
    uint32_t seq, n_frames, payload_bytes; /* payload: of the last frame */
    uint64_t ticks, index, n_samples;
    size_t frame; /* of the first one, in `frames` */
    size_t payload; /* offset in the buffer, of the last frame */
} bf_bfp_item;

typedef struct {
    size_t samples, digital; /* offsets in the buffer */
    uint32_t n_samples;
} bf_bfp_frame;

typedef struct {
    uint8_t *bytes;
    size_t length, room, consumed;
    bf_bfp_item *items;
    size_t n_items, items_room;
    bf_bfp_frame *frames; /* of DATA frames */
    size_t n_frames, frames_room;
    uint32_t max_payload;
    int in_sync;
    double sample_ns; /* 0: frames do not come evenly */
    int64_t due_ns; /* when the next frame should be whole; only where they come evenly */
    uint64_t good, skipped, resyncs, bad_header, bad_crc, bad_layout;
} bf_bfp;

static uint16_t bf_crc16_table[256];

static void bf_bfp_init(void) {
    for (uint32_t n = 0; n < 256; n++) {
        uint16_t c = (uint16_t)(n << 8);
        for (int k = 0; k < 8; k++) c = (uint16_t)(c & 0x8000 ? (c << 1) ^ 0x1021 : c << 1);
        bf_crc16_table[n] = c;
    }
}

/* CRC-16/CCITT-FALSE: polynomial 0x1021, init FFFF; check value 29B1. */
static uint16_t bf_crc16(const uint8_t *p, size_t n) {
    uint16_t c = 0xFFFF;
    while (n--) c = (uint16_t)(c << 8) ^ bf_crc16_table[(c >> 8) ^ *p++];
    return c;
}

static inline uint16_t bf_get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t bf_get32(const uint8_t *p) { return (uint32_t)bf_get16(p) | (uint32_t)bf_get16(p + 2) << 16; }
static inline uint64_t bf_get64(const uint8_t *p) { return (uint64_t)bf_get32(p) | (uint64_t)bf_get32(p + 4) << 32; }

/* Bytes per sample of a DATA format; 0 = unknown. */
static inline uint32_t bf_bfp_width(uint8_t format) {
    return format == BF_FORMAT_I16 ? 2 : format == BF_FORMAT_I24 ? 3 : format == BF_FORMAT_I32 || format == BF_FORMAT_F32 ? 4 : 0;
}

static int bf_grow(void **list, size_t *room, size_t need, size_t size) {
    if (need <= *room) return 1;
    size_t more = *room ? *room * 2 : 64;
    while (more < need) more *= 2;
    void *p = realloc(*list, more * size);
    if (!p) return 0;
    *list = p;
    *room = more;
    return 1;
}

/* Drops what the last call consumed and makes room for `n` more bytes; 0 = no memory. */
static int bf_bfp_make_room(bf_bfp *s, size_t n) {
    if (s->consumed) {
        memmove(s->bytes, s->bytes + s->consumed, s->length - s->consumed);
        s->length -= s->consumed;
        s->consumed = 0;
    }
    s->n_items = s->n_frames = 0;
    return bf_grow((void **)&s->bytes, &s->room, s->length + n, 1);
}

static int bf_bfp_append(bf_bfp *s, const uint8_t *data, size_t n) {
    if (!bf_bfp_make_room(s, n)) return 0;
    if (n) memcpy(s->bytes + s->length, data, n);
    s->length += n;
    return 1;
}

/* Notes the frame at `at`, or extends the item before; 0 = no memory. A DATA payload that does not
 * add up is counted and left out: the bytes came over whole, so the device is at fault. */
static int bf_bfp_note(bf_bfp *s, size_t at, uint32_t length) {
    const uint8_t *p = s->bytes + at, *d = p + BF_BFP_HEAD;
    bf_bfp_item item;
    memset(&item, 0, sizeof item);
    item.type = p[3];
    item.stream = p[6];
    item.flags = p[7];
    item.seq = bf_get32(p + 8);
    item.ticks = bf_get64(p + 12);
    item.boot = bf_get16(p + 20);
    item.n_frames = 1;
    item.payload = at + BF_BFP_HEAD;
    item.payload_bytes = length;
    item.frame = s->n_frames;
    if (item.type == BF_BFP_DATA) {
        if (length < BF_BFP_DATA_HEAD) {
            s->bad_layout++;
            return 1;
        }
        bf_bfp_frame frame;
        item.index = bf_get64(d);
        item.n_samples = frame.n_samples = bf_get16(d + 8);
        item.n_channels = bf_get16(d + 10);
        item.format = d[12];
        item.status_mode = d[13];
        item.descriptor = bf_get16(d + 14);
        uint64_t status = item.status_mode == 1 ? (item.n_channels + 7u) / 8 : item.status_mode == 2 ? item.n_channels : 0;
        uint64_t digital = item.flags & BF_BFP_DIGITAL ? 2 * (uint64_t)frame.n_samples : 0;
        uint64_t samples = (uint64_t)frame.n_samples * item.n_channels * bf_bfp_width(item.format);
        if (item.status_mode > 2 || !samples || BF_BFP_DATA_HEAD + status + digital + samples != length) {
            s->bad_layout++;
            return 1;
        }
        frame.digital = item.payload + BF_BFP_DATA_HEAD + (size_t)status;
        frame.samples = frame.digital + (size_t)digital;
        if (!bf_grow((void **)&s->frames, &s->frames_room, s->n_frames + 1, sizeof frame)) return 0;
        s->frames[s->n_frames++] = frame;
        bf_bfp_item *last = s->n_items ? &s->items[s->n_items - 1] : NULL;
        if (last && last->type == BF_BFP_DATA && last->stream == item.stream && last->boot == item.boot &&
            last->seq + last->n_frames == item.seq && last->index + last->n_samples == item.index &&
            last->n_channels == item.n_channels && last->format == item.format &&
            last->status_mode == item.status_mode && last->descriptor == item.descriptor &&
            !(item.flags & (BF_BFP_FIRST | BF_BFP_DROPPED)) &&
            ((last->flags ^ item.flags) & ~(BF_BFP_SATURATED | BF_BFP_FIRST | BF_BFP_DROPPED)) == 0) {
            last->flags |= item.flags;
            last->n_frames++;
            last->n_samples += item.n_samples;
            last->payload = item.payload;
            last->payload_bytes = length;
            return 1;
        }
    }
    if (!bf_grow((void **)&s->items, &s->items_room, s->n_items + 1, sizeof item)) return 0;
    s->items[s->n_items++] = item;
    return 1;
}

static inline void bf_bfp_skip(bf_bfp *s, size_t n) {
    if (!n) return;
    s->skipped += n;
    s->resyncs += (uint64_t)(s->in_sync != 0);
    s->in_sync = 0;
}

/* Finds all whole frames from `consumed` on; 0 = no memory. */
static int bf_bfp_scan(bf_bfp *s) {
    size_t at = s->consumed;
    const size_t end = s->length;
    while (at < end) {
        const uint8_t *p = s->bytes + at;
        if (p[0] != 0xBF) {
            const uint8_t *q = (const uint8_t *)memchr(p, 0xBF, end - at);
            size_t n = q ? (size_t)(q - p) : end - at;
            bf_bfp_skip(s, n);
            at += n;
            continue;
        }
        if (end - at < 2) break;
        if (p[1] != 0x5A) {
            bf_bfp_skip(s, 1);
            at++;
            continue;
        }
        if (end - at < BF_BFP_HEAD) break;
        uint32_t length = bf_get16(p + 4);
        if (p[2] != 1 || length > s->max_payload || bf_crc16(p, 22) != bf_get16(p + 22)) {
            s->bad_header++;
            bf_bfp_skip(s, 1);
            at++;
            continue;
        }
        size_t whole = BF_BFP_HEAD + (size_t)length + BF_BFP_TAIL;
        if (end - at < whole) break;
        if (bf_crc32c(0, p, whole - BF_BFP_TAIL) != bf_get32(p + whole - BF_BFP_TAIL)) {
            s->bad_crc++;
            bf_bfp_skip(s, 1);
            at++;
            continue;
        }
        if (!bf_bfp_note(s, at, length)) return 0;
        s->in_sync = 1;
        s->good++;
        at += whole;
    }
    s->consumed = at;
    return 1;
}

static int64_t bf_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* A frame comes in pieces and each would wake the reader, which costs more than the frame itself. So rest
 * until the next one should be whole. 0 when `wake` became readable. */
static int bf_bfp_rest(const bf_bfp *s, int wake, int64_t deadline) {
    const int64_t until = s->due_ns < deadline ? s->due_ns : deadline;
    const int64_t left = until - bf_now_ns();
    if (left <= 0 || s->length) return 1; /* behind: there is something to read */
    struct pollfd port = {wake, POLLIN, 0};
    struct timespec time = {left / 1000000000, left % 1000000000};
    return ppoll(&port, 1, &time, NULL) <= 0;
}

/* A frame that was whole when it was looked for is looked for a little earlier the next time, until one is
 * not: that follows the device's clock, and those that are waited for show when bytes really come. */
static void bf_bfp_expect(bf_bfp *s, int waited) {
    const bf_bfp_item *last = &s->items[s->n_items - 1];
    if (last->type != BF_BFP_DATA || s->sample_ns <= 0) return;
    const int64_t period = (int64_t)((double)s->frames[s->n_frames - 1].n_samples * s->sample_ns);
    if (period < BF_REST_LEAST_NS || s->n_frames > 1) s->due_ns = 0; /* too quick, or behind */
    else if (waited || !s->due_ns) s->due_ns = bf_now_ns() + BF_REST_MARGIN_NS + period;
    else s->due_ns += period - BF_REST_STEP_NS;
}

/* Waits for bytes: 1 when there are some, 0 when `wake` is readable or the time is over, else -errno. */
static int bf_bfp_wait(int fd, int wake, int64_t deadline) {
    struct pollfd ports[2] = {{fd, POLLIN, 0}, {wake, POLLIN, 0}};
    const int64_t left = deadline - bf_now_ns();
    const int ready = poll(ports, 2, left > 0 ? (int)((left + 999999) / 1000000) : 0);
    if (ready < 0) return errno == EINTR ? 0 : -errno;
    return ready && !ports[1].revents;
}

/* Reads `fd` until a frame is whole, `wake` is readable, `timeout_ns` is over or BF_BFP_READ bytes came.
 * 0, an errno, BF_READ_END when the link reports data and gives none, or BF_READ_MEMORY. */
static int bf_bfp_read(bf_bfp *s, int fd, int wake, int64_t timeout_ns, size_t *got) {
    const int64_t deadline = bf_now_ns() + timeout_ns;
    *got = 0;
    if (!bf_bfp_make_room(s, BF_BFP_READ)) return BF_READ_MEMORY;
    if (!bf_bfp_rest(s, wake, deadline)) return 0;
    int waited = 0; /* the first look is a read: what was rested for is there, and asking first costs as much */
    while (!s->n_items && *got < BF_BFP_READ) {
        ssize_t n;
        size_t before = *got;
        int error = 0;
        do {
            n = read(fd, s->bytes + s->length, BF_BFP_READ - *got);
            if (n < 0 && errno != EAGAIN && errno != EINTR) error = errno;
            if (n == 0 && *got == before && waited) error = BF_READ_END; /* a terminal without bytes gives 0, too */
            if (n <= 0) break;
            s->length += (size_t)n;
            *got += (size_t)n;
        } while (n >= BF_TTY_PIECE && *got < BF_BFP_READ);
        if (!bf_bfp_scan(s)) return BF_READ_MEMORY;
        if (s->n_items) break;
        if (error) return error; /* what came whole before is handed out first */
        waited = 1;
        if (*got < BF_BFP_READ && (error = bf_bfp_wait(fd, wake, deadline)) != 1) return -error;
    }
    if (s->n_items) bf_bfp_expect(s, waited);
    return 0;
}

/* Samples of an item, row after row: int16, int32 (i24 and i32) or float32. */
static void bf_bfp_rows(const bf_bfp *s, const bf_bfp_item *item, uint8_t *out) {
    const uint32_t width = bf_bfp_width(item->format);
    for (uint32_t k = 0; k < item->n_frames; k++) {
        const bf_bfp_frame *f = &s->frames[item->frame + k];
        const size_t n = (size_t)f->n_samples * item->n_channels;
        if (item->format == BF_FORMAT_I24) {
            bf_unpack24le(s->bytes + f->samples, (int32_t *)out, n);
            out += 4 * n;
        } else {
            memcpy(out, s->bytes + f->samples, n * width);
            out += n * width;
        }
    }
}

static void bf_bfp_digital(const bf_bfp *s, const bf_bfp_item *item, uint8_t *out) {
    for (uint32_t k = 0; k < item->n_frames; k++) {
        const bf_bfp_frame *f = &s->frames[item->frame + k];
        memcpy(out, s->bytes + f->digital, (size_t)2 * f->n_samples);
        out += (size_t)2 * f->n_samples;
    }
}
#endif
