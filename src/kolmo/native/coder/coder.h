/* The binary arithmetic coder: C counterpart of coder/reference.py, which specifies it (docs/format.md has the
 * arithmetic).
 *
 * Encoder and decoder stand side by side and mirror each other. The coder uses integers only. */
#ifndef KOLMO_CODER_H
#define KOLMO_CODER_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define KOLMO_TOP ((uint32_t)1 << 24) /* renormalise below this */
#define KOLMO_OVERRUN 8               /* zero bytes that a decoder may read past its payload */
#define KOLMO_REMAP 4096              /* entries of a table of replaced probabilities, 16 bits each */

typedef struct {
    uint64_t low; /* 33 bits: bit 32 is a carry not yet propagated */
    uint32_t range;
    int held;        /* the last byte, held back for a carry; -1 before the first */
    uint64_t run;    /* 0xFF bytes held back behind it */
    uint8_t *out;    /* malloc'ed, grows */
    size_t size, room;
    int failed;      /* out of memory */
    int finished;
} kolmo_encoder;

typedef struct {
    const uint8_t *next, *end; /* borrowed */
    uint32_t range, code;
    int overrun; /* bytes read past the end; KOLMO_OVERRUN + 1 and it has failed */
    const uint8_t *remap; /* borrowed: NULL, or KOLMO_REMAP little-endian probabilities that replace p1, by p1 >> 4 */
} kolmo_decoder;

static inline void kolmo_encoder_init(kolmo_encoder *e) {
    memset(e, 0, sizeof *e);
    e->range = 0xFFFFFFFFu;
    e->held = -1;
}

static inline void kolmo_put(kolmo_encoder *e, uint8_t byte) {
    if (e->size == e->room) {
        size_t room = e->room ? e->room * 2 : 4096;
        uint8_t *out = (uint8_t *)realloc(e->out, room);
        if (!out) {
            e->failed = 1;
            return;
        }
        e->out = out;
        e->room = room;
    }
    e->out[e->size++] = byte;
}

static inline void kolmo_shift(kolmo_encoder *e) {
    uint8_t carry = (uint8_t)(e->low >> 32), byte = (uint8_t)(e->low >> 24);
    if (carry || byte != 0xFF) {
        if (e->held >= 0) kolmo_put(e, (uint8_t)(e->held + carry));
        for (; e->run; e->run--) kolmo_put(e, (uint8_t)(0xFF + carry));
        e->held = byte;
    } else {
        e->run++;
    }
    e->low = (e->low & 0x00FFFFFFu) << 8;
}

/* p1: probability that bit is 1, in 1..65535 of 65536. */
static inline void kolmo_encode(kolmo_encoder *e, int bit, uint32_t p1) {
    uint32_t bound = (uint32_t)((uint64_t)e->range * p1 >> 16);
    if (bit) {
        e->range = bound;
    } else {
        e->low += bound;
        e->range -= bound;
    }
    while (e->range < KOLMO_TOP) {
        kolmo_shift(e);
        e->range <<= 8;
    }
}

static inline void kolmo_pull(kolmo_decoder *d) {
    uint32_t byte = 0;
    if (d->next < d->end)
        byte = *d->next++;
    else if (d->overrun <= KOLMO_OVERRUN)
        d->overrun++;
    d->code = d->code << 8 | byte;
}

static inline int kolmo_decode(kolmo_decoder *d, uint32_t p1) {
    if (d->remap) p1 = d->remap[p1 >> 4 << 1] | (uint32_t)d->remap[p1 >> 4 << 1 | 1] << 8; /* sampling only */
    uint32_t bound = (uint32_t)((uint64_t)d->range * p1 >> 16);
    int bit = d->code < bound;
    if (bit) {
        d->range = bound;
    } else {
        d->code -= bound;
        d->range -= bound;
    }
    while (d->range < KOLMO_TOP) {
        kolmo_pull(d);
        d->range <<= 8;
    }
    return bit;
}

static inline void kolmo_decoder_init(kolmo_decoder *d, const uint8_t *payload, size_t size) {
    d->next = payload;
    d->end = payload + size;
    d->range = 0xFFFFFFFFu;
    d->code = 0;
    d->overrun = 0;
    d->remap = NULL;
    for (int i = 0; i < 4; i++) kolmo_pull(d);
}

static inline int kolmo_decoder_failed(const kolmo_decoder *d) { return d->overrun > KOLMO_OVERRUN; }

/* Close the interval: of the values in it, write the one that ends in most zero bytes, without these. */
static inline void kolmo_encoder_finish(kolmo_encoder *e) {
    uint64_t top = e->low + e->range - 1;
    int keep = 0;
    while (top >> (32 - 8 * keep) << (32 - 8 * keep) < e->low) keep++;
    e->low = top >> (32 - 8 * keep) << (32 - 8 * keep);
    for (int i = 0; i <= keep; i++) kolmo_shift(e);
    e->finished = 1;
}

#endif
