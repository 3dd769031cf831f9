/* The type SoundMixer: see sound_mixer.h and sounds/mixer.py. */
#include "module.h"
#include "objects.h"
#include "sounds/sound_mixer.h"

typedef struct {
    PyObject_HEAD
    sound_model *model;
    PyObject *prior, *network; /* bytes; a SampleNetwork or NULL */
    int direction, busy;       /* direction: -1 until the first call */
} Mixer;

static PyObject *mixer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *tables, *softplus;
    char *prior_data;
    Py_ssize_t config_size, tables_size, softplus_size, prior_size, size;
    PyObject *prior, *network;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#y#SnO:SoundMixer", &config, &config_size, &tables, &tables_size, &softplus, &softplus_size, &prior,
                          &size, &network))
        return NULL;
    if (PyBytes_AsStringAndSize(prior, &prior_data, &prior_size) < 0) return NULL;
    if (network != Py_None && Py_TYPE(network) != SampleNetworkType) {
        PyErr_SetString(PyExc_TypeError, "the network is a SampleNetwork, or None");
        return NULL;
    }
    sound_config c;
    if (config_size != sizeof c || tables_size != sizeof(cm_tables) || softplus_size != 2 * SOUND_SOFTPLUS || size < 1 ||
        size > (Py_ssize_t)1 << 30) {
        PyErr_SetString(PyExc_ValueError, "configuration, tables or size do not fit the kernel");
        return NULL;
    }
    memcpy(&c, config, sizeof c);
    if (!sound_valid(&c) || (size_t)prior_size != sound_prior_size(&c, network != Py_None)) {
        PyErr_SetString(PyExc_ValueError, "the configuration or the prior does not fit the kernel");
        return NULL;
    }
    Mixer *self = (Mixer *)kolmo_instance(type);
    if (!self) return NULL;
    self->direction = -1;
    self->model = sound_new(&c, (const cm_tables *)tables, (const uint16_t *)(const void *)softplus, (const int32_t *)(void *)prior_data,
                            (uint64_t)size, network == Py_None ? NULL : ((SampleNetwork *)network)->network);
    if (!self->model) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    Py_INCREF(prior);
    self->prior = prior;
    if (network != Py_None) {
        Py_INCREF(network);
        self->network = network;
    }
    return (PyObject *)self;
}

static void mixer_free(PyObject *object) {
    Mixer *self = (Mixer *)object;
    sound_free(self->model);
    Py_XDECREF(self->prior);
    Py_XDECREF(self->network);
    kolmo_release(object);
}

static int mixer_begin(Mixer *self, int direction, Py_ssize_t size) {
    if (kolmo_taken(self->busy)) return -1;
    const int samples = self->direction == CM_SCORE && direction == CM_DECODE; /* a prompt, then random bits */
    if (self->direction >= 0 && self->direction != direction && !samples) {
        PyErr_SetString(PyExc_ValueError, "a model codes in one direction only");
        return -1;
    }
    if (size < 0 || !sound_may_end(self->model, (uint64_t)size)) {
        PyErr_SetString(PyExc_ValueError, "more bytes than the model was started for, or a part of a sample");
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
    kolmo_sound_path(self->model, CM_ENCODE, (uint8_t *)data, (size_t)size, &encoder->coder, NULL);
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
    memset(data, 0, (size_t)size);
    self->busy = decoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    kolmo_sound_path(self->model, CM_DECODE, data, (size_t)size, &decoder->coder, NULL);
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
    kolmo_sound_path(self->model, CM_SCORE, (uint8_t *)data, (size_t)size, NULL, costs);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    return result;
}

static PyObject *mixer_learned(PyObject *object, PyObject *unused) {
    Mixer *self = (Mixer *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, PyBytes_Size(self->prior));
    if (!result) return NULL;
    sound_export(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior), (int32_t *)(void *)PyBytes_AsString(result));
    return result;
}

static PyObject *mixer_forget(PyObject *object, PyObject *args) {
    Mixer *self = (Mixer *)object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n:forget", &size) || kolmo_taken(self->busy)) return NULL;
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError, "a piece has at least one byte");
        return NULL;
    }
    sound_forget(self->model, (uint64_t)size);
    Py_RETURN_NONE;
}

static PyMethodDef mixer_methods[] = {
    {"encode", mixer_encode, METH_VARARGS, "encode(encoder, data): code the stream's next samples and learn from them."},
    {"decode", mixer_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode."},
    {"costs", mixer_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", mixer_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", mixer_forget, METH_VARARGS, "forget(size): reset everything but the learned numbers, for another piece."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mixer_slots[] = {
    {Py_tp_new, (void *)mixer_new},
    {Py_tp_dealloc, (void *)mixer_free},
    {Py_tp_methods, mixer_methods},
    {Py_tp_doc, (void *)"SoundMixer(config, tables, softplus, prior, size, network): a model of one stream of sound."},
    {0, NULL},
};
PyType_Spec sound_mixer_spec = {"kolmo.native._kernels.SoundMixer", sizeof(Mixer), 0, Py_TPFLAGS_DEFAULT, mixer_slots};
