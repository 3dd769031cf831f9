/* The mixer of pictures: the work of a byte. Compiled once for each instruction set: the file that includes this one
 * defines KOLMO_TARGET (a function attribute, or nothing) and KOLMO_RUN (the name of the entry point).
 *
 *   neighbours --> predictions --> distributions --> logits of the bit -+
 *              --> contexts --> slots --> cells -------------------------+--> mixers --> final mixer --> two maps --> p
 *              --> guesses ---------------------------------------------+
 */
#include "pixel_mixer/pixel_mixer.h"
#include "mixer/primitives_loop.h"
#include "pixel_mixer/pixel_least_squares.h"
#include "pixel_mixer/pixel_contexts.h"

typedef struct {
    int32_t x[PM_INPUTS], y[16], p[PM_SELECTORS];
    int32_t *weights[PM_SELECTORS], *final_weights;
    uint32_t *entry[PM_CATALOGUE], *cell[PM_CATALOGUE], *guess[PM_GUESSES], middle[PM_SPREADS];
    int32_t guessed[PM_GUESSES]; /* the bit, -1 for none */
    uint16_t *knot[2];
    int32_t mixed;
} pm_bit;

/* Weight of the values below `value`, 0..256: the tails belong to the first and the last value. */
KOLMO_INLINE KOLMO_TARGET uint32_t pm_below(const pm_model *m, const pm_spread *d, int32_t value) {
    if (value <= 0) return 0;
    if (d->sums) return d->sums[value];
    if (value >= 256) return PM_WHOLE;
    const int64_t z = ((int64_t)(16 * value - 8 - d->center) * d->inverse >> 16) + 65536;
    if (z < 0) return 0;
    if (z >= 131072) return PM_WHOLE;
    const uint32_t *f = m->tables.logistic + (z >> 6);
    return f[0] + ((f[1] - f[0]) >> 6) * (uint32_t)(z & 63);
}

/* Weight of the symbols below `symbol`, 0..256. */
KOLMO_INLINE KOLMO_TARGET uint32_t pm_before(const pm_model *m, const pm_spread *d, int32_t symbol) {
    const int32_t value = (int32_t)m->base_value + symbol;
    const uint32_t weight = value <= 256 ? pm_below(m, d, value) - d->below : d->whole - d->below + pm_below(m, d, value - 256);
    return weight + d->space * (uint32_t)symbol;
}

KOLMO_INLINE KOLMO_TARGET void pm_begin_spread(const pm_model *m, pm_spread *d) {
    d->below = 0;
    d->below = pm_below(m, d, (int32_t)m->base_value);
    d->low = 0;
    d->high = d->whole + d->space * 256;
}

KOLMO_INLINE KOLMO_TARGET void pm_begin_spreads(pm_model *m) {
    for (int k = 0; k < PM_PREDICTORS; k++) {
        pm_spread *d = m->spreads + k;
        d->center = m->predicted[k];
        d->inverse = (11356u << 16) / ((m->scales[m->turn][k][m->scale_at[k]] >> 12) + 2);
        d->whole = PM_WHOLE, d->space = PM_SPACE, d->sums = NULL;
        pm_begin_spread(m, d);
    }
    m->spread_count = PM_PREDICTORS;
    if (!m->network) return;
    kolmo_pixel_network_predict(m->network, &m->picture, m->row, m->x, m->turn, m->sums);
    m->below[0] = 0;
    for (int v = 0; v < 256; v++) m->below[v + 1] = m->below[v] + m->sums[256 + v];
    pm_spread *d = m->spreads + PM_PREDICTORS;
    d->whole = m->below[256], d->space = 0, d->sums = m->below;
    pm_begin_spread(m, d);
    m->spread_count = PM_SPREADS;
}

/* Set each context's slots for the next nibble; `nibble` is 0, or 16 + the first nibble. A slot is a cache line: a check,
 * and 15 averages, which are stored with their highest bit inverted, so that zeros are averages of nothing. */
KOLMO_INLINE KOLMO_TARGET void pm_plant(pm_model *m, const int contexts, uint32_t nibble) {
    uint32_t hash[PM_CATALOGUE];
    for (int i = 0; i < contexts; i++) {
        hash[i] = nibble ? cm_hash(m->hash[i], nibble) : m->hash[i];
        m->slot[i] = m->slots + (size_t)(hash[i] & m->slot_mask) * 16;
        if (nibble) KOLMO_PREFETCH(m->slot[i]);
    }
    for (int i = 0; i < contexts; i++) {
        uint32_t *slot = m->slot[i], check = hash[i] >> 16 | 1;
        if (*slot == check) continue;
        memset(slot, 0, 64);
        *slot = check;
    }
}

KOLMO_INLINE KOLMO_TARGET int32_t pm_predict(pm_model *m, pm_bit *b, const int contexts, const int selectors, const int inputs,
                                             uint32_t c0, uint32_t bit, uint32_t node, int32_t middle) {
    const int16_t *stretch = m->base.stretch;
    for (int i = 0; i < contexts; i++) {
        b->entry[i] = m->slot[i] + node;
        const uint32_t v = *b->entry[i] ^ (uint32_t)1 << 31, count = v & 1023;
        b->cell[i] = m->cells + 256 * i + 32 * m->tables.bucket[count] + ((uint32_t)(stretch[v >> 20] + 2048) >> 7);
        b->x[i] = count ? stretch[*b->cell[i] >> 20] : 0;
    }
    int32_t *x = b->x + contexts;
    for (int k = 0; k < m->spread_count; k++) {
        const pm_spread *d = m->spreads + k;
        b->middle[k] = pm_before(m, d, middle);
        x[k] = kolmo_network_stretch(m->tables.logarithms, b->middle[k] - d->low + 1, d->high - b->middle[k] + 1);
        x[PM_SPREADS + k] = (m->base.squash[x[k] + CM_SQUASH / 2] - 32768) >> 6;
    }
    const int32_t best = x[m->network ? PM_PREDICTORS : 5];
    uint32_t agree = 0;
    for (int k = 0; k < PM_GUESSES; k++) {
        b->guessed[k] = -1;
        x[2 * PM_SPREADS + k] = 0;
        if (m->guess[k] < 0) continue;
        const uint32_t symbol = ((uint32_t)m->guess[k] - m->base_value) & 255;
        if ((symbol | 256) >> (8 - bit) != c0) continue;
        b->guessed[k] = symbol >> (7 - bit) & 1;
        b->guess[k] = m->guess_map[k] + m->confidence[k];
        const int32_t s = stretch[*b->guess[k] >> 20];
        x[2 * PM_SPREADS + k] = b->guessed[k] ? s : -s;
        agree++;
    }
    const uint32_t coarse = (uint32_t)m->level >> 2;
    const uint32_t set[PM_SELECTORS] = {
        c0,
        ((uint32_t)m->level >> 1) * 8 + bit,
        ((uint32_t)(best + 2048) >> 7) * 8 + bit,
        (uint32_t)m->texture,
        ((uint32_t)(x[0] + 2048) >> 8) * 16 + ((uint32_t)(x[1] + 2048) >> 8),
        (agree * 8 + bit) * 8 + coarse,
    };
    for (int j = 0; j < selectors; j++) {
        b->weights[j] = m->weights[j] + (size_t)(m->turn * (uint32_t)pm_selector_sizes[j] + set[j]) * inputs;
        b->y[j] = cm_dot(b->weights[j], b->x, inputs);
        b->p[j] = m->base.squash[b->y[j] + CM_SQUASH / 2];
    }
    b->final_weights = m->final_weights + (m->turn * 256 + c0) * 16;
    const int32_t s = cm_dot(b->final_weights, b->y, 16);
    b->mixed = m->base.squash[s + CM_SQUASH / 2];
    const int32_t p0 = cm_refine(m->curves[0], (m->turn * 256 + c0) * 8 + coarse, s, &b->knot[0]);
    const int32_t p1 = cm_refine(m->curves[1], (((uint32_t)m->center >> 5) * 4 + m->turn) * 256 + c0, s, &b->knot[1]);
    return cm_clamp((2 * b->mixed + p0 + p1 + 2) >> 2, 1, 65535);
}

KOLMO_INLINE KOLMO_TARGET void pm_update(pm_model *m, pm_bit *b, const int contexts, const int selectors, const int inputs, int32_t y) {
    for (int k = 0; k < 2; k++) {
        const int32_t v = *b->knot[k];
        *b->knot[k] = (uint16_t)(v + ((y ? 65535 + 63 - v : -v) >> 6));
    }
    cm_train(b->final_weights, b->y, 16, cm_scaled_error(y, b->mixed, m->config.final_rate));
    for (int j = 0; j < selectors; j++) cm_train(b->weights[j], b->x, inputs, cm_scaled_error(y, b->p[j], m->rate_now));
    for (int i = 0; i < contexts; i++) {
        uint32_t v = *b->entry[i] ^ (uint32_t)1 << 31;
        cm_move(&m->base, &v, y, (uint32_t)m->config.slot_limit);
        *b->entry[i] = v ^ (uint32_t)1 << 31;
        cm_move(&m->base, b->cell[i], y, 1000);
    }
    for (int k = 0; k < PM_GUESSES; k++)
        if (b->guessed[k] >= 0) cm_move(&m->base, b->guess[k], b->guessed[k] == y, 1000);
    for (int k = 0; k < m->spread_count; k++) {
        if (y) m->spreads[k].low = b->middle[k];
        else m->spreads[k].high = b->middle[k];
    }
}

KOLMO_INLINE KOLMO_TARGET int32_t pm_code_bit(int mode, int32_t y, int32_t p, void *coder, uint16_t *costs) {
    if (mode == CM_DECODE) return kolmo_decode((kolmo_decoder *)coder, (uint32_t)p);
    if (mode == CM_ENCODE) kolmo_encode((kolmo_encoder *)coder, y, (uint32_t)p);
    else *costs = (uint16_t)(y ? p : 65536 - p);
    return y;
}

/* The byte of the current turn. */
KOLMO_INLINE KOLMO_TARGET uint32_t pm_code_byte(pm_model *m, pm_bit *b, const int mode, const int contexts, const int selectors,
                                                const int inputs, uint32_t byte, void *coder, uint16_t *costs) {
    pm_predict_pixel(m);
    pm_hash_contexts(m, contexts);
    pm_begin_spreads(m);
    pm_find_guesses(m);
    const uint64_t span = (uint64_t)1 << m->config.rate_shift;
    m->rate_now = m->config.rate + (int32_t)((uint64_t)m->config.rate_start * span / (span + m->coded));
    const uint32_t symbol = (byte - m->base_value) & 255;
    uint32_t c0 = 1;
    int32_t low = 0, high = 256;
    for (uint32_t bit = 0; bit < 8; bit++) {
        if ((bit & 3) == 0) pm_plant(m, contexts, bit ? c0 : 0);
        const uint32_t node = bit < 4 ? c0 : 1u << (bit - 4) | (c0 & ((1u << (bit - 4)) - 1));
        const int32_t middle = (low + high) >> 1;
        const int32_t p = pm_predict(m, b, contexts, selectors, inputs, c0, bit, node, middle);
        const int32_t y = pm_code_bit(mode, (int32_t)(symbol >> (7 - bit) & 1), p, coder, costs + bit);
        pm_update(m, b, contexts, selectors, inputs, y);
        if (y) low = middle;
        else high = middle;
        c0 = c0 << 1 | (uint32_t)y;
    }
    byte = (c0 + m->base_value) & 255;
    pm_learn_pixel(m, (int32_t)byte);
    m->coded++;
    return byte;
}

/* A byte behind the pixels of a row, by the one above it. */
KOLMO_INLINE KOLMO_TARGET uint32_t pm_code_padding(pm_model *m, const int mode, uint32_t byte, void *coder, uint16_t *costs) {
    const uint32_t above = m->row ? m->bytes[m->position - (uint32_t)m->config.stride] : 0;
    uint32_t c0 = 1;
    for (int bit = 0; bit < 8; bit++) {
        uint32_t *average = m->padding + above * 256 + c0;
        const int32_t p = cm_clamp((int32_t)(*average >> 16), 1, 65535);
        const int32_t y = pm_code_bit(mode, (int32_t)(byte >> (7 - bit) & 1), p, coder, costs + bit);
        cm_move(&m->base, average, y, 255);
        c0 = c0 << 1 | (uint32_t)y;
    }
    return c0 & 255;
}

/* The next row, of which `size` bytes are left. */
KOLMO_INLINE KOLMO_TARGET void pm_code_row(pm_model *m, pm_bit *b, const int mode, const int contexts, const int selectors,
                                           const int inputs, uint8_t *data, uint32_t size, void *coder, uint16_t *costs) {
    const uint32_t channels = (uint32_t)m->config.channels;
    uint8_t *row = m->bytes + m->position;
    uint16_t none[8];
    pm_begin_row(m);
    for (m->x = 0; m->x < m->width && m->x * channels < size; m->x++)
        for (m->turn = 0; m->turn < channels; m->turn++) {
            const uint32_t at = m->x * channels + (uint32_t)m->config.order[m->turn];
            if (at >= size) {
                pm_skip_pixel(m);
                continue;
            }
            row[at] = (uint8_t)pm_code_byte(m, b, mode, contexts, selectors, inputs, mode == CM_DECODE ? 0 : data[at], coder,
                                            mode == CM_SCORE ? costs + 8 * (size_t)at : none);
            if (mode == CM_DECODE) data[at] = row[at];
        }
    m->position += m->width * channels < size ? m->width * channels : size;
    for (uint32_t at = m->width * channels; at < size; at++, m->position++) {
        m->bytes[m->position] = (uint8_t)pm_code_padding(m, mode, mode == CM_DECODE ? 0 : data[at], coder,
                                                         mode == CM_SCORE ? costs + 8 * (size_t)at : none);
        if (mode == CM_DECODE) data[at] = m->bytes[m->position];
    }
    m->row++;
}

KOLMO_INLINE KOLMO_TARGET void pm_code(pm_model *m, const int mode, const int contexts, const int selectors, const int inputs,
                                       uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    pm_bit b;
    memset(&b, 0, sizeof b);
    b.x[contexts + 2 * PM_SPREADS + PM_GUESSES] = 256; /* a constant input: the bias */
    for (size_t at = 0; at < size; at += (size_t)m->config.stride) {
        if (mode == CM_DECODE && kolmo_decoder_failed((kolmo_decoder *)coder)) return;
        const size_t left = size - at, stride = (size_t)m->config.stride;
        pm_code_row(m, &b, mode, contexts, selectors, inputs, data + at, (uint32_t)(left < stride ? left : stride), coder,
                    costs ? costs + 8 * at : NULL);
    }
}

KOLMO_TARGET void KOLMO_RUN(pm_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    const int contexts = m->config.contexts, selectors = m->config.selectors, inputs = m->inputs;
    if (contexts == 11 && selectors == 6) pm_code(m, mode, 11, 6, 32, data, size, coder, costs);
    else pm_code(m, mode, contexts, selectors, inputs, data, size, coder, costs);
}
