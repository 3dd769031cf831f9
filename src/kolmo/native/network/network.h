/* The network of docs/neural.md: weights that all lanes share, lanes, and a step.
 *
 * C counterpart of network/reference.py. Sums are sums of integers; all else is elementwise in binary32, in the order written,
 * so every instruction set gives the same bits. What a step does is in network_step.h, compiled once for each. */
#ifndef KOLMO_NETWORK_H
#define KOLMO_NETWORK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"
#include "network/team.h"

#ifndef KOLMO_INLINE /* as in context_mixing.h */
#if defined(__GNUC__) || defined(__clang__)
#define KOLMO_PREFETCH(address) __builtin_prefetch(address)
#define KOLMO_INLINE static inline __attribute__((always_inline))
#else
#define KOLMO_PREFETCH(address) ((void)(address))
#define KOLMO_INLINE static __forceinline
#endif
#endif

enum {
    NETWORK_MAX_LAYERS = 32,
    NETWORK_MAX_TABLES = 8,
    NETWORK_MAX_WIDTH = 1024,
    NETWORK_MAX_LANES = 1 << 16,
    NETWORK_SUMS = 512,
    NETWORK_GROUP = 64, /* rows of a matrix that are stored, and multiplied, together */
    NETWORK_BATCH = 64, /* lanes times steps computed at a time, where the lanes are fewer */
    NETWORK_BRANCHES = 16, /* states of guessed bytes that are kept */
};

/* Constants, computed in Python (native/tables.py). */
typedef struct {
    uint32_t exp2[1024];
    uint16_t log[1024];
} kolmo_network_tables;

/* 8-bit weights, in groups of 64 rows: 4 inputs of row 0, the same 4 of row 1, ..., of row 63; then the next 4 inputs.
 * So 64 bytes are a block of 16 rows x 4 inputs, and a group is read from its first byte to its last. */
typedef struct {
    int rows, inputs;
    int8_t *weights;
    int32_t *start; /* -128 * sum of a row: where a sum begins whose inputs have 128 added */
    float *scale;   /* of each row */
} network_matrix;

typedef struct {
    int32_t layers, state, embedding, slot, tables, width;
    int32_t order[NETWORK_MAX_TABLES], bits[NETWORK_MAX_TABLES];
    int8_t *symbol; /* 256 x embedding */
    float *symbol_scale;
    uint8_t *table[NETWORK_MAX_TABLES]; /* entries x slot / 2 */
    float *table_scale[NETWORK_MAX_TABLES];
    network_matrix in[NETWORK_MAX_LAYERS], out[NETWORK_MAX_LAYERS], head;
    float *bias[NETWORK_MAX_LAYERS], *head_bias;
    kolmo_network_tables constants;
    uint8_t *memory; /* holds all arrays above */
} kolmo_network;

/* The bytes of a lane so far, as far as the tables need them. */
typedef struct {
    uint32_t last4, word, inside;
} network_history;

/* States, histories and scratch of a number of lanes. Scratch is a lane's own, so disjoint ranges of lanes may step at
 * the same time in several threads. */
typedef struct {
    const kolmo_network *network;
    int lanes, steps; /* steps that there is scratch for */
    int threads;      /* and threads that may share a step */
    float *state;     /* lanes x layers x state */
    network_history *history;
    float *x, *y;      /* lanes * steps x width, x state */
    int32_t *z;        /* lanes * steps x the most rows of a matrix: products */
    uint8_t *u;        /* for each thread, lanes * steps x the most inputs: what is multiplied */
    uint32_t *entries; /* lanes * steps x tables */
    float *branch;     /* NETWORK_BRANCHES x layers x state: states of lanes after guessed bytes */
    network_history *branch_history;
    uint8_t *memory;
} kolmo_network_lanes;

/* Guesses of next bytes, evaluated together: row k feeds `symbol[k]` to the state of the branch `parent[k]`, which an
 * earlier row or an earlier call made, or (-1) to the state of `lane[k]`; the result is the branch `place[k]`. */
typedef struct {
    int rows;
    uint8_t symbol[NETWORK_BRANCHES];
    int16_t lane[NETWORK_BRANCHES];
    int8_t parent[NETWORK_BRANCHES], place[NETWORK_BRANCHES];
} network_tree;

/* NULL, or a message: wrong sizes, a wrong length of the weights, or a value that docs/neural.md does not allow. */
const char *kolmo_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size);
/* NULL without memory, or where `kolmo_network_problem` is not NULL. `weights` as in the file: see reference.py. */
kolmo_network *kolmo_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                 const kolmo_network_tables *constants);
void kolmo_network_free(kolmo_network *network);

/* NULL when memory runs out. The network must outlive its lanes. */
kolmo_network_lanes *kolmo_network_lanes_new(const kolmo_network *network, int lanes, int threads);
void kolmo_network_lanes_free(kolmo_network_lanes *lanes);

/* Lanes first .. last - 1 read `steps` symbols each, symbols[t * lanes + lane]; the partial sums of the weights of the
 * byte after each are written to sums + (t * lanes + lane) * 512. */
void kolmo_network_step(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, int first, int last,
                        uint32_t *sums);

/* The same for all lanes, on a team of at most lanes->threads threads, which all call it at once: each computes a part of
 * the rows of every matrix, so that the cache of a core holds only these. */
void kolmo_network_share(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, uint32_t *sums, kolmo_team *team,
                         int part, int parts);

/* Evaluate all rows of a tree without advancing a lane, on a team, as above; the sums after a row are written to
 * sums + place * 512. At most lanes times steps rows. */
void kolmo_network_look_ahead(kolmo_network_lanes *lanes, const network_tree *tree, uint32_t *sums, kolmo_team *team, int part,
                              int parts);

/* Set a lane to the state of a branch, as if it had read the symbols that led there. */
void kolmo_network_follow(kolmo_network_lanes *lanes, int lane, int place);

/* A step on one vector path, at most lanes->steps steps at a time. Without a team there is one part. With a tree, its rows
 * are evaluated, and symbols, steps, first and last are not used. */
typedef void network_run(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, int first, int last,
                         uint32_t *sums, kolmo_team *team, int part, int parts, const network_tree *tree);
extern network_run *kolmo_network_path; /* the path in use */

network_run network_run_baseline;
#if defined(KOLMO_AVX2)
network_run network_run_avx2;
#endif
#if defined(KOLMO_AVX512)
network_run network_run_avx512;
#endif
#if defined(KOLMO_AMX)
network_run network_run_amx;
#endif

/* ln(s) in steps of 1/4096, s > 0. */
static inline int32_t network_ln(const uint16_t *log, uint32_t s) {
#if defined(__GNUC__) || defined(__clang__)
    uint32_t n = 31 - (uint32_t)__builtin_clz(s);
#else
    uint32_t n = 0;
    for (uint32_t v = s >> 1; v; v >>= 1) n++;
#endif
    return (int32_t)n * 2839 + log[((uint64_t)s << 10 >> n) & 1023];
}

/* ln(p / (1 - p)) in steps of 1/256 within +-2047, from weights: of a zero, sums[2 c0], a one, sums[2 c0 + 1]. */
static inline int32_t kolmo_network_stretch(const uint16_t *log, uint32_t zeros, uint32_t ones) {
    int32_t s = (network_ln(log, ones) - network_ln(log, zeros) + 8) >> 4;
    return s < -2047 ? -2047 : s > 2047 ? 2047 : s;
}

#endif
