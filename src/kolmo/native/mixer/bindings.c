/* The type ContextMixer: see context_mixing.h and mixer/reference.py. */
#include "models.h"
#include "module.h"
#include "paths.h"

static void mixer_run(void *model, int direction, uint8_t *data, size_t size, void *coder, uint16_t *costs) {
    run_context_mixing((cm_model *)model, direction, data, size, coder, costs);
}

static const char *mixer_refusal(const void *model, Py_ssize_t size) {
    const cm_history *h = ((const cm_model *)model)->h;
    return size < 0 || (size_t)size > (size_t)(h->size - h->position) ? "more bytes than the model was started for" : NULL;
}

static void mixer_export(const void *model, const int32_t *began, int32_t *prior) { cm_export((const cm_model *)model, began, prior); }

static void mixer_release(void *model) { cm_free((cm_model *)model); }

static const model_kind context_mixer = {mixer_run, mixer_refusal, mixer_export, mixer_release};

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
    cm_model *model = cm_new(&c, (const cm_tables *)tables, (const int32_t *)prior_data, (uint32_t)size, 1, 0);
    return kolmo_model_object(type, &context_mixer, model, prior, NULL);
}

static PyObject *mixer_forget(PyObject *object, PyObject *unused) {
    Model *self = (Model *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    cm_model *model = (cm_model *)self->model;
    cm_forget(model, model->histories->size);
    Py_RETURN_NONE;
}

static PyMethodDef mixer_methods[] = {
    {"encode", kolmo_model_encode, METH_VARARGS, "encode(encoder, data): code the block's next bytes and learn from them."},
    {"decode", kolmo_model_decode, METH_VARARGS, "decode(decoder, size): the mirror of encode; may follow costs, too."},
    {"costs", kolmo_model_costs, METH_VARARGS, "costs(data): 16-bit probability of each coded bit, 8 for each byte, native order."},
    {"learned", kolmo_model_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {"forget", mixer_forget, METH_NOARGS, "Reset everything but the learned numbers: for the next sample of a training."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mixer_slots[] = {
    {Py_tp_new, (void *)mixer_new},
    {Py_tp_dealloc, (void *)kolmo_model_free},
    {Py_tp_methods, mixer_methods},
    {Py_tp_doc, (void *)"ContextMixer(config, tables, prior, size): a context-mixing model of one block."},
    {0, NULL},
};
PyType_Spec mixer_spec = {"kolmo.native._kernels.ContextMixer", sizeof(Model), 0, Py_TPFLAGS_DEFAULT, mixer_slots};
