/* Context mixing: the work once per bit. Compiled once for each instruction set: the file that includes this one
 * defines KOLMO_TARGET (a function attribute, or nothing) and KOLMO_RUN (the name of the entry point).
 *
 *   histories --maps--> stretch --mixers, one weight set for each selector--> stretch --final mixer--> two maps --> p
 */
#include "mixer/context_mixing.h"
#include "mixer/primitives_loop.h"

typedef struct {
    int32_t x[2 * CM_CATALOGUE + 16]; /* the first layer's inputs */
    int32_t network_logit;            /* of the bit, in the stretch domain; 0 without a network */
    int32_t y[16];                    /* the second layer's: the stretched outputs of the first */
    int32_t p[16];                    /* the first layer's probabilities, in 2^-16 */
    uint32_t *map[CM_CATALOGUE];
    uint8_t *history[CM_CATALOGUE], state[CM_CATALOGUE]; /* its address, and its value before the bit */
    uint16_t *knot[3];
    uint32_t *match_map;
    int32_t *weights[CM_MAX_SELECTORS], *final_weights;
    uint32_t *errors[CM_MAX_SELECTORS], *final_errors;
    int32_t expected_bit, mixed; /* -1: no prediction */
} cm_bit;

/* Number of adaptive maps: a model with one selector is meant to be fast, and has only the first. */
KOLMO_INLINE KOLMO_TARGET int cm_refiners(const int selectors) { return selectors > 1 ? 2 : 1; }

/* Indices of the weight sets: one case for each selector. */
KOLMO_INLINE KOLMO_TARGET uint32_t cm_select(const cm_model *m, int selector, uint32_t c0, uint32_t bit, uint32_t order,
                                             int32_t expected_bit, int32_t network_logit) {
    const cm_history *h = m->h;
    uint32_t length = h->match_length, column;
    uint32_t level = expected_bit < 0 ? 0 : length < 16 ? 1 : length < 32 ? 2 : 3;
    switch (selector) {
    case 1: return (order * 4 + level) * 8 + bit;
    case 2: return c0;
    case 3: return (h->last4 & 255) + 256 * (bit < 2 ? 0 : bit < 5 ? 1 : 2);
    case 4: return h->last4 >> 8 & 255;
    case 5:
        if (expected_bit < 0) return 1024 + (h->last4 >> 5 & 7) * 8 + bit;
        return cm_match_bucket(length) * 32 + (uint32_t)(h->expected >> 5) * 2 + (uint32_t)expected_bit;
    case 6: return (h->classes & 255) * 8 + bit;
    case 7:
        column = h->position - h->line;
        return (column < 255 ? column : 255) * 8 + bit;
    case 8: return (h->class_runs & 255) * 8 + bit;
    case 9: return (h->record ? h->position % h->record & 127 : 0) * 8 + bit;
    case 10: return (h->punctuation & 255) * 8 + bit;
    case 11: return h->expected < 0 ? 0 : (uint32_t)h->expected;
    case 12: return (uint32_t)(network_logit + 2048) >> 7 | bit << 5;
    case 13: return (m->prediction.best | 256) >> (8 - bit) == c0 ? m->prediction.best : 256 + m->prediction.second;
    case 14: return (uint32_t)(network_logit + 2048) >> 8 | (uint32_t)(expected_bit + 1) << 4 | bit << 6;
    case 15: return (m->prediction.best | 256) >> (8 - bit) == c0 ? m->prediction.sure << 3 | bit : 64 | bit;
    case 16:
    case 17: return cm_select_lines(&h->lines, selector, bit);
    default: return cm_select_binary(&m->binary, selector, c0, bit);
    }
}

KOLMO_INLINE KOLMO_TARGET int32_t cm_predict(cm_model *m, cm_bit *b, const int contexts, const int selectors,
                                             const int inputs, const int network, uint32_t c0, uint32_t bit,
                                             uint32_t node) {
    const int16_t *stretch = m->tables.stretch;
    uint32_t order = 0, row[2] = {c0 | (m->h->last4 & 255) << 8, (m->apm_row ^ c0 * 0x9E35u) & (CM_APM_HASHED - 1)};
    for (int k = 0; k < cm_refiners(selectors); k++) {
        KOLMO_PREFETCH(m->apm[k] + (size_t)row[k] * CM_APM_STEPS);
        KOLMO_PREFETCH(m->apm[k] + (size_t)row[k] * CM_APM_STEPS + CM_APM_STEPS - 1);
    }
    cm_history *h = m->h;
    b->expected_bit = -1;
    b->x[2 * contexts] = b->x[2 * contexts + 1] = 0;
    if (h->expected >= 0 && ((uint32_t)h->expected | 256) >> (8 - bit) == c0) {
        b->expected_bit = h->expected >> (7 - bit) & 1;
        b->match_map = m->match_map + cm_match_bucket(h->match_length);
        int32_t p = (int32_t)(*b->match_map >> 20), sign = b->expected_bit ? 1 : -1;
        b->x[2 * contexts] = sign * stretch[p];
        b->x[2 * contexts + 1] = sign * ((p - 2048) >> 2);
    }
    b->network_logit = 0;
    if (network) {
        const uint32_t *sums = m->prediction.sums + 2 * c0;
        b->network_logit = kolmo_network_stretch(m->logarithms, sums[0], sums[1]);
        int32_t q = m->tables.squash[b->network_logit + CM_SQUASH / 2];
        b->x[2 * contexts + 3] = b->network_logit;
        b->x[2 * contexts + 4] = (q - 32768) >> 6;
        b->x[2 * contexts + 5] = 2 * b->network_logit; /* its weight learns four times as fast */
    }
    for (int j = 1; j < selectors; j++) { /* the first selector may need the contexts' states */
        uint32_t set = cm_select(m, m->config.selector[j], c0, bit, 0, b->expected_bit, b->network_logit);
        b->weights[j] = m->weights[j] + (size_t)set * inputs;
        b->errors[j] = m->errors[j] + set;
        for (int k = 0; k < inputs; k += 16) KOLMO_PREFETCH(b->weights[j] + k);
    }
    for (int i = 0; i < contexts; i++) {
        uint8_t *history = m->tree[i] + node;
        uint8_t state = *history;
        uint32_t *map = m->maps + i * 256 + state;
        int32_t p = (int32_t)(*map >> 20);
        b->history[i] = history;
        b->state[i] = state;
        b->map[i] = map;
        b->x[i] = stretch[p];
        b->x[contexts + i] = (p - 2048) >> 2;
        if (i >= 2 && i < 9) order += state != 0; /* of the contexts that configurations put there */
    }
    for (int j = 0; j < selectors; j++) {
        if (j == 0) {
            uint32_t set = cm_select(m, m->config.selector[j], c0, bit, order, b->expected_bit, b->network_logit);
            b->weights[j] = m->weights[j] + (size_t)set * inputs;
            b->errors[j] = m->errors[j] + set;
        }
        b->y[j] = cm_dot(b->weights[j], b->x, inputs);
        b->p[j] = m->tables.squash[b->y[j] + CM_SQUASH / 2];
    }
    int32_t s = b->y[0], p;
    if (selectors > 1) {
        b->final_weights = m->final_weights + c0 * 16;
        b->final_errors = m->final_errors + c0;
        s = cm_dot(b->final_weights, b->y, 16);
    }
    p = b->mixed = m->tables.squash[s + CM_SQUASH / 2];
    int32_t p1 = cm_refine(m->apm[0], row[0], s, &b->knot[0]);
    int32_t p2 = cm_refiners(selectors) > 1 ? cm_refine(m->apm[1], row[1], s, &b->knot[1]) : p1;
    /* With a network, the maps improve the result less than without, and have less weight. */
    return cm_clamp(network ? (2 * p + p1 + p2 + 2) >> 2 : (2 * p + 3 * p1 + 3 * p2 + 4) >> 3, 1, 65535);
}

KOLMO_INLINE KOLMO_TARGET void cm_update(cm_model *m, cm_bit *b, const int contexts, const int selectors,
                                         const int inputs, const int network, int32_t y) {
    (void)network;
    for (int k = 0; k < cm_refiners(selectors); k++) {
        int32_t v = *b->knot[k];
        *b->knot[k] = (uint16_t)(v + ((y ? 65535 + 31 - v : -v) >> 5));
    }
    const cm_config *c = &m->config;
    if (selectors > 1) {
        int32_t rate = cm_rate(&m->tables, *b->final_errors, c->final_rate, c->final_boost);
        cm_train(b->final_weights, b->y, 16, cm_scaled_error(y, b->mixed, rate));
        cm_count_error(b->final_errors, y, b->mixed);
    }
    for (int j = 0; j < selectors; j++) {
        cm_train(b->weights[j], b->x, inputs, cm_scaled_error(y, b->p[j], cm_rate(&m->tables, *b->errors[j], c->rate, c->boost)));
        cm_count_error(b->errors[j], y, b->p[j]);
    }
    uint32_t limit = (uint32_t)m->config.map_limit;
    for (int i = 0; i < contexts; i++) {
        cm_move(&m->tables, b->map[i], y, limit);
        *b->history[i] = m->tables.next[b->state[i]][y];
    }
    if (b->expected_bit >= 0) cm_move(&m->tables, b->match_map, b->expected_bit == y, 1022);
}

/* One byte of the current lane, for one direction and one shape of model (both known at compile time). */
KOLMO_INLINE KOLMO_TARGET uint8_t cm_code_byte(cm_model *m, cm_bit *b, const int mode, const int contexts,
                                               const int selectors, const int inputs, const int network, uint32_t byte,
                                               void *coder, uint16_t *costs) {
    uint32_t c0 = 1;
    cm_begin_byte(m, contexts);
    for (uint32_t bit = 0; bit < 8; bit++) {
        if (bit == 4) cm_plant(m, contexts, c0);
        uint32_t node = bit < 4 ? c0 : 1u << (bit - 4) | (c0 & ((1u << (bit - 4)) - 1));
        int32_t p = cm_predict(m, b, contexts, selectors, inputs, network, c0, bit, node);
        int32_t y = mode == CM_DECODE ? kolmo_decode((kolmo_decoder *)coder, (uint32_t)p) : (int32_t)(byte >> (7 - bit) & 1);
        if (mode == CM_ENCODE) kolmo_encode((kolmo_encoder *)coder, y, (uint32_t)p);
        if (mode == CM_SCORE) costs[bit] = (uint16_t)(y ? p : 65536 - p);
        cm_update(m, b, contexts, selectors, inputs, network, y);
        c0 = c0 << 1 | (uint32_t)y;
    }
    cm_learn_byte(m, (uint8_t)c0);
    return (uint8_t)c0;
}

/* A run over the next `size` bytes of a block in one lane. */
KOLMO_INLINE KOLMO_TARGET void cm_code(cm_model *m, const int mode, const int contexts, const int selectors,
                                       const int inputs, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    cm_bit b;
    memset(&b, 0, sizeof b);
    b.x[2 * contexts + 2] = 256; /* a constant input: the bias */
    for (size_t at = 0; at < size; at++) {
        if (mode == CM_DECODE && kolmo_decoder_failed((kolmo_decoder *)coder)) return;
        uint8_t c = cm_code_byte(m, &b, mode, contexts, selectors, inputs, 0, mode == CM_DECODE ? 0 : data[at], coder,
                                 mode == CM_SCORE ? costs + at * 8 : NULL);
        if (mode == CM_DECODE) data[at] = c;
    }
}

/* The next byte of every lane that has one left, in order, with the network's predictions: `sums` holds 512 numbers for
 * each lane. `block` is the whole block, read or (decoding) written. Returns the number of bytes. */
KOLMO_INLINE KOLMO_TARGET size_t cm_code_lanes(cm_model *m, const int mode, const int contexts, const int selectors,
                                               const int inputs, uint8_t *block, const uint32_t *sums, void *coder,
                                               uint16_t *costs) {
    cm_bit b;
    memset(&b, 0, sizeof b);
    b.x[2 * contexts + 2] = 256;
    size_t done = 0;
    for (int lane = 0; lane < m->lanes; lane++) {
        m->h = m->histories + lane;
        uint32_t at = m->h->position;
        if (at == m->h->end) continue;
        if (mode == CM_DECODE && kolmo_decoder_failed((kolmo_decoder *)coder)) return done;
        cm_read_network(m, sums + 512 * (size_t)lane);
        uint8_t c = cm_code_byte(m, &b, mode, contexts, selectors, inputs, 1, mode == CM_DECODE ? 0 : block[at], coder,
                                 mode == CM_SCORE ? costs + at * (size_t)8 : NULL);
        if (mode == CM_DECODE) block[at] = c;
        done++;
    }
    return done;
}

KOLMO_TARGET void KOLMO_RUN(cm_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    const int contexts = m->config.contexts, selectors = m->config.selectors, inputs = m->inputs;
    if (contexts == 4 && selectors == 1) { /* level 1: a path of its own, all counts known at compile time */
        if (mode == CM_ENCODE) cm_code(m, CM_ENCODE, 4, 1, 16, data, size, coder, costs);
        else if (mode == CM_DECODE) cm_code(m, CM_DECODE, 4, 1, 16, data, size, coder, costs);
        else cm_code(m, CM_SCORE, 4, 1, 16, data, size, coder, costs);
    } else {
        if (mode == CM_ENCODE) cm_code(m, CM_ENCODE, contexts, selectors, inputs, data, size, coder, costs);
        else if (mode == CM_DECODE) cm_code(m, CM_DECODE, contexts, selectors, inputs, data, size, coder, costs);
        else cm_code(m, CM_SCORE, contexts, selectors, inputs, data, size, coder, costs);
    }
}

KOLMO_INLINE KOLMO_TARGET size_t cm_code_lanes_as(cm_model *m, const int mode, const int contexts, const int selectors,
                                                  const int inputs, uint8_t *block, const uint32_t *sums, void *coder,
                                                  uint16_t *costs) {
    if (mode == CM_ENCODE) return cm_code_lanes(m, CM_ENCODE, contexts, selectors, inputs, block, sums, coder, costs);
    if (mode == CM_DECODE) return cm_code_lanes(m, CM_DECODE, contexts, selectors, inputs, block, sums, coder, costs);
    return cm_code_lanes(m, CM_SCORE, contexts, selectors, inputs, block, sums, coder, costs);
}

KOLMO_TARGET size_t KOLMO_RUN_LANES(cm_model *m, int mode, uint8_t *block, const uint32_t *sums, void *coder, uint16_t *costs) {
    const int contexts = m->config.contexts, selectors = m->config.selectors, inputs = m->inputs;
    /* The shapes for small networks: all counts known at compile time. */
    if (contexts == 5 && selectors == 2) return cm_code_lanes_as(m, mode, 5, 2, 16, block, sums, coder, costs);
    if (contexts == 13 && selectors == 5) return cm_code_lanes_as(m, mode, 13, 5, 32, block, sums, coder, costs);
    return cm_code_lanes_as(m, mode, contexts, selectors, inputs, block, sums, coder, costs);
}
