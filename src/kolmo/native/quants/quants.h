/* Fields of quantised blocks: C counterpart of quants/reference.py, which specifies it (docs/gguf.md has the argument).
 *
 * A field is a sequence of symbols of 1 to 8 bits. Each is coded as decisions, the highest bit first. Four contexts each
 * predict a decision, and a mixer of logits, which learns, joins the four. */
#ifndef KOLMO_QUANTS_H
#define KOLMO_QUANTS_H

#include "coder/coder.h"

enum {
    QUANTS_CONTEXTS = 4,
    QUANTS_SPREADS = 32, /* classes of an expected magnitude over a step */
    QUANTS_CENTRES = 34, /* classes of the place of 0 among the symbols */
    QUANTS_SEEN = 64,    /* classes of place in the group, and of extremes seen in it */
    QUANTS_MIDDLE = 8,   /* class of a spread of 1 step */
    QUANTS_LIMIT = 254,  /* largest count of a cell */
    QUANTS_WEIGHT = 24576, /* weight of the mixer at the start, in 2^-16 */
    QUANTS_MAX_WEIGHT = 1 << 22,
    QUANTS_RATE = 17, /* shift of the mixer's step */
    QUANTS_MAX_SYMBOLS = 1 << 26,
    QUANTS_STRETCH = 4096,
    QUANTS_SQUASH = 6144,
};
#define QUANTS_MAX_SCALE ((int64_t)1 << 50)

typedef struct {
    int bits, centres; /* of a symbol; how many classes of centres there are */
    size_t period, group;
    const int64_t *steps, *offsets; /* one for each group; NULL for a field that is not of weights */
    const uint8_t *sides;           /* one for each symbol; NULL for weights */
    const int16_t *values;          /* [1 << bits] */
    const int16_t *stretch;         /* [QUANTS_STRETCH] */
    const uint16_t *squash;         /* [QUANTS_SQUASH] */
    uint32_t *cells[QUANTS_CONTEXTS]; /* probability in 2^-22, then 10 bits of count */
    uint32_t sizes[QUANTS_CONTEXTS];  /* contexts */
    int32_t weights[256][QUANTS_CONTEXTS];
    uint32_t rates[QUANTS_LIMIT + 1];
} kolmo_quants;

static inline int kolmo_quants_length(uint64_t x) {
#if defined(__GNUC__) || defined(__clang__)
    return x ? 64 - __builtin_clzll(x) : 0;
#else
    int bits = 0;
    while (bits < 64 && x >> bits) bits++;
    return bits;
#endif
}

/* Logarithm in half octaves. */
static inline int kolmo_quants_log(uint64_t x) {
    int bits = kolmo_quants_length(x);
    return bits < 2 ? 2 * bits : 2 * bits + (int)(x >> (bits - 2) & 1);
}

static inline uint32_t kolmo_quants_spread(uint64_t activity, int step_log) {
    int class = kolmo_quants_log(activity) - step_log + QUANTS_MIDDLE;
    return (uint32_t)(class < 0 ? 0 : class >= QUANTS_SPREADS ? QUANTS_SPREADS - 1 : class);
}

/* Where 0 is among the symbols, in 1/32 of their range. */
static inline uint32_t kolmo_quants_centre(int64_t step, int64_t offset, int bits) {
    if (!step || (step < 0) != (offset < 0)) return 0;
    uint64_t s = (uint64_t)(step < 0 ? -step : step), o = (uint64_t)(offset < 0 ? -offset : offset);
    uint64_t class = ((o << (6 - bits)) / s + 1) / 2;
    return (uint32_t)(class > 32 ? 33 : class);
}

#endif
