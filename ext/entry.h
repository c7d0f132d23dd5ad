/* A journal entry made where its rows lie: head, packed rows, CRC-32C (docs/formats.md). The rule itself
 * is `brainforge_edge/recorder/entry.py`, whose bytes these must equal. */
#ifndef BF_ENTRY_H
#define BF_ENTRY_H
#include "crc32c.h"
#include "ring.h"

typedef struct {
    uint8_t magic[2];
    uint16_t flags;
    uint32_t payload_bytes, stream, incarnation;
    uint64_t seq;
    int64_t t_first_ns;
} bf_entry_head;
_Static_assert(sizeof(bf_entry_head) == 32, "layout of an entry's head is part of the file format");
#define BF_ENTRY_TAIL 4

static inline size_t bf_entry_bytes(const bf_ring *r, uint64_t n) {
    return sizeof(bf_entry_head) + (size_t)n * bf_ring_packed_bytes(r) + BF_ENTRY_TAIL;
}

/* Rows [first, first+n) as the entry of `stream` at `offset` in the lap of `seed`, to `out`. 0, with nothing said of
 * `out`, if they are more than one run, begin after a gap, or were overwritten meanwhile. */
static int bf_entry_make(const bf_ring *r, uint64_t first, uint64_t n, uint32_t stream, uint32_t seed, uint64_t offset,
                         uint8_t *out, bf_entry_head *head) {
    const bf_row_meta *meta = bf_ring_meta(r, first);
    *head = (bf_entry_head){{'B', 'J'}, meta->flags, 0, stream, meta->incarnation, meta->seq, meta->t_ns};
    for (uint64_t i = 1; i < n; i++) {
        meta = bf_ring_meta(r, first + i);
        if (!bf_ring_goes_on(meta, head->incarnation, head->seq + i)) return 0;
        head->flags |= meta->flags;
    }
    if (head->flags & BF_FLAG_GAP) return 0;
    head->payload_bytes = (uint32_t)bf_ring_pack(r, first, n, out + sizeof *head);
    if (!bf_ring_whole(r, first)) return 0;
    memcpy(out, head, sizeof *head);
    const size_t covered = sizeof *head + head->payload_bytes;
    const uint32_t place = bf_crc32c(seed, (const uint8_t *)&offset, sizeof offset);
    const uint32_t crc = bf_crc32c(place, out, covered);
    memcpy(out + covered, &crc, sizeof crc);
    return 1;
}
#endif
