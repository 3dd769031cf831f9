/* The network: what a step does. Compiled once for each instruction set: the file that includes this one defines
 * KOLMO_TARGET (a function attribute, or nothing), KOLMO_RUN (the name of the entry point), and the inner products:
 *
 *   NETWORK_OFFSET  what is added to the bytes that are multiplied: 0, or 128 where the instruction wants them unsigned
 *   NETWORK_TILE    the most rows of these that a tile multiplies at once
 *   network_tile    (weights, start, inputs, u, n, z, rows): a group's 64 rows of weights times n rows of u
 *
 * and optionally NETWORK_OWN_NORMALISE, NETWORK_OWN_RECUR, NETWORK_OWN_WEIGH, where it defines these functions itself;
 * NETWORK_MANY, from how many rows of u on network_product_many takes the place of network_product.
 *
 * The loops over floats are plain ones, which compilers turn into vector code: each operation rounds once whatever the
 * width. Each has a variable to itself, since within an expression compilers may keep more than binary32 (s390x, x87).
 * A comparison picks its first operand only when it is true, so that not even a NaN could leave a clamp. */
#include "network/network.h"

#include <math.h>
#include <string.h>

#include "products/weigh.h"

KOLMO_INLINE KOLMO_TARGET float network_squeeze(float t) {
    float square = t * t, more = 1.0f + square, half = 0.5f * t, slope = half / sqrtf(more);
    return 0.5f + slope;
}

#if !defined(NETWORK_OWN_NORMALISE)
/* Rows with a root mean square of `scale`, as integers within +-127. */
static KOLMO_TARGET void network_normalise(const float *restrict x, int rows, int width, float scale,
                                           uint8_t *restrict u) {
    const double inverse = 1.0 / (width * 16777216.0);
    for (int row = 0; row < rows; row++, x += width, u += width) {
        uint64_t sum = 0;
        for (int j = 0; j < width; j++) {
            float wide = x[j] * 4096.0f;
            int32_t i = (int32_t)network_rint(network_clamp(wide, -67108864.0f, 67108864.0f));
            uint32_t size = (uint32_t)(i < 0 ? -i : i);
            sum += (uint64_t)size * size;
        }
        double mean = (double)(int64_t)sum * inverse;
        float m = (float)mean, above = m + 0x1p-20f, by = scale / sqrtf(above);
        for (int j = 0; j < width; j++) {
            float scaled = x[j] * by;
            u[j] = (uint8_t)((int32_t)network_rint(network_clamp(scaled, -127.0f, 127.0f)) + NETWORK_OFFSET);
        }
    }
}
#endif

/* z = m . u for rows of u: (rows, m->rows), the columns first .. last - 1 (multiples of NETWORK_GROUP) of them. Weights
 * are read once for all rows of u: a group of them stays near. */
static KOLMO_TARGET void network_product(const network_matrix *m, const uint8_t *u, int rows, int32_t *z, int first,
                                         int last) {
#if defined(NETWORK_MANY)
    if (rows >= NETWORK_MANY) {
        network_product_many(m, u, rows, z, first, last);
        return;
    }
#endif
    const int tiles = (rows + NETWORK_TILE - 1) / NETWORK_TILE;
    for (int group = first; group < last; group += NETWORK_GROUP) {
        const int8_t *w = m->weights + (size_t)group * (size_t)m->inputs;
        for (int tile = tiles, at = 0; tile; tile--) {
            const int n = (rows - at + tile - 1) / tile;
            const uint8_t *from = u + (size_t)at * (size_t)m->inputs;
            int32_t *to = z + (size_t)at * (size_t)m->rows + group;
            switch (n) {
            case 1: network_tile(w, m->start + group, m->inputs, from, 1, to, m->rows); break;
            case 2: network_tile(w, m->start + group, m->inputs, from, 2, to, m->rows); break;
#if NETWORK_TILE > 2
            case 3: network_tile(w, m->start + group, m->inputs, from, 3, to, m->rows); break;
#endif
#if NETWORK_TILE > 3
            case 4: network_tile(w, m->start + group, m->inputs, from, 4, to, m->rows); break;
            case 5: network_tile(w, m->start + group, m->inputs, from, 5, to, m->rows); break;
            case 6: network_tile(w, m->start + group, m->inputs, from, 6, to, m->rows); break;
#endif
            }
            at += n;
        }
    }
}

#if !defined(NETWORK_OWN_RECUR)
/* The gates of one lane and step: updates the state h, and sets y, the output of the layer. */
static KOLMO_TARGET void network_recur(const int32_t *restrict z, const float *restrict scale,
                                       const float *restrict bias, float *restrict h, float *restrict y,
                                       const int state, const int first, const int last) {
    const int32_t *restrict zc = z + state, *restrict zg = zc + state;
    const float *restrict scale_c = scale + state, *restrict scale_g = scale_c + state;
    for (int j = first; j < last; j++) {
        float r = (float)z[j] * scale[j], c = (float)zc[j] * scale_c[j], g = (float)zg[j] * scale_g[j], t = r + bias[j];
        float away = c - h[j], move = network_squeeze(t) * away, now = h[j] + move, open = now * g;
        h[j] = now;
        y[j] = open * network_squeeze(g);
    }
}
#endif

static KOLMO_TARGET void network_add(float *restrict x, const int32_t *restrict z, const float *restrict scale,
                                     int rows, const int width, const int first, const int last) {
    for (int row = 0; row < rows; row++, x += width, z += width)
        for (int j = first; j < last; j++) {
            float more = (float)z[j] * scale[j];
            x[j] = x[j] + more;
        }
}

#if !defined(NETWORK_OWN_WEIGH)
/* From a row of the head's products to the partial sums of weights. */
static KOLMO_TARGET void network_weigh(const kolmo_network *n, const int32_t *restrict z, uint32_t *restrict sums) {
    const float *restrict scale = n->head.scale, *restrict bias = n->head_bias;
    float l[256];
    for (int b = 0; b < 256; b++) {
        float logit = (float)z[b] * scale[b];
        l[b] = logit + bias[b];
    }
    network_sum(n->constants.exp2, l, sums);
}
#endif

static inline uint32_t network_entry(uint32_t key, int bits) {
    key = (key ^ key >> 15) * 0x9E3779B1u;
    return (key ^ key >> 13) * 0x2F0B4C47u >> (32 - bits);
}

/* Take in a byte; the entries of all tables after it. */
static inline void network_look(const kolmo_network *n, network_history *h, uint32_t c, uint32_t *entries) {
    uint32_t lower = c - 'A' < 26 ? c + 32 : c, key0;
    h->last4 = h->last4 << 8 | c;
    if (lower - 'a' < 26 || c >= 128) {
        h->word = ((h->inside ? h->word : 0) + lower + 1) * 0x2F0B4C47u;
        h->inside = 1;
        key0 = h->word;
    } else {
        h->inside = 0;
        key0 = h->word + (c + 1) * 0x9E3779B1u;
    }
    for (int k = 0; k < n->tables; k++) {
        const int order = n->order[k];
        entries[k] = network_entry(order ? h->last4 & (0xFFFFFFFFu >> (32 - 8 * order)) : key0, n->bits[k]);
        KOLMO_PREFETCH(n->table[k] + (size_t)entries[k] * (size_t)(n->slot / 2));
        KOLMO_PREFETCH(n->table_scale[k] + entries[k]);
    }
}

/* The input of the first layer: the byte's embedding, and what the tables hold for its contexts. */
static KOLMO_TARGET void network_embed(const kolmo_network *n, uint32_t c, const uint32_t *entries, float *restrict x) {
    const int8_t *restrict symbol = n->symbol + (size_t)c * (size_t)n->embedding;
    const float scale = n->symbol_scale[c];
    for (int j = 0; j < n->embedding; j++) x[j] = (float)symbol[j] * scale;
    x += n->embedding;
    for (int k = 0; k < n->tables; k++, x += n->slot) {
        const uint8_t *restrict slot = n->table[k] + (size_t)entries[k] * (size_t)(n->slot / 2);
        const float step = n->table_scale[k][entries[k]];
        for (int j = 0; j < n->slot / 2; j++) {
            x[2 * j] = (float)((slot[j] & 15) - 8) * step;
            x[2 * j + 1] = (float)((slot[j] >> 4) - 8) * step;
        }
    }
}

/* The groups of `rows` of a matrix that a part of a team takes, as its first row. */
static inline int network_share_of(int rows, int part, int parts) {
    return rows / NETWORK_GROUP * part / parts * NETWORK_GROUP;
}

/* What a row's layers remember: a lane's own, or a branch that begins as a copy of another. */
static inline float *network_state(kolmo_network_lanes *l, const network_tree *tree, int row, int lane) {
    const size_t floats = (size_t)l->network->layers * (size_t)l->network->state;
    return tree ? l->branch + (size_t)tree->place[row] * floats : l->state + (size_t)lane * floats;
}

static inline const float *network_state_before(const kolmo_network_lanes *l, const network_tree *tree, int row) {
    const size_t floats = (size_t)l->network->layers * (size_t)l->network->state;
    return tree->parent[row] < 0 ? l->state + (size_t)tree->lane[row] * floats
                                 : l->branch + (size_t)tree->parent[row] * floats;
}

static inline network_history *network_past(kolmo_network_lanes *l, const network_tree *tree, int row, int lane) {
    if (!tree) return &l->history[lane];
    network_history *h = &l->branch_history[tree->place[row]];
    *h = tree->parent[row] < 0 ? l->history[tree->lane[row]] : l->branch_history[tree->parent[row]];
    return h;
}

KOLMO_TARGET void KOLMO_RUN(kolmo_network_lanes *l, const uint8_t *symbols, int steps, int first, int last,
                            uint32_t *sums, kolmo_team *team, int part, int parts, const network_tree *tree) {
    const kolmo_network *n = l->network;
    const int lanes = last - first, rows = tree ? tree->rows : steps * lanes, width = n->width, state = n->state;
    const size_t own = (size_t)first * (size_t)l->steps; /* rows of scratch before those of these lanes */
    float *x = l->x + own * (size_t)width, *y = l->y + own * (size_t)state;
    const size_t products = (size_t)(width > 3 * state ? width : 3 * state > 256 ? 3 * state : 256);
    int32_t *z = l->z + own * products;
    const size_t inputs = (size_t)(width > state ? width : state);
    uint8_t *u = l->u + ((size_t)part * (size_t)l->lanes * (size_t)l->steps + own) * inputs;
    uint32_t *entries = l->entries + own * NETWORK_MAX_TABLES;
    const int s0 = network_share_of(state, part, parts), s1 = network_share_of(state, part + 1, parts);
    const int w0 = network_share_of(width, part, parts), w1 = network_share_of(width, part + 1, parts);
    /* Rows are steps x lanes, time first, or a tree's, each after its parent. Only the recurrence goes row by row; all
     * else takes all rows at once. Parts meet where one needs what all have made: the first inputs, and the y and x of
     * every layer. */
    if (part == 0) {
        for (int row = 0; row < rows; row++) {
            const int lane = first + row % lanes;
            const uint32_t c = symbols[tree ? row : row / lanes * l->lanes + lane];
            network_look(n, network_past(l, tree, row, lane), c, entries + row * NETWORK_MAX_TABLES);
        }
        for (int row = 0; row < rows; row++) {
            const uint32_t c = symbols[tree ? row : row / lanes * l->lanes + first + row % lanes];
            network_embed(n, c, entries + row * NETWORK_MAX_TABLES, x + (size_t)row * (size_t)width);
        }
    }
    if (parts > 1) kolmo_team_meet(team, part);
    for (int k = 0; k < n->layers; k++) {
        network_normalise(x, rows, width, 24.0f, u);
        for (int third = 0; third < 3; third++)
            network_product(&n->in[k], u, rows, z, third * state + s0, third * state + s1);
        for (int row = 0; row < rows; row++) {
            const size_t at = (size_t)row * (size_t)state, layer = (size_t)k * (size_t)state;
            float *h = network_state(l, tree, row, first + row % lanes) + layer;
            if (tree) memcpy(h + s0, network_state_before(l, tree, row) + layer + s0, sizeof *h * (size_t)(s1 - s0));
            network_recur(z + 3 * at, n->in[k].scale, n->bias[k], h, y + at, state, s0, s1);
        }
        if (parts > 1) kolmo_team_meet(team, part);
        network_normalise(y, rows, state, 16.0f, u);
        network_product(&n->out[k], u, rows, z, w0, w1);
        network_add(x, z, n->out[k].scale, rows, width, w0, w1);
        if (parts > 1) kolmo_team_meet(team, part);
    }
    network_normalise(x, rows, width, 24.0f, u);
    network_product(&n->head, u, rows, z, network_share_of(256, part, parts), network_share_of(256, part + 1, parts));
    if (parts > 1) kolmo_team_meet(team, part);
    for (int row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
        const int place = tree ? tree->place[row] : row / lanes * l->lanes + first + row % lanes;
        network_weigh(n, z + row * 256, sums + (size_t)place * NETWORK_SUMS);
    }
    if (parts > 1) kolmo_team_meet(team, part);
}
