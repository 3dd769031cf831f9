/* See objects.h. */
#include "objects.h"

PyTypeObject *EncoderType, *DecoderType, *NetworkType, *NetworkLanesType, *PixelNetworkType, *SampleNetworkType, *TokenTreeType, *TokenEncoderType, *TokenMemoryType;
PyObject *CorruptError;

int kolmo_taken(int busy) {
    if (busy) PyErr_SetString(PyExc_RuntimeError, "this object is in use by another thread");
    return busy;
}

int kolmo_encoder_taken(const Encoder *encoder) {
    if (encoder->coder.finished) PyErr_SetString(PyExc_ValueError, "the encoder is finished");
    return encoder->coder.finished || kolmo_taken(encoder->busy);
}

int kolmo_exhausted(const kolmo_decoder *decoder) {
    int failed = kolmo_decoder_failed(decoder);
    if (failed) PyErr_SetString(CorruptError, "the coded data ends too early");
    return failed;
}

void *kolmo_instance(PyTypeObject *type) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

void kolmo_release(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

int kolmo_constant(PyObject *tables, const char *name, void *into, Py_ssize_t size) {
    PyObject *table = PyObject_CallMethod(tables, name, NULL);
    PyObject *bytes = table ? PyObject_CallMethod(table, "tobytes", NULL) : NULL;
    Py_XDECREF(table);
    char *data;
    Py_ssize_t length;
    int failed = !bytes || PyBytes_AsStringAndSize(bytes, &data, &length) < 0;
    if (!failed && length != size) {
        PyErr_Format(PyExc_ValueError, "%s does not fit the kernel", name);
        failed = 1;
    }
    if (!failed) memcpy(into, data, (size_t)size);
    Py_XDECREF(bytes);
    return !failed;
}

int kolmo_network_constants(kolmo_network_tables *c) {
    PyObject *tables = PyImport_ImportModule("kolmo.native.tables");
    int done = tables && kolmo_constant(tables, "exp2_weights", c->exp2, sizeof c->exp2) &&
               kolmo_constant(tables, "logarithms", c->log, sizeof c->log);
    Py_XDECREF(tables);
    return done;
}
