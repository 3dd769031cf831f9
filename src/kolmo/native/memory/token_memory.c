/* See token_memory.h. */
#include "memory/token_memory.h"

int32_t tm_predict_baseline(tm_memory *m, uint32_t chance);
void tm_update_baseline(tm_memory *m, int32_t y);
static int32_t (*predict)(tm_memory *, uint32_t) = tm_predict_baseline;
static void (*update)(tm_memory *, int32_t) = tm_update_baseline;
#if defined(KOLMO_AVX2)
int32_t tm_predict_avx2(tm_memory *m, uint32_t chance);
void tm_update_avx2(tm_memory *m, int32_t y);
#endif

void tm_choose(int width) {
    (void)width;
    predict = tm_predict_baseline;
    update = tm_update_baseline;
#if defined(KOLMO_AVX2)
    if (width) {
        predict = tm_predict_avx2;
        update = tm_update_avx2;
    }
#endif
}

/* How many tokens of the past each context reads. */
static const uint32_t gram_reaches[TM_GRAMS] = {1, 2, 4, 6};
static const uint32_t match_reaches[TM_MATCHES] = {TM_LONG, TM_SHORT};

/* log2 of the entries of a table for so many tokens, rounded up. */
static int32_t table_bits(uint32_t tokens, int32_t least, int32_t most) {
    int32_t bits = least;
    while (bits < most && (uint32_t)1 << bits < tokens) bits++;
    return bits;
}

static void *zeroed(size_t count, size_t size) { return calloc(count ? count : 1, size); }

/* A probability of numerator / denominator that six events stand behind. */
static uint32_t probability(uint32_t numerator, uint32_t denominator) {
    return (uint32_t)((uint64_t)4194303 * numerator / denominator) << 10 | 6;
}

static void fill_maps(tm_memory *m) {
    static const uint32_t counts[TM_QUANTA] = {0, 10, 20, 35, 65, 120}; /* ten times what a quantum stands for */
    for (int k = 0; k < TM_CONTEXTS; k++)
        for (int at = 0; at < TM_HISTORIES; at++) {
            const uint32_t right = counts[at / (2 * TM_PARTS) / TM_QUANTA], left = counts[at / (2 * TM_PARTS) % TM_QUANTA];
            m->histories[k][at] = probability(right + 1, right + left + 2);
        }
    for (int k = 0; k < TM_MATCHES; k++)
        for (uint32_t at = 0; at < TM_LENGTHS * TM_PARTS; at++) m->lengths[k][at] = probability(at / TM_PARTS + 2, at / TM_PARTS + 3);
}

static void fill_weights(tm_memory *m) {
    for (int j = 0; j < TM_SETS; j++)
        for (int32_t i = 0; i < m->shape.sizes[j]; i++) {
            int32_t *w = m->weights[j] + (size_t)i * TM_INPUTS;
            w[0] = 1 << 27; /* 1: at first the mixture is the model's prediction, and a little of each other's */
            for (int k = 2; k < 4 + 2 * TM_CONTEXTS + 2 * TM_MATCHES; k += 2) w[k] = 8 << 20;
        }
    for (int i = 0; i < 2 * m->shape.levels * TM_FINAL; i++) m->final_weights[i] = i % TM_FINAL < TM_SETS ? (1 << 27) / TM_SETS : 0;
}

tm_memory *tm_new(const cm_tables *tables, const uint8_t *kinds, size_t vocabulary, const int32_t *lengths, int32_t lanes,
                  uint32_t remembered) {
    tm_memory *m = (tm_memory *)zeroed(1, sizeof *m);
    int32_t levels = 0;
    if (!m) return NULL;
    while (vocabulary > (size_t)256 << levels) levels++;
    levels += 8;
    m->vocabulary = vocabulary;
    m->tables = *tables;
    m->lanes = lanes;
    m->lane = (tm_lane *)zeroed((size_t)lanes, sizeof *m->lane);
    if (!m->lane) goto failed;
    for (int32_t k = 0; k < lanes; k++) {
        m->lane[k].first = m->lane[k].at = m->count;
        m->count += (uint32_t)lengths[k];
        m->lane[k].end = m->count;
    }
    remembered = remembered < m->count ? remembered : m->count;
    m->shape = (tm_shape){levels,
                          table_bits(remembered, 8, 16),
                          table_bits(remembered / 2, 8, 24),
                          table_bits(m->count, 8, 24),
                          {16 * levels, 256, 4096, 32 * levels}};
    m->kinds = (uint8_t *)malloc(vocabulary);
    m->known = (uint32_t *)malloc(((size_t)m->count + 1) * sizeof *m->known);
    m->near_followers = (tm_near_followers *)zeroed((size_t)1 << m->shape.near_bits, sizeof *m->near_followers);
    m->frequent = (uint32_t *)malloc(((size_t)1 << levels) * sizeof *m->frequent);
    m->final_weights = (int32_t *)zeroed((size_t)(2 * levels * TM_FINAL), sizeof(int32_t));
    m->final_errors = (uint32_t *)zeroed((size_t)(2 * levels), sizeof(uint32_t));
    int good = m->kinds && m->known && m->near_followers && m->frequent && m->final_weights && m->final_errors;
    for (int k = 0; k < TM_MATCHES; k++) good &= (m->matches[k] = (uint32_t *)zeroed((size_t)1 << m->shape.match_bits, 4)) != NULL;
    for (int k = 1; k < TM_CONTEXTS; k++)
        good &= (m->followers[k] = (tm_followers *)zeroed((size_t)1 << m->shape.table_bits, sizeof(tm_followers))) != NULL;
    for (int j = 0; j < TM_SETS; j++) {
        good &= (m->weights[j] = (int32_t *)zeroed((size_t)m->shape.sizes[j] * TM_INPUTS, 4)) != NULL;
        good &= (m->errors[j] = (uint32_t *)zeroed((size_t)m->shape.sizes[j], 4)) != NULL;
    }
    if (!good) goto failed;
    memcpy(m->kinds, kinds, vocabulary);
    memset(m->known, 255, ((size_t)m->count + 1) * sizeof *m->known);
    for (size_t i = 0; i < (size_t)1 << levels; i++) m->frequent[i] = 1u << 31;
    int s = -(CM_SQUASH / 2 - 1);
    for (int p = 0; p < 65536; p++) {
        while (s < CM_SQUASH / 2 - 1 && m->tables.squash[s + 1 + CM_SQUASH / 2] <= p) s++;
        m->stretch[p] = (int16_t)s;
    }
    fill_maps(m);
    fill_weights(m);
    return m;
failed:
    tm_free(m);
    return NULL;
}

void tm_free(tm_memory *m) {
    if (!m) return;
    for (int k = 0; k < TM_MATCHES; k++) free(m->matches[k]);
    for (int k = 1; k < TM_CONTEXTS; k++) free(m->followers[k]);
    for (int j = 0; j < TM_SETS; j++) {
        free(m->weights[j]);
        free(m->errors[j]);
    }
    free(m->lane);
    free(m->kinds);
    free(m->known);
    free(m->near_followers);
    free(m->frequent);
    free(m->final_weights);
    free(m->final_errors);
    free(m);
}

static uint32_t *find_near_followers(tm_memory *m, uint32_t hash) {
    tm_near_followers *here = m->near_followers + (hash & (((uint32_t)1 << m->shape.near_bits) - 1));
    if (here->check == hash) return here->kept;
    memset(here, 0, sizeof *here);
    here->check = hash;
    return here->kept;
}

/* The followers of a context that is not the first; another context's make room. */
static uint32_t *find_followers(tm_memory *m, int k, uint32_t hash) {
    const uint32_t at = hash & (((uint32_t)1 << m->shape.table_bits) - 1);
    tm_followers *here = m->followers[k] + at, *beside = m->followers[k] + (at ^ 1);
    if (here->check == hash) return here->kept;
    if (beside->check == hash) return beside->kept;
    if ((beside->kept[0] & 255) < (here->kept[0] & 255)) here = beside;
    memset(here, 0, sizeof *here);
    here->check = hash;
    return here->kept;
}

static void find_match(tm_memory *m, int k) {
    tm_lane *l = m->l;
    const uint32_t done = l->at - l->first, reach = match_reaches[k];
    m->slots[k] = TM_NONE;
    if (l->length[k] && m->known[l->match[k]] == TM_NONE) l->length[k] = 0;
    if (done >= reach) {
        uint32_t hash = (uint32_t)k;
        for (uint32_t d = 1; d <= reach; d++) hash = cm_hash(hash, m->known[l->at - d]);
        uint32_t *entry = &m->matches[k][hash >> (32 - m->shape.match_bits)];
        const uint32_t place = *entry;
        if (!l->length[k] && place && m->known[place] != TM_NONE) {
            uint32_t length = 0;
            while (length < 32 && length < place && length < done && m->known[place - 1 - length] == m->known[l->at - 1 - length]) length++;
            if (length >= reach) {
                l->match[k] = place;
                l->length[k] = length;
            }
        }
        *entry = l->at;
    }
    m->expected[k] = l->length[k] ? m->known[l->match[k]] : TM_NONE;
}

void tm_begin(tm_memory *m, int32_t lane) {
    tm_lane *l = m->l = m->lane + lane;
    uint32_t hash = 0;
    for (uint32_t d = 1, k = 0; k < TM_GRAMS; d++) {
        hash = cm_hash(hash, l->at - l->first >= d ? m->known[l->at - d] : TM_NONE);
        if (d != gram_reaches[k]) continue;
        m->lists[k] = k ? find_followers(m, (int)k, hash) : find_near_followers(m, hash);
        k++;
    }
    m->lists[TM_GRAMS] = find_followers(m, TM_GRAMS, cm_hash(l->field, l->begun));
    m->lists[TM_GRAMS + 1] = find_followers(m, TM_GRAMS + 1, cm_hash(cm_hash(l->line, l->field), l->begun));
    for (int k = 0; k < TM_MATCHES; k++) find_match(m, k);
    for (int k = 0; k < TM_CONTEXTS; k++) {
        const int most = k ? TM_KEPT : TM_NEAR;
        int n = 0;
        while (n < most && m->lists[k][n]) {
            m->possible[k][n] = m->lists[k][n];
            n++;
        }
        m->possibles[k] = n;
    }
    m->low = 0;
    m->span = (uint32_t)1 << (m->shape.levels - 1);
    m->node = 1;
    m->level = 0;
}

int32_t tm_predict(tm_memory *m, uint32_t chance) { return predict(m, chance); }

/* Down to the half that the bit says. */
static void descend(tm_memory *m, int32_t y) {
    if (y) m->low += m->span;
    for (int k = 0; k < TM_CONTEXTS; k++) {
        int n = 0;
        for (int i = 0; i < m->possibles[k]; i++)
            if ((m->possible[k][i] >> 8) - m->low < m->span) m->possible[k][n++] = m->possible[k][i];
        m->possibles[k] = n;
    }
    m->span >>= 1;
    m->node = 2 * m->node + (uint32_t)y;
    m->level++;
}

void tm_update(tm_memory *m, int32_t y) {
    update(m, y);
    descend(m, y);
}

void tm_skip(tm_memory *m) { descend(m, 0); }

/* Put a token first in a list; where it is new, it takes the place of the one with the least count, the oldest of these. */
static void keep(uint32_t *list, int most, uint32_t token) {
    int at = -1;
    uint32_t count = 1;
    for (int i = 0; i < most && list[i] && at < 0; i++)
        if (list[i] >> 8 == token) at = i;
    if (at >= 0) {
        count = (list[at] & 255) + 1;
        if (count > 255) count = 128;
    } else {
        at = most - 1;
        for (int i = most - 1; i >= 0; i--)
            if ((list[i] & 255) < (list[at] & 255)) at = i;
    }
    for (int i = at; i > 0; i--) list[i] = list[i - 1];
    list[0] = token << 8 | count;
    for (int i = 1; i < most; i++)
        if ((list[i] & 255) > 2) list[i] -= ((list[i] & 255) + 2) / 4;
}

void tm_end(tm_memory *m) {
    tm_lane *l = m->l;
    for (int k = 0; k < TM_CONTEXTS; k++) keep(m->lists[k], k ? TM_KEPT : TM_NEAR, m->low);
    m->known[l->at++] = m->low;
    if (m->kinds[m->low] & TM_ENDS_LINE) {
        l->field = l->begun = l->line = 0;
    } else if (m->kinds[m->low] & TM_BEGINS_FIELD) {
        if (l->field == 0) l->line = l->begun;
        l->field++;
        l->begun = cm_hash(0, m->low);
    } else {
        l->begun = cm_hash(l->begun, m->low);
    }
    for (int k = 0; k < TM_MATCHES; k++) {
        if (m->expected[k] == TM_NONE) continue;
        if (m->expected[k] == m->low) {
            l->length[k] += l->length[k] < 65535;
            l->match[k]++;
        } else {
            l->length[k] = 0;
        }
    }
}
