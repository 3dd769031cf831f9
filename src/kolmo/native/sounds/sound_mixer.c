/* The mixer of sound: making and freeing a model, and its prior. */
#include "sounds/sound_mixer.h"

sound_run *kolmo_sound_path = sound_run_baseline;

static int sound_predictions(const sound_config *c) { return c->filters + c->stages + 1; }

/* Of the first layer: logits, a constant, two for each context, a network's logit; a multiple of 8. */
static int sound_inputs(const sound_config *c, int network) {
    return (sound_predictions(c) * SOUND_SPANS + (network ? 1 : 0) + 1 + 2 * c->contexts + 7) & ~7;
}

/* Averages of histories; weights: all sets of selector 1, one set of each other; one of the final mixer. */
size_t sound_prior_size(const sound_config *c, int network) {
    return 4 * ((size_t)c->contexts * 256 + (size_t)(sound_sets[1] + SOUND_SELECTORS - 1) * (size_t)sound_inputs(c, network) + SOUND_FINAL_INPUTS);
}

static int within(int32_t v, int32_t low, int32_t high) { return v >= low && v <= high; }

/* Returns 0 for an invalid configuration. */
int sound_valid(const sound_config *c) {
    if (!(c->bits == 8 || c->bits == 16 || c->bits == 24) || !within(c->channels, 1, SOUND_CHANNELS)) return 0;
    if (!within(c->big, 0, 1) || !within(c->plain, 0, 1) || !within(c->phase, 0, c->channels * c->bits / 8 - 1)) return 0;
    if (!within(c->filters, 1, SOUND_FILTERS) || !within(c->base, 0, c->filters - 1) || !within(c->stages, 0, SOUND_STAGES)) return 0;
    for (int k = 0; k < c->filters; k++)
        if (!within(c->own[k], 1, 32) || !within(c->other[k], 0, 32) || !within(c->every[k], 1, 1024) || !within(c->forget[k], 1, 65535)) return 0;
    for (int k = 0; k < c->stages; k++)
        if (!within(c->taps[k], 1, SOUND_TAPS) || !within(c->step[k], 0, 65535)) return 0;
    return within(c->final_forget, 1, 65535) && (c->contexts == 0 || c->contexts == SOUND_CONTEXTS) && within(c->table_bits, 12, 28) &&
           within(c->rate, 0, 1023) && within(c->rate_start, 0, 1023) && within(c->rate_shift, 0, 31) && within(c->final_rate, 0, 1023) &&
           within(c->map_limit, 1, 1022);
}

int sound_may_end(const sound_model *m, uint64_t size) {
    const uint64_t end = m->position + size, bytes = (uint64_t)m->config.bits / 8;
    if (size > m->size - m->position) return 0;
    return end == m->size || (end + (uint64_t)m->config.phase) % bytes == 0 || end + bytes > m->size;
}

void sound_free(sound_model *m) {
    if (!m) return;
    free(m->channel);
    for (int j = 0; j < SOUND_SELECTORS; j++) free(m->weights[j]);
    free(m->final_weights);
    for (int j = 0; j < SOUND_CURVES; j++) free(m->curves[j]);
    free(m->buckets_base);
    free(m);
}

static void begin_filter(sound_filter *f, int order, int every, int forget, int shift, double least) {
    f->order = order;
    f->every = every;
    f->shift = shift;
    f->forget = (double)(65536 - forget) * 0x1p-16;
    f->least = least;
}

static void begin_channels(sound_model *m) {
    const sound_config *o = &m->config;
    memset(m->channel, 0, (size_t)o->channels * sizeof *m->channel);
    for (int c = 0; c < o->channels; c++) {
        sound_channel *h = m->channel + c;
        for (int k = 0; k < o->filters; k++)
            begin_filter(h->filter + k, o->own[k] + (o->channels > 1 ? o->other[k] : 0), o->every[k], o->forget[k], 12, 1.0);
        begin_filter(&h->final, m->predictions, 1, o->final_forget, 16, 16.0);
        h->final.weights[m->predictions - 2] = 1 << 20;
        for (int k = 0; k < o->stages; k++) {
            h->stage[k].taps = o->taps[k];
            h->stage[k].step = (double)o->step[k] * 0x1p22;
            h->stage[k].at = SOUND_RING;
        }
        for (int k = 0; k < m->predictions; k++)
            for (int s = 0; s < SOUND_SPANS; s++) h->error[k][s] = (int64_t)1 << (o->bits + 12); /* 2^(bits - 6) samples */
        h->at = SOUND_PAST;
    }
    m->position = 0;
    m->coded = 0;
}

static void begin_curves(sound_model *m) {
    static const int32_t rows[SOUND_CURVES] = {SOUND_ROWS_0, SOUND_ROWS_1};
    for (int j = 0; j < SOUND_CURVES; j++)
        for (int32_t row = 0; row < rows[j]; row++)
            for (int k = 0; k < CM_APM_STEPS; k++)
                m->curves[j][row * CM_APM_STEPS + k] = m->tables.squash[CM_SQUASH / 2 - 2944 + 256 * k];
}

/* NULL when memory runs out. `prior` holds sound_prior_size bytes: the state of the model before the first byte. */
sound_model *sound_new(const sound_config *config, const cm_tables *tables, const uint16_t *softplus, const int32_t *prior,
                       uint64_t size, const kolmo_sample_network *network) {
    sound_model *m = (sound_model *)calloc(1, sizeof *m);
    if (!m) return NULL;
    m->config = *config;
    m->tables = *tables;
    m->network = network;
    m->size = size;
    for (int i = 0; i < SOUND_SOFTPLUS; i++) m->softplus[i] = softplus[i];
    m->predictions = sound_predictions(config);
    m->experts = m->predictions * SOUND_SPANS;
    m->inputs = sound_inputs(config, network != NULL);
    m->channel = (sound_channel *)malloc((size_t)config->channels * sizeof *m->channel);
    m->final_weights = (int32_t *)malloc(SOUND_FINAL_SETS * SOUND_FINAL_INPUTS * sizeof(int32_t));
    m->curves[0] = (uint16_t *)malloc(SOUND_ROWS_0 * CM_APM_STEPS * sizeof(uint16_t));
    m->curves[1] = (uint16_t *)malloc(SOUND_ROWS_1 * CM_APM_STEPS * sizeof(uint16_t));
    int lacking = !m->channel || !m->final_weights || !m->curves[0] || !m->curves[1];
    if (config->contexts) {
        const size_t room = (size_t)1 << config->table_bits;
        m->buckets = cm_buckets_new(room, &m->buckets_base);
        m->bucket_mask = (uint32_t)(room / CM_BUCKET - 1);
        lacking |= !m->buckets;
    }
    for (int j = 0; j < SOUND_SELECTORS; j++) {
        m->weights[j] = (int32_t *)malloc((size_t)sound_sets[j] * (size_t)m->inputs * sizeof(int32_t));
        lacking |= !m->weights[j];
    }
    if (lacking) {
        sound_free(m);
        return NULL;
    }
    begin_channels(m);
    begin_curves(m);
    memcpy(m->maps, prior, (size_t)config->contexts * 256 * 4);
    prior += config->contexts * 256;
    for (int j = 0; j < SOUND_SELECTORS; j++) {
        for (int32_t k = 0; k < sound_sets[j]; k++)
            memcpy(m->weights[j] + (size_t)k * (size_t)m->inputs, prior + (j == 1 ? (size_t)k * (size_t)m->inputs : 0), (size_t)m->inputs * 4);
        prior += (size_t)(j == 1 ? sound_sets[j] : 1) * (size_t)m->inputs;
    }
    for (int k = 0; k < SOUND_FINAL_SETS; k++) memcpy(m->final_weights + SOUND_FINAL_INPUTS * k, prior, SOUND_FINAL_INPUTS * 4);
    return m;
}

/* The mean of weight sets, each weighted by its distance from its initial value. */
static void export_sets(const int32_t *sets, int32_t count, int n, const int32_t *began, int32_t *to) {
    double sum[SOUND_MOST_INPUTS + 8] = {0}, total = 1e-9;
    for (int32_t k = 0; k < count; k++) {
        double moved = 0;
        for (int i = 0; i < n; i++) {
            const double d = (double)sets[k * n + i] - began[i];
            moved += d < 0 ? -d : d;
        }
        for (int i = 0; i < n; i++) sum[i] += moved * sets[k * n + i];
        total += moved;
    }
    for (int i = 0; i < n; i++) to[i] = total > 1 ? (int32_t)(sum[i] / total) : began[i];
}

/* Learned numbers in the layout of a prior, to train one. */
void sound_export(const sound_model *m, const int32_t *began, int32_t *prior) {
    const int n = m->inputs, averages = m->config.contexts * 256;
    memcpy(prior, m->maps, (size_t)averages * 4);
    prior += averages, began += averages;
    for (int j = 0; j < SOUND_SELECTORS; j++) {
        const int32_t stored = j == 1 ? sound_sets[1] : 1;
        if (j == 1) memcpy(prior, m->weights[1], (size_t)stored * (size_t)n * 4);
        else export_sets(m->weights[j], sound_sets[j], n, began, prior);
        prior += stored * n, began += stored * n;
    }
    export_sets(m->final_weights, SOUND_FINAL_SETS, SOUND_FINAL_INPUTS, began, prior);
}

/* Reset everything but the learned numbers: for the next piece of a prior's training, of `size` bytes. */
void sound_forget(sound_model *m, uint64_t size) {
    m->size = size;
    if (m->buckets) memset(m->buckets, 0, (size_t)1 << m->config.table_bits);
    begin_channels(m);
    begin_curves(m);
}
