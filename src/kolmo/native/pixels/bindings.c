/* The type PixelNetwork: see pixel_network.h and pixels/network.py. */
#include "module.h"
#include "objects.h"

static PyObject *pixels_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *weights;
    Py_ssize_t config_size, size;
    int32_t numbers[2];
    kolmo_network_tables constants;
    int8_t squeezed[511];
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#:PixelNetwork", &config, &config_size, &weights, &size)) return NULL;
    const size_t count = config_size == sizeof numbers ? 2 : 0;
    memcpy(numbers, config, 4 * count);
    const char *problem = kolmo_pixel_network_problem(numbers, count, (const uint8_t *)weights, (size_t)size);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    PyObject *tables = PyImport_ImportModule("kolmo.native.tables");
    const int done = tables && kolmo_constant(tables, "squeezed", squeezed, sizeof squeezed);
    Py_XDECREF(tables);
    if (!done || !kolmo_network_constants(&constants)) return NULL;
    PixelNetwork *self = (PixelNetwork *)kolmo_instance(type);
    if (!self) return NULL;
    self->network = kolmo_pixel_network_new(numbers, count, (const uint8_t *)weights, (size_t)size, &constants, squeezed);
    if (!self->network) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void pixels_free(PyObject *object) {
    kolmo_pixel_network_free(((PixelNetwork *)object)->network);
    kolmo_release(object);
}

/* The picture that arguments describe; 0 where there is none, with the error set. */
static int pixels_picture(kolmo_picture *p, const char *data, Py_ssize_t stride, Py_ssize_t channels, PyObject *order) {
    if (channels < 1 || channels > 4 || stride < channels || stride > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%zd channels in rows of %zd bytes are not a picture", channels, stride);
        return 0;
    }
    memset(p, 0, sizeof *p);
    p->bytes = (const uint8_t *)data, p->stride = (uint32_t)stride, p->channels = (uint32_t)channels;
    const Py_ssize_t length = PySequence_Size(order);
    if (length < 0) return 0;
    unsigned seen = 0;
    for (Py_ssize_t t = 0; t < channels && length == channels; t++) {
        PyObject *item = PySequence_GetItem(order, t);
        const Py_ssize_t offset = item ? PyNumber_AsSsize_t(item, PyExc_ValueError) : -1;
        Py_XDECREF(item);
        if (offset == -1 && PyErr_Occurred()) return 0;
        if (offset < 0 || offset >= channels) break;
        p->order[t] = (uint32_t)offset;
        seen |= 1u << offset;
    }
    if (seen != (1u << channels) - 1) PyErr_Format(PyExc_ValueError, "not an order of %zd channels", channels);
    return seen == (1u << channels) - 1;
}

static PyObject *pixels_predict(PyObject *object, PyObject *args) {
    const char *data;
    Py_ssize_t size, stride, channels, row, column, turn;
    PyObject *order;
    kolmo_picture picture;
    if (!PyArg_ParseTuple(args, "y#nnOnnn:predict", &data, &size, &stride, &channels, &order, &row, &column, &turn)) return NULL;
    if (!pixels_picture(&picture, data, stride, channels, order)) return NULL;
    if (row < 0 || column < 0 || column >= stride / channels || turn < 0 || turn >= channels || row >= size / stride + 1 ||
        row * stride + column * channels + channels > size) {
        PyErr_SetString(PyExc_ValueError, "the picture has no such byte");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, 4 * NETWORK_SUMS);
    if (!result) return NULL;
    kolmo_pixel_network_predict(((PixelNetwork *)object)->network, &picture, (uint32_t)row, (uint32_t)column, (uint32_t)turn,
                                (uint32_t *)(void *)PyBytes_AsString(result));
    return result;
}

/* Weight and sum of weights of each byte of whole pixels; 1 of 256 for any other. */
static void pixels_run(const kolmo_pixel_network *n, const kolmo_picture *p, size_t size, uint32_t *found) {
    uint32_t sums[NETWORK_SUMS];
    const uint32_t columns = p->stride / p->channels;
    for (size_t i = 0; i < size; i++) found[2 * i] = 1, found[2 * i + 1] = 256;
    for (size_t row = 0, line = 0; line < size; row++, line += p->stride)
        for (uint32_t column = 0; column < columns; column++) {
            const size_t at = line + (size_t)column * p->channels;
            if (at + p->channels > size) return;
            for (uint32_t turn = 0; turn < p->channels; turn++) {
                const size_t byte = at + p->order[turn];
                kolmo_pixel_network_predict(n, p, (uint32_t)row, column, turn, sums);
                found[2 * byte] = sums[256 + p->bytes[byte]], found[2 * byte + 1] = sums[1];
            }
        }
}

static PyObject *pixels_score(PyObject *object, PyObject *args) {
    const char *data;
    Py_ssize_t size, stride, channels;
    PyObject *order;
    kolmo_picture picture;
    if (!PyArg_ParseTuple(args, "y#nnO:score", &data, &size, &stride, &channels, &order)) return NULL;
    if (!pixels_picture(&picture, data, stride, channels, order)) return NULL;
    if (size > PY_SSIZE_T_MAX / 8 || size > UINT32_MAX) return PyErr_NoMemory();
    PyObject *result = PyBytes_FromStringAndSize(NULL, 8 * size);
    if (!result) return NULL;
    uint32_t *found = (uint32_t *)(void *)PyBytes_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    pixels_run(((PixelNetwork *)object)->network, &picture, (size_t)size, found);
    Py_END_ALLOW_THREADS
    return result;
}

static PyMethodDef pixels_methods[] = {
    {"predict", pixels_predict, METH_VARARGS, "predict(data, stride, channels, order, row, column, turn): sums of a byte."},
    {"score", pixels_score, METH_VARARGS, "score(data, stride, channels, order): weight and sum of each byte."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pixels_slots[] = {
    {Py_tp_new, (void *)pixels_new},
    {Py_tp_dealloc, (void *)pixels_free},
    {Py_tp_methods, pixels_methods},
    {Py_tp_doc, (void *)"PixelNetwork(config, weights): weights of a network that predicts pixels."},
    {0, NULL},
};
PyType_Spec pixel_network_spec = {"kolmo.native._kernels.PixelNetwork", sizeof(PixelNetwork), 0, Py_TPFLAGS_DEFAULT,
                                  pixels_slots};
