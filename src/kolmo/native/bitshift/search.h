/* The search for the path of least squared error through the bitshift trellis: what its vector paths share. */
#ifndef KOLMO_BITSHIFT_SEARCH_H
#define KOLMO_BITSHIFT_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

enum {
    SEARCH_SEAM = 64,    /* weights before and after the seam that are searched first */
    SEARCH_PADDING = 32, /* elements that a vector may read behind a buffer */
};

/* A search: its table, and its memory, which all rows use one after another. */
typedef struct {
    int states_log, bits;
    size_t width; /* weights of a row, with the free ones */
    int16_t *values;    /* of each state, in units of a target */
    int16_t *nothing;   /* as many zeros */
    uint16_t *costs[2]; /* of each set of 2^bits states that differ in their newest bits only */
    uint16_t *spread;   /* memory for the cost of each state, which only the baseline uses */
    uint8_t *choices;   /* (width, 2^states_log >> bits): the oldest bits of the best state before */
} bitshift_search;

/* Extend all paths by `count` weights, an even number. `costs[0]` are the costs before the first and after the last of them.
 * `targets`: of the weights; `columns`: the weights from here on are free. */
typedef void bitshift_extend(const bitshift_search *, const int16_t *targets, size_t count, size_t columns);
bitshift_extend bitshift_extend_baseline, bitshift_extend_avx2, bitshift_extend_avx512;

/* Instruction sets: 0 baseline, 1 AVX2, 2 AVX-512. */
void bitshift_choose_search(int width);
void bitshift_choose_feedback(int width);

int bitshift_value(uint32_t state);
/* The words of a row, and the values of its weights, from the newest bits of each state. */
void bitshift_write_row(int states_log, int bits, size_t width, const uint8_t *news, uint32_t *words, int8_t *values);

enum { FEEDBACK_NEAR = 32 }; /* weights before one whose errors each path has for itself */
#define FEEDBACK_NEVER 1e30f /* the cost of a path that does not begin at the seam */

/* A search with feedback: its tables, and its memory, which all rows use one after another. */
typedef struct {
    int states_log, bits;
    size_t width;
    const float *importance, *feedback; /* (width,), (width, width) */
    float *values;                      /* of each state */
    float *wanted, *spread;             /* of each state: the target of its path, and the cost before it */
    float *costs;                       /* of each set */
    int32_t *chosen;                    /* of each set: the oldest bits of the best state before */
    float *near[2];                     /* (sets, FEEDBACK_NEAR): what errors of the path add to the next targets, at place % FEEDBACK_NEAR */
    float *far;                         /* (width,): what decided errors add to targets further on */
    uint8_t *choices;                   /* (width, sets) */
} bitshift_feedback;

/* The newest bits of each state of a row that begins and ends at the set `seam`. */
typedef void bitshift_follow(const bitshift_feedback *, const float *targets, size_t seam, uint8_t *news);
bitshift_follow bitshift_follow_baseline, bitshift_follow_avx2, bitshift_follow_avx512;

#endif
