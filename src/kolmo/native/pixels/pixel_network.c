/* The network of pixels: checking and repacking its weights, making and freeing it. */
#include "pixels/pixel_network.h"

#include <stdlib.h>
#include <string.h>

#include "pixels/pixel_layout.h"
#include "products/arithmetic.h"

pixel_run *kolmo_pixel_path = pixel_run_baseline;

const uint16_t pixel_differences[PIXEL_KINDS] = {PIXEL_OWN, PIXEL_OWN + 2 * PIXEL_OTHER, PIXEL_OWN + 3 * PIXEL_OTHER + 2,
                                                 PIXEL_OWN + 3 * PIXEL_OTHER + 3};

static int pixel_inputs(int kind) { return pixel_differences[kind] + PIXEL_FLAGS + 2; }

static int pixel_configure(kolmo_pixel_network *n, const int32_t *c, size_t count) {
    memset(n, 0, sizeof *n);
    if (count != 2) return 0;
    n->hidden = c[0], n->layers = c[1];
    if (n->hidden < 64 || n->hidden > PIXEL_MAX_HIDDEN || n->hidden % 64) return 0;
    if (n->layers < 0 || n->layers > PIXEL_MAX_LAYERS) return 0;
    for (int kind = 0; kind < PIXEL_KINDS; kind++)
        n->first[kind].rows = n->hidden, n->first[kind].inputs = (pixel_inputs(kind) + 3) & ~3;
    for (int k = 0; k < n->layers; k++) n->deeper[k].rows = n->deeper[k].inputs = n->hidden;
    n->head.rows = PIXEL_RESIDUALS, n->head.inputs = n->hidden;
    return 1;
}

static size_t pixel_size(const kolmo_pixel_network *n) {
    const size_t hidden = (size_t)n->hidden, layers = (size_t)n->layers;
    size_t size = layers * hidden * (hidden + 8) + PIXEL_RESIDUALS * (hidden + 4 + 4 * PIXEL_KINDS);
    for (int kind = 0; kind < PIXEL_KINDS; kind++)
        size += 2 * (size_t)pixel_differences[kind] + hidden * ((size_t)pixel_inputs(kind) + 8);
    return size;
}

/* Reads the weights in the order of the file: first to check them (nothing is written), then to copy them. */
typedef struct {
    const uint8_t *at;
    int copy, wrong;
} pixel_reader;

static void read_linear(pixel_reader *r, int16_t *into, int count) {
    for (int i = 0; i < count; i++, r->at += 2)
        if (r->copy) into[i] = (int16_t)(uint16_t)(r->at[0] | r->at[1] << 8);
}

static void read_floats(pixel_reader *r, float *into, int count) {
    for (int i = 0; i < count; i++, r->at += 4) {
        const uint32_t bits = r->at[0] | (uint32_t)r->at[1] << 8 | (uint32_t)r->at[2] << 16 | (uint32_t)r->at[3] << 24;
        if (r->copy) memcpy(into + i, &bits, 4);
        else r->wrong |= (bits & 0x7FFFFFFF) > 0x49800000; /* beyond 2^20, infinite, or a NaN */
    }
}

/* A matrix of `inputs` columns, with zeros in those beyond, which `network_matrix` has to make their number a multiple of 4. */
static void read_matrix(pixel_reader *r, network_matrix *m, int inputs) {
    for (int row = 0; row < m->rows; row++) {
        int32_t sum = 0;
        for (int k = 0; k < inputs; k++, r->at++) {
            const int8_t weight = (int8_t)*r->at;
            r->wrong |= weight == -128;
            sum += weight;
            if (!r->copy) continue;
            const size_t group = (size_t)(row / NETWORK_GROUP) * NETWORK_GROUP * (size_t)m->inputs;
            m->weights[group + (size_t)(k / 4) * 4 * NETWORK_GROUP + (size_t)(row % NETWORK_GROUP) * 4 + k % 4] = weight;
        }
        if (r->copy) m->start[row] = -128 * sum;
    }
    read_floats(r, m->scale, m->rows);
}

/* All tensors, in the page's order. */
static void read_tensors(pixel_reader *r, kolmo_pixel_network *n) {
    for (int kind = 0; kind < PIXEL_KINDS; kind++) {
        read_linear(r, n->linear[kind], pixel_differences[kind]);
        read_matrix(r, &n->first[kind], pixel_inputs(kind));
        read_floats(r, n->first_bias[kind], n->hidden);
    }
    for (int k = 0; k < n->layers; k++) {
        read_matrix(r, &n->deeper[k], n->hidden);
        read_floats(r, n->deeper_bias[k], n->hidden);
    }
    read_matrix(r, &n->head, n->hidden);
    for (int kind = 0; kind < PIXEL_KINDS; kind++) read_floats(r, n->head_bias[kind], PIXEL_RESIDUALS);
}

const char *kolmo_pixel_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size) {
    kolmo_pixel_network n;
    pixel_reader r = {weights, 0, 0};
    if (!pixel_configure(&n, config, config_count)) return "the configuration does not fit the kernel";
    if (pixel_size(&n) != size) return "the weights do not fit the kernel: another length than the configuration's";
    read_tensors(&r, &n);
    return r.wrong ? "the weights do not fit the kernel: a value is out of its range" : NULL;
}

/* A part of one allocation, on a cache line's boundary; with base NULL only the size is counted. */
static void *part(uint8_t *base, size_t *used, size_t size) {
    void *at = base ? base + *used : NULL;
    *used += (size + 63) & ~(size_t)63;
    return at;
}

static void place_matrix(network_matrix *m, float **bias, uint8_t *base, size_t *used) {
    m->weights = (int8_t *)part(base, used, (size_t)m->rows * (size_t)m->inputs);
    m->start = (int32_t *)part(base, used, 4 * (size_t)m->rows);
    m->scale = (float *)part(base, used, 4 * (size_t)m->rows);
    if (bias) *bias = (float *)part(base, used, 4 * (size_t)m->rows);
}

static size_t place_network(kolmo_pixel_network *n, uint8_t *base) {
    size_t used = 0;
    for (int kind = 0; kind < PIXEL_KINDS; kind++) {
        n->linear[kind] = (int16_t *)part(base, &used, 2 * PIXEL_MAX_DIFFERENCES);
        place_matrix(&n->first[kind], &n->first_bias[kind], base, &used);
        n->head_bias[kind] = (float *)part(base, &used, 4 * PIXEL_RESIDUALS);
    }
    for (int k = 0; k < n->layers; k++) place_matrix(&n->deeper[k], &n->deeper_bias[k], base, &used);
    place_matrix(&n->head, NULL, base, &used);
    return used;
}

kolmo_pixel_network *kolmo_pixel_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                             const kolmo_network_tables *constants, const int8_t squeezed[511]) {
    if (kolmo_pixel_network_problem(config, config_count, weights, size)) return NULL;
    kolmo_pixel_network *n = (kolmo_pixel_network *)malloc(sizeof *n);
    if (!n) return NULL;
    pixel_configure(n, config, config_count);
    n->constants = *constants;
    memcpy(n->squeezed, squeezed, sizeof n->squeezed);
    n->memory = (uint8_t *)calloc(place_network(n, NULL) + 64, 1);
    if (!n->memory) {
        free(n);
        return NULL;
    }
    place_network(n, n->memory + (64 - (uintptr_t)n->memory % 64) % 64);
    pixel_reader r = {weights, 1, 0};
    read_tensors(&r, n);
    return n;
}

void kolmo_pixel_network_free(kolmo_pixel_network *n) {
    if (!n) return;
    free(n->memory);
    free(n);
}

const kolmo_network_tables *kolmo_pixel_network_constants(const kolmo_pixel_network *n) { return &n->constants; }

void kolmo_pixel_network_predict(const kolmo_pixel_network *n, const kolmo_picture *p, uint32_t row, uint32_t column,
                                 uint32_t turn, uint32_t sums[NETWORK_SUMS]) {
    uint64_t had = kolmo_plain_arithmetic();
    kolmo_pixel_path(n, p, row, column, turn, sums);
    kolmo_restore_arithmetic(had);
}
