/* The network that predicts samples: checking and repacking its weights, making and freeing it. */
#include "samples/sample_network.h"

#include <stdlib.h>
#include <string.h>

#include "products/arithmetic.h"
#include "samples/sample_weights.h"

sample_run *kolmo_sample_path = sample_run_baseline;

static int configure(kolmo_sample_network *n, const int32_t *c, size_t count) {
    memset(n, 0, sizeof *n);
    if (count != 2 || c[0] < 64 || c[0] > SAMPLE_MAX_WIDTH || c[0] % 64 || c[1] < 1 || c[1] > SAMPLE_MAX_LAYERS) return 0;
    n->width = c[0], n->layers = c[1];
    return 1;
}

static int rows_of(const kolmo_sample_network *n, int layer) { return layer == n->layers ? SAMPLE_OUTPUTS : n->width; }

static int inputs_of(const kolmo_sample_network *n, int layer) { return layer ? n->width : SAMPLE_INPUTS; }

static size_t file_size(const kolmo_sample_network *n) {
    size_t size = 4 * SAMPLE_FUNCTIONS * (SAMPLE_LAGS + SAMPLE_OTHER);
    for (int k = 0; k <= n->layers; k++) size += (size_t)rows_of(n, k) * ((size_t)inputs_of(n, k) + 8);
    return size;
}

static uint32_t read32(const uint8_t *at) {
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

const char *kolmo_sample_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size) {
    kolmo_sample_network n;
    int wrong = 0;
    if (!configure(&n, config, config_count)) return "the configuration does not fit the kernel";
    if (file_size(&n) != size) return "the weights do not fit the kernel: another length than the configuration's";
    for (int i = 0; i < SAMPLE_FUNCTIONS * (SAMPLE_LAGS + SAMPLE_OTHER); i++, weights += 4)
        wrong |= read32(weights) + (1u << 20) > 1u << 21; /* beyond +-2^20 */
    for (int k = 0; k <= n.layers; k++) {
        const size_t rows = (size_t)rows_of(&n, k), count = rows * (size_t)inputs_of(&n, k);
        wrong |= memchr(weights, 0x80, count) != NULL;
        weights += count;
        for (size_t i = 0; i < 2 * rows; i++, weights += 4)
            wrong |= (read32(weights) & 0x7FFFFFFF) > 0x49800000; /* beyond 2^20, infinite, or a NaN */
    }
    return wrong ? "the weights do not fit the kernel: a value is out of its range" : NULL;
}

/* A part of one allocation, on a cache line's boundary; with base NULL only the size is counted. */
static void *part(uint8_t *base, size_t *used, size_t size) {
    void *at = base ? base + *used : NULL;
    *used += (size + 63) & ~(size_t)63;
    return at;
}

/* Points all arrays into `base`, in the order in which a prediction reads them; returns the size. */
static size_t place(kolmo_sample_network *n, uint8_t *base) {
    size_t used = 0;
    n->coefficients = (double *)part(base, &used, sizeof(double) * SAMPLE_FUNCTIONS * (SAMPLE_LAGS + SAMPLE_OTHER));
    for (int k = 0; k <= n->layers; k++) {
        network_matrix *m = &n->matrix[k];
        m->rows = k == n->layers ? SAMPLE_HEAD : n->width;
        m->inputs = inputs_of(n, k);
        m->weights = (int8_t *)part(base, &used, (size_t)m->rows * (size_t)m->inputs);
        m->start = (int32_t *)part(base, &used, 4 * (size_t)m->rows);
        m->scale = (float *)part(base, &used, 4 * (size_t)m->rows);
        n->bias[k] = (float *)part(base, &used, 4 * (size_t)m->rows);
    }
    return used;
}

static void read_floats(const uint8_t **from, float *into, int count) {
    for (int i = 0; i < count; i++, *from += 4) {
        const uint32_t bits = read32(*from);
        memcpy(into + i, &bits, 4);
    }
}

/* The memory is zeros: rows that the file does not have stay so. */
static void read_matrix(const uint8_t **from, network_matrix *m, float *bias, int rows) {
    const int inputs = m->inputs;
    for (int row = 0; row < rows; row++) {
        int8_t *group = m->weights + (size_t)(row / NETWORK_GROUP * NETWORK_GROUP) * (size_t)inputs;
        int32_t sum = 0;
        for (int k = 0; k < inputs; k++, ++*from) {
            const int8_t weight = (int8_t)**from;
            group[k / 4 * 4 * NETWORK_GROUP + row % NETWORK_GROUP * 4 + k % 4] = weight;
            sum += weight;
        }
        m->start[row] = -128 * sum;
    }
    read_floats(from, m->scale, rows);
    read_floats(from, bias, rows);
}

kolmo_sample_network *kolmo_sample_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                               const kolmo_sample_tables *tables) {
    if (kolmo_sample_network_problem(config, config_count, weights, size)) return NULL;
    kolmo_sample_network *n = (kolmo_sample_network *)malloc(sizeof *n);
    if (!n) return NULL;
    configure(n, config, config_count);
    n->tables = *tables;
    n->memory = (uint8_t *)calloc(place(n, NULL) + 64, 1);
    if (!n->memory) {
        free(n);
        return NULL;
    }
    place(n, n->memory + (64 - (uintptr_t)n->memory % 64) % 64);
    for (int j = 0; j < SAMPLE_FUNCTIONS; j++)
        for (int i = 0; i < SAMPLE_LAGS + SAMPLE_OTHER; i++, weights += 4)
            n->coefficients[i * SAMPLE_FUNCTIONS + j] = (int32_t)read32(weights);
    for (int k = 0; k <= n->layers; k++) read_matrix(&weights, &n->matrix[k], n->bias[k], rows_of(n, k));
    return n;
}

void kolmo_sample_network_free(kolmo_sample_network *n) {
    if (!n) return;
    free(n->memory);
    free(n);
}

const kolmo_sample_tables *kolmo_sample_network_tables(const kolmo_sample_network *n) { return &n->tables; }

void kolmo_sample_network_predict(const kolmo_sample_network *n, const int32_t *past, const int32_t *other, int bits,
                                  kolmo_sample_mixture *mixture) {
    const uint64_t had = kolmo_plain_arithmetic();
    kolmo_sample_path(n, past, other, bits, mixture);
    kolmo_restore_arithmetic(had);
}
