/* Deflate streams as zlib makes them: see reference.py, whose names are used here. */
#ifndef KOLMO_DEFLATE_H
#define KOLMO_DEFLATE_H

#include "deflate/trees.h"

enum { DEFLATE_MIN_MATCH = 3, DEFLATE_MAX_MATCH = 258, DEFLATE_LOOKAHEAD = 262, DEFLATE_TOO_FAR = 4096, DEFLATE_FIRST_LAZY = 4 };
#define DEFLATE_MAX_CONTENT ((size_t)1 << 30)
#define DEFLATE_UNLIMITED (1LL << 62)

static const uint16_t deflate_levels[9][4] = {
    {4, 4, 8, 4},      {4, 5, 16, 8},     {4, 6, 32, 32},      {4, 4, 16, 16},      {8, 16, 32, 32},
    {8, 16, 128, 128}, {8, 32, 128, 256}, {32, 128, 258, 1024}, {32, 258, 258, 4096},
};

typedef struct {
    const uint8_t *content;
    size_t size, begin, base, reach, token_count, most_tokens;
    size_t good, lazily, nice, chain, short_match;
    uint32_t shift, mask, window_mask;
    uint32_t *heads, *before, *tokens;
    uint64_t compared, most_compared;
    deflate_bits bits;
    deflate_tables tables;
} deflate_stream;

static inline void deflate_release(deflate_stream *s) {
    free(s->heads);
    free(s->before);
    free(s->tokens);
    free(s->bits.bytes);
}

/* Returns 0 if memory is short; `deflate_release` frees in any case. */
static inline int deflate_begin(deflate_stream *s, const uint8_t *content, size_t size, int level, int memory, int window, int filtered, uint64_t most) {
    const uint16_t *of_level = deflate_levels[level - 1];
    memset(s, 0, sizeof *s);
    s->content = content;
    s->size = size;
    s->good = of_level[0];
    s->lazily = of_level[1];
    s->nice = of_level[2];
    s->chain = of_level[3];
    s->short_match = filtered ? 5 : DEFLATE_MIN_MATCH - 1;
    s->reach = ((size_t)1 << window) - DEFLATE_LOOKAHEAD;
    s->shift = (uint32_t)(memory + 9) / 3;
    s->mask = ((uint32_t)1 << (memory + 7)) - 1;
    s->window_mask = ((uint32_t)1 << window) - 1;
    s->most_compared = most;
    s->most_tokens = ((size_t)1 << (memory + 6)) - 1;
    s->heads = calloc((size_t)s->mask + 1, sizeof *s->heads);
    s->before = calloc((size_t)s->window_mask + 1, sizeof *s->before);
    s->tokens = malloc(s->most_tokens * sizeof *s->tokens);
    s->bits.room = size / 4 + 1024;
    s->bits.bytes = malloc(s->bits.room);
    deflate_make_tables(&s->tables);
    return s->heads && s->before && s->tokens && s->bits.bytes;
}

static inline size_t deflate_enter(deflate_stream *s, size_t place) {
    const uint8_t *c = s->content + place;
    uint32_t key = ((uint32_t)c[0] << (2 * s->shift) ^ (uint32_t)c[1] << s->shift ^ c[2]) & s->mask;
    uint32_t found = s->heads[key];
    s->before[place & s->window_mask] = found;
    s->heads[key] = (uint32_t)place;
    return found;
}

/* The longest match longer than `length`, and its place in `found`, which is unchanged where there is none. */
static inline size_t deflate_search(deflate_stream *s, size_t place, size_t candidate, size_t length, size_t *found) {
    const uint8_t *here = s->content + place;
    size_t left = s->size - place, most = left < DEFLATE_MAX_MATCH ? left : DEFLATE_MAX_MATCH;
    size_t nice = s->nice < left ? s->nice : left, chain = length >= s->good ? s->chain >> 2 : s->chain;
    size_t limit = place > s->reach ? place - s->reach : 0;
    uint64_t compared = 0;
    do {
        const uint8_t *there = s->content + candidate;
        compared++;
        if (length < left && there[length] == here[length]) {
            size_t size = 0;
            while (size < most && there[size] == here[size]) size++;
            compared += size;
            if (size > length) {
                length = size;
                *found = candidate;
                if (size >= nice) break;
            }
        }
        candidate = s->before[candidate & s->window_mask];
    } while (candidate > limit && --chain);
    s->compared += compared;
    return length < left ? length : left;
}

static inline int deflate_note(deflate_stream *s, size_t distance, size_t value) {
    s->tokens[s->token_count++] = (uint32_t)(distance << 9 | value);
    return s->token_count == s->most_tokens;
}

static inline void deflate_slide(deflate_stream *s, size_t place) {
    size_t span = (size_t)s->window_mask + 1, edge = s->base + 2 * span - DEFLATE_LOOKAHEAD;
    if (place > edge || (place == edge && s->size < s->base + 2 * span)) s->base += span;
}

static inline void deflate_flush(deflate_stream *s, size_t end, int last) {
    int kept = s->begin >= s->base && end - s->begin < 65536;
    deflate_put_block(&s->bits, &s->tables, s->tokens, s->token_count, kept ? s->content + s->begin : NULL, end - s->begin, last);
    s->token_count = 0;
    s->begin = end;
}

/* Whether memory and comparisons suffice so far. */
static inline int deflate_goes_on(const deflate_stream *s) {
    return s->bits.bytes && s->compared <= s->most_compared;
}

static inline void deflate_greedy(deflate_stream *s) {
    for (size_t place = 0; place < s->size && deflate_goes_on(s);) {
        deflate_slide(s, place);
        size_t left = s->size - place, found = left >= DEFLATE_MIN_MATCH ? deflate_enter(s, place) : 0;
        size_t length = DEFLATE_MIN_MATCH - 1, start = 0;
        int full;
        if (found && place - found <= s->reach) length = deflate_search(s, place, found, DEFLATE_MIN_MATCH - 1, &start);
        if (length >= DEFLATE_MIN_MATCH) {
            size_t end = place + length;
            full = deflate_note(s, place - start, length);
            if (length <= s->lazily && s->size - end >= DEFLATE_MIN_MATCH)
                for (size_t entered = place + 1; entered < end; entered++) deflate_enter(s, entered);
            place = end;
        } else {
            full = deflate_note(s, 0, s->content[place++]);
        }
        if (full) deflate_flush(s, place, 0);
    }
}

static inline void deflate_lazy(deflate_stream *s) {
    size_t length = DEFLATE_MIN_MATCH - 1, start = 0;
    int waiting = 0;
    for (size_t place = 0; place < s->size && deflate_goes_on(s);) {
        deflate_slide(s, place);
        size_t left = s->size - place, found = left >= DEFLATE_MIN_MATCH ? deflate_enter(s, place) : 0;
        size_t before = length, start_before = start;
        length = DEFLATE_MIN_MATCH - 1;
        if (found && before < s->lazily && place - found <= s->reach) {
            length = deflate_search(s, place, found, before, &start);
            if (length <= s->short_match || (length == DEFLATE_MIN_MATCH && place - start > DEFLATE_TOO_FAR)) length = DEFLATE_MIN_MATCH - 1;
        }
        if (before >= DEFLATE_MIN_MATCH && length <= before) {
            size_t end = place - 1 + before;
            int full = deflate_note(s, place - 1 - start_before, before);
            for (size_t entered = place + 1; entered < end && entered + DEFLATE_MIN_MATCH <= s->size; entered++) deflate_enter(s, entered);
            place = end;
            waiting = 0;
            length = DEFLATE_MIN_MATCH - 1;
            if (full) deflate_flush(s, place, 0);
        } else {
            if (waiting && deflate_note(s, 0, s->content[place - 1])) deflate_flush(s, place, 0);
            waiting = 1;
            place++;
        }
    }
    if (waiting && deflate_goes_on(s)) deflate_note(s, 0, s->content[s->size - 1]);
}

/* The whole stream, in s->bits. Returns 0 if memory was short, or if the search took too many comparisons. */
static inline int deflate_run(deflate_stream *s, int level) {
    if (level >= DEFLATE_FIRST_LAZY) deflate_lazy(s);
    else deflate_greedy(s);
    if (!deflate_goes_on(s)) return 0;
    deflate_slide(s, s->size);
    deflate_flush(s, s->size, 1);
    if (!s->bits.bytes) return 0;
    deflate_align(&s->bits);
    return 1;
}

#endif
