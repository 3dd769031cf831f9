/* Contexts and selectors of binary data: programs, records, values. Counterpart of binary/contexts.py.
 *
 * They read a view of the data (views.h): addresses absolute, bytes of a value highest first. docs/binary.md says what each
 * is for. */
#ifndef KOLMO_BINARY_CONTEXTS_H
#define KOLMO_BINARY_CONTEXTS_H

#include "binary/programs.h"
#include "binary/views.h"
#include "mixer/primitives.h"

enum {
    CM_PROGRAM = 48, /* contexts from here on need the program's instructions, */
    CM_RECORD = 64,  /* from here on the record, */
    CM_BINARY_END = 84, /* up to here */
    CM_PROGRAM_SELECTORS = 20, /* likewise the selectors */
    CM_RECORD_SELECTORS = 22,
    CM_BINARY_SELECTORS_END = 25,
    CM_MAX_VALUE = 8, /* bytes of a value, and */
    CM_MAX_RECORD = 1 << 16, /* of a record */
    CM_PAST = 4, /* instructions that are kept */
};

typedef struct {
    uint32_t view, record, width; /* how the bytes are shown; bytes of a record, and of a value */
    int32_t program, values; /* whether a configuration's contexts or selectors need either */
    /* Programs. */
    kolmo_x86 x86;
    uint32_t begun;          /* the instruction's bytes so far: their hash, or (arm64) themselves and their number */
    uint32_t field;          /* x86: the bytes of the present field so far; arm64: how many of the word's bytes are known */
    uint32_t operation;      /* x86: opcode and prefixes so far; arm64: the last four bytes */
    uint32_t shape[CM_PAST]; /* of the last instructions, newest first: what they do, */
    uint32_t full[CM_PAST];  /* that with their registers, */
    uint32_t whole[CM_PAST]; /* and all of their bytes */
    /* Records: the next byte's place, and what stands at this place in other values. */
    uint32_t column, place;  /* in the record, and in the value */
    uint32_t above, left, expected, gradient, middle; /* one record above; one value before; extrapolated in three ways */
    uint32_t on_above, on_left, on_expected, on_gradient, on_middle; /* cm_compare of the value's bytes so far with each */
    uint32_t prefix;         /* hash of the value's bytes so far */
    uint32_t scale;          /* number of bits of the last difference of records */
    uint32_t same, row;      /* which of the last bytes were those above; hash of the record's bytes so far */
} cm_binary;

static inline uint32_t cm_back(const uint8_t *bytes, uint32_t p, uint32_t back) { return back <= p ? bytes[p - back] : 0; }

static inline void cm_end_instruction(cm_binary *b, uint32_t shape, uint32_t full, uint32_t whole) {
    for (int k = CM_PAST - 1; k; k--) {
        b->shape[k] = b->shape[k - 1];
        b->full[k] = b->full[k - 1];
        b->whole[k] = b->whole[k - 1];
    }
    b->shape[0] = shape;
    b->full[0] = full;
    b->whole[0] = whole;
    b->begun = 0;
}

static inline void cm_learn_x86(cm_binary *b, uint32_t c) {
    kolmo_x86 *x = &b->x86;
    uint32_t stage = x->stage;
    kolmo_x86_read(x, c);
    b->begun = cm_hash(b->begun, c);
    b->field = x->stage == stage && stage != KOLMO_OPCODE ? b->field << 8 | c : 0;
    uint32_t shape = x->opcode | x->prefixes << 10;
    if (x->stage == KOLMO_OPCODE && !x->left) /* the instruction has ended */
        cm_end_instruction(b, x->modrm >> 6 == 3 ? shape | 1u << 31 : shape, cm_hash(shape, x->modrm | x->sib << 8), b->begun);
    b->operation = x->stage == KOLMO_OPCODE ? x->prefixes : shape;
}

static inline void cm_learn_arm64(cm_binary *b, uint32_t position, uint32_t c) {
    uint32_t w = b->operation = b->operation << 8 | c, known = position & 3;
    b->field = known;
    if (known) b->begun = (w & ((1u << 8 * known) - 1)) | known << 24;
    else cm_end_instruction(b, w >> 22, w & 0xFFE003FF, w); /* the operation; with two registers */
}

/* Read the newest byte. */
static inline void cm_learn_program(cm_binary *b, const uint8_t *bytes, uint32_t position) {
    if (b->view == KOLMO_VIEW_ARM64) cm_learn_arm64(b, position, bytes[position - 1]);
    else cm_learn_x86(b, bytes[position - 1]);
}

/* 0 for equal numbers; 1, 2 where the first is less by one, by more; 3, 4 where it is greater. */
static inline uint32_t cm_compare(uint64_t a, uint64_t b) {
    return a == b ? 0 : a < b ? (b - a == 1 ? 1 : 2) : a - b == 1 ? 3 : 4;
}

/* The value that begins `back` bytes before `start`; 0 where there is none. */
static inline uint64_t cm_value(const cm_binary *b, const uint8_t *bytes, uint32_t start, uint32_t back) {
    uint64_t v = 0;
    if (back > start) return 0;
    for (uint32_t k = 0; k < b->width; k++) v = v << 8 | bytes[start - back + k];
    return v;
}

/* The byte of a value at the present place; `on` says how the bytes so far compare with those of the value. */
static inline uint32_t cm_show(const cm_binary *b, uint64_t prefix, uint64_t value, uint32_t *on) {
    uint32_t low = 8 * (b->width - 1 - b->place);
    *on = b->place ? cm_compare(prefix, value >> (low + 8) & (((uint64_t)1 << 8 * b->place) - 1)) : 0;
    return (uint32_t)(value >> low) & 255;
}

static inline void cm_begin_values(cm_binary *b, const uint8_t *bytes, uint32_t p) {
    uint32_t r = b->record, w = b->width;
    b->column = p % r;
    b->place = p % w;
    uint32_t start = p - b->place;
    uint64_t prefix = 0, up = cm_value(b, bytes, start, r), up2 = cm_value(b, bytes, start, 2 * r);
    uint64_t left = cm_value(b, bytes, start, w), corner = cm_value(b, bytes, start, r + w);
    uint64_t step = up > up2 ? up - up2 : up2 - up;
    for (uint32_t i = start; i < p; i++) prefix = prefix << 8 | bytes[i];
    b->above = cm_show(b, prefix, up, &b->on_above);
    b->left = cm_show(b, prefix, left, &b->on_left);
    b->expected = cm_show(b, prefix, 2 * up - up2, &b->on_expected);
    b->gradient = cm_show(b, prefix, left + up - corner, &b->on_gradient);
    b->middle = cm_show(b, prefix, left / 2 + up / 2 + (left & up & 1), &b->on_middle);
    b->prefix = cm_hash((uint32_t)prefix, (uint32_t)(prefix >> 32));
    for (b->scale = 0; step; step >>= 1) b->scale++;
    b->row = b->column ? cm_hash(b->row, bytes[p - 1]) : 0;
    b->same = b->same << 1 | (p && bytes[p - 1] == cm_back(bytes, p, r + 1));
}

static inline void cm_program_contexts(const cm_binary *b, uint32_t c4, uint32_t v[]) {
    const kolmo_x86 *x = &b->x86;
    const int words = b->view == KOLMO_VIEW_ARM64;
    const uint32_t *shape = b->shape, *full = b->full, *whole = b->whole;
    uint32_t begun = words ? b->begun : cm_hash(b->begun, x->stage | x->left << 4);
    uint32_t stage = words ? b->field : x->stage | x->left << 4 | x->relative << 8;
    uint32_t shapes = cm_hash(shape[0], shape[1]), fulls = cm_hash(full[0], full[1]);
    v[48] = begun;
    v[49] = cm_hash(begun, shape[0]);
    v[50] = cm_hash(begun, shapes);
    v[51] = cm_hash(begun, cm_hash(full[0], 0));
    v[52] = cm_hash(begun, fulls);
    v[53] = cm_hash(begun, cm_hash(fulls, full[2]));
    v[54] = cm_hash(begun, cm_hash(whole[0], 1));
    v[55] = cm_hash(begun, cm_hash(whole[0], whole[1]));
    v[56] = cm_hash(begun, cm_hash(shapes, cm_hash(shape[2], shape[3])));
    v[57] = cm_hash(cm_hash(stage, b->field), b->operation & 0x3FF);
    v[58] = cm_hash(cm_hash(stage, b->field), x->modrm | x->sib << 8);
    v[59] = cm_hash(stage, cm_hash(b->operation, x->modrm));
    v[60] = cm_hash(stage, c4 & 0xFFFF);
    v[61] = cm_hash(cm_hash(stage, b->operation), shapes);
    v[62] = cm_hash(begun, cm_hash(whole[1], shape[0]));
    v[63] = cm_hash(cm_hash(stage, b->operation), full[1]);
}

static inline void cm_record_contexts(const cm_binary *b, const uint8_t *bytes, uint32_t p, uint32_t v[]) {
    uint32_t r = b->record, at = b->column | 1u << 31, k = b->place, n = b->above;
    uint32_t w1 = cm_back(bytes, p, 1), w2 = cm_back(bytes, p, 2), n2 = cm_back(bytes, p, 2 * r);
    uint32_t north_west = cm_back(bytes, p, r + 1), north_east = cm_back(bytes, p, r - 1);
    v[64] = at;
    v[65] = cm_hash(at, n | w1 << 8 | 1u << 16);
    v[66] = cm_hash(at, n | n2 << 8);
    v[67] = cm_hash(n | w1 << 8 | w2 << 16, k);
    v[68] = cm_hash(n | w1 << 8 | north_west << 16, k | 8);
    v[69] = cm_hash(at, ((n + w1 - north_west) & 255) | 2u << 16);
    v[70] = cm_hash(b->expected | b->on_expected << 8 | b->on_above << 12, k);
    v[71] = cm_hash(at, b->expected | b->on_expected << 8 | 3u << 16);
    v[72] = cm_hash(at, n | b->on_above << 8 | 4u << 16);
    v[73] = cm_hash(b->prefix, at);
    v[74] = cm_hash(b->prefix, k);
    v[75] = cm_hash(b->prefix, n | b->on_above << 8 | k << 16);
    v[76] = cm_hash(n | b->left << 8 | b->on_above << 16 | b->on_left << 20 | k << 24, 5);
    v[77] = cm_hash(at, n | north_east << 8 | 6u << 16);
    v[78] = cm_hash(b->gradient | b->on_gradient << 8 | k << 12, 7);
    v[79] = cm_hash(b->expected >> 3 | b->on_expected << 8 | k << 12 | b->scale << 16, 8);
    v[80] = cm_hash(b->middle | b->on_middle << 8 | k << 12, 9);
    v[81] = cm_hash(at, n | (b->same & 255) << 8 | 10u << 16);
    v[82] = cm_hash(b->prefix, cm_hash(at, b->left));
    v[83] = cm_hash(at, b->row);
}

/* Whether a byte agrees with the bits so far, and its next bit: 0 if not, 1 or 2. */
static inline uint32_t cm_agrees(uint32_t byte, uint32_t c0, uint32_t bit) {
    return (byte | 256) >> (8 - bit) == c0 ? 1 + (byte >> (7 - bit) & 1) : 0;
}

static inline uint32_t cm_select_binary(const cm_binary *b, int selector, uint32_t c0, uint32_t bit) {
    const int words = b->view == KOLMO_VIEW_ARM64;
    const kolmo_x86 *x = &b->x86;
    switch (selector) {
    case 20: return (words ? b->field : x->stage | (x->left & 3) << 4 | x->relative << 6) << 3 | bit;
    case 21: return (words ? b->operation : x->stage == KOLMO_OPCODE ? b->shape[0] : x->opcode) & 0x3FF;
    case 22: return (b->column < 255 ? b->column : 255) << 3 | bit;
    case 23: return b->place << 5 | b->on_expected << 2 | cm_agrees(b->expected, c0, bit);
    case 24: return b->place << 5 | b->on_above << 2 | cm_agrees(b->above, c0, bit);
    default: return 0;
    }
}

#endif
