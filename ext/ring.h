/* Shared-memory ring: one writer, many readers in other processes.
 *
 * Cursors count rows and only grow. The writer raises `reserve` before it touches a row and `head`
 * after; a reader that copied rows below `reserve - capacity` holds torn data and must discard it
 * (a seqlock over the whole ring). Each cursor has a 32-bit counter beside it for futexes. */
#ifndef BF_RING_H
#define BF_RING_H
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "unpack.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rings and packed rows are little-endian"
#endif

#define BF_RING_CURSORS 512 /* first cursor; one each 128 bytes: a line and the one that is prefetched with it */
#define BF_RING_PITCH 128
enum { BF_RESERVE, BF_HEAD, BF_WRITTEN, BF_DURABLE, BF_RECORDING, BF_EPOCH, BF_N_CURSORS };

#define BF_NO_ROW UINT64_MAX /* BF_RECORDING while no recording is open */

#define BF_FLAG_GAP 1u
#define BF_FLAG_STEP 2u
#define BF_FLAG_FIRST 32u
#define BF_FLAGS_OF_ROW (BF_FLAG_GAP | BF_FLAG_STEP | BF_FLAG_FIRST) /* hold for the row alone, not its block */
#define BF_FLAGS_CUT BF_FLAGS_OF_ROW

typedef struct {
    uint64_t seq;
    int64_t t_ns;
    uint32_t incarnation;
    uint16_t flags;
    uint8_t gap_basis, gap_cause;
    uint64_t gap_n, gap_plus_minus;
} bf_row_meta;
_Static_assert(sizeof(bf_row_meta) == 40, "layout of a row's metadata is part of the file format");

typedef struct {
    uint64_t row, n;
    bf_row_meta meta; /* of the first row; flags: all that occur */
} bf_run;

typedef struct {
    uint8_t *base;
    size_t length;
    uint64_t capacity, mask;
    uint32_t stride, row_bytes, n_channels;
    int is_24bit;
    double period_ns;
    uint8_t *data;
} bf_ring;

static inline uint64_t *bf_ring_cursor(const bf_ring *r, int which) {
    return (uint64_t *)(r->base + BF_RING_CURSORS + BF_RING_PITCH * which);
}
static inline uint32_t *bf_ring_counter(const bf_ring *r, int which) {
    return (uint32_t *)(r->base + BF_RING_CURSORS + BF_RING_PITCH * which + 8);
}
static inline uint64_t bf_ring_get(const bf_ring *r, int which) {
    return __atomic_load_n(bf_ring_cursor(r, which), __ATOMIC_ACQUIRE);
}
static inline uint8_t *bf_ring_row(const bf_ring *r, uint64_t row) {
    return r->data + (size_t)(row & r->mask) * r->stride;
}
static inline bf_row_meta *bf_ring_meta(const bf_ring *r, uint64_t row) {
    return (bf_row_meta *)(bf_ring_row(r, row) + r->stride - sizeof(bf_row_meta));
}

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#define BF_POPULATE_STEP ((size_t)256 * 1024)

/* A page fault per new page would cost the pull thread, and each reader, more than the copy. In steps, for the
 * kernel holds the map of the process's memory meanwhile: any other thread that asks for memory would wait as
 * long as a ring takes to be zeroed. */
static void bf_ring_populate(uint8_t *base, size_t length, int writable) {
    for (size_t at = 0; at < length; at += BF_POPULATE_STEP) {
        const size_t n = length - at < BF_POPULATE_STEP ? length - at : BF_POPULATE_STEP;
        if (madvise(base + at, n, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0) continue;
        if (errno != EINVAL) return; /* pages fault in when they are used */
        for (size_t page = at; page < at + n; page += 4096) (void)*(volatile uint8_t *)(base + page); /* < 5.14 */
    }
}

static int bf_ring_map(bf_ring *r, int fd, size_t length, size_t data_offset, int writable) {
    struct stat st;
    if (fstat(fd, &st) < 0) return errno;
    if (st.st_size < 0 || (size_t)st.st_size < length) return -1; /* access past the end would be a SIGBUS */
    void *p = mmap(NULL, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return errno;
    bf_ring_populate((uint8_t *)p, length, writable);
    r->base = (uint8_t *)p;
    r->length = length;
    r->data = r->base + data_offset;
    return 0;
}
static void bf_ring_unmap(bf_ring *r) {
    if (r->base) munmap(r->base, r->length);
    r->base = NULL;
}

/* Counter first, then wake: a waiter that loaded the counter before sees it changed. */
static void bf_ring_wake(const bf_ring *r, int which) {
    uint32_t *counter = bf_ring_counter(r, which);
    __atomic_fetch_add(counter, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, counter, FUTEX_WAKE, 0x7FFFFFFF, NULL, NULL, 0);
}
static void bf_ring_set(const bf_ring *r, int which, uint64_t value) {
    __atomic_store_n(bf_ring_cursor(r, which), value, __ATOMIC_RELEASE);
    bf_ring_wake(r, which);
}

/* Waits until the cursor passes `beyond`, someone wakes it, or `deadline` (CLOCK_MONOTONIC); 1 = interrupted.
 * Counter before cursor: the other order loses a wake-up that falls between the two. */
static int bf_ring_wait(const bf_ring *r, int which, uint64_t beyond, int64_t deadline) {
    uint32_t *counter = bf_ring_counter(r, which);
    uint32_t seen = __atomic_load_n(counter, __ATOMIC_ACQUIRE);
    struct timespec now, left;
    if (bf_ring_get(r, which) > beyond) return 0;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = deadline - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    if (ns <= 0) return 0;
    left.tv_sec = ns / 1000000000;
    left.tv_nsec = ns % 1000000000;
    if (syscall(SYS_futex, counter, FUTEX_WAIT, seen, &left, NULL, 0) < 0 && errno == EINTR) return 1;
    return 0;
}

static void bf_ring_push(const bf_ring *r, const uint8_t *rows, uint64_t n, bf_row_meta meta) {
    uint64_t head = bf_ring_get(r, BF_HEAD), done = 0;
    uint64_t piece_most = r->capacity / 4;
    const uint64_t seq = meta.seq;
    const int64_t t = meta.t_ns;
    while (done < n) {
        uint64_t piece = n - done < piece_most ? n - done : piece_most;
        uint64_t reserve = bf_ring_get(r, BF_RESERVE);
        /* A writer that died in a push left `reserve` ahead of `head`: those rows stay suspect. */
        if (reserve < head + piece) __atomic_store_n(bf_ring_cursor(r, BF_RESERVE), head + piece, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        for (uint64_t i = 0; i < piece; i++) {
            uint8_t *row = bf_ring_row(r, head + i);
            memcpy(row, rows + (size_t)(done + i) * r->row_bytes, r->row_bytes);
            meta.seq = seq + done + i;
            meta.t_ns = t + (int64_t)((double)(done + i) * r->period_ns + 0.5);
            *bf_ring_meta(r, head + i) = meta;
            if (done + i == 0) {
                meta.flags &= (uint16_t)~BF_FLAGS_OF_ROW;
                meta.gap_basis = meta.gap_cause = 0;
                meta.gap_n = meta.gap_plus_minus = 0;
            }
        }
        head += piece;
        done += piece;
        /* Wakes nobody: readers wait for `written`, the record thread for its bell, rung when all rows of a read are in. */
        __atomic_store_n(bf_ring_cursor(r, BF_HEAD), head, __ATOMIC_RELEASE);
    }
}

/* Rows that fit, less `guard`, before unwritten ones of the open recording are overwritten; all where none is open. */
static uint64_t bf_ring_room(const bf_ring *r, uint64_t guard) {
    const uint64_t first = bf_ring_get(r, BF_RECORDING), written = bf_ring_get(r, BF_WRITTEN);
    if (first == BF_NO_ROW) return r->capacity;
    const uint64_t from = written > first ? written : first, head = bf_ring_get(r, BF_HEAD);
    const uint64_t kept = guard + (head > from ? head - from : 0);
    return kept < r->capacity ? r->capacity - kept : 0;
}

/* 1 while rows from `first` are whole; call it after the copy. */
static inline int bf_ring_whole(const bf_ring *r, uint64_t first) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return first + r->capacity >= __atomic_load_n(bf_ring_cursor(r, BF_RESERVE), __ATOMIC_RELAXED);
}

/* For rows of about 1 kB the loop beats a call of memcpy by 15 %. */
#if defined(__x86_64__)
__attribute__((target("avx2"))) static void bf_copy_row_avx2(uint8_t *out, const uint8_t *row, size_t n) {
    size_t k = 0;
    for (; k + 32 <= n; k += 32)
        _mm256_storeu_si256((__m256i *)(out + k), _mm256_loadu_si256((const __m256i *)(row + k)));
    _mm256_storeu_si256((__m256i *)(out + n - 32), _mm256_loadu_si256((const __m256i *)(row + n - 32)));
}
#endif
static inline void bf_copy_row(uint8_t *out, const uint8_t *row, size_t n) {
#if defined(__x86_64__)
    if (bf_has_avx2 && n >= 32) {
        bf_copy_row_avx2(out, row, n);
        return;
    }
#endif
    memcpy(out, row, n);
}

static void bf_ring_copy(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out) {
    for (uint64_t i = 0; i < n; i++, out += r->row_bytes) bf_copy_row(out, bf_ring_row(r, first + i), r->row_bytes);
}

static inline size_t bf_ring_packed_bytes(const bf_ring *r) {
    return r->is_24bit ? (size_t)3 * r->n_channels : r->row_bytes;
}

static size_t bf_ring_pack(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out) {
    const size_t width = bf_ring_packed_bytes(r);
    if (!r->is_24bit) {
        bf_ring_copy(r, first, n, out);
        return (size_t)n * width;
    }
    for (uint64_t i = 0; i < n; i++, out += width)
        bf_pack24le((const int32_t *)bf_ring_row(r, first + i), out, r->n_channels);
    return (size_t)n * width;
}

static inline int bf_ring_goes_on(const bf_row_meta *meta, uint32_t incarnation, uint64_t seq) {
    return !(meta->flags & BF_FLAGS_CUT) && meta->incarnation == incarnation && meta->seq == seq;
}

/* Runs of rows [first, first+n), copied to `out` on the way if it is not NULL. *runs is malloc'ed.
 * Returns their number, or -1 without memory. */
static int64_t bf_ring_runs(const bf_ring *r, uint64_t first, uint64_t n, uint8_t *out, bf_run **runs) {
    int64_t count = 0, room = 8;
    bf_run *list = (bf_run *)malloc(sizeof(bf_run) * (size_t)room), *run = NULL;
    if (!list) return -1;
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *row = bf_ring_row(r, first + i);
        const bf_row_meta *meta = (const bf_row_meta *)(row + r->stride - sizeof *meta);
        if (out) bf_copy_row(out + (size_t)i * r->row_bytes, row, r->row_bytes);
        if (run && bf_ring_goes_on(meta, run->meta.incarnation, run->meta.seq + run->n)) {
            run->n++;
            run->meta.flags |= meta->flags;
            continue;
        }
        if (count == room) {
            bf_run *more = (bf_run *)realloc(list, sizeof(bf_run) * (size_t)(room *= 2));
            if (!more) {
                free(list);
                return -1;
            }
            list = more;
        }
        run = &list[count++];
        run->row = first + i;
        run->n = 1;
        run->meta = *meta;
    }
    *runs = list;
    return count;
}
#endif
