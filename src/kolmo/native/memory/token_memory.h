/* Memory beside a language model: what the tokens of a block so far say about the next one, mixed with what the model says.
 *
 * C counterpart of memory/reference.py, which specifies it; docs/memory.md explains it. A token is a path down the tree of
 * tokens/tokens.h. What is done once for each token is here, the work of a decision is in token_memory_loop.h, compiled
 * once for each instruction set. Integers throughout, so every path gives the same bits. */
#ifndef KOLMO_TOKEN_MEMORY_H
#define KOLMO_TOKEN_MEMORY_H

#include "mixer/primitives.h"

enum {
    TM_GRAMS = 4,       /* contexts of the last 1, 2, 4 and 6 tokens, */
    TM_CONTEXTS = 6,    /* and two of the field of the line: its number and what it begins with; the line's first field too */
    TM_NEAR = 15,       /* tokens that are kept of a context of one token, */
    TM_KEPT = 7,        /* and of a longer one */
    TM_MATCHES = 2,     /* earlier places that go on: after the longest equal history, and after a short one */
    TM_LONG = 7, TM_SHORT = 2, /* tokens that have to be equal */
    TM_LENGTHS = 32,    /* buckets of a match's length */
    TM_QUANTA = 6,      /* of a count */
    TM_PARTS = 4,       /* of the tree's levels */
    TM_HISTORIES = TM_QUANTA * TM_QUANTA * 2 * TM_PARTS,
    TM_INPUTS = 24,     /* 21 of them in use */
    TM_SETS = 4,        /* weight sets of the first layer */
    TM_FINAL = 8,       /* inputs of the second, 4 of them in use */
    TM_MAX_LEVELS = 24,
};

/* Bits of what a token is. */
enum { TM_ENDS_LINE = 1, TM_BEGINS_FIELD = 2 };

#define TM_NONE 0xFFFFFFFFu /* no token: an end of a list, or a place that is not known yet */

typedef struct {
    uint32_t first, end, at;              /* places of this lane's tokens in the block; the next one */
    uint32_t match[TM_MATCHES], length[TM_MATCHES]; /* where a match goes on, and how many tokens were equal; 0: no match */
    uint32_t field, begun, line; /* of the current line: number of the field, hash of its tokens so far, hash of the first one */
} tm_lane;

/* Tokens that followed a context, newest first: the token times 256, and its count. */
typedef struct {
    uint32_t check, kept[TM_KEPT];
} tm_followers;

typedef struct {
    uint32_t check, kept[TM_NEAR];
} tm_near_followers;

typedef struct {
    int32_t levels; /* of the tree */
    int32_t near_bits, table_bits, match_bits;
    int32_t sizes[TM_SETS];
} tm_shape;

typedef struct tm_memory {
    tm_shape shape;
    cm_tables tables;
    int16_t stretch[65536]; /* inverse of the logistic function: of a probability in 2^-16 */
    uint8_t *kinds;         /* [vocabulary]: what each token is */
    size_t vocabulary;
    uint32_t count;         /* tokens of the block */
    uint32_t *known;        /* [count]: the tokens so far, else TM_NONE */
    int32_t lanes;
    tm_lane *lane;
    uint32_t *matches[TM_MATCHES]; /* hashes of histories to places */
    tm_near_followers *near_followers;
    tm_followers *followers[TM_CONTEXTS]; /* [0] is not used */
    uint32_t *frequent;            /* of each node of the tree: probability (22 bits) and count (10) */
    uint32_t histories[TM_CONTEXTS][TM_HISTORIES], lengths[TM_MATCHES][TM_LENGTHS * TM_PARTS];
    int32_t *weights[TM_SETS], *final_weights;
    uint32_t *errors[TM_SETS], *final_errors;
    /* The current token: */
    tm_lane *l;
    uint32_t *lists[TM_CONTEXTS];           /* where its contexts' followers are kept */
    uint32_t slots[TM_MATCHES];           /* its entries in `matches` */
    uint32_t expected[TM_MATCHES];        /* the token that each match predicts, or TM_NONE */
    uint32_t possible[TM_CONTEXTS][TM_NEAR]; /* followers in the part of the tree that is left */
    int32_t possibles[TM_CONTEXTS];
    uint32_t low, span, node;             /* this part: tokens from `low` on, twice `span` of them; its node */
    int32_t level;
    /* The current decision: */
    int32_t x[TM_INPUTS], outputs[TM_FINAL], p[TM_SETS], mixed;
    int32_t *w[TM_SETS], *final;
    uint32_t *e[TM_SETS], *final_error, *history[TM_CONTEXTS], *length_map[TM_MATCHES], *frequent_map;
    int32_t expected_bit[TM_MATCHES]; /* -1: none */
} tm_memory;

/* `kinds`: what each token of the vocabulary is; `lengths`: tokens of each lane, in the order of the block; `remembered`: size
 * of the tables in tokens. NULL when memory runs out. */
tm_memory *tm_new(const cm_tables *tables, const uint8_t *kinds, size_t vocabulary, const int32_t *lengths, int32_t lanes,
                  uint32_t remembered);
void tm_free(tm_memory *m);

/* Before a lane's next token. */
void tm_begin(tm_memory *m, int32_t lane);
/* A decision with the model's chance of a 1, of 65536: returns the mixture's. The bit must follow. */
int32_t tm_predict(tm_memory *m, uint32_t chance);
void tm_update(tm_memory *m, int32_t y);
/* A level without a decision. */
void tm_skip(tm_memory *m);
/* After the last decision: the token is at m->low. */
void tm_end(tm_memory *m);

void tm_choose(int width); /* instruction set: 0 baseline, 1 AVX2 */

#endif
