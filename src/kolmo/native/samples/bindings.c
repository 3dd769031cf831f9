/* The type SampleNetwork, and functions of mixtures: see sample_network.h, samples/network.py and samples/mixture.py. */
#include "module.h"
#include "objects.h"
#include "samples/sample_network.h"

#include <stdlib.h>
#include <string.h>

static const kolmo_sample_tables *sample_tables(void) {
    static kolmo_sample_tables tables;
    static int ready;
    if (ready) return &tables; /* the interpreter's lock is held */
    PyObject *module = PyImport_ImportModule("kolmo.native.tables");
    ready = module && kolmo_constant(module, "sigmoid", tables.sigmoid, sizeof tables.sigmoid) &&
            kolmo_constant(module, "exp2_weights", tables.exp2, sizeof tables.exp2) &&
            kolmo_constant(module, "logarithms", tables.log, sizeof tables.log);
    Py_XDECREF(module);
    return ready ? &tables : NULL;
}

static PyObject *sample_network_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *weights;
    Py_ssize_t config_size, size;
    int32_t numbers[2];
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#:SampleNetwork", &config, &config_size, &weights, &size)) return NULL;
    const size_t count = config_size == sizeof numbers ? 2 : 0;
    memcpy(numbers, config, 4 * count);
    const char *problem = kolmo_sample_network_problem(numbers, count, (const uint8_t *)weights, (size_t)size);
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    const kolmo_sample_tables *tables = sample_tables();
    SampleNetwork *self = tables ? (SampleNetwork *)kolmo_instance(type) : NULL;
    if (!self) return NULL;
    self->network = kolmo_sample_network_new(numbers, count, (const uint8_t *)weights, (size_t)size, tables);
    if (!self->network) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void sample_network_free(PyObject *object) {
    kolmo_sample_network_free(((SampleNetwork *)object)->network);
    kolmo_release(object);
}

/* Samples after `before` zeros, or NULL and an error. */
static int32_t *samples_after(const char *bytes, Py_ssize_t size, int bits, size_t before) {
    int32_t *padded = (int32_t *)calloc(before + (size_t)size / 4 + 1, 4);
    if (!padded) {
        PyErr_NoMemory();
        return NULL;
    }
    if (size) memcpy(padded + before, bytes, (size_t)size);
    const int32_t edge = (int32_t)1 << (bits - 1);
    int wrong = size % 4 != 0;
    for (Py_ssize_t i = 0; i < size / 4; i++) wrong |= padded[before + (size_t)i] < -edge || padded[before + (size_t)i] >= edge;
    if (!wrong) return padded;
    free(padded);
    PyErr_Format(PyExc_ValueError, "samples that have more than %d bits", bits);
    return NULL;
}

static int bits_allowed(int bits) {
    if (bits >= 1 && bits <= SAMPLE_MAX_BITS) return 1;
    PyErr_Format(PyExc_ValueError, "samples have 1 to %d bits, not %d", SAMPLE_MAX_BITS, bits);
    return 0;
}

static PyObject *sample_network_predict(PyObject *object, PyObject *args) {
    const kolmo_sample_network *n = ((SampleNetwork *)object)->network;
    const char *own, *beside;
    Py_ssize_t size, beside_size;
    int bits;
    if (!PyArg_ParseTuple(args, "y#z#i:predict", &own, &size, &beside, &beside_size, &bits) || !bits_allowed(bits)) return NULL;
    if (beside && beside_size != size) {
        PyErr_SetString(PyExc_ValueError, "both channels have equally many samples");
        return NULL;
    }
    if (size > PY_SSIZE_T_MAX / 32) return PyErr_NoMemory();
    const size_t count = (size_t)size / 4;
    int32_t *x = samples_after(own, size, bits, SAMPLE_PAST);
    int32_t *y = x && beside ? samples_after(beside, size, bits, SAMPLE_OTHER) : NULL;
    PyObject *result = NULL, *location = NULL, *scale = NULL, *weight = NULL;
    if (x && (y || !beside)) {
        location = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 8 * SAMPLE_COMPONENTS));
        scale = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 4 * SAMPLE_COMPONENTS));
        weight = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 4 * SAMPLE_COMPONENTS));
    }
    if (location && scale && weight) {
        char *locations = PyBytes_AsString(location), *scales = PyBytes_AsString(scale), *weights = PyBytes_AsString(weight);
        Py_BEGIN_ALLOW_THREADS
        for (size_t i = 0; i < count; i++) {
            kolmo_sample_mixture m;
            kolmo_sample_network_predict(n, x + SAMPLE_PAST + i, y ? y + SAMPLE_OTHER + i : NULL, bits, &m);
            memcpy(locations + i * sizeof m.location, m.location, sizeof m.location);
            memcpy(scales + i * sizeof m.scale, m.scale, sizeof m.scale);
            memcpy(weights + i * sizeof m.weight, m.weight, sizeof m.weight);
        }
        Py_END_ALLOW_THREADS
        result = PyTuple_Pack(3, location, scale, weight);
    }
    Py_XDECREF(location);
    Py_XDECREF(scale);
    Py_XDECREF(weight);
    free(x);
    free(y);
    return result;
}

/* A mixture's components from arrays; 0 where they are out of range. */
static int read_mixture(kolmo_sample_mixture *m, const char *location, const char *scale, const char *weight, size_t i) {
    memcpy(m->location, location + i * sizeof m->location, sizeof m->location);
    memcpy(m->scale, scale + i * sizeof m->scale, sizeof m->scale);
    memcpy(m->weight, weight + i * sizeof m->weight, sizeof m->weight);
    const int64_t far = (int64_t)1 << 33;
    uint32_t most = 0;
    for (int k = 0; k < SAMPLE_COMPONENTS; k++) {
        if (m->location[k] < -far || m->location[k] > far) return 0;
        if (m->scale[k] < SAMPLE_MIN_SCALE || m->scale[k] > SAMPLE_MAX_SCALE) return 0;
        most = m->weight[k] > most ? m->weight[k] : most;
    }
    kolmo_sample_mixture_finish(m);
    return most == 1u << 22;
}

static PyObject *sample_masses(PyObject *module, PyObject *args) {
    const char *location, *scale, *weight, *samples;
    Py_ssize_t locations, scales, weights, size;
    int bits;
    (void)module;
    if (!PyArg_ParseTuple(args, "iy#y#y#y#:sample_masses", &bits, &location, &locations, &scale, &scales, &weight, &weights,
                          &samples, &size))
        return NULL;
    const Py_ssize_t count = size / 4;
    if (size % 4 || locations / 64 != count || locations % 64 || scales != locations / 2 || weights != scales) {
        PyErr_SetString(PyExc_ValueError, "the arrays of mixtures do not belong together");
        return NULL;
    }
    const kolmo_sample_tables *tables = sample_tables();
    PyObject *own = tables ? PyBytes_FromStringAndSize(NULL, 8 * count) : NULL;
    PyObject *whole = own ? PyBytes_FromStringAndSize(NULL, 8 * count) : NULL, *result = NULL;
    if (whole) {
        char *to_own = PyBytes_AsString(own), *to_whole = PyBytes_AsString(whole);
        int right = bits >= 1 && bits <= SAMPLE_MAX_BITS;
        Py_BEGIN_ALLOW_THREADS
        kolmo_sample_mixture m = {.tables = tables, .bits = right ? bits : 1, .count = SAMPLE_COMPONENTS};
        const int32_t edge = (int32_t)1 << (m.bits - 1);
        for (size_t i = 0; right && i < (size_t)count; i++) {
            int32_t value;
            memcpy(&value, samples + 4 * i, 4);
            right = value >= -edge && value < edge && read_mixture(&m, location, scale, weight, i);
            if (!right) break;
            const uint64_t mass = kolmo_sample_mixture_below(&m, value + 1) - kolmo_sample_mixture_below(&m, value);
            const uint64_t total = kolmo_sample_mixture_below(&m, edge);
            memcpy(to_own + 8 * i, &mass, 8);
            memcpy(to_whole + 8 * i, &total, 8);
        }
        Py_END_ALLOW_THREADS
        if (right) result = PyTuple_Pack(2, own, whole);
        else PyErr_SetString(PyExc_ValueError, "a value that mixtures do not have");
    }
    Py_XDECREF(own);
    Py_XDECREF(whole);
    return result;
}

static PyObject *sample_split(PyObject *module, PyObject *args) {
    unsigned long long low, middle, high;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKK:sample_split", &low, &middle, &high)) return NULL;
    if (low >= middle || middle >= high) {
        PyErr_SetString(PyExc_ValueError, "weights below increasing values increase");
        return NULL;
    }
    const kolmo_sample_tables *tables = sample_tables();
    return tables ? PyLong_FromLong(kolmo_sample_split(tables, low, middle, high)) : NULL;
}

static PyObject *sample_log2(PyObject *module, PyObject *args) {
    unsigned long long value;
    (void)module;
    if (!PyArg_ParseTuple(args, "K:sample_log2", &value)) return NULL;
    const kolmo_sample_tables *tables = sample_tables();
    return tables ? PyLong_FromLong(kolmo_sample_log2(tables, value)) : NULL;
}

PyMethodDef sample_functions[] = {
    {"sample_masses", sample_masses, METH_VARARGS, "sample_masses(bits, location, scale, weight, samples): see samples/mixture.py."},
    {"sample_split", sample_split, METH_VARARGS, "sample_split(low, middle, high): see samples/mixture.py."},
    {"sample_log2", sample_log2, METH_VARARGS, "sample_log2(value): see samples/mixture.py."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef sample_network_methods[] = {
    {"predict", sample_network_predict, METH_VARARGS, "predict(samples, other, bits): locations, scales and weights of mixtures."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sample_network_slots[] = {
    {Py_tp_new, (void *)sample_network_new},
    {Py_tp_dealloc, (void *)sample_network_free},
    {Py_tp_methods, sample_network_methods},
    {Py_tp_doc, (void *)"SampleNetwork(config, weights): weights of a network that predicts samples of sound."},
    {0, NULL},
};
PyType_Spec sample_network_spec = {"kolmo.native._kernels.SampleNetwork", sizeof(SampleNetwork), 0, Py_TPFLAGS_DEFAULT,
                                   sample_network_slots};
