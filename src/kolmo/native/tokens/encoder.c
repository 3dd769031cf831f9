/* The type TokenEncoder: see tokens.h and tokens/reference.py. */
#include "module.h"
#include "tokens/bindings.h"

static PyObject *token_encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    TokenTree *owner;
    int keeps = 0;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!|p:TokenEncoder", TokenTreeType, &owner, &keeps)) return NULL;
    TokenEncoder *self = (TokenEncoder *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(owner);
    self->owner = owner;
    self->queue.keeps = keeps;
    kolmo_encoder_init(&self->coder);
    if (kolmo_heaps_new(&self->heaps, &owner->tree)) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void token_encoder_free(PyObject *object) {
    TokenEncoder *self = (TokenEncoder *)object;
    free(self->coder.out);
    free(self->queue.made);
    free(self->queue.near);
    free(self->queue.choices);
    free(self->queue.tokens);
    kolmo_heaps_free(&self->heaps);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

static int finished_or_taken(const TokenEncoder *self) {
    if (self->coder.finished) PyErr_SetString(PyExc_ValueError, "the encoder is finished");
    return self->coder.finished || kolmo_taken(self->busy);
}

/* The path to `target`, whose sums are in the two heaps. */
static void encode_path(TokenEncoder *self, size_t target) {
    const kolmo_walker walker = {.queue = &self->queue, .encoder = &self->coder};
    kolmo_walk_to(&self->heaps, &self->owner->tree, &walker, target);
    kolmo_encode_token(&self->owner->tree, &self->queue, &self->coder, target);
}

/* Whether encoding failed; sets the error. */
static int encoder_failed(const TokenEncoder *self) {
    if (self->queue.no_choice) PyErr_SetString(PyExc_OverflowError, "no choice of grids keeps all decisions of a span from a boundary");
    else if (self->coder.failed || self->queue.failed) PyErr_NoMemory();
    return self->queue.no_choice || self->coder.failed || self->queue.failed;
}

static PyObject *token_encoder_encode(PyObject *object, PyObject *args) {
    TokenEncoder *self = (TokenEncoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    token_rows rows;
    int odd = 0;
    if (!PyArg_ParseTuple(args, "y#iy#:encode", &rows.logits, &rows.logits_size, &rows.itemsize, &rows.targets, &rows.targets_size) ||
        finished_or_taken(self))
        return NULL;
    Py_ssize_t count = kolmo_count_rows(tree, &rows);
    if (count < 0) return NULL;
    int wide = rows.itemsize == 8;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count && !odd; i++) {
        const char *row = kolmo_row(tree, &rows, i);
        size_t target = kolmo_target(&rows, i);
        double greatest;
        odd = kolmo_heaps_top(&self->heaps, tree, row, wide, &greatest);
        if (odd) break;
        kolmo_heaps_leaf(&self->heaps, tree, row, wide, target / KOLMO_GROUP, greatest);
        encode_path(self, target);
    }
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (odd) return kolmo_not_finite();
    if (encoder_failed(self)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *token_encoder_encode_sums(PyObject *object, PyObject *args) {
    TokenEncoder *self = (TokenEncoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *top, *leaf;
    Py_ssize_t n, k;
    token_rows rows = {.itemsize = 4};
    if (!PyArg_ParseTuple(args, "y#y#y#:encode_sums", &top, &n, &leaf, &k, &rows.targets, &rows.targets_size) || finished_or_taken(self))
        return NULL;
    rows.logits_size = rows.targets_size / 4 * (Py_ssize_t)tree->vocabulary * 4; /* there are none: the sums stand for them */
    Py_ssize_t count = kolmo_count_rows(tree, &rows);
    if (count < 0) return NULL;
    if (n != count * (Py_ssize_t)tree->groups * 8 || k != count * KOLMO_GROUP * 8) {
        PyErr_SetString(PyExc_ValueError, "needs the sums of all groups and of one group's leaves for each target");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (kolmo_heap_fill(self->heaps.top, kolmo_power(tree->groups), top + 8 * (size_t)i * tree->groups, tree->groups) ||
            kolmo_heap_fill(self->heaps.leaf, KOLMO_GROUP, leaf + 8 * (size_t)i * KOLMO_GROUP, KOLMO_GROUP))
            return kolmo_not_finite();
        encode_path(self, kolmo_target(&rows, i));
    }
    if (encoder_failed(self)) return NULL;
    Py_RETURN_NONE;
}

int kolmo_token_encoder_close(TokenEncoder *self) {
    if (finished_or_taken(self)) return 0;
    kolmo_encode_span(&self->owner->tree, &self->queue, &self->coder);
    return !encoder_failed(self);
}

static PyObject *token_encoder_finish(PyObject *object, PyObject *unused) {
    TokenEncoder *self = (TokenEncoder *)object;
    (void)unused;
    if (!kolmo_token_encoder_close(self)) return NULL;
    kolmo_encoder_finish(&self->coder);
    if (encoder_failed(self)) return NULL;
    return PyBytes_FromStringAndSize((const char *)self->coder.out, (Py_ssize_t)self->coder.size);
}

static PyObject *token_encoder_choices(PyObject *object, PyObject *unused) {
    const kolmo_spans *spans = &((TokenEncoder *)object)->queue.spans;
    (void)unused;
    return PyLong_FromUnsignedLong(spans->seen - spans->again);
}

static PyMethodDef token_encoder_methods[] = {
    {"encode", token_encoder_encode, METH_VARARGS, "encode(logits, itemsize, targets): code rows of targets."},
    {"encode_sums", token_encoder_encode_sums, METH_VARARGS, "encode_sums(top, leaf, targets): from sums of masses."},
    {"finish", token_encoder_finish, METH_NOARGS, "Close the interval and return all bytes."},
    {"choices", token_encoder_choices, METH_NOARGS, "Number of spans so far, each with a choice of grids."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot token_encoder_slots[] = {
    {Py_tp_new, (void *)token_encoder_new},
    {Py_tp_dealloc, (void *)token_encoder_free},
    {Py_tp_methods, token_encoder_methods},
    {Py_tp_doc, (void *)"Codes tokens into a payload."},
    {0, NULL},
};
PyType_Spec token_encoder_spec = {"kolmo.native._kernels.TokenEncoder", sizeof(TokenEncoder), 0, Py_TPFLAGS_DEFAULT, token_encoder_slots};
