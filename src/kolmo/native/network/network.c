/* The network: checking and repacking its weights, making and freeing it and its lanes. */
#include "network/network.h"

#include <stdlib.h>
#include <string.h>

#include "products/arithmetic.h"

network_run *kolmo_network_path = network_run_baseline;

static int network_configure(kolmo_network *n, const int32_t *c, size_t count) {
    memset(n, 0, sizeof *n);
    if (count < 5 || c[4] < 0 || c[4] > NETWORK_MAX_TABLES || count != 5 + 2 * (size_t)c[4]) return 0;
    n->layers = c[0], n->state = c[1], n->embedding = c[2], n->slot = c[3], n->tables = c[4];
    if (n->layers < 1 || n->layers > NETWORK_MAX_LAYERS) return 0;
    if (n->state < 64 || n->state > NETWORK_MAX_WIDTH || n->state % 64) return 0;
    if (n->embedding < 32 || n->embedding > NETWORK_MAX_WIDTH || n->embedding % 32) return 0;
    if (n->slot < (n->tables ? 32 : 0) || n->slot > NETWORK_MAX_WIDTH || n->slot % 32) return 0;
    n->width = n->embedding + n->slot * n->tables;
    if (n->width > NETWORK_MAX_WIDTH || n->width % 64) return 0;
    for (int k = 0; k < n->tables; k++) {
        n->order[k] = c[5 + 2 * k], n->bits[k] = c[6 + 2 * k];
        if (n->order[k] != 0 && (n->order[k] < 2 || n->order[k] > 4)) return 0;
        if (n->bits[k] < 4 || n->bits[k] > 24) return 0;
    }
    return 1;
}

static uint32_t read32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static float to_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* binary16 to binary32, exact; `h` is finite. */
static float from_half(uint32_t h) {
    uint32_t sign = (h & 0x8000) << 16, rest = h & 0x7FFF;
    float f = rest < 0x400 ? (float)rest * 0x1p-24f : to_float((rest << 13) + (112u << 23));
    return sign ? -f : f;
}

/* Reads the weights in the order of the file: first to check them, then to copy them. */
typedef struct {
    const uint8_t *at;
    int wrong;
} network_reader;

static void read_integers(network_reader *r, int8_t *into, size_t count) {
    if (into) memcpy(into, r->at, count);
    else r->wrong |= memchr(r->at, 0x80, count) != NULL;
    r->at += count;
}

static void read_floats(network_reader *r, float *into, size_t count) {
    for (size_t i = 0; i < count; i++, r->at += 4) {
        uint32_t bits = read32(r->at);
        if (into) into[i] = to_float(bits);
        else r->wrong |= (bits & 0x7FFFFFFF) > 0x49800000; /* beyond 2^20, infinite, or a NaN */
    }
}

static void read_halves(network_reader *r, float *into, size_t count) {
    for (size_t i = 0; i < count; i++, r->at += 2) {
        uint32_t bits = r->at[0] | (uint32_t)r->at[1] << 8;
        if (into) into[i] = from_half(bits);
        else r->wrong |= (bits & 0x7FFF) >= 0x7C00;
    }
}

static void read_nibbles(network_reader *r, uint8_t *into, size_t count) {
    if (into) memcpy(into, r->at, count);
    else
        for (size_t i = 0; i < count; i++) r->wrong |= !(r->at[i] & 15) | !(r->at[i] >> 4);
    r->at += count;
}

static void read_matrix(network_reader *r, network_matrix *m) {
    const size_t inputs = (size_t)m->inputs;
    const uint8_t *from = r->at;
    if (!m->weights) {
        read_integers(r, NULL, (size_t)m->rows * inputs);
    } else {
        int8_t *to = m->weights;
        for (int group = 0; group < m->rows; group += NETWORK_GROUP, from += NETWORK_GROUP * inputs)
            for (size_t k = 0; k < inputs; k += 4)
                for (size_t row = 0; row < NETWORK_GROUP; row++, to += 4) memcpy(to, from + row * inputs + k, 4);
        for (int row = 0; row < m->rows; row++) {
            int32_t sum = 0;
            for (size_t k = 0; k < inputs; k++, r->at++) sum += (int8_t)*r->at;
            m->start[row] = -128 * sum;
        }
    }
    read_floats(r, m->scale, (size_t)m->rows);
}

/* All tensors, in the page's order. */
static void read_tensors(network_reader *r, kolmo_network *n) {
    read_integers(r, n->symbol, 256 * (size_t)n->embedding);
    read_floats(r, n->symbol_scale, 256);
    for (int k = 0; k < n->tables; k++) {
        read_nibbles(r, n->table[k], (size_t)n->slot / 2 << n->bits[k]);
        read_halves(r, n->table_scale[k], (size_t)1 << n->bits[k]);
    }
    for (int k = 0; k < n->layers; k++) {
        read_matrix(r, &n->in[k]);
        read_floats(r, n->bias[k], (size_t)n->state);
        read_matrix(r, &n->out[k]);
    }
    read_matrix(r, &n->head);
    read_floats(r, n->head_bias, 256);
}

static uint64_t network_size(const kolmo_network *n) {
    uint64_t state = (uint64_t)n->state, width = (uint64_t)n->width, size = 256 * ((uint64_t)n->embedding + 4);
    for (int k = 0; k < n->tables; k++) size += ((uint64_t)n->slot / 2 + 2) << n->bits[k];
    return size + (uint64_t)n->layers * (4 * state * width + 16 * state + 4 * width) + 256 * (width + 8);
}

static void shape_matrix(network_matrix *m, int rows, int inputs) { m->rows = rows, m->inputs = inputs; }

static void shape_matrices(kolmo_network *n) {
    for (int k = 0; k < n->layers; k++) {
        shape_matrix(&n->in[k], 3 * n->state, n->width);
        shape_matrix(&n->out[k], n->width, n->state);
    }
    shape_matrix(&n->head, 256, n->width);
}

const char *kolmo_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size) {
    kolmo_network n;
    network_reader r = {weights, 0};
    if (!network_configure(&n, config, config_count)) return "the configuration does not fit the kernel";
    if (network_size(&n) != size) return "the weights do not fit the kernel: another length than the configuration's";
    shape_matrices(&n);
    read_tensors(&r, &n);
    return r.wrong ? "the weights do not fit the kernel: a value is out of its range" : NULL;
}

/* A part of one allocation, on a cache line's boundary; with base NULL only the size is counted. */
static void *part(uint8_t *base, size_t *used, size_t size) {
    void *at = base ? base + *used : NULL;
    *used += (size + 63) & ~(size_t)63;
    return at;
}

static uint8_t *aligned(uint8_t *memory) { return memory + (64 - (uintptr_t)memory % 64) % 64; }

static void place_matrix(network_matrix *m, uint8_t *base, size_t *used) {
    m->weights = (int8_t *)part(base, used, (size_t)m->rows * (size_t)m->inputs);
    m->start = (int32_t *)part(base, used, 4 * (size_t)m->rows);
    m->scale = (float *)part(base, used, 4 * (size_t)m->rows);
}

/* Points all arrays into `base`, in the order in which a step reads them; returns the size. */
static size_t place_network(kolmo_network *n, uint8_t *base) {
    size_t used = 0;
    n->symbol = (int8_t *)part(base, &used, 256 * (size_t)n->embedding);
    n->symbol_scale = (float *)part(base, &used, 4 * 256);
    for (int k = 0; k < n->layers; k++) {
        place_matrix(&n->in[k], base, &used);
        n->bias[k] = (float *)part(base, &used, 4 * (size_t)n->state);
        place_matrix(&n->out[k], base, &used);
    }
    place_matrix(&n->head, base, &used);
    n->head_bias = (float *)part(base, &used, 4 * 256);
    for (int k = 0; k < n->tables; k++) {
        n->table[k] = (uint8_t *)part(base, &used, (size_t)n->slot / 2 << n->bits[k]);
        n->table_scale[k] = (float *)part(base, &used, (size_t)4 << n->bits[k]);
    }
    return used;
}

kolmo_network *kolmo_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                 const kolmo_network_tables *constants) {
    if (kolmo_network_problem(config, config_count, weights, size)) return NULL;
    kolmo_network *n = (kolmo_network *)malloc(sizeof *n);
    if (!n) return NULL;
    network_configure(n, config, config_count);
    shape_matrices(n);
    n->constants = *constants;
    n->memory = (uint8_t *)malloc(place_network(n, NULL) + 64);
    if (!n->memory) {
        free(n);
        return NULL;
    }
    place_network(n, aligned(n->memory));
    network_reader r = {weights, 0};
    read_tensors(&r, n);
    return n;
}

void kolmo_network_free(kolmo_network *n) {
    if (!n) return;
    free(n->memory);
    free(n);
}

static size_t place_lanes(kolmo_network_lanes *l, uint8_t *base) {
    const kolmo_network *n = l->network;
    const size_t lanes = (size_t)l->lanes, rows = lanes * (size_t)l->steps;
    const size_t state = (size_t)n->state, width = (size_t)n->width;
    const size_t products = width > 3 * state ? width : 3 * state > 256 ? 3 * state : 256;
    size_t used = 0;
    l->state = (float *)part(base, &used, 4 * lanes * (size_t)n->layers * state);
    l->history = (network_history *)part(base, &used, lanes * sizeof *l->history);
    l->x = (float *)part(base, &used, 4 * rows * width);
    l->y = (float *)part(base, &used, 4 * rows * state);
    l->z = (int32_t *)part(base, &used, 4 * rows * products);
    l->u = (uint8_t *)part(base, &used, (size_t)l->threads * rows * (width > state ? width : state));
    l->entries = (uint32_t *)part(base, &used, 4 * rows * NETWORK_MAX_TABLES);
    l->branch = (float *)part(base, &used, 4 * NETWORK_BRANCHES * (size_t)n->layers * state);
    l->branch_history = (network_history *)part(base, &used, NETWORK_BRANCHES * sizeof *l->branch_history);
    return used;
}

kolmo_network_lanes *kolmo_network_lanes_new(const kolmo_network *network, int lanes, int threads) {
    if (lanes < 1 || lanes > NETWORK_MAX_LANES || threads < 1 || threads > KOLMO_TEAM) return NULL;
    kolmo_network_lanes *l = (kolmo_network_lanes *)calloc(1, sizeof *l);
    if (!l) return NULL;
    l->network = network;
    l->lanes = lanes;
    l->threads = threads;
    l->steps = lanes < NETWORK_BATCH ? NETWORK_BATCH / lanes : 1;
    l->memory = (uint8_t *)calloc(place_lanes(l, NULL) + 64, 1);
    if (!l->memory) {
        free(l);
        return NULL;
    }
    place_lanes(l, aligned(l->memory));
    return l;
}

void kolmo_network_lanes_free(kolmo_network_lanes *l) {
    if (!l) return;
    free(l->memory);
    free(l);
}

static void run_steps(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, int first, int last,
                      uint32_t *sums, kolmo_team *team, int part, int parts) {
    uint64_t had = kolmo_plain_arithmetic();
    for (int t = 0; t < steps; t += lanes->steps) {
        int some = steps - t < lanes->steps ? steps - t : lanes->steps;
        size_t at = (size_t)t * (size_t)lanes->lanes;
        kolmo_network_path(lanes, symbols + at, some, first, last, sums + at * NETWORK_SUMS, team, part, parts,
                           NULL);
    }
    kolmo_restore_arithmetic(had);
}

void kolmo_network_step(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, int first, int last,
                        uint32_t *sums) {
    run_steps(lanes, symbols, steps, first, last, sums, NULL, 0, 1);
}

void kolmo_network_share(kolmo_network_lanes *lanes, const uint8_t *symbols, int steps, uint32_t *sums, kolmo_team *team,
                         int part, int parts) {
    run_steps(lanes, symbols, steps, 0, lanes->lanes, sums, team, part, parts);
}

void kolmo_network_look_ahead(kolmo_network_lanes *lanes, const network_tree *tree, uint32_t *sums, kolmo_team *team, int part,
                              int parts) {
    uint64_t had = kolmo_plain_arithmetic();
    kolmo_network_path(lanes, tree->symbol, 1, 0, lanes->lanes, sums, team, part, parts, tree);
    kolmo_restore_arithmetic(had);
}

void kolmo_network_follow(kolmo_network_lanes *lanes, int lane, int place) {
    const size_t floats = (size_t)lanes->network->layers * (size_t)lanes->network->state;
    memcpy(lanes->state + (size_t)lane * floats, lanes->branch + (size_t)place * floats, 4 * floats);
    lanes->history[lane] = lanes->branch_history[place];
}
