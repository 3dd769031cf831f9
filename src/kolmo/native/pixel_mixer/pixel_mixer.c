/* The mixer of pictures: memory, priors. See pixel_mixer.h. */
#include "pixel_mixer/pixel_mixer.h"

pm_run *kolmo_pixel_mixer_path = pm_run_baseline;

size_t pm_prior_size(const pm_config *c) {
    const size_t rows = c->channels >= 3 ? 3 : 1;
    return 4 * ((size_t)c->contexts * 256 + PM_GUESSES * PM_CONFIDENCES +
                rows * (PM_PREDICTORS * PM_SCALES + (size_t)c->selectors * (size_t)pm_inputs(c) + 16 + PM_SETS * PM_TAPS));
}

int pm_valid(const pm_config *c, const pm_tables *tables) {
    unsigned seen = 0;
    if (c->channels < 1 || c->channels > PM_TURNS || c->size < 1 || c->size > 1 << 30 || c->stride < c->channels ||
        c->stride > PM_MAX_STRIDE || c->contexts < 1 || c->contexts > PM_CATALOGUE || c->selectors < 1 || c->selectors > PM_SELECTORS)
        return 0;
    for (int t = 0; t < c->channels; t++) {
        if (c->order[t] < 0 || c->order[t] >= c->channels) return 0;
        seen |= 1u << c->order[t];
    }
    if (seen != (1u << c->channels) - 1) return 0;
    for (int i = 0; i < c->contexts; i++)
        if (c->context[i] < 0 || c->context[i] >= PM_CATALOGUE) return 0;
    for (int k = 0; k < PM_SETS; k++)
        for (int t = 0; t <= PM_TURNS; t++) {
            if (tables->count[k][t] < 1 || tables->count[k][t] >= PM_TAPS) return 0;
            for (int i = 0; i < tables->count[k][t]; i++) {
                const int8_t *tap = tables->taps[k][t][i];
                const int first = tap[1] == 0 && tap[0] != (t < PM_TURNS ? t : 0); /* an earlier turn of the pixel */
                if (tap[0] < 0 || tap[0] >= PM_TURNS || tap[1] < 0 || tap[1] > 3 || tap[2] < -4 || tap[2] > 4) return 0;
                if (tap[1] == 0 && tap[2] > (first && tap[0] < t ? 0 : -1)) return 0;
                if (t == PM_TURNS && tap[0] != 0) return 0;
                if (t < PM_TURNS && tap[0] != t && (t > 2 || tap[0] > 2)) return 0;
            }
        }
    for (int i = 0; i < 1024; i++)
        if (tables->bucket[i] > 7) return 0;
    for (int i = 0; i < 2048; i++)
        if (tables->logistic[i] > tables->logistic[i + 1]) return 0;
    return tables->logistic[2048] <= PM_WHOLE && c->slot_bits >= 12 && c->slot_bits <= 30 && c->guess_bits >= 4 && c->guess_bits <= 24 &&
           c->rate >= 0 && c->rate < 1024 && c->rate_start >= 0 && c->rate_start < 1024 && c->rate_shift >= 0 && c->rate_shift < 32 &&
           c->final_rate >= 0 && c->final_rate < 1024 && c->slot_limit > 0 && c->slot_limit < 1023;
}

void pm_free(pm_model *m) {
    if (!m) return;
    free(m->bytes);
    free(m->slots_base);
    free(m->cells);
    for (int k = 0; k < PM_GUESSES; k++) free(m->guesses[k]);
    for (int j = 0; j < PM_SELECTORS; j++) free(m->weights[j]);
    free(m->final_weights);
    free(m->curves[0]);
    free(m->curves[1]);
    free(m->padding);
    free(m->memory);
    free(m);
}

/* Bytes of a plane's row, of the planes of a turn, and of all matrices of a turn. */
static size_t plane_row(const pm_model *m) { return ((size_t)m->width + 2 * PM_MARGIN + 63) & ~(size_t)63; }
static size_t turn_planes(const pm_model *m) { return plane_row(m) * (4 + 2 * PM_PREDICTORS + 2); }
static size_t local_blocks(const pm_model *m) { return (size_t)m->width / PM_BLOCK + 3; }
static size_t turn_matrices(const pm_model *m) { return sizeof(pm_matrix) * (PM_LOCAL * local_blocks(m) + PM_SETS - PM_LOCAL); }

/* Point into `memory`, which is zeroed: matrices first, then planes. */
static void lay_out(pm_model *m, const int32_t *began) {
    uint8_t *at = m->memory + (64 - (uintptr_t)m->memory % 64) % 64;
    const size_t row = plane_row(m);
    for (int t = 0; t < m->config.channels; t++) {
        const int kind = m->config.channels >= 3 && t < 3 ? t : m->config.channels >= 3 ? 3 : PM_TURNS;
        for (int k = 0; k < PM_SETS; k++) {
            pm_squares *s = &m->squares[t][k];
            memset(s, 0, sizeof *s);
            s->matrices = (pm_matrix *)(void *)at;
            s->count = m->tables.count[k][kind];
            s->plane = kind == PM_TURNS ? t : 0;
            s->taps = (const int8_t(*)[3])m->tables.taps[k][kind];
            s->began = began + (pm_row(&m->config, t) * PM_SETS + k) * PM_TAPS;
            at += sizeof(pm_matrix) * (k < PM_LOCAL ? local_blocks(m) : 1);
        }
    }
    for (int t = 0; t < m->config.channels; t++) {
        memset(at, 128, 4 * row);
        memset(at + 4 * row, 16, 2 * PM_PREDICTORS * row);
        for (int r = 0; r < 4; r++, at += row) m->values[t][r] = at + PM_MARGIN;
        for (int k = 0; k < PM_PREDICTORS; k++)
            for (int r = 0; r < 2; r++, at += row) m->errors[t][k][r] = at + PM_MARGIN;
        for (int r = 0; r < 2; r++, at += row) m->signs[t][r] = (int8_t *)at + PM_MARGIN;
    }
}

/* The part of a prior that least squares start from. */
static const int32_t *prior_squares(const pm_config *c, const int32_t *prior) {
    const size_t rows = c->channels >= 3 ? 3 : 1;
    return prior + pm_prior_size(c) / 4 - rows * PM_SETS * PM_TAPS;
}

static void begin(pm_model *m, const int32_t *prior) {
    memset(m->bias, 0, sizeof m->bias);
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < PM_CURVES * CM_APM_STEPS; i++)
            m->curves[k][i] = m->base.squash[CM_SQUASH / 2 - 2944 + 256 * (i % CM_APM_STEPS)];
    if (m->padding)
        for (size_t i = 0; i < 65536; i++) m->padding[i] = (uint32_t)1 << 31;
    lay_out(m, prior_squares(&m->config, prior));
    m->position = m->row = m->coded = 0;
}

pm_model *pm_new(const pm_config *config, const cm_tables *base, const pm_tables *tables, const int32_t *prior,
                 const kolmo_pixel_network *network) {
    pm_model *m = (pm_model *)calloc(1, sizeof *m);
    if (!m) return NULL;
    const pm_config *c = &m->config;
    m->config = *config, m->base = *base, m->tables = *tables;
    m->network = config->network ? network : NULL;
    m->inputs = pm_inputs(c);
    m->rows = c->channels >= 3 ? 3 : 1;
    m->width = (uint32_t)(c->stride / c->channels);
    m->bytes = (uint8_t *)calloc((size_t)c->size + PM_TURNS, 1);
    m->slots = (uint32_t *)(void *)cm_buckets_new((size_t)1 << c->slot_bits, &m->slots_base);
    m->slot_mask = ((uint32_t)1 << (c->slot_bits - 6)) - 1;
    m->guess_mask = ((uint32_t)1 << c->guess_bits) - 1;
    m->cells = (uint32_t *)malloc((size_t)c->contexts * 256 * 4);
    m->final_weights = (int32_t *)malloc(PM_TURNS * 256 * 16 * sizeof(int32_t));
    m->memory = (uint8_t *)calloc((turn_planes(m) + turn_matrices(m)) * (size_t)c->channels + 64, 1);
    int lacking = !m->bytes || !m->slots_base || !m->cells || !m->final_weights || !m->memory;
    for (int k = 0; k < 2; k++) lacking |= !(m->curves[k] = (uint16_t *)malloc(PM_CURVES * CM_APM_STEPS * 2));
    for (int k = 0; k < PM_GUESSES; k++) lacking |= !(m->guesses[k] = (uint32_t *)calloc((size_t)m->guess_mask + 1, 4));
    for (int j = 0; j < c->selectors; j++)
        lacking |= !(m->weights[j] = (int32_t *)malloc((size_t)PM_TURNS * pm_selector_sizes[j] * m->inputs * 4));
    if (c->stride % c->channels) lacking |= !(m->padding = (uint32_t *)malloc(65536 * 4));
    if (lacking) {
        pm_free(m);
        return NULL;
    }
    m->picture.bytes = m->bytes;
    m->picture.stride = (uint32_t)c->stride, m->picture.channels = (uint32_t)c->channels;
    for (int t = 0; t < PM_TURNS; t++) m->picture.order[t] = (uint32_t)c->order[t];
    begin(m, prior);
    memcpy(m->cells, prior, (size_t)c->contexts * 256 * 4);
    prior += c->contexts * 256;
    memcpy(m->guess_map, prior, sizeof m->guess_map);
    prior += PM_GUESSES * PM_CONFIDENCES;
    for (int t = 0; t < PM_TURNS; t++) memcpy(m->scales[t], prior + pm_row(c, t) * PM_PREDICTORS * PM_SCALES, sizeof m->scales[t]);
    prior += m->rows * PM_PREDICTORS * PM_SCALES;
    for (int j = 0; j < c->selectors; j++)
        for (int t = 0; t < PM_TURNS; t++)
            for (int k = 0; k < pm_selector_sizes[j]; k++)
                memcpy(m->weights[j] + (size_t)(t * pm_selector_sizes[j] + k) * m->inputs, prior + (pm_row(c, t) * c->selectors + j) * m->inputs, (size_t)m->inputs * 4);
    prior += m->rows * c->selectors * m->inputs;
    for (int k = 0; k < PM_TURNS * 256; k++) memcpy(m->final_weights + 16 * k, prior + pm_row(c, k / 256) * 16, 16 * 4);
    return m;
}

/* The mean of weight sets, each weighted by its distance from its initial value. */
static void average(const int32_t *sets, size_t count, int n, const int32_t *began, int32_t *out) {
    double sum[PM_INPUTS] = {0}, total = 1e-9;
    for (size_t k = 0; k < count; k++) {
        double moved = 0;
        for (int i = 0; i < n; i++) {
            const double d = (double)sets[k * n + i] - began[i];
            moved += d < 0 ? -d : d;
        }
        for (int i = 0; i < n; i++) sum[i] += moved * sets[k * n + i];
        total += moved;
    }
    for (int i = 0; i < n; i++) out[i] = total > 1 ? (int32_t)(sum[i] / total) : began[i];
}

void pm_export(const pm_model *m, const int32_t *began, int32_t *prior) {
    const pm_config *c = &m->config;
    memcpy(prior, began, pm_prior_size(c));
    memcpy(prior, m->cells, (size_t)c->contexts * 256 * 4);
    prior += c->contexts * 256, began += c->contexts * 256;
    memcpy(prior, m->guess_map, sizeof m->guess_map);
    prior += PM_GUESSES * PM_CONFIDENCES, began += PM_GUESSES * PM_CONFIDENCES;
    const int turns = m->rows;
    for (int t = 0; t < turns; t++) memcpy(prior + t * PM_PREDICTORS * PM_SCALES, m->scales[t], sizeof m->scales[t]);
    prior += turns * PM_PREDICTORS * PM_SCALES, began += turns * PM_PREDICTORS * PM_SCALES;
    for (int t = 0; t < turns; t++)
        for (int j = 0; j < c->selectors; j++, prior += m->inputs, began += m->inputs)
            average(m->weights[j] + (size_t)t * pm_selector_sizes[j] * m->inputs, (size_t)pm_selector_sizes[j], m->inputs, began, prior);
    for (int t = 0; t < turns; t++, prior += 16, began += 16) average(m->final_weights + t * 256 * 16, 256, 16, began, prior);
    for (int t = 0; t < turns; t++)
        for (int k = 0; k < PM_SETS; k++, prior += PM_TAPS)
            for (int i = 0; i < PM_TAPS; i++)
                if (m->squares[t][k].solutions) prior[i] = (int32_t)(m->squares[t][k].sums[i] / m->squares[t][k].solutions);
}

void pm_forget(pm_model *m, const int32_t *prior) {
    pm_squares kept[PM_TURNS][PM_SETS];
    memcpy(kept, m->squares, sizeof kept);
    memset(m->slots, 0, (size_t)1 << m->config.slot_bits);
    for (int k = 0; k < PM_GUESSES; k++) memset(m->guesses[k], 0, ((size_t)m->guess_mask + 1) * 4);
    memset(m->bytes, 0, (size_t)m->config.size);
    memset(m->memory, 0, (turn_planes(m) + turn_matrices(m)) * (size_t)m->config.channels + 64);
    begin(m, prior);
    for (int t = 0; t < PM_TURNS; t++)
        for (int k = 0; k < PM_SETS; k++) {
            memcpy(m->squares[t][k].sums, kept[t][k].sums, sizeof kept[t][k].sums);
            m->squares[t][k].solutions = kept[t][k].solutions;
        }
}
