/* Trellis-coded quantisation: C counterpart of trellis/reference.py, which specifies it
 * (docs/trellis.md has the argument).
 *
 * Levels, integers n in units of the step, belong to two quantisers: even n to states whose lowest bit is 0, odd n to
 * the others. The state is a shift register with feedback (Ungerboeck 1982). The magnitude of each level is coded by
 * adaptive decisions whose contexts are the quantiser and the activity of row and column. With one state a single
 * quantiser has all levels. Weights that must stay exactly 0, such as pruned ones, are holes in the walk: a decision
 * each, and no level. */
#ifndef KOLMO_TRELLIS_H
#define KOLMO_TRELLIS_H

#include "coder/coder.h"

enum {
    TRELLIS_STATES = 64,
    TRELLIS_CLASSES = 24, /* classes of activity */
    TRELLIS_PLACES = 9,   /* decisions of a magnitude that have contexts of their own */
    TRELLIS_UNARY = 18,   /* values from here on end in an exp-Golomb code */
    TRELLIS_ROWS = 2 * TRELLIS_CLASSES,
    TRELLIS_CONTEXTS = TRELLIS_ROWS * TRELLIS_PLACES,
    TRELLIS_MAX_LEVEL = 1 << 20,    /* level */
    TRELLIS_MAX_ACTIVE_LEVEL = 511, /* larger levels count as this one for activity */
    TRELLIS_LOGS = 8192,
    TRELLIS_DELAY = 64,         /* levels between two updates of the columns; a line is at least twice as long */
    TRELLIS_MAX_TILE = 1 << 20, /* levels in one call */
    TRELLIS_HOLE = INT32_MIN,   /* stands in place of a level */
    TRELLIS_DENSITIES = 16,     /* contexts of holes */
    TRELLIS_MAX_DENSITY = 4096, /* the density where all weights are holes */
};

typedef struct {
    int states, feedback, input; /* next = s >> 1 ^ (odd s) feedback ^ (bit) input */
    int half;                    /* a magnitude's value is magnitude >> half: 1 where there are two quantisers */
    int holes;                   /* whether there may be holes */
    const uint8_t *logs;         /* [TRELLIS_LOGS] */
    int start;                   /* activity at the start */
    size_t period;
} kolmo_trellis;

typedef struct {
    uint32_t fast, slow; /* probability of "larger", in 2^-22 */
} kolmo_trellis_odds;

/* The code with this number of states; returns 0 if there is none. */
static inline int kolmo_trellis_code(kolmo_trellis *t, int states) {
    t->states = states;
    t->feedback = states == 8 ? 5 : states == 64 ? 33 : 0;
    t->input = states == 8 ? 2 : states == 64 ? 10 : 0;
    t->half = states > 1;
    return states == 1 || states == 8 || states == 64;
}

static inline int kolmo_trellis_next(const kolmo_trellis *t, int state, int bit) {
    return state >> 1 ^ (-(state & 1) & t->feedback) ^ (-bit & t->input);
}

/* The bit of the coset: which half of the quantiser a level is in, n mod 4 >= 2. */
static inline int kolmo_trellis_bit(int level) { return level >> 1 & 1; }

static inline int kolmo_trellis_loudness(int magnitude) {
    return (magnitude > TRELLIS_MAX_ACTIVE_LEVEL ? TRELLIS_MAX_ACTIVE_LEVEL : magnitude) * 64;
}

/* The row of contexts: quantiser and class. */
static inline int kolmo_trellis_row(int odd, int sum_of_logs) {
    int class = (sum_of_logs * 3 >> 3) - 3;
    class = class < 0 ? 0 : class >= TRELLIS_CLASSES ? TRELLIS_CLASSES - 1 : class;
    return odd * TRELLIS_CLASSES + class;
}

/* How fast columns adapt, by the line of the tile. */
static inline int kolmo_trellis_shift(size_t line) { return line < 4 ? 2 : line < 8 ? 3 : line < 32 ? 4 : 5; }

/* The context of a hole: the recent density of holes in row and column. */
static inline int kolmo_trellis_density(int row, int column) {
    int density = (row + column) * TRELLIS_DENSITIES / (2 * TRELLIS_MAX_DENSITY);
    return density < TRELLIS_DENSITIES ? density : TRELLIS_DENSITIES - 1;
}

static inline int kolmo_trellis_place(int i) { return i < TRELLIS_PLACES ? i : TRELLIS_PLACES - 1; }

/* odds: [TRELLIS_CONTEXTS + TRELLIS_DENSITIES] */
static inline void kolmo_trellis_odds_init(kolmo_trellis_odds *odds, const uint8_t *table) {
    for (int i = 0; i < TRELLIS_CONTEXTS; i++) odds[i].fast = odds[i].slow = (uint32_t)table[i] << 14;
    for (int i = 0; i < TRELLIS_DENSITIES; i++)
        odds[TRELLIS_CONTEXTS + i].fast = odds[TRELLIS_CONTEXTS + i].slow = (uint32_t)(2 * i + 1) * ((1 << 21) / TRELLIS_DENSITIES);
}

static inline uint32_t kolmo_trellis_chance(const kolmo_trellis_odds *odds) { return (odds->fast + odds->slow) >> 7; }

static inline void kolmo_trellis_rise(kolmo_trellis_odds *odds) {
    odds->fast += ((1 << 22) - odds->fast) >> 7;
    odds->slow += ((1 << 22) - odds->slow) >> 10;
}

static inline void kolmo_trellis_fall(kolmo_trellis_odds *odds) {
    odds->fast -= odds->fast >> 7;
    odds->slow -= odds->slow >> 10;
}

static inline void kolmo_trellis_encode_hole(kolmo_encoder *coder, kolmo_trellis_odds *odds, int density, int hole) {
    kolmo_trellis_odds *at = odds + TRELLIS_CONTEXTS + density;
    kolmo_encode(coder, hole, kolmo_trellis_chance(at));
    if (hole)
        kolmo_trellis_rise(at);
    else
        kolmo_trellis_fall(at);
}

static inline int kolmo_trellis_decode_hole(kolmo_decoder *coder, kolmo_trellis_odds *odds, int density) {
    kolmo_trellis_odds *at = odds + TRELLIS_CONTEXTS + density;
    int hole = kolmo_decode(coder, kolmo_trellis_chance(at));
    if (hole)
        kolmo_trellis_rise(at);
    else
        kolmo_trellis_fall(at);
    return hole;
}

static inline void kolmo_trellis_encode_level(kolmo_encoder *coder, kolmo_trellis_odds *odds, int row, int half, int level) {
    int value = (level < 0 ? -level : level) >> half;
    for (int i = 0; i < TRELLIS_UNARY; i++) {
        kolmo_trellis_odds *at = odds + row * TRELLIS_PLACES + kolmo_trellis_place(i);
        kolmo_encode(coder, value > i, kolmo_trellis_chance(at));
        if (value == i) {
            kolmo_trellis_fall(at);
            break;
        }
        kolmo_trellis_rise(at);
    }
    if (value >= TRELLIS_UNARY) {
        uint32_t rest = (uint32_t)(value - TRELLIS_UNARY) + 1;
        int bits = 0;
        while (rest >> bits > 1) bits++;
        for (int i = 0; i < bits; i++) kolmo_encode(coder, 1, 32768);
        kolmo_encode(coder, 0, 32768);
        while (bits--) kolmo_encode(coder, (int)(rest >> bits & 1), 32768);
    }
    if (level) kolmo_encode(coder, level < 0, 32768);
}

/* The mirror, with the decisions of the coder written out: one branch each. A magnitude out of bounds marks the coder
 * as failed. */
static inline int kolmo_trellis_decode_level(kolmo_decoder *coder, kolmo_trellis_odds *odds, int row, int half, int odd) {
    kolmo_trellis_odds *at = odds + row * TRELLIS_PLACES, *last = at + TRELLIS_PLACES - 1;
    int value = 0;
    while (value < TRELLIS_UNARY) {
        uint32_t bound = (uint32_t)((uint64_t)coder->range * kolmo_trellis_chance(at) >> 16);
        if (coder->code >= bound) {
            coder->code -= bound;
            coder->range -= bound;
            while (coder->range < KOLMO_TOP) kolmo_pull(coder), coder->range <<= 8;
            kolmo_trellis_fall(at);
            break;
        }
        coder->range = bound;
        while (coder->range < KOLMO_TOP) kolmo_pull(coder), coder->range <<= 8;
        kolmo_trellis_rise(at);
        value++;
        at += at < last;
    }
    if (value == TRELLIS_UNARY) {
        int bits = 0;
        uint32_t rest = 1;
        while (bits <= 20 && kolmo_decode(coder, 32768)) bits++;
        if (bits > 20) {
            coder->overrun = KOLMO_OVERRUN + 1;
            return odd;
        }
        while (bits--) rest = rest << 1 | (uint32_t)kolmo_decode(coder, 32768);
        value += (int)rest - 1;
    }
    int level = (value << half) + odd;
    if (level) { /* both signs are equally likely: no branch */
        uint32_t bound = coder->range >> 1, negative = -(uint32_t)(coder->code < bound);
        coder->code -= bound & ~negative;
        coder->range = negative ? bound : coder->range - bound;
        while (coder->range < KOLMO_TOP) kolmo_pull(coder), coder->range <<= 8;
        level = (int)(((uint32_t)level ^ negative) - negative);
    }
    return level;
}

#endif
