/* Context mixing: the state, and the work once per byte or per nibble.
 *
 * C counterpart of mixer/reference.py, which specifies it; docs/context-mixing.md explains it. The work once per bit is
 * in context_mixing_loop.h, compiled once for each instruction set. All arithmetic is on integers, unsigned
 * where it may wrap, so every compiler and machine computes the same bits. */
#ifndef KOLMO_CONTEXT_MIXING_H
#define KOLMO_CONTEXT_MIXING_H

#include "binary/contexts.h"
#include "coder/coder.h"
#include "mixer/lines.h"
#include "mixer/primitives.h"
#include "network/network.h"

enum {
    CM_CATALOGUE = 48,     /* most contexts in a configuration */
    CM_CONTEXTS = 84,      /* contexts in the catalogue, from which a configuration picks */
    CM_NEAR = 9,           /* contexts below this are cheap; a configuration of at most this many picks only from them */
    CM_FAR = 36,           /* contexts from here on are computed from a network's prediction, */
    CM_FAR_END = 40,       /* up to here */
    CM_MAX_SELECTORS = 12, /* weight sets in the first mixer layer */
    CM_SELECTORS = 25,     /* selectors in the catalogue */
    CM_NETWORK_SELECTORS = 12, /* selectors from here on are computed from a network's prediction, */
    CM_NETWORK_SELECTORS_END = 16, /* up to here */
    CM_ORDER1 = 17 * CM_NODES, /* histories of a byte whose trees are not hashed: one for the first nibble, 16 for the second */
    CM_APM_ROWS = 1 << 16, /* curves of the adaptive maps: order 1, and */
    CM_APM_HASHED = 1 << 14, /* order 2, hashed */
    CM_MATCH_BUCKETS = 32,
    CM_GAPS = 256, /* bound on the record lengths that are detected */
    CM_STACK = 64, /* open brackets that are kept */
    CM_MAX_BOOST = 2900, /* of a rate, so that no step of a weight overflows */
};

typedef struct {
    int32_t contexts, selectors;
    int32_t context[CM_CATALOGUE], selector[CM_MAX_SELECTORS];
    int32_t table_bits;    /* log2 of the memory of buckets in bytes */
    int32_t match_bits;    /* log2 of the entries of the match table */
    int32_t match_minimum; /* least length of a match in bytes */
    int32_t rate, boost, final_rate, final_boost; /* of the layers: see cm_rate */
    int32_t map_limit; /* most events over which the probability of a bit history is averaged */
    int32_t view, record, width; /* of binary data: how the bytes are shown; bytes of a record, and of a value */
} cm_config;

/* The state that follows from the bytes of a lane so far, apart from learned numbers. */
typedef struct {
    uint8_t *bytes;
    uint32_t size, position, origin, end; /* size of the block; in it: the current position, this lane's first byte, its end */
    uint32_t last4, last8; /* the last four bytes, and the four before them; newest lowest */
    uint32_t word, word1, word2;        /* hashes of the current word and the two before it */
    uint32_t line_word, punctuation;    /* first word of the line; the last two other printable characters */
    uint32_t classes, class_runs;       /* kinds of the last characters, four bits each; runs collapsed */
    uint32_t line, line_before, indent; /* start of this line and of the one before; its leading spaces */
    uint32_t after1[256];               /* the bytes that followed each byte, newest lowest */
    uint32_t *after2;                   /* the same for each pair of bytes */
    uint8_t stack[CM_STACK];
    uint32_t depth;
    uint32_t match, match_length; /* where the longest match goes on; 0 when there is none */
    uint32_t *match_table, *match_entry;
    int expected; /* the byte that the match predicts, -1 when none */
    uint32_t last_seen[256], last_gap[256];
    uint32_t gap_votes[CM_GAPS];
    uint32_t record; /* length of a record, 0 when unknown */
    cm_lines lines;
} cm_history; /* one for each lane; all lanes share bytes, after2 and match_table */

/* A network's prediction of the next byte (docs/neural.md). */
typedef struct {
    const uint32_t *sums; /* 512: weights of the bytes, and of all groups of bytes that share their first bits */
    uint32_t best, second; /* the two most probable bytes */
    uint32_t sure;         /* probability of the best, in eighths: 0..7 */
} cm_prediction;

typedef struct {
    cm_config config;
    cm_tables tables;
    cm_history *h; /* of the current lane */
    cm_history *histories;
    cm_binary binary;
    int32_t lanes;
    int32_t network; /* whether the mixer uses a network */
    int32_t far, bytewise; /* whether contexts from CM_NEAR on are picked; whether some need the network's best bytes */
    int32_t lined;         /* whether contexts or selectors of lines are picked */
    cm_prediction prediction;
    const uint16_t *logarithms;
    uint32_t bucket_mask;
    uint8_t *buckets, *buckets_base;
    uint8_t order0[CM_ORDER1];
    uint8_t *order1; /* 256 x CM_ORDER1 */
    uint32_t *maps;  /* contexts x 256: probability (22 bits) and count (10) of each history */
    uint32_t match_map[CM_MATCH_BUCKETS];
    int32_t inputs;     /* of the first layer, a multiple of 8 */
    int32_t *weights[CM_MAX_SELECTORS];
    int32_t *final_weights; /* 256 x 16 */
    uint32_t *errors[CM_MAX_SELECTORS], final_errors[256]; /* of each weight set: the sum of its errors, see cm_rate */
    uint16_t *apm[2];
    uint32_t hash[CM_CATALOGUE];
    uint8_t *tree[CM_CATALOGUE]; /* the nibble's tree in each context of the configuration */
    uint32_t selected[CM_MAX_SELECTORS];
    uint32_t apm_row;
} cm_model;

static const int32_t cm_selector_sizes[CM_SELECTORS] = {1, 256, 256, 768, 256, 1088, 2048, 2048, 2048, 1024, 2048, 256, 256, 512, 512, 256, 512, 256, 0, 0, 1024, 1024, 2048, 256, 256};

static inline void cm_learn_words(cm_history *h, uint32_t c, uint32_t kind) {
    uint32_t lower = c >= 'A' && c <= 'Z' ? c + 32 : c;
    int inside = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_' || c >= 128;
    if (inside) {
        h->word = cm_hash(h->word, lower);
    } else {
        if (h->word) {
            if (!h->line_word) h->line_word = h->word;
            h->word2 = h->word1;
            h->word1 = h->word;
            h->word = 0;
        }
        if (c > 32) h->punctuation = h->punctuation << 8 | c;
    }
    h->classes = h->classes << 4 | kind;
    if ((h->class_runs & 15) != kind) h->class_runs = h->class_runs << 4 | kind;
}

static inline void cm_learn_layout(cm_history *h, uint32_t c) {
    if (c == '\n') {
        h->line_before = h->line;
        h->line = h->position;
        h->line_word = 0;
        h->indent = 0;
    } else if (c == ' ' && h->position - h->line == h->indent + 1) {
        h->indent++;
    }
    if (c == '(' || c == '[' || c == '{' || c == '<') {
        h->depth++;
        h->stack[h->depth % CM_STACK] = (uint8_t)c;
    } else if ((c == ')' || c == ']' || c == '}' || c == '>') && h->depth) {
        h->depth--;
    }
    /* A byte that returns twice at the same distance votes for records of that length. */
    uint32_t gap = h->position - h->last_seen[c];
    if (gap == h->last_gap[c] && gap > 1 && gap < CM_GAPS) h->gap_votes[gap]++;
    h->last_gap[c] = gap;
    h->last_seen[c] = h->position;
    if ((h->position & 1023) == 0) {
        uint32_t best = 0;
        for (uint32_t g = 2; g < CM_GAPS; g++) {
            if (h->gap_votes[g] > h->gap_votes[best]) best = g;
        }
        h->record = h->gap_votes[best] >= 96 ? best : 0;
        for (uint32_t g = 2; g < CM_GAPS; g++) h->gap_votes[g] >>= 1;
    }
}

/* Prefetches the table's entry for the newest bytes, shortly before it is needed. */
static inline void cm_seek_match(cm_model *m) {
    cm_history *h = m->h;
    uint32_t minimum = (uint32_t)m->config.match_minimum;
    uint32_t key = cm_hash(h->last4, minimum > 4 ? h->last8 << (64 - 8 * minimum) : 0);
    h->match_entry = &h->match_table[key >> (32 - m->config.match_bits)];
    KOLMO_PREFETCH(h->match_entry);
}

/* Follow the longest match past the newest byte, or look for a new one. */
static inline void cm_learn_match(cm_model *m) {
    cm_history *h = m->h;
    uint32_t c = h->last4 & 255;
    uint32_t minimum = (uint32_t)m->config.match_minimum;
    if (h->match_length && h->match < h->size && h->bytes[h->match] == c) {
        h->match++;
        if (h->match_length < 65535) h->match_length++;
    } else {
        h->match_length = 0;
    }
    if (h->position - h->origin >= minimum) {
        uint32_t *entry = h->match_entry;
        if (!h->match_length && *entry) {
            uint32_t length = 0;
            /* Another lane's entry may lie behind this place, so neither may run past the block's first byte. */
            while (length < 32 && length < *entry && length < h->position &&
                   h->bytes[*entry - 1 - length] == h->bytes[h->position - 1 - length])
                length++;
            if (length >= minimum) {
                h->match = *entry;
                h->match_length = length;
            }
        }
        *entry = h->position;
    }
    h->expected = h->match_length ? h->bytes[h->match] : -1;
}

static inline uint32_t cm_match_bucket(uint32_t length) {
    if (length < 16) return length;
    return length < 32 ? 16 + (length - 16) / 4 : length < 512 ? 20 + (length - 32) / 48 : 31;
}

static inline uint32_t cm_match_context(const cm_history *h) {
    uint32_t length = h->match_length < 15 ? h->match_length : 15;
    return (h->expected < 0 ? 0 : (uint32_t)h->expected | length << 8) | (h->last4 & 255) << 16;
}

/* The catalogue: a 32-bit value for each context that a configuration can pick. Contexts 0 and 1 are not hashed. */
static inline void cm_near_contexts(const cm_history *h, uint32_t v[CM_CONTEXTS]) {
    uint32_t c4 = h->last4, c8 = h->last8;
    v[0] = v[1] = 0;
    v[2] = c4 & 0xFFFF;
    v[3] = c4 & 0xFFFFFF;
    v[4] = c4;
    v[5] = cm_hash(c4, c8 & 0xFF);
    v[6] = cm_hash(c4, c8 & 0xFFFF);
    v[7] = cm_hash(c4, c8);
    v[8] = cm_hash(h->word, c4 & 255);
}

static inline void cm_far_contexts(const cm_history *h, uint32_t v[CM_CONTEXTS]) {
    uint32_t c4 = h->last4, c8 = h->last8, c1 = c4 & 255, c2 = c4 & 0xFFFF;
    uint32_t column = h->position - h->line;
    uint32_t above = h->line_before + column < h->line ? h->bytes[h->line_before + column] : 10;
    uint32_t right = h->line_before + column + 1 < h->line ? h->bytes[h->line_before + column + 1] : 10;
    uint32_t bracket = h->depth ? h->stack[h->depth % CM_STACK] : 0;
    uint32_t r = h->record, p = h->position, seen = p - h->origin;
    uint32_t up1 = r && seen >= r ? h->bytes[p - r] : c4 >> 16 & 255;
    uint32_t up2 = r && seen >= 2 * r ? h->bytes[p - 2 * r] : c4 >> 24;
    uint32_t words = cm_hash(h->word, h->word1);
    v[9] = words;
    v[10] = cm_hash(h->word, h->word2);
    v[11] = cm_hash(cm_hash(words, h->word2), c1);
    v[12] = cm_hash(h->word1, c1);
    v[13] = cm_hash(h->line_word, h->word);
    v[14] = cm_hash(h->indent, h->word);
    v[15] = cm_hash(h->punctuation, c1);
    v[16] = cm_hash(h->classes & 0xFFFFFFF, c1);
    v[17] = h->class_runs;
    v[18] = cm_hash(above, column < 255 ? column : 255);
    v[19] = cm_hash(above | right << 8, c1);
    v[20] = 0; /* cm_match_context */
    v[21] = h->after1[c1] << 8 | c1;
    v[22] = cm_hash(c2, h->after2[c2] & 0xFFFFFF);
    v[23] = c4 & 0xFFFF00;
    v[24] = c4 & 0xFF00;
    v[25] = cm_hash(cm_hash(h->word, bracket), c1);
    v[26] = cm_hash(up1, r ? p % r : 0);
    v[27] = cm_hash(up1 | up2 << 8, c1);
    v[28] = cm_hash(h->after2[c2] & 0xFFFF, c1);
    v[29] = c4 & 0xF0F0F0F0;
    v[30] = cm_hash(h->word, above);
    v[31] = cm_hash(h->classes, h->word);
    v[32] = c4 & 0xFF00FF;
    v[33] = cm_hash(c4, c8 & 0xFFFFFF);
    v[34] = cm_hash(cm_hash(up1 | up2 << 8, c4 & 0xFFFF), r);
    v[35] = cm_hash(h->indent, cm_hash(h->line_word, c1));
}

/* The values of contexts that depend on a network's prediction. */
static inline void cm_network_contexts(const cm_model *m, uint32_t v[CM_CONTEXTS]) {
    const cm_prediction *o = &m->prediction;
    v[36] = o->best << 8 | o->second;
    v[37] = cm_hash(o->best << 3 | o->sure, m->h->last4 & 255);
    v[38] = cm_hash(o->best << 8 | o->second, m->h->last4 & 0xFFFF);
    v[39] = cm_hash(o->best, m->h->word);
}

/* Set each context's tree for the next nibble; `nibble` is 0, or 16 + the first nibble. */
KOLMO_INLINE void cm_plant(cm_model *m, const int contexts, uint32_t nibble) {
    uint32_t index[CM_CATALOGUE];
    for (int i = 0; i < contexts; i++) {
        index[i] = nibble ? cm_hash(m->hash[i], nibble) : m->hash[i];
        if (nibble) KOLMO_PREFETCH(m->buckets + (size_t)(index[i] & m->bucket_mask) * CM_BUCKET);
    }
    uint32_t direct = (nibble ? nibble - 15 : 0) * CM_NODES;
    for (int i = 0; i < contexts; i++) {
        switch (m->config.context[i]) {
        case 0: m->tree[i] = m->order0 + direct - 1; break;
        case 1: m->tree[i] = m->order1 + (m->h->last4 & 255) * CM_ORDER1 + direct - 1; break;
        default: m->tree[i] = cm_find(&m->tables, m->buckets, m->bucket_mask, index[i]);
        }
    }
}

KOLMO_INLINE void cm_hash_context(cm_model *m, int i, uint32_t value) {
    m->hash[i] = cm_hash(value, (uint32_t)m->config.context[i]);
    KOLMO_PREFETCH(m->buckets + (size_t)(m->hash[i] & m->bucket_mask) * CM_BUCKET);
}

/* Prepare for a byte: find the trees of its first nibble. */
KOLMO_INLINE void cm_begin_byte(cm_model *m, const int contexts) {
    cm_history *h = m->h;
    uint32_t value[CM_CONTEXTS];
    cm_seek_match(m);
    cm_near_contexts(h, value);
    if (m->far) cm_far_contexts(h, value);
    if (m->network && m->bytewise) cm_network_contexts(m, value);
    if (m->lined) cm_lines_contexts(&h->lines, h->bytes, h->position, h->last4 & 255, value);
    if (m->binary.program) cm_program_contexts(&m->binary, h->last4, value);
    if (m->binary.values) {
        cm_begin_values(&m->binary, h->bytes, h->position);
        cm_record_contexts(&m->binary, h->bytes, h->position, value);
    }
    for (int i = 0; i < contexts; i++) cm_hash_context(m, i, value[m->config.context[i]]);
    m->apm_row = cm_hash(h->last4 & 0xFFFF, 0);
    if (h->position > h->origin) cm_learn_match(m); /* while the buckets are being fetched */
    for (int i = 0; i < contexts; i++)
        if (m->config.context[i] == 20) cm_hash_context(m, i, cm_match_context(h));
    cm_plant(m, contexts, 0);
}

/* Update the history by a byte, except for the match. */
static inline void cm_learn_byte(cm_model *m, uint8_t c) {
    cm_history *h = m->h;
    h->bytes[h->position++] = c;
    uint32_t pair = h->last4 & 0xFFFF;
    h->after1[pair & 255] = h->after1[pair & 255] << 8 | c;
    h->after2[pair] = h->after2[pair] << 8 | c;
    h->last8 = h->last8 << 8 | h->last4 >> 24;
    h->last4 = h->last4 << 8 | c;
    cm_learn_words(h, c, m->tables.kind[c]);
    cm_learn_layout(h, c);
    if (m->lined) cm_learn_lines(&h->lines, h->bytes, h->position, c);
    if (m->binary.program) cm_learn_program(&m->binary, h->bytes, h->position);
}

/* Set the network's prediction of the next byte; of equal weights the first counts. */
static inline void cm_read_network(cm_model *m, const uint32_t *sums) {
    cm_prediction *o = &m->prediction;
    const uint32_t *w = sums + 256;
    o->sums = sums;
    if (!m->bytewise) return;
    uint32_t most = 0, next = 0;
    for (int k = 0; k < 256; k++) most = w[k] > most ? w[k] : most;
    uint32_t best = 0, second = 0;
    while (w[best] != most) best++;
    for (uint32_t k = 0; k < 256; k++) next = k != best && w[k] > next ? w[k] : next;
    while (second == best || w[second] != next) second++;
    o->best = best;
    o->second = second;
    o->sure = (uint32_t)(((uint64_t)most << 3) / ((uint64_t)sums[1] + 1));
}

/* Inputs of the first layer: two for each context, two for the match, a bias, three for a network; padded for vectors. */
static inline int32_t cm_inputs(const cm_config *c, int network) { return (2 * c->contexts + 3 + (network ? 3 : 0) + 7) & ~7; }

size_t cm_prior_size(const cm_config *c, int network);
int cm_valid(const cm_config *c, int network);
cm_model *cm_new(const cm_config *config, const cm_tables *tables, const int32_t *prior, uint32_t size, int lanes, int network);
void cm_free(cm_model *m);
void cm_export(const cm_model *m, const int32_t *began, int32_t *prior);
void cm_forget(cm_model *m, uint32_t size);

void cm_run_baseline(cm_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs);
size_t cm_run_lanes_baseline(cm_model *m, int mode, uint8_t *block, const uint32_t *sums, void *coder, uint16_t *costs);
#if defined(KOLMO_AVX2)
void cm_run_avx2(cm_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs);
size_t cm_run_lanes_avx2(cm_model *m, int mode, uint8_t *block, const uint32_t *sums, void *coder, uint16_t *costs);
#endif

#endif
