/* The functions of quants.h for Python: see quants/reference.py. */
#include "module.h"
#include "objects.h"
#include "quants/quants.h"

#if defined(__GNUC__) || defined(__clang__)
#define QUANTS_INLINE static inline __attribute__((always_inline)) /* compiled once for each direction */
#else
#define QUANTS_INLINE static inline
#endif

/* A decision of the symbol whose bits so far are `node`, in the given cells. */
QUANTS_INLINE int quants_decide(kolmo_quants *q, uint32_t *const *at, uint32_t node, int bit, kolmo_encoder *encoder, kolmo_decoder *decoder) {
    uint32_t *cells[QUANTS_CONTEXTS];
    int32_t x[QUANTS_CONTEXTS], *weights = q->weights[node];
    int64_t sum = 0;
    for (int k = 0; k < QUANTS_CONTEXTS; k++) {
        cells[k] = at[k] + node;
        x[k] = q->stretch[*cells[k] >> 20];
        sum += (int64_t)weights[k] * x[k];
    }
    sum >>= 16;
    sum = sum < -3071 ? -3071 : sum > 3071 ? 3071 : sum;
    const uint32_t p = q->squash[sum + 3072];
    if (decoder)
        bit = kolmo_decode(decoder, p);
    else
        kolmo_encode(encoder, bit, p);
    const int32_t error = (bit << 16) - (int32_t)p;
    for (int k = 0; k < QUANTS_CONTEXTS; k++) {
        const int32_t weight = weights[k] + (int32_t)(((int64_t)x[k] * error) >> QUANTS_RATE);
        weights[k] = weight < -QUANTS_MAX_WEIGHT ? -QUANTS_MAX_WEIGHT : weight > QUANTS_MAX_WEIGHT ? QUANTS_MAX_WEIGHT : weight;
        const uint32_t count = *cells[k] & 1023;
        const int64_t chance = *cells[k] >> 10, target = bit ? (1 << 22) - 1 : 0;
        const int64_t moved = chance + (((target - chance) * q->rates[count]) >> 16);
        *cells[k] = (uint32_t)moved << 10 | (count < QUANTS_LIMIT ? count + 1 : count);
    }
    return bit;
}

/* All symbols, encoded or decoded. Returns 0 if memory is short, -1 if a symbol is too large. */
QUANTS_INLINE int quants_walk(kolmo_quants *q, uint8_t *symbols, size_t n, kolmo_encoder *encoder, kolmo_decoder *decoder) {
    const size_t wide = q->period < n ? q->period : n;
    const int is_weights = q->steps != NULL;
    const uint32_t top = ((uint32_t)1 << q->bits) - 1, low = q->bits == 8;
    int64_t *columns = is_weights ? calloc(wide + 1, sizeof *columns) : NULL;
    if (is_weights && !columns) return 0;
    int64_t row = 0, step = 0, offset = 0;
    uint32_t seen = 0, centre = 0;
    int step_log = 0, good = 1;
    for (size_t i = 0, column = 0, line = 0, left = 0, group = 0; i < n; i++) {
        if (!left) {
            left = q->group;
            seen = 0;
            if (is_weights) {
                step = q->steps[group];
                offset = q->offsets[group++];
                step_log = kolmo_quants_log((uint64_t)(step < 0 ? -step : step));
                centre = q->centres > 1 ? kolmo_quants_centre(step, offset, q->bits) : 0;
            }
        }
        int place = kolmo_quants_length(left--);
        uint32_t c[QUANTS_CONTEXTS], *at[QUANTS_CONTEXTS];
        const uint32_t marks = (uint32_t)(place < 15 ? place : 15) << 2 | seen;
        if (is_weights) {
            const uint32_t by_row = kolmo_quants_spread((uint64_t)row, step_log);
            const uint32_t by_column = line ? kolmo_quants_spread((uint64_t)columns[column], step_log) : by_row;
            c[0] = centre * QUANTS_SPREADS + by_column;
            c[1] = centre * QUANTS_SEEN + marks;
            c[2] = by_column * QUANTS_SPREADS + by_row;
            c[3] = by_column * QUANTS_SEEN + marks;
        } else {
            c[0] = q->sides[i];
            c[1] = line ? symbols[i - q->period] : 0;
            c[2] = i ? symbols[i - 1] : 0;
            c[3] = marks;
        }
        for (int k = 0; k < QUANTS_CONTEXTS; k++) at[k] = q->cells[k] + ((size_t)c[k] << q->bits);
        uint32_t node = 1;
        const uint32_t symbol = encoder ? symbols[i] : 0;
        if (symbol > top) {
            good = -1;
            break;
        }
        for (int k = q->bits - 1; k >= 0; k--) node = node << 1 | (uint32_t)quants_decide(q, at, node, symbol >> k & 1, encoder, decoder);
        node -= top + 1;
        symbols[i] = (uint8_t)node;
        seen |= (uint32_t)(node <= low) | (uint32_t)(node == top) << 1;
        if (is_weights) {
            int64_t weight = q->values[node] * step - offset;
            weight = weight < 0 ? -weight : weight;
            row += (weight - row) >> 4;
            columns[column] += line ? (weight - columns[column]) >> (line < 4 ? 2 : line < 16 ? 3 : 4) : weight;
        }
        if (++column == q->period) {
            column = 0;
            line++;
        }
    }
    free(columns);
    return good;
}

/* Reads the settings and checks them; sets the error. The cells are allocated. */
static int quants_init(kolmo_quants *q, int bits, Py_ssize_t period, Py_ssize_t group, size_t n, const char *sides, Py_ssize_t side_count,
                       const char *steps, Py_ssize_t step_size, const char *offsets, Py_ssize_t offset_size, const char *values,
                       Py_ssize_t value_size, PyObject *tables) {
    const int is_weights = step_size > 0;
    memset(q, 0, sizeof *q);
    int fits = bits >= 1 && bits <= 8 && period >= 1 && group >= 1 && n <= QUANTS_MAX_SYMBOLS;
    if (fits && is_weights)
        fits = !side_count && step_size == offset_size && step_size % 8 == 0 && (size_t)step_size / 8 == (n + (size_t)group - 1) / (size_t)group &&
               value_size == 2 << bits;
    else if (fits)
        fits = (size_t)side_count == n && !offset_size && !value_size;
    if (!fits) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return 0;
    }
    q->bits = bits;
    q->period = (size_t)period;
    q->group = (size_t)group;
    q->centres = bits <= 5 ? QUANTS_CENTRES : 1;
    q->sides = is_weights ? NULL : (const uint8_t *)sides;
    int64_t *scales = NULL;
    int16_t *levels = NULL;
    int16_t *stretch = malloc(QUANTS_STRETCH * sizeof *stretch);
    uint16_t *squash = malloc(QUANTS_SQUASH * sizeof *squash);
    q->stretch = stretch;
    q->squash = squash;
    if (is_weights) { /* copies, which are aligned */
        scales = malloc(2 * (size_t)step_size);
        levels = malloc((size_t)value_size);
        q->steps = scales;
        q->offsets = scales ? scales + step_size / 8 : NULL;
        q->values = levels;
    }
    if (!stretch || !squash || (is_weights && (!scales || !levels))) {
        PyErr_NoMemory();
        return 0;
    }
    if (!kolmo_constant(tables, "stretch", stretch, QUANTS_STRETCH * sizeof *stretch) ||
        !kolmo_constant(tables, "squash", squash, QUANTS_SQUASH * sizeof *squash))
        return 0;
    if (is_weights) {
        memcpy(scales, steps, (size_t)step_size);
        memcpy(scales + step_size / 8, offsets, (size_t)step_size);
        memcpy(levels, values, (size_t)value_size);
        for (Py_ssize_t i = 0; i < step_size / 4; i++) fits &= scales[i] < QUANTS_MAX_SCALE && scales[i] > -QUANTS_MAX_SCALE;
        for (int i = 0; i < 1 << bits; i++) fits &= levels[i] <= 256 && levels[i] >= -256;
        if (!fits) {
            PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
            return 0;
        }
    }
    const uint32_t centres = (uint32_t)q->centres;
    const uint32_t of_weights[] = {centres * QUANTS_SPREADS, centres * QUANTS_SEEN, QUANTS_SPREADS * QUANTS_SPREADS, QUANTS_SPREADS * QUANTS_SEEN};
    const uint32_t of_others[] = {256, (uint32_t)1 << bits, (uint32_t)1 << bits, QUANTS_SEEN};
    for (int k = 0; k < QUANTS_CONTEXTS; k++) {
        const size_t count = (size_t)(is_weights ? of_weights : of_others)[k] << bits;
        if (!(q->cells[k] = malloc(count * sizeof **q->cells))) {
            PyErr_NoMemory();
            return 0;
        }
        for (size_t i = 0; i < count; i++) q->cells[k][i] = (uint32_t)1 << 31;
    }
    for (int i = 0; i < 256; i++)
        for (int k = 0; k < QUANTS_CONTEXTS; k++) q->weights[i][k] = QUANTS_WEIGHT;
    for (uint32_t i = 0; i <= QUANTS_LIMIT; i++) q->rates[i] = 131072 / (2 * i + 3);
    return 1;
}

static void quants_free(kolmo_quants *q) {
    for (int k = 0; k < QUANTS_CONTEXTS; k++) free(q->cells[k]);
    free((void *)q->stretch);
    free((void *)q->squash);
    free((void *)q->steps);
    free((void *)q->values);
    free(q);
}

static PyObject *encode_py(PyObject *module, PyObject *args) {
    const char *sides, *steps, *offsets, *values, *symbols;
    Py_ssize_t period, group, side_count, step_size, offset_size, value_size, n;
    int bits, good = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "inny#y#y#y#y#:quants_encode", &bits, &period, &group, &sides, &side_count, &steps, &step_size, &offsets,
                          &offset_size, &values, &value_size, &symbols, &n))
        return NULL;
    PyObject *result = NULL, *tables = PyImport_ImportModule("kolmo.native.tables");
    kolmo_quants *q = malloc(sizeof *q);
    uint8_t *copy = malloc((size_t)n + 1);
    if (!q || !copy) {
        if (tables) PyErr_NoMemory();
    } else if (memset(q, 0, sizeof *q), tables && quants_init(q, bits, period, group, (size_t)n, sides, side_count, steps, step_size, offsets,
                                                             offset_size, values, value_size, tables)) {
        kolmo_encoder coder;
        kolmo_encoder_init(&coder);
        Py_BEGIN_ALLOW_THREADS
        memcpy(copy, symbols, (size_t)n);
        good = quants_walk(q, copy, (size_t)n, &coder, NULL);
        if (good == 1) kolmo_encoder_finish(&coder);
        Py_END_ALLOW_THREADS
        if (good < 0)
            PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        else if (!good || coder.failed)
            PyErr_NoMemory();
        else
            result = PyBytes_FromStringAndSize(coder.out ? (char *)coder.out : "", (Py_ssize_t)coder.size);
        free(coder.out);
    }
    Py_XDECREF(tables);
    if (q) quants_free(q);
    free(copy);
    return result;
}

static PyObject *decode_py(PyObject *module, PyObject *args) {
    const char *sides, *steps, *offsets, *values, *code;
    Py_ssize_t period, group, side_count, step_size, offset_size, value_size, size, n;
    int bits, good = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "inny#y#y#y#y#n:quants_decode", &bits, &period, &group, &sides, &side_count, &steps, &step_size, &offsets,
                          &offset_size, &values, &value_size, &code, &size, &n))
        return NULL;
    if (n < 0 || n > QUANTS_MAX_SYMBOLS) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, n), *tables = PyImport_ImportModule("kolmo.native.tables");
    kolmo_quants *q = malloc(sizeof *q);
    if (!q) {
        PyErr_NoMemory();
    } else if (memset(q, 0, sizeof *q), result && tables && quants_init(q, bits, period, group, (size_t)n, sides, side_count, steps, step_size,
                                                                      offsets, offset_size, values, value_size, tables)) {
        kolmo_decoder coder;
        uint8_t *symbols = (uint8_t *)PyBytes_AsString(result);
        Py_BEGIN_ALLOW_THREADS
        kolmo_decoder_init(&coder, (const uint8_t *)code, (size_t)size);
        good = quants_walk(q, symbols, (size_t)n, NULL, &coder);
        Py_END_ALLOW_THREADS
        if (good == 1 && (coder.next != coder.end || kolmo_decoder_failed(&coder))) {
            PyErr_SetString(CorruptError, "the coded field is not of this length");
            good = -1;
        } else if (!good) {
            PyErr_NoMemory();
        }
    }
    Py_XDECREF(tables);
    if (q) quants_free(q);
    if (good == 1) return result;
    Py_XDECREF(result);
    return NULL;
}

PyMethodDef quants_functions[] = {
    {"quants_encode", encode_py, METH_VARARGS, "quants_encode(bits, period, group, sides, steps, offsets, values, symbols): code."},
    {"quants_decode", decode_py, METH_VARARGS, "quants_decode(bits, period, group, sides, steps, offsets, values, code, count): symbols."},
    {NULL, NULL, 0, NULL},
};
