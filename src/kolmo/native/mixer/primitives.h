/* What every mixer is made of: tables, hashes, the memory of bit histories. Counterpart of mixer/primitives.py.
 *
 * The arithmetic of each bit is in primitives_loop.h, compiled once for each instruction set. Users: the context mixer
 * (context_mixing.h), and the mixers of pictures and sounds. */
#ifndef KOLMO_PRIMITIVES_H
#define KOLMO_PRIMITIVES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"

#if defined(__GNUC__) || defined(__clang__)
#define KOLMO_PREFETCH(address) __builtin_prefetch(address)
#define KOLMO_INLINE static inline __attribute__((always_inline))
#else
#define KOLMO_PREFETCH(address) ((void)(address))
#define KOLMO_INLINE static __forceinline
#endif

enum {
    CM_NODES = 15,         /* bit histories in the binary tree of a nibble */
    CM_TREES = 4,          /* trees in a bucket, */
    CM_BUCKET = 64,        /* which is a cache line */
    CM_SQUASH = 6144,      /* the logistic function on -12..12, in steps of 1/256 */
    CM_APM_STEPS = 24,     /* knots of an adaptive probability map, 256 apart in the stretch domain */
};

/* What a run does; the values of `mode`. */
enum { CM_ENCODE, CM_DECODE, CM_SCORE };

/* Constants, computed in Python (native/tables.py), so that both implementations have the same. */
typedef struct {
    int16_t stretch[4096];
    uint16_t squash[CM_SQUASH];
    uint8_t next[256][2];
    uint8_t priority[256]; /* of a tree, by the history at its root: the least is replaced */
    uint8_t kind[256]; /* of a character */
    uint16_t reciprocal[1024];
} cm_tables;

KOLMO_INLINE uint32_t cm_hash(uint32_t a, uint32_t b) {
    uint32_t h = (a * 0x2F0B4C47u) ^ ((b + 0x9E3779B9u) * 0x85EBCA6Bu);
    h ^= h >> 15;
    h *= 0xC2B2AE35u;
    return h ^ h >> 13;
}

/* The tree of a hashed context: its own, or a new one in place of the bucket's tree with the least priority.
 *
 *   bucket, one cache line:  c0 c1 c2 c3 | tree 0: 15 histories | tree 1 | tree 2 | tree 3
 *
 * A tree's nodes are numbered 1..15 (the leading one and the bits of the nibble so far), so the pointer returned is one
 * before its first node. A check that matches an empty tree has the same effect as a new tree. */
KOLMO_INLINE uint8_t *cm_find(const cm_tables *tables, uint8_t *buckets, uint32_t mask, uint32_t hash) {
    uint8_t *bucket = buckets + (size_t)(hash & mask) * CM_BUCKET;
    uint8_t check = (uint8_t)(hash >> 24), *trees = bucket + CM_TREES - 1;
    if (bucket[0] == check) return trees;
    if (bucket[1] == check) return trees + CM_NODES;
    if (bucket[2] == check) return trees + 2 * CM_NODES;
    if (bucket[3] == check) return trees + 3 * CM_NODES;
    int least = 0;
    for (int k = 1; k < CM_TREES; k++)
        if (tables->priority[trees[k * CM_NODES + 1]] < tables->priority[trees[least * CM_NODES + 1]]) least = k;
    bucket[least] = check;
    trees += least * CM_NODES;
    memset(trees + 1, 0, CM_NODES);
    return trees;
}

/* Zeroed memory of buckets, aligned to cache lines; `base` is what to free. NULL when memory runs out. */
uint8_t *cm_buckets_new(size_t size, uint8_t **base);

#endif
