/* The functions of product.h for Python: see reference.py. */
#include <string.h>

#include "module.h"
#include "bitshift_product/product.h"

const kolmo_bitshift_path *kolmo_bitshift_in_use = &kolmo_bitshift_baseline;

static int bitshift_sized(int good) {
    if (!good) PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    return good;
}

static uint32_t bitshift_number(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Take a payload of a matrix of this shape apart; 0, with the error set, if it is not one. */
static int bitshift_apart(kolmo_bitshift *m, const char *data, Py_ssize_t size, Py_ssize_t rows, Py_ssize_t columns) {
    const uint8_t *bytes = (const uint8_t *)data;
    if (!bitshift_sized(size >= BITSHIFT_HEADER && rows >= 0 && columns >= 0 && columns <= BITSHIFT_COLUMNS)) return 0;
    const int log_states = bytes[0], bits = bytes[1];
    const size_t left = (size_t)size - BITSHIFT_HEADER;
    if (!bitshift_sized((log_states == 12 || log_states == 16) && bits >= 2 && bits <= 4 && bytes[2] <= 1 && !bytes[3])) return 0;
    m->log_states = log_states;
    m->bits = bits;
    m->rotated = bytes[2];
    m->seed = bitshift_number(bytes + 4);
    const uint32_t scale = bitshift_number(bytes + 8);
    memcpy(&m->scale, &scale, 4);
    m->rows = (size_t)rows;
    m->columns = (size_t)columns;
    m->row_words = (m->columns + BITSHIFT_PERIOD - 1) / BITSHIFT_PERIOD * (size_t)bits;
    const size_t row_bytes = 4 * m->row_words + 1; /* with the exponent */
    if (!bitshift_sized(left / row_bytes == m->rows && left % row_bytes == 0)) return 0;
    m->words = bytes + BITSHIFT_HEADER;
    m->exponents = m->words + 4 * m->rows * m->row_words;
    return 1;
}

/* Room for count rows of binary32; NULL, with the error set, where there is none. */
static PyObject *bitshift_room(size_t count, size_t columns) {
    if (columns && count > SIZE_MAX / 2 / 4 / columns) return PyErr_NoMemory();
    return PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)(4 * count * columns));
}

/* The result where work is done, else the error of memory that is short. */
static PyObject *bitshift_result(PyObject *room, int done) {
    if (done) return room;
    Py_DECREF(room);
    return PyErr_NoMemory();
}

static PyObject *product_py(PyObject *module, PyObject *args) {
    const char *payload, *x;
    Py_ssize_t size, rows, columns, x_size;
    int threads = 1, done;
    kolmo_bitshift m;
    (void)module;
    if (!PyArg_ParseTuple(args, "y#nny#|i:bitshift_product", &payload, &size, &rows, &columns, &x, &x_size, &threads) ||
        !bitshift_apart(&m, payload, size, rows, columns) ||
        !bitshift_sized(threads > 0 && (columns ? x_size % (4 * columns) == 0 : !x_size)))
        return NULL;
    const size_t count = columns ? (size_t)(x_size / (4 * columns)) : 0;
    PyObject *room = bitshift_room(count, m.rows);
    if (!room) return NULL;
    float *y = (float *)(void *)PyByteArray_AsString(room); /* no other reference to it exists yet */
    Py_BEGIN_ALLOW_THREADS
    done = !count || !rows || kolmo_bitshift_in_use->product(&m, (const float *)(const void *)x, count, y, threads);
    Py_END_ALLOW_THREADS
    return bitshift_result(room, done);
}

static PyObject *rows_py(PyObject *module, PyObject *args) {
    const char *payload, *places;
    Py_ssize_t size, rows, columns, places_size;
    int restore, threads = 1, done, fits = 1;
    kolmo_bitshift m;
    (void)module;
    if (!PyArg_ParseTuple(args, "y#nny#i|i:bitshift_rows", &payload, &size, &rows, &columns, &places, &places_size, &restore, &threads) ||
        !bitshift_apart(&m, payload, size, rows, columns) || !bitshift_sized(threads > 0 && places_size % 8 == 0))
        return NULL;
    const size_t count = (size_t)places_size / 8;
    const int64_t *from = (const int64_t *)(const void *)places;
    for (size_t i = 0; i < count; i++) fits &= from[i] >= 0 && (size_t)from[i] < m.rows;
    if (!bitshift_sized(fits)) return NULL;
    PyObject *room = bitshift_room(count, m.columns);
    if (!room) return NULL;
    float *out = (float *)(void *)PyByteArray_AsString(room);
    Py_BEGIN_ALLOW_THREADS
    done = !count || kolmo_bitshift_in_use->rows(&m, from, count, restore, out, threads);
    Py_END_ALLOW_THREADS
    return bitshift_result(room, done);
}

static PyObject *rotate_py(PyObject *module, PyObject *args) {
    const char *x;
    Py_ssize_t size, columns;
    unsigned long long seed;
    int back, threads = 1, done;
    (void)module;
    if (!PyArg_ParseTuple(args, "y#nKi|i:bitshift_rotate", &x, &size, &columns, &seed, &back, &threads) ||
        !bitshift_sized(columns > 0 && columns <= BITSHIFT_COLUMNS && seed <= UINT32_MAX && size % (4 * columns) == 0 && threads > 0))
        return NULL;
    PyObject *room = PyByteArray_FromStringAndSize(x, size);
    if (!room) return NULL;
    float *out = (float *)(void *)PyByteArray_AsString(room);
    Py_BEGIN_ALLOW_THREADS
    done = !size || kolmo_bitshift_in_use->rotate(out, (size_t)(size / (4 * columns)), (size_t)columns, (uint32_t)seed, back != 0, threads);
    Py_END_ALLOW_THREADS
    return bitshift_result(room, done);
}

PyMethodDef product_functions[] = {
    {"bitshift_product", product_py, METH_VARARGS, "bitshift_product(payload, rows, columns, x, threads=1): products."},
    {"bitshift_rows", rows_py, METH_VARARGS, "bitshift_rows(payload, rows, columns, places, restore, threads=1): rows."},
    {"bitshift_rotate", rotate_py, METH_VARARGS, "bitshift_rotate(x, columns, seed, back, threads=1): rows, rotated."},
    {NULL, NULL, 0, NULL},
};
