/* Products, rows and rotations of one vector path, for files that define KOLMO_TARGET and KOLMO_PATH (its name), after one
 * of lanes_*.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bitshift_product/pool.h"
#include "products/arithmetic.h"

#if defined(_MSC_VER)
#pragma fp_contract(off)
#define BITSHIFT_ALIGNED __declspec(align(64))
#else
#define BITSHIFT_ALIGNED __attribute__((aligned(64)))
#endif

enum {
    BITSHIFT_CHUNK = 512,          /* columns of a panel: it stays in the first cache */
    BITSHIFT_SHARE = 1 << 19,      /* weights times rows of activations that are worth a part of their own */
    BITSHIFT_PARTS = 8,            /* most parts for one thread: a slow thread then delays the others little */
    BITSHIFT_INFINITE = 0x7F800000 /* bits of a float from which on it is not finite */
};

static const float bitshift_octave[16] = {
    /* 2^(i/16) in binary32 */
    0x1p+0f,        0x1.0b5586p+0f, 0x1.172b84p+0f, 0x1.2387a6p+0f, 0x1.306fep+0f,  0x1.3dea64p+0f,
    0x1.4bfdaep+0f, 0x1.5ab07ep+0f, 0x1.6a09e6p+0f, 0x1.7a1148p+0f, 0x1.8ace54p+0f, 0x1.9c4918p+0f,
    0x1.ae89fap+0f, 0x1.c199bep+0f, 0x1.d5818ep+0f, 0x1.ea4afap+0f,
};

typedef struct {
    const kolmo_bitshift *m;
    const float *x;
    float *y;             /* results: products, rows or rotated numbers */
    const int64_t *places; /* of rows */
    size_t count, columns, padded, span; /* rows of activations; columns; these filled up; groups or rows of a part */
    uint32_t *signs;      /* bits of -0 where a column changes its sign; NULL without a rotation */
    float *turned;        /* [count][columns]: activations, rotated; NULL without a rotation */
    float *units;         /* [count]: what a sum is worth before its row's factor; NaN for a row that is not finite */
    int32_t *starts;      /* [count]: what 126 in every weight adds to a sum */
    int32_t *sums;        /* [parts][count][16] */
    bitshift_q *q;        /* [count][padded] */
    uint32_t *fours;      /* [padded], for one row of activations */
    int back;
} bitshift_task;

static void bitshift_make_signs(uint32_t *signs, size_t columns, uint32_t seed) {
    for (size_t j = 0; j < columns; j++) {
        uint32_t u = (seed + (uint32_t)j) * 0x9E3779B1u;
        u ^= u >> 15;
        u *= 0x85EBCA77u;
        u ^= u >> 13;
        u *= 0xC2B2AE3Du;
        signs[j] = u & 0x80000000u;
    }
}

static KOLMO_TARGET void bitshift_flip(float *x, const uint32_t *signs, size_t columns) {
    for (size_t j = 0; j < columns; j++) {
        uint32_t bits;
        memcpy(&bits, x + j, 4);
        bits ^= signs[j];
        memcpy(x + j, &bits, 4);
    }
}

KOLMO_INLINE KOLMO_TARGET void bitshift_butterflies(float *restrict a, float *restrict b, const size_t distance) {
    for (size_t j = 0; j < distance; j++) {
        const float sum = a[j] + b[j], difference = a[j] - b[j];
        a[j] = sum;
        b[j] = difference;
    }
}

/* Butterflies at distances 1, 2, 4, ... m / 2, then one product with 1 / sqrt(m). */
static KOLMO_TARGET void bitshift_hadamard(float *x, size_t m) {
    float root = 1.0f;
    size_t distance = 1, power = m;
    for (; power >= 4; power /= 4) root *= 0.5f;
    if (power == 2) root *= 0x1.6a09e6p-1f; /* sqrt(1/2) */
#if defined(BITSHIFT_OWN_SHORT)
    if (m >= 16) {
        bitshift_short(x, m);
        distance = 16;
    }
#endif
    for (; distance < m && distance < 16; distance *= 2)
        for (size_t at = 0; at < m; at += 2 * distance) bitshift_butterflies(x + at, x + at + distance, distance);
    for (; distance < m; distance *= 2)
        for (size_t at = 0; at < m; at += 2 * distance)
            for (size_t j = at; j < at + distance; j += 16) bitshift_butterflies(x + j, x + j + distance, 16);
    for (size_t j = 0; j < m; j++) x[j] *= root;
}

static KOLMO_TARGET void bitshift_turn(float *x, const uint32_t *signs, size_t columns, int back) {
    size_t m = 1;
    while (2 * m <= columns) m *= 2;
    for (int second = back; second >= 0 && second <= 1; second += back ? -1 : 1) {
        if (second && m == columns) continue;
        if (!back) bitshift_flip(x, signs, columns);
        bitshift_hadamard(second ? x + columns - m : x, m);
        if (back) bitshift_flip(x, signs, columns);
    }
}

/* Rotate a row of activations and round it to integers. */
static KOLMO_TARGET void bitshift_quantise(void *work, size_t row) {
    bitshift_task *task = (bitshift_task *)work;
    const uint64_t had = kolmo_plain_arithmetic();
    const size_t columns = task->columns;
    const float *x = task->x + row * columns;
    bitshift_q *q = task->q + row * task->padded;
    int32_t most = 0, sum = 0;
    float top, unit = 0.0f, scale = 0.0f;
    if (task->turned) {
        float *turned = task->turned + row * columns;
        memcpy(turned, x, columns * sizeof *x);
        bitshift_turn(turned, task->signs, columns, 0);
        x = turned;
    }
    for (size_t j = 0; j < columns; j++) { /* magnitudes are ordered as their bits are */
        int32_t bits;
        memcpy(&bits, x + j, 4);
        bits &= 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    memcpy(&top, &most, 4);
    if (most >= BITSHIFT_INFINITE) {
        unit = NAN;
    } else if (top >= BITSHIFT_LEAST) {
        unit = top / 127.0f;
        scale = 127.0f / top;
    }
    memset(q, 0, task->padded * sizeof *q);
    for (size_t j = 0; scale > 0.0f && j < columns; j++) {
        const float scaled = x[j] * scale, shifted = scaled + 12582912.0f; /* to the nearest integer, of two the even one */
        const int32_t i = (int32_t)(shifted - 12582912.0f);
        q[j] = (bitshift_q)i;
        sum += i;
    }
    task->units[row] = unit;
    task->starts[row] = -BITSHIFT_OFFSET * sum;
    for (size_t j = 0; task->fours && j < task->padded; j++) task->fours[j] = (uint8_t)q[j] * 0x01010101u;
    kolmo_restore_arithmetic(had);
}

/* The factor of a row. */
KOLMO_INLINE KOLMO_TARGET float bitshift_factor(const kolmo_bitshift *m, size_t row) {
    const uint8_t e = m->exponents[row];
    const uint32_t bits = (uint32_t)(127 - 15 + (e >> 4)) << 23;
    float octave;
    memcpy(&octave, &bits, 4);
    const float step = m->scale * bitshift_octave[e & 15];
    return e ? step * octave : 0.0f;
}

/* The results of a group from its sums. */
static KOLMO_TARGET void bitshift_finish(const bitshift_task *task, size_t first, size_t rows, const int32_t *sums) {
    float factor[BITSHIFT_GROUP];
    for (size_t i = 0; i < BITSHIFT_GROUP; i++) factor[i] = i < rows ? bitshift_factor(task->m, first + i) : 0.0f;
    for (size_t b = 0; b < task->count; b++, sums += BITSHIFT_GROUP) {
        float y[BITSHIFT_GROUP];
        const float unit = task->units[b];
        for (int i = 0; i < BITSHIFT_GROUP; i++) {
            const float worth = unit * factor[i];
            y[i] = (float)sums[i] * worth;
        }
        for (int i = 0; i < BITSHIFT_GROUP; i++) y[i] = unit == unit && unit > 0.0f ? y[i] : unit; /* exactly NaN or 0 */
        memcpy(task->y + b * task->m->rows + first, y, rows * sizeof *y);
    }
}

/* Where the words of a group are, and how many rows it has. */
KOLMO_INLINE const uint8_t *bitshift_group(const kolmo_bitshift *m, size_t group, size_t *rows) {
    const size_t first = group * BITSHIFT_GROUP;
    *rows = m->rows - first < BITSHIFT_GROUP ? m->rows - first : BITSHIFT_GROUP;
    return m->words + 4 * first * m->row_words;
}

/* The panel of some columns, from the period at word `at`. */
KOLMO_INLINE KOLMO_TARGET void bitshift_panel_of(const kolmo_bitshift *m, const uint8_t *words, size_t rows, size_t at,
                                                 size_t periods, const int bits, const int states, uint8_t *panel) {
    const size_t step = 4 * rows;
    bitshift_lanes w[5];
    w[0] = bitshift_load(words + at * step, rows);
    for (size_t p = 0; p < periods; p++, panel += BITSHIFT_PERIOD * BITSHIFT_GROUP * BITSHIFT_PANEL_UNIT) {
        for (int i = 1; i < bits; i++) w[i] = bitshift_load(words + (at + (size_t)i) * step, rows);
        at += (size_t)bits;
        w[bits] = bitshift_load(words + (at < m->row_words ? at : 0) * step, rows);
        bitshift_unpack(w, bits, states, panel);
        w[0] = w[bits];
    }
}

/* Call a function with bits and states as constants. */
#define BITSHIFT_EACH(m, call)                                                              \
    switch ((m)->bits + ((m)->log_states == 16 ? 8 : 0)) {                                  \
    case 2: call(2, 12); break;                                                             \
    case 3: call(3, 12); break;                                                             \
    case 4: call(4, 12); break;                                                             \
    case 10: call(2, 16); break;                                                            \
    case 11: call(3, 16); break;                                                            \
    default: call(4, 16); break;                                                            \
    }

static KOLMO_TARGET void bitshift_panel(const kolmo_bitshift *m, const uint8_t *words, size_t rows, size_t at, size_t periods,
                                        uint8_t *panel) {
#define BITSHIFT_CALL(bits, states) bitshift_panel_of(m, words, rows, at, periods, bits, states, panel)
    BITSHIFT_EACH(m, BITSHIFT_CALL)
#undef BITSHIFT_CALL
}

#if defined(BITSHIFT_OWN_ROW)
static KOLMO_TARGET void bitshift_one(const kolmo_bitshift *m, const uint8_t *words, size_t rows, const uint32_t *fours,
                                      int32_t *sums) {
#define BITSHIFT_CALL(bits, states) bitshift_row(words, rows, m->row_words, bits, states, fours, sums)
    BITSHIFT_EACH(m, BITSHIFT_CALL)
#undef BITSHIFT_CALL
}
#endif

static KOLMO_TARGET void bitshift_multiply(const uint8_t *panel, size_t columns, const bitshift_q *q, size_t stride, size_t count,
                                           int32_t *sums) {
    for (; count >= BITSHIFT_TILE; count -= BITSHIFT_TILE) {
        bitshift_tile(panel, columns, q, stride, BITSHIFT_TILE, sums);
        q += BITSHIFT_TILE * stride;
        sums += BITSHIFT_TILE * BITSHIFT_GROUP;
    }
    for (; BITSHIFT_TILE > 4 && count >= 4; count -= 4, q += 4 * stride, sums += 4 * BITSHIFT_GROUP)
        bitshift_tile(panel, columns, q, stride, BITSHIFT_TILE > 4 ? 4 : 1, sums);
    for (; count; count--, q += stride, sums += BITSHIFT_GROUP) bitshift_tile(panel, columns, q, stride, 1, sums);
}

/* The products of some groups of rows. */
static KOLMO_TARGET void bitshift_groups(void *work, size_t part) {
    bitshift_task *task = (bitshift_task *)work;
    const kolmo_bitshift *m = task->m;
    const uint64_t had = kolmo_plain_arithmetic();
    const size_t groups = (m->rows + BITSHIFT_GROUP - 1) / BITSHIFT_GROUP, first = part * task->span;
    int32_t *sums = task->sums + part * task->count * BITSHIFT_GROUP;
    BITSHIFT_ALIGNED uint8_t panel[BITSHIFT_CHUNK * BITSHIFT_GROUP * BITSHIFT_PANEL_UNIT];
    for (size_t group = first; group < groups && group < first + task->span; group++) {
        size_t rows;
        const uint8_t *words = bitshift_group(m, group, &rows);
#if defined(BITSHIFT_OWN_ROW)
        if (task->fours) {
            bitshift_one(m, words, rows, task->fours, sums);
            for (int i = 0; i < BITSHIFT_GROUP; i++) sums[i] = (int32_t)((uint32_t)sums[i] + (uint32_t)task->starts[0]);
            bitshift_finish(task, group * BITSHIFT_GROUP, rows, sums);
            continue;
        }
#endif
        for (size_t b = 0; b < task->count; b++)
            for (int i = 0; i < BITSHIFT_GROUP; i++) sums[b * BITSHIFT_GROUP + i] = BITSHIFT_SHIFTED ? task->starts[b] : 0;
        for (size_t c = 0; c < task->padded; c += BITSHIFT_CHUNK) {
            const size_t columns = task->padded - c < BITSHIFT_CHUNK ? task->padded - c : BITSHIFT_CHUNK;
            bitshift_panel(m, words, rows, c / BITSHIFT_PERIOD * (size_t)m->bits, columns / BITSHIFT_PERIOD, panel);
            bitshift_multiply(panel, columns, task->q + c, task->padded, task->count, sums);
        }
        bitshift_finish(task, group * BITSHIFT_GROUP, rows, sums);
    }
    kolmo_restore_arithmetic(had);
}

/* Into how many parts items are divided that take `each` steps of work; `span` items for each part but the last. */
static size_t bitshift_divide(size_t items, size_t each, int threads, size_t *span) {
    size_t parts = threads > 1 ? items * each / BITSHIFT_SHARE + 1 : 1, most = (size_t)threads * BITSHIFT_PARTS;
    parts = parts < most ? parts : most;
    parts = threads == 1 ? 1 : parts;
    *span = (items + parts - 1) / parts;
    *span += !*span;
    return (items + *span - 1) / *span;
}

static int bitshift_product_here(const kolmo_bitshift *m, const float *x, size_t count, float *y, int threads) {
    bitshift_task task = {.m = m, .x = x, .y = y, .count = count, .columns = m->columns};
    const size_t groups = (m->rows + BITSHIFT_GROUP - 1) / BITSHIFT_GROUP;
    task.padded = (m->columns + BITSHIFT_PERIOD - 1) / BITSHIFT_PERIOD * BITSHIFT_PERIOD;
    const size_t parts = bitshift_divide(groups, BITSHIFT_GROUP * task.padded * count, threads, &task.span);
    task.units = malloc(count * sizeof *task.units);
    task.starts = malloc(count * sizeof *task.starts);
    task.sums = malloc((parts + 1) * count * BITSHIFT_GROUP * sizeof *task.sums);
    task.q = malloc(count * task.padded * sizeof *task.q + 1);
    int done = task.units && task.starts && task.sums && task.q;
#if defined(BITSHIFT_OWN_ROW)
    if (count == 1) {
        task.fours = malloc(task.padded * sizeof *task.fours + 1);
        done = done && task.fours;
    }
#endif
    if (m->rotated && m->columns) {
        task.signs = malloc(m->columns * sizeof *task.signs);
        task.turned = malloc(count * m->columns * sizeof *task.turned);
        done = done && task.signs && task.turned;
        if (done) bitshift_make_signs(task.signs, m->columns, m->seed);
    }
    if (done) {
        kolmo_pool_run(count, count * m->columns < BITSHIFT_SHARE / 16 ? 1 : threads, bitshift_quantise, &task);
        kolmo_pool_run(parts, threads, bitshift_groups, &task);
    }
    free(task.units);
    free(task.starts);
    free(task.sums);
    free(task.q);
    free(task.fours);
    free(task.signs);
    free(task.turned);
    return done;
}

/* One row as binary32: its words are `step` bytes apart. */
KOLMO_INLINE KOLMO_TARGET void bitshift_line_of(const kolmo_bitshift *m, const uint8_t *words, size_t step, float factor, float *to,
                                                const int bits, const int states) {
    uint32_t w[5];
    memcpy(w, words, 4);
    for (size_t at = 0, column = 0; column < m->columns; column += BITSHIFT_PERIOD, w[0] = w[bits]) {
        float line[BITSHIFT_PERIOD];
        const size_t left = m->columns - column;
        for (int i = 1; i < bits; i++) memcpy(w + i, words + (at + (size_t)i) * step, 4);
        at += (size_t)bits;
        memcpy(w + bits, words + (at < m->row_words ? at : 0) * step, 4);
#pragma GCC unroll 32
        for (int t = 0; t < BITSHIFT_PERIOD; t++) {
            const uint64_t pair = (uint64_t)w[bits * t / 32] << 32 | w[bits * t / 32 + 1];
            const uint32_t state = (uint32_t)(pair >> (64 - states - bits * t % 32)) & ((1u << states) - 1);
            const uint32_t h = state * BITSHIFT_FACTOR & BITSHIFT_MASK, sum = (h & 0x00FF00FFu) + (h >> 8 & 0x00FF00FFu);
            line[t] = (float)((int32_t)((sum >> 16) + (sum & 0xFFFFu)) - BITSHIFT_OFFSET) * factor;
        }
        memcpy(to + column, line, (left < BITSHIFT_PERIOD ? left : BITSHIFT_PERIOD) * sizeof *to);
    }
}

static KOLMO_TARGET void bitshift_line(const kolmo_bitshift *m, const uint8_t *words, size_t step, float factor, float *to) {
#define BITSHIFT_CALL(bits, states) bitshift_line_of(m, words, step, factor, to, bits, states)
    BITSHIFT_EACH(m, BITSHIFT_CALL)
#undef BITSHIFT_CALL
}

/* All rows of a group as binary32: a panel at a time, in blocks of 16 of its vectors, in which a row is one line of bytes. */
static KOLMO_TARGET void bitshift_block(const kolmo_bitshift *m, const uint8_t *words, size_t rows, const float *factor, float *to) {
    enum { PER_VECTOR = 4 / BITSHIFT_PANEL_UNIT, PER_BLOCK = 16 * PER_VECTOR };
    BITSHIFT_ALIGNED uint8_t panel[BITSHIFT_CHUNK * BITSHIFT_GROUP * BITSHIFT_PANEL_UNIT];
    for (size_t c = 0; c < m->columns; c += BITSHIFT_CHUNK) {
        const size_t periods = (m->columns - c + BITSHIFT_PERIOD - 1) / BITSHIFT_PERIOD;
        const size_t here = periods < BITSHIFT_CHUNK / BITSHIFT_PERIOD ? periods : BITSHIFT_CHUNK / BITSHIFT_PERIOD;
        bitshift_panel(m, words, rows, c / BITSHIFT_PERIOD * (size_t)m->bits, here, panel);
        for (size_t b = 0; b < here * BITSHIFT_PERIOD; b += PER_BLOCK) {
            const size_t vectors = (here * BITSHIFT_PERIOD - b) / PER_VECTOR < 16 ? (here * BITSHIFT_PERIOD - b) / PER_VECTOR : 16;
            const size_t left = m->columns - c - b, wide = left < vectors * PER_VECTOR ? left : vectors * PER_VECTOR;
            for (size_t row = 0; row < rows; row++) {
                BITSHIFT_ALIGNED uint8_t line[64];
                const uint8_t *from = panel + 64 * (b / PER_VECTOR) + 4 * row;
                float *out = to + row * m->columns + c + b;
                for (size_t i = 0; i < vectors; i++) memcpy(line + 4 * i, from + 64 * i, 4);
                for (size_t j = 0; j < wide; j++) out[j] = (float)bitshift_weight(line, j) * factor[row];
            }
        }
    }
}

/* The rows of some places. */
static KOLMO_TARGET void bitshift_read(void *work, size_t part) {
    const bitshift_task *task = (const bitshift_task *)work;
    const kolmo_bitshift *m = task->m;
    const uint64_t had = kolmo_plain_arithmetic();
    const size_t last = (part + 1) * task->span < task->count ? (part + 1) * task->span : task->count;
    for (size_t i = part * task->span, done; i < last; i += done) {
        const size_t first = (size_t)task->places[i];
        size_t rows;
        const uint8_t *words = bitshift_group(m, first / BITSHIFT_GROUP, &rows);
        float factor[BITSHIFT_GROUP], *to = task->y + i * m->columns;
        for (done = 0; done < rows && i + done < last; done++) {
            if (task->places[i + done] != (int64_t)(first + done)) break;
            factor[done] = bitshift_factor(m, first + done);
        }
        if (first % BITSHIFT_GROUP == 0 && done == rows && rows > 1) {
            bitshift_block(m, words, rows, factor, to);
        } else {
            done = 1;
            bitshift_line(m, words + 4 * (first % BITSHIFT_GROUP), 4 * rows, factor[0], to);
        }
        for (size_t k = 0; task->signs && k < done; k++) bitshift_turn(to + k * m->columns, task->signs, m->columns, 1);
    }
    kolmo_restore_arithmetic(had);
}

static int bitshift_rows_here(const kolmo_bitshift *m, const int64_t *places, size_t count, int restore, float *out, int threads) {
    bitshift_task task = {.m = m, .y = out, .places = places, .count = count, .columns = m->columns};
    if (!m->columns) return 1;
    if (restore && m->rotated) {
        task.signs = malloc(m->columns * sizeof *task.signs);
        if (!task.signs) return 0;
        bitshift_make_signs(task.signs, m->columns, m->seed);
    }
    bitshift_divide(count, 8 * m->columns, threads, &task.span); /* reading a weight takes as long as some products */
    task.span = (task.span + BITSHIFT_GROUP - 1) / BITSHIFT_GROUP * BITSHIFT_GROUP; /* whole groups, if places begin with one */
    kolmo_pool_run((count + task.span - 1) / task.span, threads, bitshift_read, &task);
    free(task.signs);
    return 1;
}

/* Some rows of numbers, rotated or turned back. */
static KOLMO_TARGET void bitshift_turn_some(void *work, size_t part) {
    const bitshift_task *task = (const bitshift_task *)work;
    const uint64_t had = kolmo_plain_arithmetic();
    for (size_t row = part * task->span; row < task->count && row < (part + 1) * task->span; row++)
        bitshift_turn(task->y + row * task->columns, task->signs, task->columns, task->back);
    kolmo_restore_arithmetic(had);
}

static int bitshift_rotate_here(float *x, size_t count, size_t columns, uint32_t seed, int back, int threads) {
    bitshift_task task = {.y = x, .count = count, .columns = columns, .back = back};
    task.signs = malloc(columns * sizeof *task.signs + 1);
    if (!task.signs) return 0;
    bitshift_make_signs(task.signs, columns, seed);
    const size_t parts = bitshift_divide(count, 16 * columns, threads, &task.span);
    kolmo_pool_run(parts, threads, bitshift_turn_some, &task);
    free(task.signs);
    return 1;
}

const kolmo_bitshift_path KOLMO_PATH = {bitshift_product_here, bitshift_rows_here, bitshift_rotate_here};
