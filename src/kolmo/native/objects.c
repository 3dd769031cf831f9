/* See objects.h. */
#include "objects.h"

PyTypeObject *EncoderType, *DecoderType, *NetworkType, *NetworkLanesType, *TokenTreeType;
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
