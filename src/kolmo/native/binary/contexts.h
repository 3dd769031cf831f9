/* Contexts and selectors of binary data: programs, records, values. Counterpart of binary/contexts.py.
 *
 * They read a view of the data (views.h): addresses absolute, bytes of a value highest first. */
#ifndef KOLMO_BINARY_CONTEXTS_H
#define KOLMO_BINARY_CONTEXTS_H

#include <string.h>

#include "binary/programs.h"
#include "binary/views.h"
#include "mixer/primitives.h"

enum {
    CM_PROGRAM = 48,  /* contexts from here on need the program's instructions, */
    CM_RECORD = 64,   /* from here on the record */
    CM_BINARY_END = 96,
    CM_BINARY_SELECTORS = 20, /* selectors from here on */
    CM_BINARY_SELECTORS_END = 32,
    CM_VALUE = 8, /* most bytes of a value */
};

typedef struct {
    int32_t view, record, width; /* how the bytes are shown; bytes of a record, and of a value */
    kolmo_x86 x86;
    uint32_t begun;     /* hash of the instruction's bytes so far */
    uint32_t field;     /* the bytes of the present field so far */
    uint32_t operation; /* opcode, prefixes and stage so far */
    uint32_t shape[4];  /* of the last instructions, newest first: what they do, */
    uint32_t full[4];   /* and with which operands in registers */
    uint32_t whole[4];  /* all their bytes */
    uint32_t word;      /* arm64: bytes of this word so far */
    /* Values: the byte's place in the record and in its value, what is above it. */
    uint32_t column, place;
    uint32_t above, above2, left, expected; /* byte above, two above, of the value to the left, of the extrapolation */
    uint32_t prefix, agrees, follows, with_left, gradient, on_gradient, middle, on_middle, scale, same, row;
} cm_binary;

static inline uint32_t cm_byte(const uint8_t *bytes, uint32_t p, uint32_t back) { return back && back <= p ? bytes[p - back] : 0; }

static inline void cm_end_instruction(cm_binary *b, uint32_t shape, uint32_t full, uint32_t whole) {
    for (int k = 3; k; k--) {
        b->shape[k] = b->shape[k - 1];
        b->full[k] = b->full[k - 1];
        b->whole[k] = b->whole[k - 1];
    }
    b->shape[0] = shape;
    b->full[0] = full;
    b->whole[0] = whole;
}

static inline void cm_learn_x86(cm_binary *b, uint32_t c) {
    kolmo_x86 *x = &b->x86;
    uint32_t stage = x->stage;
    kolmo_x86_read(x, c);
    b->begun = cm_hash(b->begun, c);
    if (x->stage == stage && x->left && stage != KOLMO_OPCODE) b->field = b->field << 8 | c | (b->field ? 0 : 1u << 16);
    else b->field = 0;
    if (x->stage == KOLMO_OPCODE && !x->left) { /* the instruction has ended */
        uint32_t shape = x->opcode | x->prefixes << 10;
        cm_end_instruction(b, x->modrm >> 6 == 3 ? shape | 1u << 31 : shape, cm_hash(shape, x->modrm | x->sib << 8), b->begun);
        b->begun = 0;
    }
    b->operation = x->stage == KOLMO_OPCODE ? x->prefixes : x->opcode | x->prefixes << 10;
}

static inline void cm_learn_arm64(cm_binary *b, uint32_t position, uint32_t c) {
    b->word = b->word << 8 | c;
    if (position & 3) {
        b->begun = b->word & ((1u << 8 * (position & 3)) - 1);
        b->begun |= (position & 3) << 24;
    } else {
        uint32_t w = b->word;
        cm_end_instruction(b, w >> 22, w & 0xFFE003FF, w);
        b->begun = 0;
    }
    b->field = position & 3;
    b->operation = b->word;
}

static inline void cm_learn_binary(cm_binary *b, const uint8_t *bytes, uint32_t position) {
    uint32_t c = bytes[position - 1];
    if (b->view == KOLMO_VIEW_ARM64) cm_learn_arm64(b, position, c);
    else if (b->view) cm_learn_x86(b, c);
}

/* Where two values first differ, up to this byte: 0 if not yet; else 1 or 2 for how the first has been less, 3 or 4 greater. */
static inline uint32_t cm_compare(uint64_t a, uint64_t b) {
    return a == b ? 0 : a < b ? (b - a == 1 ? 1 : 2) : a - b == 1 ? 3 : 4;
}

static inline uint64_t cm_value(const uint8_t *bytes, uint32_t p, uint32_t back, uint32_t width) {
    uint64_t v = 0;
    if (back > p) return 0;
    for (uint32_t k = 0; k < width; k++) v = v << 8 | bytes[p - back + k];
    return v;
}

static inline void cm_begin_values(cm_binary *b, const uint8_t *bytes, uint32_t p) {
    uint32_t r = (uint32_t)b->record, w = (uint32_t)b->width, k = p % w, start = p - k, low = 8 * (w - 1 - k);
    uint64_t prefix = 0;
    for (uint32_t i = start; i < p; i++) prefix = prefix << 8 | bytes[i];
    uint64_t up = cm_value(bytes, start, r, w), up2 = cm_value(bytes, start, 2 * r, w), left = cm_value(bytes, start, w, w);
    uint64_t next = 2 * up - up2;
    if (w < 8) next &= ((uint64_t)1 << 8 * w) - 1;
    uint64_t corner = cm_value(bytes, start, r + w, w), slope = left + up - corner, mid = left / 2 + up / 2 + (left & up & 1);
    if (w < 8) slope &= ((uint64_t)1 << 8 * w) - 1;
    uint64_t step = up > up2 ? up - up2 : up2 - up;
    b->scale = 0;
    while (step) step >>= 1, b->scale++;
    b->column = p % r;
    if (!b->column) b->row = 0;
    else b->row = cm_hash(b->row, bytes[p - 1]);
    b->same = b->same << 1 | (p && bytes[p - 1] == cm_byte(bytes, p, r + 1));
    b->place = k;
    b->above = (uint32_t)(up >> low) & 255;
    b->above2 = (uint32_t)(up2 >> low) & 255;
    b->left = (uint32_t)(left >> low) & 255;
    b->expected = (uint32_t)(next >> low) & 255;
    uint64_t mask = k ? ((uint64_t)1 << 8 * k) - 1 : 0;
    low += 8;
    b->agrees = k ? cm_compare(prefix, next >> low & mask) : 0;
    b->follows = k ? cm_compare(prefix, up >> low & mask) : 0;
    b->with_left = k ? cm_compare(prefix, left >> low & mask) : 0;
    b->gradient = (uint32_t)(slope >> (low - 8)) & 255;
    b->on_gradient = k ? cm_compare(prefix, slope >> low & mask) : 0;
    b->middle = (uint32_t)(mid >> (low - 8)) & 255;
    b->on_middle = k ? cm_compare(prefix, mid >> low & mask) : 0;
    b->prefix = cm_hash((uint32_t)prefix, (uint32_t)(prefix >> 32));
}

static inline void cm_program_contexts(const cm_binary *b, uint32_t c4, uint32_t v[]) {
    uint32_t begun = b->view == KOLMO_VIEW_ARM64 ? b->begun : cm_hash(b->begun, b->x86.stage | b->x86.left << 4);
    uint32_t stage = b->view == KOLMO_VIEW_ARM64 ? b->field : b->x86.stage | b->x86.left << 4 | b->x86.relative << 8;
    v[48] = begun;
    v[49] = cm_hash(begun, b->shape[0]);
    v[50] = cm_hash(begun, cm_hash(b->shape[0], b->shape[1]));
    v[51] = cm_hash(begun, cm_hash(b->full[0], 0));
    v[52] = cm_hash(begun, cm_hash(b->full[0], b->full[1]));
    v[53] = cm_hash(begun, cm_hash(cm_hash(b->full[0], b->full[1]), b->full[2]));
    v[54] = cm_hash(begun, cm_hash(b->whole[0], 1));
    v[55] = cm_hash(begun, cm_hash(b->whole[0], b->whole[1]));
    v[56] = cm_hash(begun, cm_hash(cm_hash(b->shape[0], b->shape[1]), cm_hash(b->shape[2], b->shape[3])));
    v[57] = cm_hash(cm_hash(stage, b->field), b->operation & 0x3FF);
    v[58] = cm_hash(cm_hash(stage, b->field), b->x86.modrm | b->x86.sib << 8);
    v[59] = cm_hash(stage, cm_hash(b->operation, b->x86.modrm));
    v[60] = cm_hash(stage, c4 & 0xFFFF);
    v[61] = cm_hash(cm_hash(stage, b->operation), cm_hash(b->shape[0], b->shape[1]));
    v[62] = cm_hash(begun, cm_hash(b->whole[1], b->shape[0]));
    v[63] = cm_hash(cm_hash(stage, b->operation), b->full[1]);
}

static inline void cm_record_contexts(const cm_binary *b, const uint8_t *bytes, uint32_t p, uint32_t v[]) {
    uint32_t r = (uint32_t)b->record, col = b->column, N = b->above, NN = b->above2;
    uint32_t W = cm_byte(bytes, p, 1), WW = cm_byte(bytes, p, 2), NW = cm_byte(bytes, p, r + 1), NE = cm_byte(bytes, p, r - 1);
    uint32_t k = b->place, at = col | 1u << 31;
    v[64] = cm_hash(at, N);
    v[65] = cm_hash(at, N | NN << 8);
    v[66] = cm_hash(at, N | W << 8 | 1u << 16);
    v[67] = cm_hash(N | W << 8 | WW << 16, k);
    v[68] = cm_hash(N | W << 8 | NW << 16, k + 8);
    v[69] = cm_hash(at, ((N + W - NW) & 255) | 2u << 16);
    v[70] = cm_hash(b->expected | b->agrees << 8 | b->follows << 12, k);
    v[71] = cm_hash(at, b->expected | b->agrees << 8 | 3u << 16);
    v[72] = cm_hash(at, N | b->follows << 8 | 4u << 16);
    v[73] = cm_hash(b->prefix, at);
    v[74] = cm_hash(b->prefix, k);
    v[75] = cm_hash(b->prefix, N | b->follows << 8 | k << 16);
    v[76] = cm_hash(b->left | b->with_left << 8 | k << 12, 5);
    v[77] = cm_hash(at, W | WW << 8);
    v[78] = at;
    v[79] = cm_hash(N | NE << 8, at);
    v[80] = cm_hash(b->gradient | b->on_gradient << 8 | k << 12, 7);
    v[81] = cm_hash(b->expected >> 3 | b->agrees << 8 | k << 12 | b->scale << 16, 8);
    v[82] = cm_hash(N | b->left << 8 | b->follows << 16 | b->with_left << 20 | k << 24, 9);
    v[83] = cm_hash(b->expected | b->agrees << 8 | W << 16, at);
    v[84] = cm_hash(b->scale | b->agrees << 8 | k << 16, 10);
    v[85] = cm_hash(at, NN | cm_byte(bytes, p, 3 * r) << 8 | 11u << 16);
    v[86] = cm_hash(b->prefix, cm_hash(at, b->left));
    v[87] = cm_hash(b->middle | b->on_middle << 8 | k << 12, 12);
    v[88] = cm_hash(at, (b->same & 255) | 13u << 16);
    v[89] = cm_hash(at, (b->same & 255) | N << 8 | 14u << 16);
    v[90] = cm_hash(at, b->row);
    v[91] = cm_hash(at, N | W << 8 | (b->same & 15) << 16 | 15u << 24);
}

static const int32_t cm_binary_selector_sizes[CM_BINARY_SELECTORS_END - CM_BINARY_SELECTORS] = {1024, 1024, 2048, 2048, 1024, 1024, 1024};

static inline uint32_t cm_select_binary(const cm_binary *b, int selector, uint32_t c0, uint32_t bit, uint32_t last) {
    uint32_t agree;
    switch (selector) {
    case 20: return b->view == KOLMO_VIEW_ARM64 ? b->field << 3 | bit : (b->x86.stage | (b->x86.left & 3) << 4 | b->x86.relative << 6) << 3 | bit;
    case 21: return b->view == KOLMO_VIEW_ARM64 ? b->operation & 0x3FF : b->x86.stage == KOLMO_OPCODE ? b->shape[0] & 0x3FF : b->x86.opcode & 0x3FF;
    case 22: return (b->column < 255 ? b->column : 255) << 3 | bit;
    case 23: return (b->above) << 3 | bit;
    case 24:
        agree = (b->expected | 256) >> (8 - bit) == c0 ? 1 + (b->expected >> (7 - bit) & 1) : 0;
        return b->place << 7 | (b->agrees) << 4 | agree;
    case 25:
        agree = (b->above | 256) >> (8 - bit) == c0 ? 1 + (b->above >> (7 - bit) & 1) : 0;
        return b->place << 7 | (b->follows) << 4 | agree << 2 ;
    case 26: return b->place << 6 | b->follows << 3 | bit;
    default: (void)last; return 0;
    }
}

#endif
