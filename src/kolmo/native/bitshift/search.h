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

void bitshift_choose_search(int width); /* instruction set: 0 baseline, 1 AVX2, 2 AVX-512 */

#endif
