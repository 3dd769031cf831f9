/* See heaps.h. */
#include "tokens/heaps.h"

#define KOLMO_TARGET
#define KOLMO_PATH(x) x
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH

#if defined(KOLMO_AVX2)
#define KOLMO_TARGET __attribute__((target("avx2")))
#define KOLMO_PATH(x) x##_avx2
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH
#endif
#if defined(KOLMO_AVX512)
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#define KOLMO_PATH(x) x##_avx512
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH
#endif

/* Greatest logit, masses of groups, masses of neighbours; [0] of floats, [1] of doubles. */
typedef struct {
    double (*best)(const void *, size_t);
    void (*top)(const void *, size_t, double, double *);
    void (*leaf)(const void *, size_t, double, double *);
} kolmo_masses;

#define MASSES_OF(path) {{best_float##path, top_float##path, leaf_float##path}, {best_double##path, top_double##path, leaf_double##path}}
static const kolmo_masses baseline[2] = MASSES_OF();
static const kolmo_masses *masses = baseline; /* of the path that was chosen */
#if defined(KOLMO_AVX2)
static const kolmo_masses avx2[2] = MASSES_OF(_avx2);
#endif
#if defined(KOLMO_AVX512)
static const kolmo_masses avx512[2] = MASSES_OF(_avx512);
#endif

void kolmo_choose_masses(int width) {
    (void)width;
    masses = baseline;
#if defined(KOLMO_AVX2)
    if (width == 1) masses = avx2;
#endif
#if defined(KOLMO_AVX512)
    if (width == 2) masses = avx512;
#endif
}

static double *heap_for(size_t leaves) { return (double *)malloc(2 * leaves * sizeof(double)); }

int kolmo_heaps_new(kolmo_heaps *heaps, const kolmo_tree *tree) {
    heaps->top = heap_for(kolmo_power(tree->groups));
    heaps->leaf = heap_for(KOLMO_GROUP);
    return heaps->top && heaps->leaf;
}

void kolmo_heaps_free(kolmo_heaps *heaps) {
    free(heaps->top);
    free(heaps->leaf);
}

/* The heap's leaves are at its upper half. */
int kolmo_heaps_top(const kolmo_heaps *heaps, const kolmo_tree *tree, const void *row, int wide, double *greatest) {
    size_t leaves = kolmo_power(tree->groups);
    double *heap = heaps->top;
    *greatest = masses[wide].best(row, tree->vocabulary);
    masses[wide].top(row, tree->vocabulary, *greatest, heap + leaves);
    for (size_t i = tree->groups; i < leaves; i++) heap[leaves + i] = 0;
    kolmo_heap(heap, leaves);
    return !(heap[1] > 0 && heap[1] < HUGE_VAL); /* a NaN or an infinite logit */
}

void kolmo_heaps_leaf(const kolmo_heaps *heaps, const kolmo_tree *tree, const void *row, int wide, size_t group, double greatest) {
    size_t first = group * KOLMO_GROUP, n = tree->vocabulary - first;
    double *heap = heaps->leaf;
    n = n < KOLMO_GROUP ? n : KOLMO_GROUP;
    masses[wide].leaf((const char *)row + first * (wide ? 8 : 4), n, greatest, heap + KOLMO_GROUP);
    for (size_t i = n; i < KOLMO_GROUP; i++) heap[KOLMO_GROUP + i] = 0;
    kolmo_heap(heap, KOLMO_GROUP);
}

int kolmo_heap_fill(double *heap, size_t leaves, const char *sums, size_t n) {
    int odd = 0;
    memcpy(heap + leaves, sums, 8 * n);
    for (size_t i = 0; i < n; i++) odd |= !(heap[leaves + i] >= 0 && heap[leaves + i] < HUGE_VAL);
    for (size_t i = n; i < leaves; i++) heap[leaves + i] = 0;
    kolmo_heap(heap, leaves);
    return odd || !(heap[1] > 0);
}

void kolmo_walk_to(const kolmo_heaps *heaps, const kolmo_tree *tree, const kolmo_walker *walker, size_t target) {
    size_t group = target / KOLMO_GROUP;
    kolmo_descend(tree, walker, heaps->top, kolmo_power(tree->groups), 0, KOLMO_GROUP, 0, group);
    kolmo_descend(tree, walker, heaps->leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, target % KOLMO_GROUP);
}
