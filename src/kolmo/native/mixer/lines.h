/* Contexts of lines (logs, tables, JSON): a field, and the last line that was alike so far. Counterpart of lines.py. */
#ifndef KOLMO_LINES_H
#define KOLMO_LINES_H

#include "mixer/primitives.h"

enum {
    CM_LINES = 40,           /* contexts of lines are numbered from here on */
    CM_LINES_END = 47,
    CM_LINES_SELECTORS = 16, /* and their selectors from here on */
    CM_LINES_SELECTORS_END = 18,
    CM_LINE_SLOTS = 4096,    /* entries of the table of lines that are alike */
};

typedef struct {
    uint32_t field, start; /* number of the field in its line, and where it begins */
    uint32_t text, before; /* hashes of the field so far, and of the one before */
    uint32_t shape, whole; /* hashes of the line so far with each run of digits as one; the same where the field begins */
    uint32_t digits;       /* whether the newest byte is a digit */
    uint32_t alike, agreed; /* the place in the line that is alike, 0 for none; how many bytes agreed up to it */
    uint32_t order;        /* the field so far beside that line's: 0 equal, 1 less, 2 greater */
    uint32_t slots[CM_LINE_SLOTS]; /* where a line went on after each shape, at the beginning of a field */
} cm_lines;

/* Add the byte c; `position` is that behind it. */
static inline void cm_learn_lines(cm_lines *l, const uint8_t *bytes, uint32_t position, uint32_t c) {
    const uint32_t digit = c >= '0' && c <= '9';
    if (l->alike) {
        const uint32_t other = bytes[l->alike++];
        l->agreed = other == c ? l->agreed + (l->agreed < 65535) : 0;
        if (!l->order && other != c) l->order = c < other ? 1 : 2;
    }
    if (c == '\n') {
        l->shape = l->field = 0;
    } else if (!digit || !l->digits) {
        l->shape = cm_hash(l->shape, digit ? '0' : c);
    }
    l->digits = digit;
    if (digit || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || c >= 128) {
        l->text = cm_hash(l->text, c);
        return;
    }
    if (c != '\n') l->field++;
    l->start = position;
    l->before = l->text;
    l->text = 0;
    l->whole = l->shape;
    l->order = 0;
    uint32_t *slot = &l->slots[cm_hash(l->shape, 0) % CM_LINE_SLOTS];
    if (!l->agreed || c == '\n') {
        l->alike = *slot;
        l->agreed = 0;
    }
    *slot = position;
}

static inline void cm_lines_contexts(const cm_lines *l, const uint8_t *bytes, uint32_t position, uint32_t c1, uint32_t *v) {
    const uint32_t next = l->alike ? bytes[l->alike] : 0, later = l->alike && l->alike + 1 < position ? bytes[l->alike + 1] : 0;
    v[40] = cm_hash(l->text, l->field < 255 ? l->field : 255);
    v[41] = cm_hash(cm_hash(next | later << 8, l->order), c1);
    v[42] = next | (l->agreed < 31 ? l->agreed : 31) << 8 | l->order << 16;
    v[43] = cm_hash(l->text, l->before);
    v[44] = cm_hash(l->shape, position - l->start);
    v[45] = cm_hash(l->whole, l->text);
    v[46] = cm_hash(l->text, next);
}

static inline uint32_t cm_select_lines(const cm_lines *l, int selector, uint32_t bit) {
    if (selector == 16) return ((l->agreed < 15 ? l->agreed : 15) * 4 + (l->alike ? l->order : 3)) * 8 + bit;
    return (l->field < 31 ? l->field : 31) * 8 + bit;
}

#endif
