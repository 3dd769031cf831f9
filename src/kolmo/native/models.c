/* See models.h. */
#include "models.h"
#include "mixer/context_mixing.h"

PyObject *kolmo_model_object(PyTypeObject *type, const model_kind *kind, void *model, PyObject *prior, PyObject *network) {
    if (!model) return PyErr_NoMemory();
    Model *self = (Model *)kolmo_instance(type);
    if (!self) {
        kind->release(model);
        return NULL;
    }
    self->kind = kind;
    self->model = model;
    self->direction = -1;
    Py_INCREF(prior);
    self->prior = prior;
    Py_XINCREF(network);
    self->network = network;
    return (PyObject *)self;
}

void kolmo_model_free(PyObject *object) {
    Model *self = (Model *)object;
    self->kind->release(self->model);
    Py_DECREF(self->prior);
    Py_XDECREF(self->network);
    kolmo_release(object);
}

static int model_begin(Model *self, int direction, Py_ssize_t size) {
    if (kolmo_taken(self->busy)) return -1;
    const int samples = self->direction == CM_SCORE && direction == CM_DECODE; /* a prompt, then random bits */
    if (self->direction >= 0 && self->direction != direction && !samples) {
        PyErr_SetString(PyExc_ValueError, "a model codes in one direction only");
        return -1;
    }
    const char *refusal = self->kind->refusal(self->model, size);
    if (refusal) {
        PyErr_SetString(PyExc_ValueError, refusal);
        return -1;
    }
    self->direction = direction;
    return 0;
}

PyObject *kolmo_model_encode(PyObject *object, PyObject *args) {
    Model *self = (Model *)object;
    PyObject *coder;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!y#:encode", EncoderType, &coder, &data, &size)) return NULL;
    Encoder *encoder = (Encoder *)coder;
    if (model_begin(self, CM_ENCODE, size) < 0 || kolmo_encoder_taken(encoder)) return NULL;
    self->busy = encoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    self->kind->run(self->model, CM_ENCODE, (uint8_t *)data, (size_t)size, &encoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = encoder->busy = 0;
    if (encoder->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

PyObject *kolmo_model_decode(PyObject *object, PyObject *args) {
    Model *self = (Model *)object;
    PyObject *coder;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!n:decode", DecoderType, &coder, &size)) return NULL;
    Decoder *decoder = (Decoder *)coder;
    if (model_begin(self, CM_DECODE, size) < 0 || kolmo_taken(decoder->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (!result) return NULL;
    uint8_t *data = (uint8_t *)PyBytes_AsString(result);
    memset(data, 0, (size_t)size); /* a damaged payload ends the run early */
    self->busy = decoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    self->kind->run(self->model, CM_DECODE, data, (size_t)size, &decoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = decoder->busy = 0;
    if (kolmo_exhausted(&decoder->coder)) Py_CLEAR(result);
    return result;
}

PyObject *kolmo_model_costs(PyObject *object, PyObject *args) {
    Model *self = (Model *)object;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#:costs", &data, &size) || model_begin(self, CM_SCORE, size) < 0) return NULL;
    if (size > PY_SSIZE_T_MAX / 16) return PyErr_NoMemory();
    PyObject *result = PyBytes_FromStringAndSize(NULL, size * 16);
    if (!result) return NULL;
    uint16_t *costs = (uint16_t *)(void *)PyBytes_AsString(result);
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    self->kind->run(self->model, CM_SCORE, (uint8_t *)data, (size_t)size, NULL, costs);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    return result;
}

PyObject *kolmo_model_learned(PyObject *object, PyObject *unused) {
    Model *self = (Model *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, PyBytes_Size(self->prior));
    if (!result) return NULL;
    self->kind->export_prior(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior), (int32_t *)(void *)PyBytes_AsString(result));
    return result;
}
