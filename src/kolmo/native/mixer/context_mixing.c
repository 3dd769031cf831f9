/* Context mixing: making and freeing a model. */
#include "mixer/context_mixing.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { HUGE_PAGE = 1 << 21 };

/* Large tables use large pages, which halves the cost of a cache miss. */
uint8_t *cm_buckets_new(size_t size, uint8_t **base) {
    size_t align = size >= 2 * HUGE_PAGE ? HUGE_PAGE : CM_BUCKET;
    *base = (uint8_t *)calloc(size + align, 1);
    if (!*base) return NULL;
    uint8_t *buckets = *base + (align - (uintptr_t)*base % align) % align;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (align == HUGE_PAGE) madvise(buckets, size, MADV_HUGEPAGE);
#endif
    return buckets;
}

void cm_free(cm_model *m) {
    if (!m) return;
    if (m->histories) {
        free(m->histories->bytes);
        free(m->histories->after2);
        free(m->histories->match_table);
        free(m->histories);
    }
    free(m->buckets_base);
    free(m->order1);
    free(m->maps);
    for (int j = 0; j < CM_MAX_SELECTORS; j++) {
        free(m->weights[j]);
        free(m->errors[j]);
    }
    free(m->final_weights);
    free(m->apm[0]);
    free(m->apm[1]);
    free(m);
}

size_t cm_prior_size(const cm_config *c, int network) {
    size_t inputs = cm_inputs(c, network);
    return 4 * ((size_t)c->contexts * 256 + CM_MATCH_BUCKETS + c->selectors * inputs + 16 + 257 * CM_APM_STEPS);
}

/* Whether binary data may be as a configuration says: a value reaches back at most to the record above. */
static int cm_valid_binary(const cm_config *c) {
    return c->view >= 0 && c->view < KOLMO_VIEWS && c->width > 0 && c->width <= CM_MAX_VALUE && c->record >= c->width &&
           c->record <= CM_MAX_RECORD;
}

/* Contexts of binary data need its parameters; those of a network need one, and the cheap path has the near ones only. */
static int cm_valid_context(const cm_config *c, int32_t k, int network) {
    if (k >= CM_PROGRAM) return !network && k < CM_BINARY_END && cm_valid_binary(c);
    if (k >= CM_LINES) return k < CM_LINES_END && (network || c->contexts > CM_NEAR);
    return k >= 0 && k < (network ? CM_FAR_END : c->contexts > CM_NEAR ? CM_FAR : CM_NEAR);
}

static int cm_valid_selector(const cm_config *c, int32_t k, int network) {
    if (k >= CM_PROGRAM_SELECTORS) return !network && k < CM_BINARY_SELECTORS_END && cm_valid_binary(c);
    if (k >= CM_LINES_SELECTORS) return k < CM_LINES_SELECTORS_END && (network || c->contexts > CM_NEAR);
    return k >= 0 && k < (network ? CM_NETWORK_SELECTORS_END : CM_NETWORK_SELECTORS);
}

/* Returns 0 for an invalid configuration. */
int cm_valid(const cm_config *c, int network) {
    if (c->contexts < 3 || c->contexts > CM_CATALOGUE || c->selectors < 1 || c->selectors > CM_MAX_SELECTORS) return 0;
    for (int i = 0; i < c->contexts; i++)
        if (!cm_valid_context(c, c->context[i], network)) return 0;
    for (int j = 0; j < c->selectors; j++)
        if (!cm_valid_selector(c, c->selector[j], network) || (c->selector[j] == 1 && j)) return 0;
    return c->table_bits >= 12 && c->table_bits <= 30 && c->match_bits >= 8 && c->match_bits <= 24 &&
           c->match_minimum >= 4 && c->match_minimum <= 8 && c->rate >= 0 && c->rate < 1024 && c->boost >= 0 &&
           c->boost <= CM_MAX_BOOST && c->final_rate >= 0 && c->final_rate < 1024 && c->final_boost >= 0 &&
           c->final_boost <= CM_MAX_BOOST && c->map_limit > 0 && c->map_limit < 1023;
}

/* Divide the block into lanes of equal length, the last ones shorter; all share the memory of the first. */
static void cm_begin_lanes(cm_model *m) {
    cm_history fresh = {.bytes = m->histories->bytes, .size = m->histories->size, .after2 = m->histories->after2,
                        .match_table = m->histories->match_table, .expected = -1};
    uint32_t length = (uint32_t)(((uint64_t)fresh.size + (uint32_t)m->lanes - 1) / (uint32_t)m->lanes);
    for (int k = 0; k < m->lanes; k++) {
        uint64_t origin = (uint64_t)length * (uint32_t)k, end = origin + length;
        fresh.origin = (uint32_t)(origin < fresh.size ? origin : fresh.size);
        fresh.end = (uint32_t)(end < fresh.size ? end : fresh.size);
        fresh.position = fresh.line = fresh.line_before = fresh.origin;
        m->histories[k] = fresh;
    }
    m->h = m->histories;
}

static void cm_begin_binary(cm_model *m) {
    const cm_config *c = &m->config;
    cm_binary fresh = {.view = (uint32_t)c->view, .record = (uint32_t)c->record, .width = (uint32_t)c->width};
    fresh.x86.wide = c->view == KOLMO_VIEW_X86_64;
    for (int i = 0; i < c->contexts; i++) {
        fresh.program |= c->context[i] >= CM_PROGRAM && c->context[i] < CM_RECORD;
        fresh.values |= c->context[i] >= CM_RECORD;
    }
    for (int j = 0; j < c->selectors; j++) {
        fresh.program |= c->selector[j] >= CM_PROGRAM_SELECTORS && c->selector[j] < CM_RECORD_SELECTORS;
        fresh.values |= c->selector[j] >= CM_RECORD_SELECTORS;
    }
    m->binary = fresh;
}

/* NULL when memory runs out. `prior` holds cm_prior_size bytes: the state of the model before the first byte. */
cm_model *cm_new(const cm_config *config, const cm_tables *tables, const int32_t *prior, uint32_t size, int lanes, int network) {
    cm_model *m = (cm_model *)calloc(1, sizeof *m);
    if (!m) return NULL;
    m->config = *config;
    m->tables = *tables;
    m->inputs = cm_inputs(config, network);
    m->network = network;
    for (int i = 0; i < config->contexts; i++) {
        m->far |= config->context[i] >= CM_NEAR && config->context[i] < CM_FAR;
        m->bytewise |= config->context[i] >= CM_FAR && config->context[i] < CM_FAR_END;
        m->lined |= config->context[i] >= CM_LINES && config->context[i] < CM_LINES_END;
    }
    for (int j = 0; j < config->selectors; j++) {
        m->bytewise |= config->selector[j] == 13 || config->selector[j] == 15;
        m->lined |= config->selector[j] >= CM_LINES_SELECTORS && config->selector[j] < CM_LINES_SELECTORS_END;
    }
    m->lanes = lanes;
    cm_begin_binary(m);
    m->h = m->histories = (cm_history *)calloc((size_t)lanes, sizeof *m->histories);
    if (!m->h) {
        free(m);
        return NULL;
    }
    cm_history *h = m->h;
    h->size = size;
    h->bytes = (uint8_t *)calloc((size_t)size + 1, 1);
    h->after2 = (uint32_t *)calloc(65536, sizeof *h->after2);
    h->match_table = (uint32_t *)calloc((size_t)1 << config->match_bits, sizeof *h->match_table);
    size_t room = (size_t)1 << config->table_bits;
    m->buckets = cm_buckets_new(room, &m->buckets_base);
    m->bucket_mask = (uint32_t)(room / CM_BUCKET - 1);
    m->order1 = (uint8_t *)calloc(256, CM_ORDER1);
    m->maps = (uint32_t *)malloc((size_t)config->contexts * 256 * sizeof *m->maps);
    m->final_weights = (int32_t *)malloc(256 * 16 * sizeof *m->final_weights);
    m->apm[0] = (uint16_t *)malloc(CM_APM_ROWS * CM_APM_STEPS * sizeof(uint16_t));
    m->apm[1] = (uint16_t *)malloc(CM_APM_HASHED * CM_APM_STEPS * sizeof(uint16_t));
    int lacking = !h->bytes || !h->after2 || !h->match_table || !m->buckets || !m->order1 || !m->maps ||
                  !m->final_weights || !m->apm[0] || !m->apm[1];
    for (int j = 0; j < config->selectors; j++) {
        size_t n = (size_t)cm_selector_sizes[config->selector[j]] * m->inputs;
        m->weights[j] = (int32_t *)malloc(n * sizeof(int32_t));
        m->errors[j] = (uint32_t *)calloc((size_t)cm_selector_sizes[config->selector[j]], sizeof(uint32_t));
        lacking |= !m->weights[j] || !m->errors[j];
    }
    if (lacking) {
        cm_free(m);
        return NULL;
    }
    cm_begin_lanes(m);
    memcpy(m->maps, prior, (size_t)config->contexts * 256 * 4);
    prior += config->contexts * 256;
    memcpy(m->match_map, prior, sizeof m->match_map);
    prior += CM_MATCH_BUCKETS;
    for (int j = 0; j < config->selectors; j++) {
        for (int32_t k = 0; k < cm_selector_sizes[config->selector[j]]; k++)
            memcpy(m->weights[j] + (size_t)k * m->inputs, prior, (size_t)m->inputs * 4);
        prior += m->inputs;
    }
    for (int k = 0; k < 256; k++) memcpy(m->final_weights + 16 * k, prior, 16 * 4);
    prior += 16;
    for (uint32_t row = 0; row < CM_APM_ROWS; row++)
        for (int k = 0; k < CM_APM_STEPS; k++) {
            m->apm[0][row * CM_APM_STEPS + k] = (uint16_t)prior[(row & 255) * CM_APM_STEPS + k];
            if (row < CM_APM_HASHED) m->apm[1][row * CM_APM_STEPS + k] = (uint16_t)prior[256 * CM_APM_STEPS + k];
        }
    return m;
}

/* Learned numbers in the layout of a prior, to train one: weight sets and rows are averaged (each is weighted by its
 * distance from its initial value). */
void cm_export(const cm_model *m, const int32_t *began, int32_t *prior) {
    const cm_config *c = &m->config;
    memcpy(prior, m->maps, (size_t)c->contexts * 256 * 4);
    prior += c->contexts * 256, began += c->contexts * 256;
    memcpy(prior, m->match_map, sizeof m->match_map);
    prior += CM_MATCH_BUCKETS, began += CM_MATCH_BUCKETS;
    for (int j = 0; j <= c->selectors; j++) {
        const int last = j == c->selectors, n = last ? 16 : m->inputs;
        const int32_t *sets = last ? m->final_weights : m->weights[j];
        double sum[2 * CM_CATALOGUE + 16] = {0}, total = 1e-9;
        for (int32_t k = 0; k < (last ? 256 : cm_selector_sizes[c->selector[j]]); k++) {
            double moved = 0;
            for (int i = 0; i < n; i++) {
                double d = (double)sets[k * n + i] - began[i];
                moved += d < 0 ? -d : d;
            }
            for (int i = 0; i < n; i++) sum[i] += moved * sets[k * n + i];
            total += moved;
        }
        for (int i = 0; i < n; i++) prior[i] = total > 1 ? (int32_t)(sum[i] / total) : began[i];
        prior += n, began += n;
    }
    for (uint32_t c0 = 0; c0 < 257; c0++)
        for (int k = 0; k < CM_APM_STEPS; k++) {
            double sum = 0, total = 0;
            for (uint32_t row = c0 & 255; row < (c0 < 256 ? CM_APM_ROWS : CM_APM_HASHED); row += c0 < 256 ? 256 : 1) {
                double v = m->apm[c0 / 256][row * CM_APM_STEPS + k], d = v - began[c0 * CM_APM_STEPS + k];
                d = d < 0 ? -d : d;
                sum += d * v;
                total += d;
            }
            prior[c0 * CM_APM_STEPS + k] = total > 0 ? (int32_t)(sum / total) : began[c0 * CM_APM_STEPS + k];
        }
}

/* Reset everything but the learned numbers: for the next sample of a prior's training, no larger than the first. */
void cm_forget(cm_model *m, uint32_t size) {
    memset(m->buckets, 0, (size_t)1 << m->config.table_bits);
    memset(m->order0, 0, sizeof m->order0);
    memset(m->order1, 0, 256 * CM_ORDER1);
    memset(m->histories->match_table, 0, sizeof(uint32_t) << m->config.match_bits);
    memset(m->histories->after2, 0, 65536 * sizeof(uint32_t));
    memset(m->histories->bytes, 0, m->histories->size);
    m->histories->size = size;
    for (int j = 0; j < m->config.selectors; j++)
        memset(m->errors[j], 0, (size_t)cm_selector_sizes[m->config.selector[j]] * sizeof(uint32_t));
    memset(m->final_errors, 0, sizeof m->final_errors);
    cm_begin_binary(m);
    cm_begin_lanes(m);
}
