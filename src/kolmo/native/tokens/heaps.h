/* The two heaps of a token tree: sums of masses above its middle (`top`) and below (`leaf`), from logits or from sums that
 * a device made. */
#ifndef KOLMO_HEAPS_H
#define KOLMO_HEAPS_H

#include "tokens/tokens.h"

typedef struct {
    double *top, *leaf;
} kolmo_heaps;

/* Which instruction set computes the masses: 0 baseline, 1 AVX2, 2 AVX-512. */
void kolmo_choose_masses(int width);

/* Memory for the heaps of a tree; 0 where there is none. Freed in both cases. */
int kolmo_heaps_new(kolmo_heaps *heaps, const kolmo_tree *tree);
void kolmo_heaps_free(kolmo_heaps *heaps);

/* The sums of a row of logits, of 8 bytes each where it is `wide`, else of 4. Returns whether a logit is not finite. */
int kolmo_heaps_top(const kolmo_heaps *heaps, const kolmo_tree *tree, const void *row, int wide, double *greatest);
/* The sums within a group of the same row. */
void kolmo_heaps_leaf(const kolmo_heaps *heaps, const kolmo_tree *tree, const void *row, int wide, size_t group, double greatest);
/* Sums that a device made, into a heap's leaves; missing leaves are empty. Returns whether a sum is not finite. */
int kolmo_heap_fill(double *heap, size_t leaves, const char *sums, size_t n);

/* Walk down the path to `target`, whose sums are in the two heaps. */
void kolmo_walk_to(const kolmo_heaps *heaps, const kolmo_tree *tree, const kolmo_walker *walker, size_t target);

#endif
