/* Tokens as binary decisions: C twin of reference_tokens.py, which specifies it (docs/language-models.md has the argument).
 *
 * The masses of ids are summed up a balanced tree, without cancellation; a token is the path down to its leaf. A
 * decision's log-odds, which are only nearly the same on two machines, are rounded on one of two staggered grids.
 * The sums of 256 neighbours are the tree's middle: above them is `top`, below `leaf`, so that a device needs to hand
 * over no more than these. */
#ifndef KOLMO_TOKENS_H
#define KOLMO_TOKENS_H

#include <math.h>

#include "coder.h"
#include "context_mixing.h" /* KOLMO_INLINE */

#define KOLMO_GROUP 256 /* leaves whose masses are kept apart until their group is known */
#define KOLMO_DEPTH 32  /* levels at most */

typedef struct {
    int count;              /* of boundaries, ascending log-odds */
    const double *bounds;   /* [count] */
    const uint16_t *chance; /* [count + 1]: probability of a 1 in each cell, of 65536 */
} kolmo_grid;

typedef struct {
    kolmo_grid grids[2]; /* A, and B whose boundaries are the middles of A's cells */
    double slack;        /* this near to a boundary of A, B serves; below 0: A alone, and no flags */
    int rarity;          /* a flag's first probability is 2^-rarity */
    size_t vocabulary, groups;
    int depth, top_depth;
    double *tables;      /* owned */
    uint16_t *chances;   /* owned */
} kolmo_tree;

typedef struct {
    uint32_t seen[KOLMO_DEPTH], raised[KOLMO_DEPTH]; /* flags by level */
    uint64_t flags;                                  /* all that were raised */
} kolmo_flags;

static inline uint32_t kolmo_flag_chance(const kolmo_tree *tree, const kolmo_flags *flags, int level) {
    uint64_t p = ((uint64_t)(flags->raised[level] + 1) << 16) / ((uint64_t)flags->seen[level] + ((uint64_t)1 << tree->rarity));
    return p < 1 ? 1 : p > 32768 ? 32768 : (uint32_t)p;
}

static inline void kolmo_flag_seen(kolmo_flags *flags, int level, int raised) {
    flags->seen[level]++;
    flags->raised[level] += (uint32_t)raised;
    flags->flags += (uint64_t)raised;
}

/* Index of the cell that holds x: boundaries at or below it. */
static inline int kolmo_cell(const kolmo_grid *grid, double x) {
    int low = 0, high = grid->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (grid->bounds[middle] <= x)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static inline int kolmo_is_near(const kolmo_grid *grid, int cell, double x, double slack) {
    return (cell > 0 && x - grid->bounds[cell - 1] <= slack) || (cell < grid->count && grid->bounds[cell] - x <= slack);
}

static inline void kolmo_encode_decision(const kolmo_tree *tree, kolmo_flags *flags, kolmo_encoder *coder, int level, double x, int bit) {
    int cell = kolmo_cell(&tree->grids[0], x), grid = 0;
    if (tree->slack >= 0) {
        grid = kolmo_is_near(&tree->grids[0], cell, x, tree->slack);
        kolmo_encode(coder, grid, kolmo_flag_chance(tree, flags, level));
        kolmo_flag_seen(flags, level, grid);
        if (grid) cell = kolmo_cell(&tree->grids[1], x);
    }
    kolmo_encode(coder, bit, tree->grids[grid].chance[cell]);
}

static inline int kolmo_decode_decision(const kolmo_tree *tree, kolmo_flags *flags, kolmo_decoder *coder, int level, double x) {
    int grid = 0;
    if (tree->slack >= 0) {
        grid = kolmo_decode(coder, kolmo_flag_chance(tree, flags, level));
        kolmo_flag_seen(flags, level, grid);
    }
    return kolmo_decode(coder, tree->grids[grid].chance[kolmo_cell(&tree->grids[grid], x)]);
}

/* Sums of all nodes of a heap of `leaves` (a power of two): node k has the children 2k and 2k + 1. */
static inline void kolmo_heap(double *heap, size_t leaves) {
    for (size_t k = leaves - 1; k > 0; k--) heap[k] = heap[2 * k] + heap[2 * k + 1];
}

/* What a decision costs on grid A, in nats. */
static inline double kolmo_cost_decision(const kolmo_tree *tree, double x, int bit) {
    uint32_t p1 = tree->grids[0].chance[kolmo_cell(&tree->grids[0], x)];
    return -log((bit ? p1 : 65536 - p1) / 65536.0);
}

/* One stretch of the path: `leaves` leaves in a heap, the first of them `first` ids into the vocabulary, each `width`
 * ids wide. A half that lies beyond the vocabulary takes no decision. A decoder finds the way; without one `place` is the
 * leaf to go to, and an encoder codes the way, or its nats are added up. */
static inline size_t kolmo_descend(const kolmo_tree *tree, kolmo_flags *flags, kolmo_encoder *encoder, kolmo_decoder *decoder,
                                   double *nats, const double *heap, size_t leaves, size_t first, size_t width, int level, size_t place) {
    size_t node = 1, low = 0, span = leaves;
    while (node < leaves) {
        span /= 2;
        int bit = 0;
        if (first + (low + span) * width < tree->vocabulary) {
            double x = log(heap[2 * node + 1] / heap[2 * node]);
            bit = decoder ? kolmo_decode_decision(tree, flags, decoder, level, x) : place >= low + span;
            if (encoder) kolmo_encode_decision(tree, flags, encoder, level, x, bit);
            if (nats) *nats += kolmo_cost_decision(tree, x, bit);
        }
        node = 2 * node + (size_t)bit;
        low += bit ? span : 0;
        level++;
    }
    return low;
}

#define KOLMO_LEAST_float -32.0f /* of logits below the greatest: further down, their difference would round too much */
#define KOLMO_LEAST_double -64.0

/* exp of x from LEAST to 0, elementwise, in a form that compilers vectorise: 2^n times a polynomial. */
KOLMO_INLINE float kolmo_exp_float(float x) {
    union { float f; int32_t i; } y;
    float n = x * 1.44269504f + 12582912.0f - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    y.f = p * r * r + r + 1.0f;
    y.i += (int32_t)n * (1 << 23);
    return y.f;
}

KOLMO_INLINE double kolmo_exp_double(double x) {
    union { double f; int64_t i; } y, shifted;
    shifted.f = x * 1.4426950408889634 + 6755399441055744.0; /* 1.5 * 2^52: its low bits are the rounded integer */
    double n = shifted.f - 6755399441055744.0;
    double r = x - n * 6.93147180369123816490e-01 - n * 1.90821492927058770002e-10;
    double p = 1.0 / 6227020800.0;
    p = p * r + 1.0 / 479001600.0;
    p = p * r + 1.0 / 39916800.0;
    p = p * r + 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    y.f = p * r * r + r + 1.0;
    y.i += (int64_t)((uint64_t)shifted.i << 52);
    return y.f;
}

static inline size_t kolmo_power(size_t n) {
    size_t p = 1;
    while (p < n) p *= 2;
    return p;
}

#endif
