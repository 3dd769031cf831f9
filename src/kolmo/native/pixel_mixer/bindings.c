/* The type PixelMixer: see pixel_mixer.h and pixel_mixer/reference.py. */
#include "models.h"
#include "module.h"
#include "pixel_mixer/pixel_mixer.h"

static void pixel_mixer_run(void *model, int direction, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    kolmo_pixel_mixer_path((pm_model *)model, direction, data, size, coder, costs);
}

static const char *pixel_mixer_refusal(const void *model, Py_ssize_t size) {
    const pm_config *c = &((const pm_model *)model)->config;
    const Py_ssize_t left = (Py_ssize_t)c->size - (Py_ssize_t)((const pm_model *)model)->position;
    if (size < 0 || size > left) return "more bytes than the model was started for";
    return size % c->stride && size != left ? "a picture is coded in whole rows" : NULL;
}

static void pixel_mixer_export(const void *model, const int32_t *began, int32_t *prior) { pm_export((const pm_model *)model, began, prior); }

static void pixel_mixer_release(void *model) { pm_free((pm_model *)model); }

static const model_kind pixel_mixer = {pixel_mixer_run, pixel_mixer_refusal, pixel_mixer_export, pixel_mixer_release};

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
    pm_model *model = pm_new(&c, (const cm_tables *)base, t, (const int32_t *)(void *)prior_data,
                             network ? ((PixelNetwork *)network)->network : NULL);
    free(t);
    return kolmo_model_object(type, &pixel_mixer, model, prior, network);
}

static PyObject *pixel_mixer_forget(PyObject *object, PyObject *unused) {
    Model *self = (Model *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    pm_forget((pm_model *)self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior));
    Py_RETURN_NONE;
}

static PyMethodDef pixel_mixer_methods[] = {
    {"encode", kolmo_model_encode, METH_VARARGS, "encode(encoder, data): code the picture's next rows and learn from them."},
    {"decode", kolmo_model_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode."},
    {"costs", kolmo_model_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", kolmo_model_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", pixel_mixer_forget, METH_NOARGS, "Reset everything but the learned numbers: for the next sample of a training."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pixel_mixer_slots[] = {
    {Py_tp_new, (void *)pixel_mixer_new},
    {Py_tp_dealloc, (void *)kolmo_model_free},
    {Py_tp_methods, pixel_mixer_methods},
    {Py_tp_doc, (void *)"PixelMixer(config, base, tables, prior, network): a model of the bytes of one picture."},
    {0, NULL},
};
PyType_Spec pixel_mixer_spec = {"kolmo.native._kernels.PixelMixer", sizeof(Model), 0, Py_TPFLAGS_DEFAULT, pixel_mixer_slots};
