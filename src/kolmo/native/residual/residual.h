/* Residuals: which float of its cell a weight is. C counterpart of residual/reference.py, which specifies it
 * (docs/residual.md has the argument).
 *
 * The magnitude of a float is an integer: exponent, then mantissa. With a step of 2^(exponent - bias), the level of a
 * weight (magnitude over step, rounded towards zero) is the upper bits of the magnitude; the lower ones are the residual.
 * Below one step the residual also has the exponent and the sign. */
#ifndef KOLMO_RESIDUAL_H
#define KOLMO_RESIDUAL_H

#include "trellis/trellis.h"

enum {
    RESIDUAL_MAX_DEPTH = 8, /* upper bits of a residual that may have contexts */
    RESIDUAL_CELLS = 16,    /* levels whose cells have contexts of their own */
    RESIDUAL_OCTAVES = 16,  /* octaves below the step that have decisions of their own */
    RESIDUAL_FAR_BITS = 11, /* raw bits of an octave further below */
    RESIDUAL_CLASSES = 32,  /* classes of activity */
    RESIDUAL_GROUPS = RESIDUAL_CELLS + RESIDUAL_OCTAVES + 1,
    RESIDUAL_START = 128,  /* activity at the start */
    RESIDUAL_RATE = 4,
    RESIDUAL_COUNT_BITS = 6, /* raw bits of the number of a row's lowest bits */
    RESIDUAL_MAX_OCTAVE = 19, /* octave of the largest level */
};

typedef struct {
    int mantissa; /* number of its bits */
    int dropped;  /* number of its lowest bits that are 0 in all weights; with rows, where the first row starts from */
    int sign;     /* place of the sign bit */
    int largest;  /* largest exponent of a finite float */
    int exponent; /* biased exponent of the step */
    int depth;    /* number of upper bits of a residual that have contexts */
    int zeros;    /* whether there are zeros */
    int rows;     /* whether each row has a number of lowest bits of its own */
    size_t itemsize, period;
    size_t phase; /* place of the first weight in its row */
} kolmo_residual;

typedef struct {
    kolmo_trellis_odds zero[RESIDUAL_CLASSES], minus, change[2], octave[RESIDUAL_CLASSES][RESIDUAL_OCTAVES];
    kolmo_trellis_odds upper[RESIDUAL_GROUPS][1 << RESIDUAL_MAX_DEPTH];
} kolmo_residual_odds;

/* Raw bits, the lowest first. */
typedef struct {
    uint64_t held;
    int count;
    uint8_t *out; /* allocated by malloc, and grows */
    size_t size, room;
    int failed;
} kolmo_bit_writer;

typedef struct {
    uint64_t held;
    int count;
    const uint8_t *next, *end;
    int failed;
} kolmo_bit_reader;

static inline void kolmo_bits_put_bytes(kolmo_bit_writer *w, int keep) {
    if (w->room - w->size < 8) {
        size_t room = w->room ? w->room * 2 : 65536;
        uint8_t *out = (uint8_t *)realloc(w->out, room);
        if (!out) {
            w->failed = 1;
            w->count = 0;
            return;
        }
        w->out = out;
        w->room = room;
    }
    for (; w->count > keep; w->count -= 8, w->held >>= 8) w->out[w->size++] = (uint8_t)w->held;
}

/* count is at most 53. */
static inline void kolmo_bits_put(kolmo_bit_writer *w, uint64_t bits, int count) {
    w->held |= bits << w->count; /* up to 7 bits are held */
    w->count += count;
    if (w->count > 7) kolmo_bits_put_bytes(w, 7);
}

static inline uint64_t kolmo_bits_get(kolmo_bit_reader *r, int count) {
    while (r->count < count) {
        if (r->next == r->end) {
            r->failed = 1;
            return 0;
        }
        r->held |= (uint64_t)*r->next++ << r->count;
        r->count += 8;
    }
    uint64_t bits = r->held & (((uint64_t)1 << count) - 1);
    r->held >>= count;
    r->count -= count;
    return bits;
}

static inline int kolmo_bit_length(uint64_t x) {
#if defined(__GNUC__) || defined(__clang__)
    return x ? 64 - __builtin_clzll(x) : 0;
#else
    int bits = 0;
    while (x >> bits) bits++;
    return bits;
#endif
}

#endif
