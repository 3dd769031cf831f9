/* The types BinaryEncoder and BinaryDecoder: see coder.h and coder/reference.py. */
#include "module.h"
#include "objects.h"

static int bad_probability(unsigned long p1) {
    if (p1 < 1 || p1 > 65535) PyErr_Format(PyExc_ValueError, "probability %lu is not in 1..65535", p1);
    return p1 < 1 || p1 > 65535;
}

static PyObject *encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    if (!PyArg_ParseTuple(args, ":BinaryEncoder")) return NULL;
    (void)kwargs;
    Encoder *self = (Encoder *)kolmo_instance(type);
    if (self) kolmo_encoder_init(&self->coder);
    return (PyObject *)self;
}

static void encoder_free(PyObject *self) {
    free(((Encoder *)self)->coder.out);
    kolmo_release(self);
}

static PyObject *encoder_encode(PyObject *object, PyObject *args) {
    Encoder *self = (Encoder *)object;
    int bit;
    unsigned long p1;
    if (!PyArg_ParseTuple(args, "pk:encode", &bit, &p1) || bad_probability(p1) || kolmo_encoder_taken(self)) return NULL;
    kolmo_encode(&self->coder, bit, (uint32_t)p1);
    if (self->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *encoder_encode_many(PyObject *object, PyObject *args) {
    Encoder *self = (Encoder *)object;
    const uint8_t *bits, *p1;
    Py_ssize_t n, m;
    if (!PyArg_ParseTuple(args, "y#y#:encode_many", &bits, &n, &p1, &m) || kolmo_encoder_taken(self)) return NULL;
    if (m != 2 * n) {
        PyErr_SetString(PyExc_ValueError, "needs one 16-bit probability for each bit");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (bad_probability((unsigned long)(p1[2 * i] | p1[2 * i + 1] << 8))) return NULL;
    for (Py_ssize_t i = 0; i < n; i++)
        kolmo_encode(&self->coder, bits[i] != 0, (uint32_t)(p1[2 * i] | p1[2 * i + 1] << 8));
    if (self->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *encoder_size(PyObject *object, PyObject *unused) {
    kolmo_encoder *e = &((Encoder *)object)->coder;
    (void)unused;
    return PyLong_FromSize_t(e->size + (e->held >= 0) + e->run);
}

static PyObject *encoder_finish(PyObject *object, PyObject *unused) {
    Encoder *self = (Encoder *)object;
    (void)unused;
    if (kolmo_encoder_taken(self)) return NULL;
    kolmo_encoder_finish(&self->coder);
    if (self->coder.failed) return PyErr_NoMemory();
    return PyBytes_FromStringAndSize((const char *)self->coder.out, (Py_ssize_t)self->coder.size);
}

static PyObject *encoder_adopt(PyObject *object, PyObject *args) {
    Encoder *self = (Encoder *)object, *other;
    if (!PyArg_ParseTuple(args, "O!:adopt", EncoderType, &other)) return NULL;
    if (kolmo_encoder_taken(self) || kolmo_encoder_taken(other)) return NULL;
    kolmo_encoder *e = &self->coder;
    if (self == other || e->low || e->range != 0xFFFFFFFFu || e->held >= 0) {
        PyErr_SetString(PyExc_ValueError, "only an encoder that has coded nothing adopts another");
        return NULL;
    }
    free(e->out);
    *e = other->coder;
    kolmo_encoder_init(&other->coder);
    other->coder.finished = 1;
    Py_RETURN_NONE;
}

static PyMethodDef encoder_methods[] = {
    {"encode", encoder_encode, METH_VARARGS, "encode(bit, p1): code a bit with probability p1 / 65536 of being 1."},
    {"encode_many", encoder_encode_many, METH_VARARGS, "encode_many(bits, p1): a byte a bit, 16-bit probabilities."},
    {"size", encoder_size, METH_NOARGS, "Bytes written so far."},
    {"adopt", encoder_adopt, METH_VARARGS, "adopt(other): go on from where another encoder is, which is finished then."},
    {"finish", encoder_finish, METH_NOARGS, "Close the interval and return all bytes."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot encoder_slots[] = {
    {Py_tp_new, (void *)encoder_new},
    {Py_tp_dealloc, (void *)encoder_free},
    {Py_tp_methods, encoder_methods},
    {Py_tp_doc, (void *)"Codes binary decisions into bytes."},
    {0, NULL},
};
PyType_Spec encoder_spec = {"kolmo.native._kernels.BinaryEncoder", sizeof(Encoder), 0, Py_TPFLAGS_DEFAULT, encoder_slots};

static PyObject *decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *payload, *remap = NULL;
    char *data, *table = NULL;
    Py_ssize_t size, table_size = 0;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "S|S:BinaryDecoder", &payload, &remap)) return NULL;
    if (PyBytes_AsStringAndSize(payload, &data, &size) < 0) return NULL;
    if (remap && PyBytes_AsStringAndSize(remap, &table, &table_size) < 0) return NULL;
    if (remap && table_size != 2 * KOLMO_REMAP) {
        PyErr_Format(PyExc_ValueError, "remap has %zd bytes, not %d", table_size, 2 * KOLMO_REMAP);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < table_size; i += 2)
        if (bad_probability((unsigned long)((uint8_t)table[i] | (uint8_t)table[i + 1] << 8))) return NULL;
    Decoder *self = (Decoder *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(payload);
    Py_XINCREF(remap);
    self->payload = payload;
    self->remap = remap;
    kolmo_decoder_init(&self->coder, (const uint8_t *)data, (size_t)size);
    self->coder.remap = (const uint8_t *)table;
    return (PyObject *)self;
}

static void decoder_free(PyObject *self) {
    Py_XDECREF(((Decoder *)self)->payload);
    Py_XDECREF(((Decoder *)self)->remap);
    kolmo_release(self);
}

static PyObject *decoder_decode(PyObject *object, PyObject *args) {
    Decoder *self = (Decoder *)object;
    unsigned long p1;
    if (!PyArg_ParseTuple(args, "k:decode", &p1) || bad_probability(p1) || kolmo_taken(self->busy)) return NULL;
    int bit = kolmo_decode(&self->coder, (uint32_t)p1);
    return kolmo_exhausted(&self->coder) ? NULL : PyLong_FromLong(bit);
}

static PyObject *decoder_decode_many(PyObject *object, PyObject *args) {
    Decoder *self = (Decoder *)object;
    const uint8_t *p1;
    Py_ssize_t m;
    if (!PyArg_ParseTuple(args, "y#:decode_many", &p1, &m) || kolmo_taken(self->busy)) return NULL;
    for (Py_ssize_t i = 0; i < m / 2; i++)
        if (bad_probability((unsigned long)(p1[2 * i] | p1[2 * i + 1] << 8))) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, m / 2);
    if (!result) return NULL;
    char *bits = PyBytes_AsString(result);
    for (Py_ssize_t i = 0; i < m / 2; i++)
        bits[i] = (char)kolmo_decode(&self->coder, (uint32_t)(p1[2 * i] | p1[2 * i + 1] << 8));
    if (kolmo_exhausted(&self->coder)) Py_CLEAR(result);
    return result;
}

static PyMethodDef decoder_methods[] = {
    {"decode", decoder_decode, METH_VARARGS, "decode(p1): the bit that was coded with this probability."},
    {"decode_many", decoder_decode_many, METH_VARARGS, "decode_many(p1): a byte for each 16-bit probability."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot decoder_slots[] = {
    {Py_tp_new, (void *)decoder_new},
    {Py_tp_dealloc, (void *)decoder_free},
    {Py_tp_methods, decoder_methods},
    {Py_tp_doc, (void *)"Decodes what BinaryEncoder wrote, given the same probabilities."},
    {0, NULL},
};
PyType_Spec decoder_spec = {"kolmo.native._kernels.BinaryDecoder", sizeof(Decoder), 0, Py_TPFLAGS_DEFAULT, decoder_slots};
