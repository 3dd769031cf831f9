/* Tokens as binary decisions: C counterpart of tokens/reference.py, which specifies it (docs/language-models.md has the
 * argument).
 *
 * The masses of ids are summed up a balanced tree, without cancellation; a token is the path down to its leaf. A
 * decision's log-odds, which are only nearly the same on two machines, are rounded on one of eight grids, and for each
 * span of tokens a number is coded that selects the grids (predictors/language_models/grids.py).
 * The sums of 256 neighbours are the tree's middle: above them is `top`, below `leaf`, so that only these sums have to
 * be copied from a device. */
#ifndef KOLMO_TOKENS_H
#define KOLMO_TOKENS_H

#include <math.h>

#include "coder/coder.h"
#include "memory/token_memory.h"

#define KOLMO_GROUP_DEPTH 8
#define KOLMO_GROUP 256 /* leaves whose masses are kept apart until their group is known */

#define KOLMO_SHIFTS 8
#define KOLMO_CHOICES 65536 /* most choices of grids for a span */
#define KOLMO_MAX_POINTS 32766 /* so that (place + 1) * 2 + bit has 16 bits */

typedef struct {
    double slack;           /* a decision must be farther than this from the boundaries of its grid */
    uint32_t span;          /* tokens for which a choice holds; 0: the first grid is used throughout, and there are no choices */
    int points;             /* boundaries of all grids, ascending log-odds: of grid k, every eighth from the k-th on */
    const double *point;    /* [points] */
    const uint16_t *chance; /* [points]: probability of a 1 in the cell with this point in the middle, of 65536 */
    size_t vocabulary, groups;
    int top_depth;
    double *tables;    /* owned */
    uint16_t *chances; /* owned */
} kolmo_tree;

/* State of the spans so far, equal on both sides. */
typedef struct {
    uint32_t seen, again;  /* decisions "take the next choice", and those of them that were a 1 */
    uint32_t tokens;       /* tokens of this span so far */
    uint32_t choice, made; /* of a decoder: the choice of this span, and its decisions so far */
} kolmo_spans;

typedef struct {
    uint32_t decision, near; /* index in the span; the grids, as bits, with a boundary too near to it */
} kolmo_near_decision;

/* An encoder's decisions of the span so far; the choice is coded before them. One with a memory (docs/memory.md) keeps all
 * decisions, choices and tokens of its lane, since all lanes are coded together, at the end. */
typedef struct {
    kolmo_spans spans;
    uint16_t *made; /* (place + 1) * 2 + bit; with a memory, of the spans before this one, chances in their place */
    size_t first, count, room; /* first: of this span */
    kolmo_near_decision *near;
    size_t near_count, near_room;
    int keeps; /* whether it has a memory */
    uint32_t *choices, *tokens;
    size_t choice_count, choice_room, token_count, token_room;
    int failed;    /* out of memory */
    int no_choice; /* every choice has a decision too near to a boundary */
} kolmo_queue;

static inline uint32_t kolmo_again_chance(const kolmo_spans *spans) {
    uint64_t p = ((uint64_t)(spans->again + 3) << 16) / ((uint64_t)spans->seen + 4);
    return p < 1 ? 1 : p > 65535 ? 65535 : (uint32_t)p;
}

static inline void kolmo_again_seen(kolmo_spans *spans, int again) {
    spans->seen++;
    spans->again += (uint32_t)again;
}

/* The grid of decision number `decision` of a span. */
static inline int kolmo_shift_of(uint32_t choice, uint32_t decision) {
    uint32_t h = choice * 0x9E3779B1u + decision * 0x85EBCA77u;
    h ^= h >> 15;
    h *= 0xC2B2AE3Du;
    return (int)(h >> 29);
}

/* Number of points at or below x, minus 1; -1 below all of them. */
static inline int kolmo_place(const kolmo_tree *tree, double x) {
    int low = 0, high = tree->points;
    while (low < high) {
        int middle = (low + high) / 2;
        if (tree->point[middle] <= x)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

/* Probability of a 1, of 65536, in the cell of a grid. */
static inline uint32_t kolmo_chance_at(const kolmo_tree *tree, int place, int shift) {
    int middle = place - (place + KOLMO_SHIFTS - shift) % KOLMO_SHIFTS + KOLMO_SHIFTS / 2;
    return tree->chance[middle < 0 ? 0 : middle < tree->points ? middle : tree->points - 1];
}

/* The grids with a boundary within the slack of x. */
static inline uint32_t kolmo_near(const kolmo_tree *tree, int place, double x) {
    uint32_t near = 0;
    for (int i = place; i >= 0 && i > place - KOLMO_SHIFTS && x - tree->point[i] <= tree->slack; i--) near |= 1u << i % KOLMO_SHIFTS;
    for (int i = place + 1; i < tree->points && i <= place + KOLMO_SHIFTS && tree->point[i] - x <= tree->slack; i++)
        near |= 1u << i % KOLMO_SHIFTS;
    return near;
}

/* `things` with room for one more than `count` elements of `size` bytes. NULL without memory; they are then unchanged. */
static inline void *kolmo_grown(void *things, size_t count, size_t *room, size_t size) {
    if (count < *room) return things;
    size_t more = *room ? *room * 2 : 256;
    void *grown = realloc(things, more * size);
    if (grown) *room = more;
    return grown;
}

static inline void kolmo_encode_decision(const kolmo_tree *tree, kolmo_queue *queue, kolmo_encoder *coder, double x, int bit) {
    int place = kolmo_place(tree, x);
    if (!tree->span && !queue->keeps) {
        kolmo_encode(coder, bit, kolmo_chance_at(tree, place, 0));
        return;
    }
    uint32_t near = tree->span ? kolmo_near(tree, place, x) : 0;
    uint16_t *made = (uint16_t *)kolmo_grown(queue->made, queue->count, &queue->room, sizeof *made);
    if (made) queue->made = made;
    kolmo_near_decision *decisions = queue->near;
    if (near) decisions = (kolmo_near_decision *)kolmo_grown(queue->near, queue->near_count, &queue->near_room, sizeof *decisions);
    if (near && decisions) queue->near = decisions;
    if (!made || (near && !decisions)) {
        queue->failed = 1;
        return;
    }
    if (near) queue->near[queue->near_count++] = (kolmo_near_decision){(uint32_t)(queue->count - queue->first), near};
    queue->made[queue->count++] = (uint16_t)(tree->span ? (place + 1) * 2 + bit : (int)kolmo_chance_at(tree, place, 0));
}

static inline int kolmo_is_allowed(const kolmo_queue *queue, uint32_t choice) {
    for (size_t i = 0; i < queue->near_count; i++)
        if (queue->near[i].near >> kolmo_shift_of(choice, queue->near[i].decision) & 1) return 0;
    return 1;
}

/* A choice of grids, as so many ones and a zero. */
static inline void kolmo_encode_choice(kolmo_spans *spans, kolmo_encoder *coder, uint32_t choice) {
    for (uint32_t i = 0; i <= choice; i++) {
        kolmo_encode(coder, i < choice, kolmo_again_chance(spans));
        kolmo_again_seen(spans, i < choice);
    }
}

static inline uint32_t kolmo_made_chance(const kolmo_tree *tree, const kolmo_queue *queue, size_t i, uint32_t choice) {
    return kolmo_chance_at(tree, queue->made[i] / 2 - 1, kolmo_shift_of(choice, (uint32_t)(i - queue->first)));
}

/* Keep the choice and the chances of the span so far. */
static inline void kolmo_keep_span(const kolmo_tree *tree, kolmo_queue *queue, uint32_t choice) {
    uint32_t *choices = (uint32_t *)kolmo_grown(queue->choices, queue->choice_count, &queue->choice_room, sizeof *choices);
    if (!choices) {
        queue->failed = 1;
        return;
    }
    queue->choices = choices;
    queue->choices[queue->choice_count++] = choice;
    for (size_t i = queue->first; i < queue->count; i++) queue->made[i] = (uint16_t)kolmo_made_chance(tree, queue, i, choice);
    queue->first = queue->count;
}

/* Code the span so far: the first choice without a decision too near to a boundary, and then the decisions. */
static inline void kolmo_encode_span(const kolmo_tree *tree, kolmo_queue *queue, kolmo_encoder *coder) {
    uint32_t choice = 0;
    if (!queue->spans.tokens || queue->failed || queue->no_choice) return;
    while (choice < KOLMO_CHOICES && !kolmo_is_allowed(queue, choice)) choice++;
    if (choice == KOLMO_CHOICES) {
        queue->no_choice = 1;
        return;
    }
    if (queue->keeps) {
        kolmo_keep_span(tree, queue, choice);
    } else {
        kolmo_encode_choice(&queue->spans, coder, choice);
        for (size_t i = 0; i < queue->count; i++) kolmo_encode(coder, queue->made[i] & 1, kolmo_made_chance(tree, queue, i, choice));
        queue->count = 0;
    }
    queue->near_count = 0;
    queue->spans.tokens = 0;
}

/* After a token's decisions. */
static inline void kolmo_encode_token(const kolmo_tree *tree, kolmo_queue *queue, kolmo_encoder *coder, size_t token) {
    if (queue->keeps) {
        uint32_t *tokens = (uint32_t *)kolmo_grown(queue->tokens, queue->token_count, &queue->token_room, sizeof *tokens);
        queue->failed |= !tokens;
        if (tokens) {
            queue->tokens = tokens;
            queue->tokens[queue->token_count++] = (uint32_t)token;
        }
    }
    if (tree->span && ++queue->spans.tokens == tree->span) kolmo_encode_span(tree, queue, coder);
}

/* Before a token's decisions. Returns whether its span has no choice: a damaged payload. */
static inline int kolmo_decode_token(const kolmo_tree *tree, kolmo_spans *spans, kolmo_decoder *coder) {
    if (!tree->span) return 0;
    if (spans->tokens == 0) {
        spans->choice = spans->made = 0;
        for (;;) {
            int again = kolmo_decode(coder, kolmo_again_chance(spans));
            kolmo_again_seen(spans, again);
            if (!again) break;
            if (++spans->choice == KOLMO_CHOICES) return 1;
        }
    }
    spans->tokens = spans->tokens + 1 == tree->span ? 0 : spans->tokens + 1;
    return 0;
}

static inline int kolmo_decode_decision(const kolmo_tree *tree, kolmo_spans *spans, kolmo_decoder *coder, tm_memory *memory, double x) {
    int shift = tree->span ? kolmo_shift_of(spans->choice, spans->made++) : 0;
    uint32_t chance = kolmo_chance_at(tree, kolmo_place(tree, x), shift);
    if (!memory) return kolmo_decode(coder, chance);
    int bit = kolmo_decode(coder, (uint32_t)tm_predict(memory, chance));
    tm_update(memory, bit);
    return bit;
}

/* Sums of all nodes of a heap of `leaves` (a power of two): node k has the children 2k and 2k + 1. */
static inline void kolmo_heap(double *heap, size_t leaves) {
    for (size_t k = leaves - 1; k > 0; k--) heap[k] = heap[2 * k] + heap[2 * k + 1];
}

/* The cost of a decision on the first grid, in nats. */
static inline double kolmo_cost_decision(const kolmo_tree *tree, double x, int bit) {
    uint32_t p1 = kolmo_chance_at(tree, kolmo_place(tree, x), 0);
    return -log((bit ? p1 : 65536 - p1) / 65536.0);
}

/* What a walk down the tree does at each decision; each part may be absent. */
typedef struct {
    kolmo_queue *queue; /* of an encoder */
    kolmo_encoder *encoder;
    kolmo_spans *spans; /* of a decoder */
    kolmo_decoder *decoder;
    tm_memory *memory; /* of the decoder */
    double *nats; /* costs are added to it */
    double *odds; /* log-odds of each level are written to it */
} kolmo_walker;

/* One part of the path: `leaves` leaves in a heap, the first of them `first` ids into the vocabulary, each `width` ids
 * wide. A half beyond the vocabulary takes no decision. A decoder decodes the path; without one, `place` is the leaf at
 * its end. Returns the leaf. */
static inline size_t kolmo_descend(const kolmo_tree *tree, const kolmo_walker *walker, const double *heap, size_t leaves,
                                   size_t first, size_t width, int level, size_t place) {
    size_t node = 1, low = 0, span = leaves;
    while (node < leaves) {
        span /= 2;
        int bit = 0;
        if (first + (low + span) * width < tree->vocabulary) {
            double x = log(heap[2 * node + 1] / heap[2 * node]);
            bit = walker->decoder ? kolmo_decode_decision(tree, walker->spans, walker->decoder, walker->memory, x) : place >= low + span;
            if (walker->encoder) kolmo_encode_decision(tree, walker->queue, walker->encoder, x, bit);
            if (walker->nats) *walker->nats += kolmo_cost_decision(tree, x, bit);
            if (walker->odds) walker->odds[level] = x;
        } else if (walker->memory) {
            tm_skip(walker->memory);
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
