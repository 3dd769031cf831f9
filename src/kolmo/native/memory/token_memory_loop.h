/* The work of a decision, for the instruction set of the file that includes this one: it defines KOLMO_TARGET (a function
 * attribute, or nothing) and TM_PREDICT, TM_UPDATE (names) first. */
#include "memory/token_memory.h"
#include "mixer/primitives_loop.h"

KOLMO_INLINE KOLMO_TARGET int32_t tm_squash(const tm_memory *m, int32_t s) {
    int32_t p = m->tables.squash[cm_clamp(s, -(CM_SQUASH / 2 - 1), CM_SQUASH / 2 - 1) + CM_SQUASH / 2];
    return cm_clamp(p, 1, 65535);
}

/* A count as one of TM_QUANTA. */
KOLMO_INLINE KOLMO_TARGET uint32_t tm_quantum(uint32_t n) { return n < 3 ? n : n < 5 ? 3 : n < 9 ? 4 : 5; }

KOLMO_INLINE KOLMO_TARGET uint32_t tm_bucket(uint32_t length) {
    return length < 16 ? length : length < 32 ? 16 + (length - 16) / 4 : length < 512 ? 20 + (length - 32) / 48 : 31;
}

/* The two inputs of an adaptive probability. */
KOLMO_INLINE KOLMO_TARGET void tm_input(const tm_memory *m, int32_t *x, uint32_t probability, int32_t sign) {
    int32_t p = (int32_t)(probability >> 16);
    x[0] = sign * m->stretch[p];
    x[1] = sign * ((p - 32768) >> 5);
}

KOLMO_TARGET int32_t TM_PREDICT(tm_memory *m, uint32_t chance) {
    const uint32_t level = (uint32_t)m->level, levels = (uint32_t)m->shape.levels, low = m->low, span = m->span;
    const uint32_t part = level * TM_PARTS / levels;
    int32_t *x = m->x;
    uint32_t some = 0, sure = 0, contexts = 0, deepest = 0;
    x[0] = m->stretch[chance];
    x[1] = ((int32_t)chance - 32768) >> 5;
    for (int k = 0; k < TM_CONTEXTS; k++) {
        const uint32_t *possible = m->possible[k];
        uint32_t left = 0, right = 0;
        m->history[k] = NULL;
        x[2 + 2 * k] = x[3 + 2 * k] = 0;
        if (!m->possibles[k]) continue;
        for (int i = 0; i < m->possibles[k]; i++) {
            if ((possible[i] >> 8) - low >= span) right += possible[i] & 255;
            else left += possible[i] & 255;
        }
        const uint32_t newest = (possible[0] >> 8) - low >= span;
        const uint32_t at = (tm_quantum(right) * TM_QUANTA + tm_quantum(left)) * 2 + newest;
        m->history[k] = &m->histories[k][at * TM_PARTS + part];
        tm_input(m, x + 2 + 2 * k, *m->history[k], 1);
        some |= 1u << k;
        sure |= !left || !right;
        contexts++;
        if (k < TM_GRAMS) deepest = (uint32_t)k + 1;
    }
    m->frequent_map = &m->frequent[m->node];
    x[2 + 2 * TM_CONTEXTS] = x[3 + 2 * TM_CONTEXTS] = 0;
    if (*m->frequent_map & 1023) tm_input(m, x + 2 + 2 * TM_CONTEXTS, *m->frequent_map, 1);
    uint32_t longest = 0;
    for (int k = 0; k < TM_MATCHES; k++) {
        int32_t *input = x + 4 + 2 * TM_CONTEXTS + 2 * k;
        input[0] = input[1] = 0;
        m->expected_bit[k] = -1;
        if (m->expected[k] - low >= 2 * span) continue; /* none, or another way down */
        const uint32_t bucket = tm_bucket(m->l->length[k]);
        m->expected_bit[k] = m->expected[k] - low >= span;
        m->length_map[k] = &m->lengths[k][bucket * TM_PARTS + part];
        tm_input(m, input, *m->length_map[k], m->expected_bit[k] ? 1 : -1);
        longest = bucket > longest ? bucket : longest;
    }
    x[4 + 2 * TM_CONTEXTS + 2 * TM_MATCHES] = 256;
    const uint32_t long_bit = (uint32_t)(m->expected_bit[0] + 1), short_bit = (uint32_t)(m->expected_bit[1] + 1);
    const uint32_t selected[TM_SETS] = {
        level * 16 + (long_bit | short_bit ? 1 + (longest < 14 ? longest : 14) : 0),
        (some >> 1) * 8 + sure + 2 * (long_bit > 0) + 4 * (short_bit > 0),
        (uint32_t)cm_clamp((x[0] + CM_SQUASH / 2) / 384, 0, 15) * 256 + deepest * 16 + long_bit * 4 + short_bit,
        level * 32 + (m->expected[0] != TM_NONE) + 2 * (short_bit > 0) + 4 * contexts,
    };
    for (int j = 0; j < TM_SETS; j++) {
        m->w[j] = m->weights[j] + (size_t)selected[j] * TM_INPUTS;
        m->e[j] = m->errors[j] + selected[j];
        m->outputs[j] = cm_dot(m->w[j], x, TM_INPUTS);
        m->p[j] = tm_squash(m, m->outputs[j]);
    }
    const uint32_t help = long_bit | short_bit | some ? 1 : 0;
    m->final = m->final_weights + (2 * level + help) * TM_FINAL;
    m->final_error = m->final_errors + 2 * level + help;
    return m->mixed = tm_squash(m, cm_dot(m->final, m->outputs, TM_FINAL));
}

KOLMO_TARGET void TM_UPDATE(tm_memory *m, int32_t y) {
    enum { RATE = 120, BOOST = 600, FINAL_RATE = 20, FINAL_BOOST = 100, LIMIT = 1022, FREQUENT_LIMIT = 60 };
    cm_train(m->final, m->outputs, TM_FINAL, cm_scaled_error(y, m->mixed, cm_rate(&m->tables, *m->final_error, FINAL_RATE, FINAL_BOOST)));
    cm_count_error(m->final_error, y, m->mixed);
    for (int j = 0; j < TM_SETS; j++) {
        cm_train(m->w[j], m->x, TM_INPUTS, cm_scaled_error(y, m->p[j], cm_rate(&m->tables, *m->e[j], RATE, BOOST)));
        cm_count_error(m->e[j], y, m->p[j]);
    }
    for (int k = 0; k < TM_CONTEXTS; k++)
        if (m->history[k]) cm_move(&m->tables, m->history[k], y, LIMIT);
    for (int k = 0; k < TM_MATCHES; k++)
        if (m->expected_bit[k] >= 0) cm_move(&m->tables, m->length_map[k], m->expected_bit[k] == y, LIMIT);
    cm_move(&m->tables, m->frequent_map, y, FREQUENT_LIMIT);
}
