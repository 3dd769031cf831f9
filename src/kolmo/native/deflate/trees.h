/* Blocks of a deflate stream with the codes that zlib chooses: see trees.py, whose names are used here.
 *
 * A token is distance << 9 | length of a match, or the byte of a literal. */
#ifndef KOLMO_DEFLATE_TREES_H
#define KOLMO_DEFLATE_TREES_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { DEFLATE_END = 256, DEFLATE_CODES = 286, DEFLATE_DISTANCES = 30, DEFLATE_RUNS = 19, DEFLATE_NODES = 2 * DEFLATE_CODES + 1 };

static const uint8_t deflate_order[DEFLATE_RUNS] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
static const uint8_t deflate_run_extra[DEFLATE_RUNS] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 3, 7};

typedef struct {
    uint8_t *bytes;
    size_t size, room;
    uint64_t held;
    int count;
} deflate_bits; /* bits from the lowest of each byte up; `bytes` is NULL once memory was short */

typedef struct {
    uint16_t first[DEFLATE_CODES - 257], first_distance[DEFLATE_DISTANCES]; /* first length or distance of a code */
    uint8_t extra[DEFLATE_CODES], distance_extra[DEFLATE_DISTANCES];         /* extra bits of each symbol */
    uint8_t length_code[259];
    uint8_t fixed[DEFLATE_CODES + 2], fixed_distances[DEFLATE_DISTANCES];
} deflate_tables;

static inline void deflate_make_tables(deflate_tables *t) {
    memset(t, 0, sizeof *t);
    for (int i = 0, first = 3; i < 29; i++) {
        int extra = i < 8 || i == 28 ? 0 : i / 4 - 1;
        if (i == 28) first = 258; /* which the code before could say too, but does not */
        t->first[i] = (uint16_t)first;
        t->extra[257 + i] = (uint8_t)extra;
        for (int length = first; length < first + (1 << extra) && length <= 258; length++) t->length_code[length] = (uint8_t)i;
        first += 1 << extra;
    }
    for (int i = 0, first = 1; i < DEFLATE_DISTANCES; i++) {
        int extra = i < 4 ? 0 : i / 2 - 1;
        t->first_distance[i] = (uint16_t)first;
        t->distance_extra[i] = (uint8_t)extra;
        first += 1 << extra;
    }
    for (int i = 0; i < DEFLATE_CODES + 2; i++) t->fixed[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    memset(t->fixed_distances, 5, sizeof t->fixed_distances);
}

static inline int deflate_distance_code(uint32_t distance) {
    uint32_t rest = distance - 1;
    if (rest < 4) return (int)rest;
    int top = 2;
    while (rest >> (top + 1)) top++;
    return 2 * top + (int)(rest >> (top - 1) & 1);
}

static inline int deflate_room(deflate_bits *bits, size_t more) {
    if (!bits->bytes) return 0;
    if (bits->size + more <= bits->room) return 1;
    size_t room = 2 * bits->room + more;
    uint8_t *bytes = realloc(bits->bytes, room);
    if (!bytes) {
        free(bits->bytes);
        bits->bytes = NULL;
        return 0;
    }
    bits->bytes = bytes;
    bits->room = room;
    return 1;
}

/* Up to 16 bits; the caller has made room. */
static inline void deflate_put(deflate_bits *bits, uint32_t value, int count) {
    bits->held |= (uint64_t)value << bits->count;
    bits->count += count;
    while (bits->count >= 8) {
        bits->bytes[bits->size++] = (uint8_t)bits->held;
        bits->held >>= 8;
        bits->count -= 8;
    }
}

static inline void deflate_align(deflate_bits *bits) {
    if (bits->count) deflate_put(bits, 0, 8 - bits->count);
}

typedef struct {
    uint32_t count[DEFLATE_NODES];
    uint16_t heap[DEFLATE_NODES], taken[DEFLATE_NODES], parent[DEFLATE_NODES];
    uint8_t depth[DEFLATE_NODES], bits[DEFLATE_NODES];
    int size; /* of the heap */
} deflate_heap;

static inline int deflate_before(const deflate_heap *h, int a, int b) {
    return h->count[a] < h->count[b] || (h->count[a] == h->count[b] && h->depth[a] <= h->depth[b]);
}

static inline void deflate_sink(deflate_heap *h, int place) {
    uint16_t node = h->heap[place];
    for (int child; (child = 2 * place + 1) < h->size; place = child) {
        if (child + 1 < h->size && deflate_before(h, h->heap[child + 1], h->heap[child])) child++;
        if (deflate_before(h, node, h->heap[child])) break;
        h->heap[place] = h->heap[child];
    }
    h->heap[place] = node;
}

/* The lengths of codes of at most `most` bits, and the bits of all that is counted. */
static inline int64_t deflate_code_lengths(const uint32_t *counts, int symbols, const uint8_t *extra, int most, uint8_t *lengths) {
    deflate_heap h;
    int64_t total = 0;
    int last = -1, of_length[16] = {0}, overflow = 0, taken = 0, node = symbols;
    memset(&h, 0, sizeof h);
    for (int i = 0; i < symbols; i++) {
        h.count[i] = counts[i];
        if (counts[i]) h.heap[h.size++] = (uint16_t)(last = i);
    }
    while (h.size < 2) {
        int symbol = last < 2 ? ++last : 0;
        h.heap[h.size++] = (uint16_t)symbol;
        h.count[symbol] = 1;
        total--;
    }
    for (int place = h.size / 2 - 1; place >= 0; place--) deflate_sink(&h, place);
    do {
        uint16_t first = h.heap[0], second;
        h.heap[0] = h.heap[--h.size];
        deflate_sink(&h, 0);
        second = h.heap[0];
        h.taken[taken++] = first;
        h.taken[taken++] = second;
        h.count[node] = h.count[first] + h.count[second];
        h.depth[node] = (uint8_t)((h.depth[first] >= h.depth[second] ? h.depth[first] : h.depth[second]) + 1);
        h.parent[first] = h.parent[second] = (uint16_t)node;
        h.heap[0] = (uint16_t)node++;
        deflate_sink(&h, 0);
    } while (h.size >= 2);
    for (int i = taken - 1; i >= 0; i--) {
        int n = h.taken[i], bits = h.bits[h.parent[n]] + 1;
        if (bits > most) {
            bits = most;
            overflow++;
        }
        h.bits[n] = (uint8_t)bits;
        if (n < symbols) {
            of_length[bits]++;
            total += (int64_t)h.count[n] * (bits + extra[n]);
        }
    }
    if (overflow > 0) {
        for (; overflow > 0; overflow -= 2) {
            int shorter = most - 1;
            while (!of_length[shorter]) shorter--;
            of_length[shorter]--;
            of_length[shorter + 1] += 2;
            of_length[most]--;
        }
        for (int bits = most, i = 0; bits > 0; bits--)
            for (int left = of_length[bits]; left; i++) {
                int n = h.taken[i];
                if (n >= symbols) continue;
                total += (int64_t)(bits - h.bits[n]) * h.count[n];
                h.bits[n] = (uint8_t)bits;
                left--;
            }
    }
    memcpy(lengths, h.bits, (size_t)symbols);
    return total;
}

static inline void deflate_make_codes(const uint8_t *lengths, int symbols, uint16_t *codes) {
    uint32_t code = 0;
    for (int bits = 1; bits < 16; bits++, code <<= 1)
        for (int i = 0; i < symbols; i++)
            if (lengths[i] == bits) {
                uint32_t turned = 0;
                for (int k = 0; k < bits; k++) turned |= (code >> k & 1) << (bits - 1 - k);
                codes[i] = (uint16_t)turned;
                code++;
            }
}

/* Code lengths as symbols of the third code, each with the value of its extra bits above 8 bits; returns their number. */
static inline int deflate_make_runs(const uint8_t *lengths, int count, uint16_t *runs) {
    int before = -1, found = 0;
    for (int at = 0; at < count;) {
        int length = lengths[at], same = length == before;
        int most = length == 0 ? 138 : same ? 6 : 7, least = length == 0 || same ? 3 : 4, size = 1;
        while (size < most && at + size < count && lengths[at + size] == length) size++;
        at += size;
        if (size < least) {
            while (size--) runs[found++] = (uint16_t)length;
        } else if (length) {
            if (!same) runs[found++] = (uint16_t)length, size--;
            runs[found++] = (uint16_t)(16 | (size - 3) << 8);
        } else {
            runs[found++] = (uint16_t)(size <= 10 ? 17 | (size - 3) << 8 : 18 | (size - 11) << 8);
        }
        before = length;
    }
    return found;
}

/* Write a block in the shortest of the three ways. `raw`: its content, or NULL where it can no longer be stored. */
static inline void deflate_put_block(deflate_bits *bits, const deflate_tables *t, const uint32_t *tokens, size_t count,
                                     const uint8_t *raw, size_t raw_size, int last) {
    uint32_t counts[DEFLATE_CODES] = {0}, distance_counts[DEFLATE_DISTANCES] = {0}, run_counts[DEFLATE_RUNS] = {0};
    uint8_t lengths[DEFLATE_CODES], distances[DEFLATE_DISTANCES], run_lengths[DEFLATE_RUNS];
    uint16_t runs[DEFLATE_CODES + DEFLATE_DISTANCES], run_codes[DEFLATE_RUNS] = {0};
    uint16_t symbols[DEFLATE_CODES + 2] = {0}, places[DEFLATE_DISTANCES] = {0};
    for (size_t i = 0; i < count; i++) {
        uint32_t distance = tokens[i] >> 9, value = tokens[i] & 511;
        counts[distance ? 257u + t->length_code[value] : value]++;
        if (distance) distance_counts[deflate_distance_code(distance)]++;
    }
    counts[DEFLATE_END] = 1;
    int64_t own = deflate_code_lengths(counts, DEFLATE_CODES, t->extra, 15, lengths), fixed = 0;
    own += deflate_code_lengths(distance_counts, DEFLATE_DISTANCES, t->distance_extra, 15, distances);
    for (int i = 0; i < DEFLATE_CODES; i++) fixed += (int64_t)counts[i] * (t->fixed[i] + t->extra[i]);
    for (int i = 0; i < DEFLATE_DISTANCES; i++) fixed += (int64_t)distance_counts[i] * (5 + t->distance_extra[i]);
    int used = DEFLATE_CODES, used_distances = DEFLATE_DISTANCES, used_runs = DEFLATE_RUNS;
    while (!lengths[used - 1]) used--;
    while (!distances[used_distances - 1]) used_distances--;
    int run_count = deflate_make_runs(lengths, used, runs);
    run_count += deflate_make_runs(distances, used_distances, runs + run_count);
    for (int i = 0; i < run_count; i++) run_counts[runs[i] & 255]++;
    own += deflate_code_lengths(run_counts, DEFLATE_RUNS, deflate_run_extra, 7, run_lengths);
    while (used_runs > 4 && !run_lengths[deflate_order[used_runs - 1]]) used_runs--;
    int64_t own_bytes = (own + 14 + 3 * used_runs + 3 + 7) >> 3, fixed_bytes = (fixed + 3 + 7) >> 3;
    if (raw && (int64_t)raw_size + 4 <= (own_bytes < fixed_bytes ? own_bytes : fixed_bytes)) {
        if (!deflate_room(bits, raw_size + 16)) return;
        deflate_put(bits, (uint32_t)last, 3);
        deflate_align(bits);
        deflate_put(bits, (uint32_t)raw_size, 16);
        deflate_put(bits, (uint32_t)raw_size ^ 0xFFFF, 16);
        memcpy(bits->bytes + bits->size, raw, raw_size);
        bits->size += raw_size;
        return;
    }
    if (!deflate_room(bits, (size_t)(own_bytes > fixed_bytes ? own_bytes : fixed_bytes) + 512)) return;
    const uint8_t *of_symbols = lengths, *of_places = distances;
    if (fixed_bytes <= own_bytes) {
        deflate_put(bits, 2u | (uint32_t)last, 3);
        of_symbols = t->fixed;
        of_places = t->fixed_distances;
        used = DEFLATE_CODES + 2;
        used_distances = DEFLATE_DISTANCES;
    } else {
        deflate_put(bits, 4u | (uint32_t)last, 3);
        deflate_put(bits, (uint32_t)used - 257, 5);
        deflate_put(bits, (uint32_t)used_distances - 1, 5);
        deflate_put(bits, (uint32_t)used_runs - 4, 4);
        for (int i = 0; i < used_runs; i++) deflate_put(bits, run_lengths[deflate_order[i]], 3);
        deflate_make_codes(run_lengths, DEFLATE_RUNS, run_codes);
        for (int i = 0; i < run_count; i++) {
            int symbol = runs[i] & 255;
            deflate_put(bits, run_codes[symbol], run_lengths[symbol]);
            deflate_put(bits, runs[i] >> 8, deflate_run_extra[symbol]);
        }
    }
    deflate_make_codes(of_symbols, used, symbols);
    deflate_make_codes(of_places, used_distances, places);
    for (size_t i = 0; i < count; i++) {
        uint32_t distance = tokens[i] >> 9, value = tokens[i] & 511;
        if (!distance) {
            deflate_put(bits, symbols[value], of_symbols[value]);
            continue;
        }
        int code = t->length_code[value], place = deflate_distance_code(distance);
        deflate_put(bits, symbols[257 + code], of_symbols[257 + code]);
        deflate_put(bits, value - t->first[code], t->extra[257 + code]);
        deflate_put(bits, places[place], of_places[place]);
        deflate_put(bits, distance - t->first_distance[place], t->distance_extra[place]);
    }
    deflate_put(bits, symbols[DEFLATE_END], of_symbols[DEFLATE_END]);
}

#endif
