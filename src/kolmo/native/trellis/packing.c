/* Packed levels: blocks of 64, as bit planes, which decode from any place on. See packing.py, which specifies this, and
 * docs/trellis.md, "Packed levels". */
#include <string.h>

#include "module.h"
#include "trellis/trellis.h"

enum {
    PACKED_BLOCK = 64,
    PACKED_GROUP = 16,    /* blocks to a head */
    PACKED_MAX_PLANES = 16, /* of n, so that tables of weights are small */
};

static int packed_sized(int good) {
    if (!good) PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    return good;
}

/* The lowest bits of the states along a block, from the bits of its cosets; a division of polynomials over GF(2). The
 * state becomes the one behind the block. */
static inline uint64_t packed_divide(int feedback, int input, uint64_t cosets, int *state) {
    uint64_t sum = (uint64_t)*state, after = 0;
    for (int j = 0; j < 6; j++)
        if (input >> j & 1) sum ^= cosets << (j + 1), after ^= cosets >> (63 - j);
    for (int power = 1; power < PACKED_BLOCK; power *= 2) {
        uint64_t product = sum;
        for (int j = 0; j < 6; j++)
            if (feedback >> j & 1 && power * (j + 1) < PACKED_BLOCK) product ^= sum << power * (j + 1);
        sum = product;
    }
    for (int j = 0; j < 6; j++)
        if (feedback >> j & 1) after ^= sum >> (63 - j);
    *state = (int)after;
    return sum;
}

static uint64_t packed_parities(int states, uint64_t cosets, int *state) {
    if (states == 8) return packed_divide(5, 2, cosets, state); /* constants, so that loops unroll */
    return states == 64 ? packed_divide(33, 10, cosets, state) : 0;
}

/* The width of a block of n levels. */
static int packed_width(const int32_t *levels, size_t n, int half) {
    uint32_t all = 0;
    int any = 0, width = 1;
    for (size_t i = 0; i < n; i++) {
        int32_t m = levels[i] >> half;
        any |= m != 0;
        all |= (uint32_t)(m < 0 ? ~m : m);
    }
    while (all >> (width - 1)) width++;
    return !any ? 0 : width < 2 ? 2 : width;
}

static PyObject *pack_py(PyObject *module, PyObject *args) {
    const char *data;
    Py_ssize_t size;
    int states, state = 0, fits = 1;
    kolmo_trellis t;
    (void)module;
    if (!PyArg_ParseTuple(args, "iy#:trellis_pack", &states, &data, &size) ||
        !packed_sized(kolmo_trellis_code(&t, states) && size % 4 == 0 && size / 4 <= TRELLIS_MAX_TILE))
        return NULL;
    const size_t count = (size_t)size / 4, blocks = (count + PACKED_BLOCK - 1) / PACKED_BLOCK;
    const size_t groups = (blocks + PACKED_GROUP - 1) / PACKED_GROUP;
    const int half = t.half;
    int32_t *levels = malloc((size_t)size + 1);
    uint8_t *widths = malloc(blocks + 1);
    uint64_t *heads = malloc(8 * groups + 1), *words = malloc(8 * PACKED_MAX_PLANES * blocks + 1);
    size_t at = 0;
    PyObject *result = NULL;
    if (levels && widths && heads && words) {
        Py_BEGIN_ALLOW_THREADS
        memcpy(levels, data, (size_t)size);
        for (size_t b = 0; b < blocks && fits; b++) {
            const int32_t *block = levels + b * PACKED_BLOCK;
            const size_t n = count - b * PACKED_BLOCK < PACKED_BLOCK ? count - b * PACKED_BLOCK : PACKED_BLOCK;
            const int width = packed_width(block, n, half), bias = width ? 1 << (width - 1) : 0;
            fits = width + half <= PACKED_MAX_PLANES;
            if (!fits) break;
            uint64_t cosets = 0, odd = 0, *planes = words + at;
            if (b % PACKED_GROUP == 0) heads[b / PACKED_GROUP] = (uint64_t)at << 8 | (uint64_t)state;
            widths[b] = (uint8_t)width;
            memset(planes, 0, 8 * (size_t)width);
            for (size_t i = 0; i < PACKED_BLOCK; i++) {
                const int32_t level = i < n ? block[i] : 0, m = level >> half;
                const uint64_t biased = (uint64_t)(m + bias);
                for (int j = 0; j < width; j++) planes[j] |= (biased >> j & 1) << i;
                cosets |= (uint64_t)(m & 1) << i;
                odd |= (uint64_t)(level & half) << i;
            }
            const uint64_t wrong = odd ^ packed_parities(states, cosets, &state);
            fits = !(n < PACKED_BLOCK ? wrong << (PACKED_BLOCK - n) : wrong);
            at += (size_t)width;
        }
        Py_END_ALLOW_THREADS
        if (packed_sized(fits))
            result = Py_BuildValue("y#y#y#", (char *)heads, (Py_ssize_t)(8 * groups), (char *)widths, (Py_ssize_t)blocks,
                                   (char *)words, (Py_ssize_t)(8 * at));
    } else {
        PyErr_NoMemory();
    }
    free(levels);
    free(widths);
    free(heads);
    free(words);
    return result;
}

/* The numbers of a block's levels, from their planes: number i has bit i of each. */
static inline void packed_numbers(const uint64_t *spread, const uint64_t *planes, int count, uint8_t *numbers) {
    for (int byte = 0; byte < 8; byte++) {
        uint64_t found = 0;
        for (int j = 0; j < count; j++) found |= spread[(uint8_t)(planes[j] >> 8 * byte)] << j;
        for (int i = 0; i < 8; i++) numbers[8 * byte + i] = (uint8_t)(found >> 8 * i);
    }
}

#define PACKED_LOOK_UP(type)                                                                     \
    do {                                                                                         \
        const type *from = (const type *)(const void *)values + shift;                           \
        type found[PACKED_BLOCK];                                                                \
        if (planes > 8)                                                                          \
            for (int i = 0; i < PACKED_BLOCK; i++) found[i] = from[low[i] | high[i] << 8];       \
        else                                                                                     \
            for (int i = 0; i < PACKED_BLOCK; i++) found[i] = from[low[i]];                      \
        memcpy(out + (begin - first) * sizeof *from, found + begin % PACKED_BLOCK, (end - begin) * sizeof *from); \
    } while (0)

static PyObject *unpack_py(PyObject *module, PyObject *args) {
    const char *heads, *widths, *data, *values;
    Py_ssize_t heads_size, blocks, words_size, values_size, wanted_first, wanted;
    int states, size, fits = 1;
    kolmo_trellis t;
    (void)module;
    if (!PyArg_ParseTuple(args, "iy#y#y#y#inn:trellis_unpack", &states, &heads, &heads_size, &widths, &blocks, &data, &words_size, &values, &values_size,
                          &size, &wanted_first, &wanted) ||
        !packed_sized(kolmo_trellis_code(&t, states) && (size == 1 || size == 2 || size == 4 || size == 8) && values_size % (4 * size) == 0 &&
                      values_size >= 4 * size && heads_size == (blocks + PACKED_GROUP - 1) / PACKED_GROUP * 8 && words_size % 8 == 0 && wanted_first >= 0 &&
                      wanted >= 0 && wanted_first <= blocks * PACKED_BLOCK && wanted <= blocks * PACKED_BLOCK - wanted_first))
        return NULL;
    PyObject *room = PyByteArray_FromStringAndSize(NULL, wanted * size);
    if (!room) return NULL;
    uint8_t *out = (uint8_t *)PyByteArray_AsString(room); /* no other reference to it exists yet */
    const size_t first = (size_t)wanted_first, last = first + (size_t)wanted;
    const int half = t.half, most = (int)(values_size / size < 1 << PACKED_MAX_PLANES ? values_size / size / 2 : 1 << (PACKED_MAX_PLANES - 1));
    Py_BEGIN_ALLOW_THREADS
    uint64_t spread[256], group[1 + PACKED_MAX_PLANES];
    size_t at = 0;
    int state = 0;
    for (int i = 0; i < 256; i++) {
        spread[i] = 0;
        for (int j = 0; j < 8; j++) spread[i] |= (uint64_t)(i >> j & 1) << 8 * j;
    }
    for (size_t b = first / (PACKED_BLOCK * PACKED_GROUP) * PACKED_GROUP; b * PACKED_BLOCK < last; b++) {
        if (b % PACKED_GROUP == 0) {
            uint64_t head;
            memcpy(&head, heads + b / PACKED_GROUP * 8, 8);
            at = (size_t)(head >> 8);
            state = (int)(head & 255);
        }
        const int width = (uint8_t)widths[b], bias = width ? 1 << (width + half - 1 < 31 ? width + half - 1 : 30) : 0;
        fits = bias <= most && at <= (size_t)words_size / 8 && (size_t)width <= (size_t)words_size / 8 - at && state < states;
        if (!fits) break;
        memcpy(group + half, data + 8 * at, 8 * (size_t)width);
        if (half) group[0] = packed_parities(states, width ? group[1] : 0, &state);
        at += (size_t)width;
        const size_t end_of_block = (b + 1) * PACKED_BLOCK, begin = b * PACKED_BLOCK > first ? b * PACKED_BLOCK : first;
        const size_t end = end_of_block < last ? end_of_block : last;
        if (begin >= end) continue; /* only its state matters */
        const int planes = width + half, shift = (int)(values_size / size / 2) - bias;
        uint8_t low[PACKED_BLOCK], high[PACKED_BLOCK] = {0};
        packed_numbers(spread, group, planes < 8 ? planes : 8, low);
        if (planes > 8) packed_numbers(spread, group + 8, planes - 8, high);
        if (size == 1) PACKED_LOOK_UP(uint8_t);
        if (size == 2) PACKED_LOOK_UP(uint16_t);
        if (size == 4) PACKED_LOOK_UP(uint32_t);
        if (size == 8) PACKED_LOOK_UP(uint64_t);
    }
    Py_END_ALLOW_THREADS
    if (packed_sized(fits)) return room;
    Py_DECREF(room);
    return NULL;
}

PyMethodDef trellis_packing_functions[] = {
    {"trellis_pack", pack_py, METH_VARARGS, "trellis_pack(states, levels): heads, widths, words."},
    {"trellis_unpack", unpack_py, METH_VARARGS, "trellis_unpack(states, heads, widths, words, values, size, first, count): weights."},
    {NULL, NULL, 0, NULL},
};
