/* The type ContextMixer: see context_mixing.h and mixer/reference.py. */
#include "module.h"
#include "objects.h"
#include "paths.h"

typedef struct {
    PyObject_HEAD
    cm_model *model;
    PyObject *prior;
    int direction, busy; /* direction: -1 until the first call */
} Mixer;

static PyObject *mixer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *tables;
    char *prior_data;
    Py_ssize_t config_size, tables_size, prior_size, size;
    PyObject *prior;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#Sn:ContextMixer", &config, &config_size, &tables, &tables_size, &prior, &size))
        return NULL;
    if (PyBytes_AsStringAndSize(prior, &prior_data, &prior_size) < 0) return NULL;
    cm_config c;
    if (config_size != sizeof c || tables_size != sizeof(cm_tables) || size < 1 || size > (Py_ssize_t)1 << 30) {
        PyErr_SetString(PyExc_ValueError, "configuration, tables or size do not fit the kernel");
        return NULL;
    }
    memcpy(&c, config, sizeof c);
    if (!cm_valid(&c, 0) || (size_t)prior_size != cm_prior_size(&c, 0)) {
        PyErr_SetString(PyExc_ValueError, "the configuration or the prior does not fit the kernel");
        return NULL;
    }
    Mixer *self = (Mixer *)kolmo_instance(type);
    if (!self) return NULL;
    self->direction = -1;
    self->model = cm_new(&c, (const cm_tables *)tables, (const int32_t *)prior_data, (uint32_t)size, 1, 0);
    if (!self->model) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    Py_INCREF(prior);
    self->prior = prior;
    return (PyObject *)self;
}

static void mixer_free(PyObject *object) {
    Mixer *self = (Mixer *)object;
    cm_free(self->model);
    Py_XDECREF(self->prior);
    kolmo_release(object);
}

static int mixer_begin(Mixer *self, int direction, Py_ssize_t size) {
    if (kolmo_taken(self->busy)) return -1;
    const int samples = self->direction == CM_SCORE && direction == CM_DECODE; /* a prompt, then random bits */
    if (self->direction >= 0 && self->direction != direction && !samples) {
        PyErr_SetString(PyExc_ValueError, "a model codes in one direction only");
        return -1;
    }
    if (size < 0 || (size_t)size > (size_t)(self->model->h->size - self->model->h->position)) {
        PyErr_SetString(PyExc_ValueError, "more bytes than the model was started for");
        return -1;
    }
    self->direction = direction;
    return 0;
}

static PyObject *mixer_encode(PyObject *object, PyObject *args) {
    Mixer *self = (Mixer *)object;
    PyObject *coder;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!y#:encode", EncoderType, &coder, &data, &size)) return NULL;
    Encoder *encoder = (Encoder *)coder;
    if (mixer_begin(self, CM_ENCODE, size) < 0 || kolmo_encoder_taken(encoder)) return NULL;
    self->busy = encoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    run_context_mixing(self->model, CM_ENCODE, (uint8_t *)data, (size_t)size, &encoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = encoder->busy = 0;
    if (encoder->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *mixer_decode(PyObject *object, PyObject *args) {
    Mixer *self = (Mixer *)object;
    PyObject *coder;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!n:decode", DecoderType, &coder, &size)) return NULL;
    Decoder *decoder = (Decoder *)coder;
    if (mixer_begin(self, CM_DECODE, size) < 0 || kolmo_taken(decoder->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (!result) return NULL;
    uint8_t *data = (uint8_t *)PyBytes_AsString(result);
    self->busy = decoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    run_context_mixing(self->model, CM_DECODE, data, (size_t)size, &decoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = decoder->busy = 0;
    if (kolmo_exhausted(&decoder->coder)) Py_CLEAR(result);
    return result;
}

static PyObject *mixer_costs(PyObject *object, PyObject *args) {
    Mixer *self = (Mixer *)object;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#:costs", &data, &size) || mixer_begin(self, CM_SCORE, size) < 0) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, size * 16);
    if (!result) return NULL;
    uint16_t *costs = (uint16_t *)(void *)PyBytes_AsString(result);
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    run_context_mixing(self->model, CM_SCORE, (uint8_t *)data, (size_t)size, NULL, costs);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    return result;
}

static PyObject *mixer_learned(PyObject *object, PyObject *unused) {
    Mixer *self = (Mixer *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)cm_prior_size(&self->model->config, 0));
    if (!result) return NULL;
    cm_export(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior), (int32_t *)(void *)PyBytes_AsString(result));
    return result;
}

static PyObject *mixer_forget(PyObject *object, PyObject *unused) {
    Mixer *self = (Mixer *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    cm_forget(self->model, self->model->histories->size);
    Py_RETURN_NONE;
}

static PyMethodDef mixer_methods[] = {
    {"encode", mixer_encode, METH_VARARGS, "encode(encoder, data): code the block's next bytes and learn from them."},
    {"decode", mixer_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode; may follow costs, too."},
    {"costs", mixer_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", mixer_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", mixer_forget, METH_NOARGS, "Reset everything but the learned numbers: for the next sample of a training."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mixer_slots[] = {
    {Py_tp_new, (void *)mixer_new},
    {Py_tp_dealloc, (void *)mixer_free},
    {Py_tp_methods, mixer_methods},
    {Py_tp_doc, (void *)"ContextMixer(config, tables, prior, size): a context-mixing model of one block."},
    {0, NULL},
};
PyType_Spec mixer_spec = {"kolmo.native._kernels.ContextMixer", sizeof(Mixer), 0, Py_TPFLAGS_DEFAULT, mixer_slots};
