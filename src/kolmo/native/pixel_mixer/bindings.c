/* The type PixelMixer: see pixel_mixer.h and pixel_mixer/reference.py. */
#include "module.h"
#include "objects.h"
#include "pixel_mixer/pixel_mixer.h"

typedef struct {
    PyObject_HEAD
    pm_model *model;
    PyObject *prior, *network;
    int direction, busy; /* direction: -1 until the first call */
} PixelMixer;

static PyObject *pixel_mixer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *base, *tables;
    char *prior_data;
    Py_ssize_t config_size, base_size, tables_size, prior_size;
    PyObject *prior, *network;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#y#SO:PixelMixer", &config, &config_size, &base, &base_size, &tables, &tables_size, &prior, &network))
        return NULL;
    if (PyBytes_AsStringAndSize(prior, &prior_data, &prior_size) < 0) return NULL;
    pm_config c;
    pm_tables *t = (pm_tables *)malloc(sizeof *t);
    if (!t) return PyErr_NoMemory();
    const int fits = config_size == sizeof c && base_size == sizeof(cm_tables) && tables_size == sizeof *t;
    if (fits) {
        memcpy(&c, config, sizeof c);
        memcpy(t, tables, sizeof *t);
    }
    if (!fits || !pm_valid(&c, t) || (size_t)prior_size != pm_prior_size(&c)) {
        free(t);
        PyErr_SetString(PyExc_ValueError, "the configuration, the tables or the prior do not fit the kernel");
        return NULL;
    }
    if (network == Py_None) network = NULL;
    if ((network && !PyObject_TypeCheck(network, PixelNetworkType)) || !network != !c.network) {
        free(t);
        PyErr_SetString(PyExc_TypeError, "the configuration does not fit the network");
        return NULL;
    }
    PixelMixer *self = (PixelMixer *)kolmo_instance(type);
    if (!self) {
        free(t);
        return NULL;
    }
    self->direction = -1;
    self->model = pm_new(&c, (const cm_tables *)base, t, (const int32_t *)(void *)prior_data, network ? ((PixelNetwork *)network)->network : NULL);
    free(t);
    if (!self->model) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    Py_INCREF(prior);
    self->prior = prior;
    Py_XINCREF(network);
    self->network = network;
    return (PyObject *)self;
}

static void pixel_mixer_free(PyObject *object) {
    PixelMixer *self = (PixelMixer *)object;
    pm_free(self->model);
    Py_XDECREF(self->prior);
    Py_XDECREF(self->network);
    kolmo_release(object);
}

static int pixel_mixer_begin(PixelMixer *self, int direction, Py_ssize_t size) {
    if (kolmo_taken(self->busy)) return -1;
    const pm_config *c = &self->model->config;
    const Py_ssize_t left = (Py_ssize_t)c->size - (Py_ssize_t)self->model->position;
    const int samples = self->direction == CM_SCORE && direction == CM_DECODE; /* a prompt, then random bits */
    if (self->direction >= 0 && self->direction != direction && !samples) {
        PyErr_SetString(PyExc_ValueError, "a model codes in one direction only");
        return -1;
    }
    if (size < 0 || size > left) {
        PyErr_SetString(PyExc_ValueError, "more bytes than the model was started for");
        return -1;
    }
    if (size % c->stride && size != left) {
        PyErr_SetString(PyExc_ValueError, "a picture is coded in whole rows");
        return -1;
    }
    self->direction = direction;
    return 0;
}

static PyObject *pixel_mixer_encode(PyObject *object, PyObject *args) {
    PixelMixer *self = (PixelMixer *)object;
    PyObject *coder;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!y#:encode", EncoderType, &coder, &data, &size)) return NULL;
    Encoder *encoder = (Encoder *)coder;
    if (pixel_mixer_begin(self, CM_ENCODE, size) < 0 || kolmo_encoder_taken(encoder)) return NULL;
    self->busy = encoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    kolmo_pixel_mixer_path(self->model, CM_ENCODE, (uint8_t *)data, (size_t)size, &encoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = encoder->busy = 0;
    if (encoder->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *pixel_mixer_decode(PyObject *object, PyObject *args) {
    PixelMixer *self = (PixelMixer *)object;
    PyObject *coder;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "O!n:decode", DecoderType, &coder, &size)) return NULL;
    Decoder *decoder = (Decoder *)coder;
    if (pixel_mixer_begin(self, CM_DECODE, size) < 0 || kolmo_taken(decoder->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (!result) return NULL;
    uint8_t *data = (uint8_t *)PyBytes_AsString(result);
    memset(data, 0, (size_t)size); /* a damaged payload ends the run early */
    self->busy = decoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    kolmo_pixel_mixer_path(self->model, CM_DECODE, data, (size_t)size, &decoder->coder, NULL);
    Py_END_ALLOW_THREADS
    self->busy = decoder->busy = 0;
    if (kolmo_exhausted(&decoder->coder)) Py_CLEAR(result);
    return result;
}

static PyObject *pixel_mixer_costs(PyObject *object, PyObject *args) {
    PixelMixer *self = (PixelMixer *)object;
    const char *data;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#:costs", &data, &size) || pixel_mixer_begin(self, CM_SCORE, size) < 0) return NULL;
    if (size > PY_SSIZE_T_MAX / 16) return PyErr_NoMemory();
    PyObject *result = PyBytes_FromStringAndSize(NULL, size * 16);
    if (!result) return NULL;
    uint16_t *costs = (uint16_t *)(void *)PyBytes_AsString(result);
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    kolmo_pixel_mixer_path(self->model, CM_SCORE, (uint8_t *)data, (size_t)size, NULL, costs);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    return result;
}

static PyObject *pixel_mixer_learned(PyObject *object, PyObject *unused) {
    PixelMixer *self = (PixelMixer *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)pm_prior_size(&self->model->config));
    if (!result) return NULL;
    pm_export(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior), (int32_t *)(void *)PyBytes_AsString(result));
    return result;
}

static PyObject *pixel_mixer_forget(PyObject *object, PyObject *unused) {
    PixelMixer *self = (PixelMixer *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    pm_forget(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior));
    Py_RETURN_NONE;
}

static PyMethodDef pixel_mixer_methods[] = {
    {"encode", pixel_mixer_encode, METH_VARARGS, "encode(encoder, data): code the picture's next rows and learn from them."},
    {"decode", pixel_mixer_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode."},
    {"costs", pixel_mixer_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", pixel_mixer_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", pixel_mixer_forget, METH_NOARGS, "Reset everything but the learned numbers: for the next sample of a training."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pixel_mixer_slots[] = {
    {Py_tp_new, (void *)pixel_mixer_new},
    {Py_tp_dealloc, (void *)pixel_mixer_free},
    {Py_tp_methods, pixel_mixer_methods},
    {Py_tp_doc, (void *)"PixelMixer(config, base, tables, prior, network): a model of the bytes of one picture."},
    {0, NULL},
};
PyType_Spec pixel_mixer_spec = {"kolmo.native._kernels.PixelMixer", sizeof(PixelMixer), 0, Py_TPFLAGS_DEFAULT, pixel_mixer_slots};
