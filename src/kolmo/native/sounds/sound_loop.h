/* The mixer of sound: what a sample does. Compiled once for each instruction set: the file that includes this one defines
 * KOLMO_TARGET and SOUND_RUN (the name of the entry point).
 *
 *   predictions --logistic distributions--> logits of the bit --mixers, one weight set for each selector--> final mixer --> two maps --> p
 */
#include "sounds/sound_filters.h"

enum { SOUND_FAR = 1 << 20 }; /* most distance from a prediction, in 1/256 of a scale */

/* What selectors and contexts are computed from, constant for a sample. */
typedef struct {
    int32_t centre;         /* the last prediction, in samples */
    int64_t size;           /* mean size of its latest errors, in 1/256 of a sample */
    uint32_t level, trend;  /* logarithm of that; whether errors grow */
    uint32_t hash[SOUND_CONTEXTS];
} sound_view;

/* The bit. */
typedef struct {
    int32_t low, width;                                      /* the values that are possible: width from low on */
    int32_t below[SOUND_EXPERTS], above[SOUND_EXPERTS], middle[SOUND_EXPERTS]; /* see sound_levels, at the interval's ends and middle */
    uint64_t mass_below, mass_above, mass_middle;            /* the network's */
    int32_t x[SOUND_MOST_INPUTS + 8], y[SOUND_FINAL_INPUTS], p[SOUND_SELECTORS];
    int32_t *weights[SOUND_SELECTORS], *final_weights, mixed;
    uint8_t *tree[SOUND_CONTEXTS], *history[SOUND_CONTEXTS], state[SOUND_CONTEXTS];
    uint32_t *map[SOUND_CONTEXTS];
    uint16_t *knot[SOUND_CURVES];
} sound_bit;

KOLMO_INLINE uint32_t sound_log2(uint64_t v) {
    uint32_t n = 0;
    for (; v > 1; v >>= 1) n++;
    return n;
}

/* Logistic distributions of the sample around each prediction, with three scales each. */
KOLMO_INLINE KOLMO_TARGET void sound_spread(sound_model *m, int c) {
    const sound_channel *h = m->channel + c;
    for (int k = 0; k < m->predictions; k++)
        for (int s = 0; s < SOUND_SPANS; s++) {
            const int64_t scale = (h->error[k][s] >> 10) * 185 >> 8;
            m->place[k * SOUND_SPANS + s] = (double)m->prediction[k];
            m->sharpness[k * SOUND_SPANS + s] = 256.0 / (double)(scale > 8 ? scale : 8);
        }
}

/* 2 ln(2 cosh(z / 2)) for each distribution, in 2/4096, where z is the boundary below `value`: the logit of a bit is the
 * difference of these at the two ends of its interval, since its middle halves it. Returns |z| of the last prediction, in 1/256. */
KOLMO_INLINE KOLMO_TARGET int32_t sound_levels(const sound_model *m, const int experts, int32_t value, int32_t *restrict to) {
    const double at = (double)((int64_t)value * 256 - 128);
    int32_t distance[SOUND_EXPERTS];
    for (int k = 0; k < experts; k++) {
        const double away = at - m->place[k], size = away < 0 ? -away : away, z = size * m->sharpness[k];
        distance[k] = (int32_t)(z < SOUND_FAR ? z : SOUND_FAR);
    }
    for (int k = 0; k < experts; k++) to[k] = distance[k] * 8 + m->softplus[distance[k] < SOUND_SOFTPLUS - 1 ? distance[k] : SOUND_SOFTPLUS - 1];
    return distance[experts - SOUND_SPANS];
}

KOLMO_INLINE KOLMO_TARGET void sound_look(const sound_model *m, int c, sound_view *v) {
    const sound_channel *h = m->channel + c;
    const int32_t half = (int32_t)1 << (m->config.bits - 1), *past = h->past + h->at;
    const int64_t *error = h->error[m->predictions - 1];
    v->centre = (int32_t)((m->prediction[m->predictions - 1] + 128) >> 8);
    v->size = error[0] >> 10;
    const int64_t slow = (error[2] >> 10) + 1, ratio = v->size * 8 / slow;
    const uint32_t level = sound_log2((uint64_t)v->size * 16 + 1);
    v->level = level < 4 ? 0 : level < 27 ? level - 4 : 23;
    v->trend = ratio < 3 ? 0 : ratio < 5 ? 1 : ratio < 7 ? 2 : ratio < 9 ? 3 : ratio < 11 ? 4 : ratio < 14 ? 5 : ratio < 20 ? 6 : 7;
    if (!m->config.contexts) return;
    const uint32_t shift = v->level > 5 ? v->level - 5 : 0;
    const uint32_t centre = (uint32_t)(v->centre + half), last = (uint32_t)(past[-1] + half), before = (uint32_t)(past[-2] + half);
    v->hash[0] = cm_hash((uint32_t)c, 0);
    v->hash[1] = cm_hash(centre >> shift, 1);
    v->hash[2] = cm_hash(last >> (shift / 2), 2);
    v->hash[3] = cm_hash(cm_hash(centre >> (shift + 1), v->level), 3 + (v->trend << 8));
    v->hash[4] = cm_hash(cm_hash(last >> shift, before >> shift), 4);
    v->hash[5] = cm_hash(cm_hash(centre >> shift, (uint32_t)(past[-1] - past[-2]) >> shift), 5);
}

/* `known`: a one and the bits so far. */
KOLMO_INLINE KOLMO_TARGET int32_t sound_predict_bit(sound_model *m, sound_bit *b, const sound_view *v, int c, uint32_t bit, uint32_t known,
                                                    const int experts, const int inputs, const int contexts) {
    const int32_t middle = b->low + b->width / 2;
    const int32_t away = sound_levels(m, experts, middle, b->middle);
    for (int k = 0; k < experts; k++) b->x[k] = cm_clamp((b->below[k] - b->above[k]) >> 4, -2047, 2047);
    int n = experts;
    const int upper = (double)((int64_t)middle * 256 - 128) >= m->place[experts - SOUND_SPANS];
    b->x[n++] = upper ? -256 : 256; /* a constant, towards the prediction */
    if (contexts) {
        if (!(bit & 3))
            for (int i = 0; i < contexts; i++) b->tree[i] = cm_find(&m->tables, m->buckets, m->bucket_mask, cm_hash(v->hash[i], known));
        const uint32_t node = 1u << (bit & 3) | (known & ((1u << (bit & 3)) - 1));
        for (int i = 0; i < contexts; i++) {
            b->history[i] = b->tree[i] + node;
            b->state[i] = *b->history[i];
            b->map[i] = &m->maps[i][b->state[i]];
            const int32_t p = (int32_t)(*b->map[i] >> 20);
            b->x[n++] = m->tables.stretch[p];
            b->x[n++] = (p - 2048) >> 2;
        }
    }
    if (m->network) {
        b->mass_middle = kolmo_sample_mixture_below(&m->mixture, middle);
        b->x[n] = kolmo_sample_split(m->mixture.tables, b->mass_below, b->mass_middle, b->mass_above);
    }
    const uint32_t distance = away < 32 ? 0 : away < 96 ? 1 : away < 192 ? 2 : away < 320 ? 3 : away < 512 ? 4 : away < 768 ? 5 : away < 1280 ? 6 : 7;
    const uint32_t ratio = sound_log2(((uint64_t)b->width << 15) / ((uint64_t)v->size + 1));
    const uint32_t wide = ratio < 4 ? 0 : ratio < 19 ? ratio - 4 : 15, nearby = wide * 8 + distance;
    const uint32_t byte = bit >> 3, partial = 1u << (bit & 7) | (known & ((1u << (bit & 7)) - 1));
    const uint32_t set[SOUND_SELECTORS] = {bit * 8 + (uint32_t)c, nearby, (wide * 16 + (v->level < 15 ? v->level : 15)) * 8 + v->trend,
                                           byte * 256 + partial, v->level * 24 + bit};
    for (int j = 0; j < SOUND_SELECTORS; j++) {
        b->weights[j] = m->weights[j] + (size_t)set[j] * (size_t)inputs;
        b->y[j] = cm_dot(b->weights[j], b->x, inputs);
        b->p[j] = m->tables.squash[b->y[j] + CM_SQUASH / 2];
    }
    b->final_weights = m->final_weights + nearby * SOUND_FINAL_INPUTS;
    const int32_t s = cm_dot(b->final_weights, b->y, SOUND_FINAL_INPUTS);
    b->mixed = m->tables.squash[s + CM_SQUASH / 2];
    const uint32_t side = nearby * 2 + (uint32_t)upper;
    const int32_t p0 = cm_refine(m->curves[0], side * 8 + v->trend, s, &b->knot[0]);
    const int32_t p1 = cm_refine(m->curves[1], v->level * 256 + side, s, &b->knot[1]);
    return cm_clamp((2 * b->mixed + p0 + p1 + 2) >> 2, 1, 65535);
}

KOLMO_INLINE KOLMO_TARGET void sound_update_bit(sound_model *m, sound_bit *b, int32_t y, int32_t rate, const int experts,
                                                const int inputs, const int contexts) {
    for (int k = 0; k < SOUND_CURVES; k++) {
        const int32_t v = *b->knot[k];
        *b->knot[k] = (uint16_t)(v + ((y ? 65535 + 31 - v : -v) >> 5));
    }
    cm_train(b->final_weights, b->y, SOUND_FINAL_INPUTS, cm_scaled_error(y, b->mixed, m->config.final_rate));
    for (int j = 0; j < SOUND_SELECTORS; j++) cm_train(b->weights[j], b->x, inputs, cm_scaled_error(y, b->p[j], rate));
    for (int i = 0; i < contexts; i++) {
        cm_move(&m->tables, b->map[i], y, (uint32_t)m->config.map_limit);
        *b->history[i] = m->tables.next[b->state[i]][y];
    }
    b->width /= 2;
    if (y) b->low += b->width;
    memcpy(y ? b->below : b->above, b->middle, (size_t)experts * sizeof *b->middle);
    *(y ? &b->mass_below : &b->mass_above) = b->mass_middle;
}

KOLMO_INLINE KOLMO_TARGET int32_t sound_code_bit(const int mode, void *coder, int32_t p, int32_t y, uint16_t *cost) {
    if (mode == CM_DECODE) return kolmo_decode((kolmo_decoder *)coder, (uint32_t)p);
    if (mode == CM_ENCODE) kolmo_encode((kolmo_encoder *)coder, y, (uint32_t)p);
    if (mode == CM_SCORE) *cost = (uint16_t)(y ? p : 65536 - p);
    return y;
}

/* One sample of channel c, in the file's order of bytes. */
KOLMO_INLINE KOLMO_TARGET void sound_code_sample(sound_model *m, sound_bit *b, const int mode, int c, uint8_t *data, void *coder,
                                                 uint16_t *costs, const int experts, const int inputs, const int contexts) {
    const uint32_t bits = (uint32_t)m->config.bits, bytes = bits / 8, top = m->config.plain ? 0 : 1u << (bits - 1);
    const int32_t half = (int32_t)1 << (bits - 1);
    uint32_t whole = 0, known = 1;
    for (uint32_t k = 0; k < bytes && mode != CM_DECODE; k++) whole = whole << 8 | data[m->config.big ? k : bytes - 1 - k];
    whole ^= top;
    sound_view v;
    sound_predict(m, c);
    sound_spread(m, c);
    sound_look(m, c, &v);
    b->low = -half;
    b->width = half * 2;
    sound_levels(m, experts, -half, b->below);
    sound_levels(m, experts, half, b->above);
    if (m->network) {
        const sound_channel *h = m->channel + c;
        kolmo_sample_network_predict(m->network, h->past + h->at, c ? h[-1].past + h[-1].at - 1 : NULL, (int)bits, &m->mixture);
        b->mass_below = 0;
        b->mass_above = kolmo_sample_mixture_below(&m->mixture, half);
    }
    const int64_t span = (int64_t)1 << m->config.rate_shift;
    const int32_t rate = m->config.rate + (int32_t)((int64_t)m->config.rate_start * span / (span + m->coded));
    for (uint32_t bit = 0; bit < bits; bit++) {
        const uint32_t byte = bit >> 3, at = m->config.big ? byte : bytes - 1 - byte;
        const int32_t p = sound_predict_bit(m, b, &v, c, bit, known, experts, inputs, contexts);
        const int32_t y = sound_code_bit(mode, coder, p, (int32_t)(whole >> (bits - 1 - bit) & 1), costs + at * 8 + (bit & 7));
        sound_update_bit(m, b, y, rate, experts, inputs, contexts);
        known = known << 1 | (uint32_t)y;
    }
    sound_learn(m, c, b->low);
    m->coded++;
    whole = (known ^ top) & (uint32_t)(((uint64_t)1 << bits) - 1);
    for (uint32_t k = 0; k < bytes && mode == CM_DECODE; k++) data[m->config.big ? k : bytes - 1 - k] = (uint8_t)(whole >> (8 * (bytes - 1 - k)));
}

/* A byte of a sample that is cut by the stream's beginning or end: bits of even chance. */
KOLMO_INLINE KOLMO_TARGET void sound_code_part(const int mode, uint8_t *data, void *coder, uint16_t *costs) {
    uint32_t known = 0;
    for (uint32_t bit = 0; bit < 8; bit++)
        known = known << 1 | (uint32_t)sound_code_bit(mode, coder, 1 << 15, *data >> (7 - bit) & 1, costs + bit);
    if (mode == CM_DECODE) *data = (uint8_t)known;
}

KOLMO_INLINE KOLMO_TARGET void sound_code(sound_model *m, const int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs,
                                          const int experts, const int inputs, const int contexts) {
    const uint32_t bytes = (uint32_t)m->config.bits / 8, channels = (uint32_t)m->config.channels;
    uint16_t unused[24];
    sound_bit b;
    memset(&b, 0, sizeof b);
    for (size_t at = 0; at < size;) {
        if (mode == CM_DECODE && kolmo_decoder_failed((kolmo_decoder *)coder)) return;
        const uint64_t place = m->position + (uint64_t)m->config.phase;
        uint16_t *cost = mode == CM_SCORE ? costs + at * 8 : unused;
        const int whole = place % bytes == 0 && m->size - m->position >= bytes;
        if (whole) sound_code_sample(m, &b, mode, (int)(place / bytes % channels), data + at, coder, cost, experts, inputs, contexts);
        else sound_code_part(mode, data + at, coder, cost);
        at += whole ? bytes : 1;
        m->position += whole ? bytes : 1;
    }
}

KOLMO_INLINE KOLMO_TARGET void sound_code_as(sound_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs,
                                             const int experts, const int inputs, const int contexts) {
    if (mode == CM_ENCODE) sound_code(m, CM_ENCODE, data, size, coder, costs, experts, inputs, contexts);
    else if (mode == CM_DECODE) sound_code(m, CM_DECODE, data, size, coder, costs, experts, inputs, contexts);
    else sound_code(m, CM_SCORE, data, size, coder, costs, experts, inputs, contexts);
}

KOLMO_TARGET void SOUND_RUN(sound_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    sound_code_as(m, mode, data, size, coder, costs, m->experts, m->inputs, m->config.contexts);
}
