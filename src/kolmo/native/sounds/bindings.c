/* The type SoundMixer: see sound_mixer.h and sounds/mixer.py. */
#include "models.h"
#include "module.h"
#include "sounds/sound_mixer.h"

static void mixer_run(void *model, int direction, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    kolmo_sound_path((sound_model *)model, direction, data, size, coder, costs);
}

static const char *mixer_refusal(const void *model, Py_ssize_t size) {
    const int fits = size >= 0 && sound_may_end((const sound_model *)model, (uint64_t)size);
    return fits ? NULL : "more bytes than the model was started for, or a part of a sample";
}

static void mixer_export(const void *model, const int32_t *began, int32_t *prior) { sound_export((const sound_model *)model, began, prior); }

static void mixer_release(void *model) { sound_free((sound_model *)model); }

static const model_kind sound_mixer = {mixer_run, mixer_refusal, mixer_export, mixer_release};

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
    if (network == Py_None) network = NULL;
    sound_model *model = sound_new(&c, (const cm_tables *)tables, (const uint16_t *)(const void *)softplus, (const int32_t *)(void *)prior_data,
                                   (uint64_t)size, network ? ((SampleNetwork *)network)->network : NULL);
    return kolmo_model_object(type, &sound_mixer, model, prior, network);
}

static PyObject *mixer_forget(PyObject *object, PyObject *args) {
    Model *self = (Model *)object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n:forget", &size) || kolmo_taken(self->busy)) return NULL;
    if (size < 1) {
        PyErr_SetString(PyExc_ValueError, "a piece has at least one byte");
        return NULL;
    }
    sound_forget((sound_model *)self->model, (uint64_t)size);
    Py_RETURN_NONE;
}

static PyMethodDef mixer_methods[] = {
    {"encode", kolmo_model_encode, METH_VARARGS, "encode(encoder, data): code the stream's next samples and learn from them."},
    {"decode", kolmo_model_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode."},
    {"costs", kolmo_model_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", kolmo_model_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", mixer_forget, METH_VARARGS, "forget(size): reset everything but the learned numbers, for another piece."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mixer_slots[] = {
    {Py_tp_new, (void *)mixer_new},
    {Py_tp_dealloc, (void *)kolmo_model_free},
    {Py_tp_methods, mixer_methods},
    {Py_tp_doc, (void *)"SoundMixer(config, tables, softplus, prior, size, network): a model of one stream of sound."},
    {0, NULL},
};
PyType_Spec sound_mixer_spec = {"kolmo.native._kernels.SoundMixer", sizeof(Model), 0, Py_TPFLAGS_DEFAULT, mixer_slots};
