/* The search for the path of least squared error through the bitshift trellis, and its function for Python. The string
 * of a row is cyclic: a first, short search around the seam finds the bits that the first and the last states share;
 * the second search begins and ends with them. reference.py is the specification. */
#include "bitshift/search.h"

#include <stdlib.h>
#include <string.h>

#include "bitshift_product/product.h"
#include "module.h"

static bitshift_extend *extend = bitshift_extend_baseline;

void bitshift_choose_search(int width) {
    (void)width;
    extend = bitshift_extend_baseline;
#if defined(KOLMO_AVX2)
    if (width == 1) extend = bitshift_extend_avx2;
#endif
#if defined(KOLMO_AVX512)
    if (width == 2) extend = bitshift_extend_avx512;
#endif
}

/* The value of a state. */
int bitshift_value(uint32_t state) {
    const uint32_t h = state * BITSHIFT_FACTOR & BITSHIFT_MASK;
    return (int)((h & 255) + (h >> 8 & 255) + (h >> 16 & 255) + (h >> 24)) - BITSHIFT_OFFSET;
}

static void end_search(bitshift_search *s) {
    free(s->values);
    free(s->nothing);
    free(s->costs[0]);
    free(s->costs[1]);
    free(s->spread);
    free(s->choices);
}

/* 0 if memory is short; then there is nothing to end. */
static int begin_search(bitshift_search *s, int states_log, int bits, size_t width) {
    const size_t states = (size_t)1 << states_log, sets = states >> bits;
    s->states_log = states_log;
    s->bits = bits;
    s->width = width;
    s->values = malloc(states * sizeof *s->values);
    s->nothing = calloc(states, sizeof *s->nothing);
    for (int i = 0; i < 2; i++) s->costs[i] = calloc(sets + SEARCH_PADDING, sizeof *s->costs[i]);
    s->spread = malloc(states * sizeof *s->spread);
    s->choices = malloc(width * sets);
    if (!s->values || !s->nothing || !s->costs[0] || !s->costs[1] || !s->spread || !s->choices) {
        end_search(s);
        return 0;
    }
    for (size_t i = 0; i < states; i++) s->values[i] = (int16_t)(bitshift_value((uint32_t)i) * (16 << bits));
    return 1;
}

/* The newest bits of the states on the best path whose last state has the bits `end` besides its oldest ones; returns the
 * bits that the state before the first one passes on. `news` may be NULL. */
static size_t trace(const bitshift_search *s, size_t count, size_t end, uint8_t *news) {
    const int kept = s->states_log - s->bits;
    for (size_t t = count; t-- > 0;) {
        const size_t state = ((size_t)s->choices[(t << kept) + end] << kept) + end;
        if (news) news[t] = (uint8_t)(state & (((size_t)1 << s->bits) - 1));
        end = state >> s->bits;
    }
    return end;
}

void bitshift_write_row(int states_log, int bits_of, size_t width, const uint8_t *news, uint32_t *words, int8_t *values) {
    const size_t bits = (size_t)bits_of, kept = (size_t)states_log - bits, count = bits * width / 32;
    memset(words, 0, count * sizeof *words);
    for (size_t t = 0; t < width; t++) {
        const size_t at = (bits * t + kept) % (32 * count);
        const uint64_t moved = (uint64_t)news[t] << (64 - bits - at % 32);
        words[at / 32] |= (uint32_t)(moved >> 32);
        words[(at / 32 + 1) % count] |= (uint32_t)moved;
    }
    for (size_t t = 0; t < width; t++) {
        const size_t at = bits * t / 32;
        const uint64_t near = (uint64_t)words[at] << 32 | words[(at + 1) % count];
        const uint32_t state = (uint32_t)(near >> (64 - states_log - (int)(bits * t % 32))) & ((1u << states_log) - 1);
        values[t] = (int8_t)bitshift_value(state);
    }
}

/* Search a row: its words, and the values of its weights. `news`: memory of a byte per weight. */
static void search_row(const bitshift_search *s, const int16_t *targets, size_t columns, uint8_t *news, uint32_t *words, int8_t *values) {
    const size_t width = s->width, sets = ((size_t)1 << s->states_log) >> s->bits;
    const size_t half = width / 2 < SEARCH_SEAM ? width / 2 : SEARCH_SEAM, first = width - half;
    memset(s->costs[0], 0, sets * sizeof *s->costs[0]);
    extend(s, targets + first, half, columns > first ? columns - first : 0);
    extend(s, targets, half, columns);
    size_t seam = 0;
    for (size_t i = 1; i < sets; i++)
        if (s->costs[0][i] < s->costs[0][seam]) seam = i;
    seam = trace(s, half, seam, NULL);
    memset(s->costs[0], 0xFF, sets * sizeof *s->costs[0]);
    s->costs[0][seam] = 0;
    extend(s, targets, width, columns);
    trace(s, width, seam, news);
    bitshift_write_row(s->states_log, s->bits, width, news, words, values);
}

static int search_rows(int states_log, int bits, size_t width, size_t columns, const char *targets, size_t rows, char *words, char *values) {
    bitshift_search s;
    if (!begin_search(&s, states_log, bits, width)) return 0;
    const size_t row_bytes = (size_t)bits * width / 8;
    int16_t *row = malloc(width * sizeof *row);
    uint32_t *found = malloc(row_bytes);
    uint8_t *news = malloc(width);
    const int done = row && found && news;
    for (size_t i = 0; done && i < rows; i++) {
        memcpy(row, targets + i * width * sizeof *row, width * sizeof *row);
        search_row(&s, row, columns, news, found, (int8_t *)values + i * width);
        memcpy(words + i * row_bytes, found, row_bytes);
    }
    free(row);
    free(found);
    free(news);
    end_search(&s);
    return done;
}

static PyObject *search_py(PyObject *module, PyObject *args) {
    const char *targets;
    Py_ssize_t size, width, columns;
    int states_log, bits, done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "iinny#:bitshift_search", &states_log, &bits, &width, &columns, &targets, &size)) return NULL;
    if ((states_log != 12 && states_log != 16) || bits < 2 || bits > 4 || width < 32 || width > BITSHIFT_COLUMNS ||
        width % 32 || columns < 0 || columns > width || width - columns >= 32 || size % (2 * width)) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    const Py_ssize_t rows = size / (2 * width);
    PyObject *words = PyBytes_FromStringAndSize(NULL, rows * bits * width / 8);
    PyObject *values = PyBytes_FromStringAndSize(NULL, rows * width);
    if (words && values) {
        char *w = PyBytes_AsString(words), *v = PyBytes_AsString(values); /* no other reference to them exists yet */
        Py_BEGIN_ALLOW_THREADS
        done = search_rows(states_log, bits, (size_t)width, (size_t)columns, targets, (size_t)rows, w, v);
        Py_END_ALLOW_THREADS
        if (!done) PyErr_NoMemory();
    }
    PyObject *result = done ? PyTuple_Pack(2, words, values) : NULL;
    Py_XDECREF(words);
    Py_XDECREF(values);
    return result;
}

PyMethodDef bitshift_search_functions[] = {
    {"bitshift_search", search_py, METH_VARARGS, "bitshift_search(states_log, bits, width, columns, targets): words, values."},
    {"bitshift_feedback_search", bitshift_feedback_search_py, METH_VARARGS,
     "bitshift_feedback_search(states_log, bits, width, seams, targets, importance, feedback): words, values."},
    {NULL, NULL, 0, NULL},
};
