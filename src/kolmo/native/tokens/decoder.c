/* The type TokenDecoder: see tokens.h and tokens/reference.py. */
#include "module.h"
#include "tokens/bindings.h"

typedef struct {
    PyObject_HEAD
    TokenTree *owner;
    PyObject *payload;
    TokenMemory *memory; /* or NULL; and this decoder's lane in it */
    int32_t lane;
    kolmo_decoder coder;
    kolmo_spans spans;
    int no_choice; /* a span has no choice of grids: the payload is damaged */
    kolmo_heaps heaps;
    int busy;
} TokenDecoder;

static PyObject *token_decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    TokenTree *owner;
    PyObject *payload;
    TokenMemory *memory = NULL;
    char *data;
    int lane = 0;
    Py_ssize_t size;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!S|O!i:TokenDecoder", TokenTreeType, &owner, &payload, TokenMemoryType, &memory, &lane)) return NULL;
    if (memory && !kolmo_memory_fits(memory, owner, lane, 1)) return NULL;
    if (PyBytes_AsStringAndSize(payload, &data, &size) < 0) return NULL;
    TokenDecoder *self = (TokenDecoder *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(owner);
    Py_INCREF(payload);
    Py_XINCREF(memory);
    self->owner = owner;
    self->payload = payload;
    self->memory = memory;
    self->lane = lane;
    kolmo_decoder_init(&self->coder, (const uint8_t *)data, (size_t)size);
    if (kolmo_heaps_new(&self->heaps, &owner->tree)) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void token_decoder_free(PyObject *object) {
    TokenDecoder *self = (TokenDecoder *)object;
    kolmo_heaps_free(&self->heaps);
    Py_XDECREF(self->payload);
    Py_XDECREF(self->memory);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

static size_t decode_group(TokenDecoder *self) {
    const kolmo_tree *tree = &self->owner->tree;
    const kolmo_walker walker = {.spans = &self->spans, .decoder = &self->coder, .memory = self->memory ? self->memory->memory : NULL};
    if (walker.memory) tm_begin(walker.memory, self->lane);
    self->no_choice |= kolmo_decode_token(tree, &self->spans, &self->coder);
    return kolmo_descend(tree, &walker, self->heaps.top, kolmo_power(tree->groups), 0, KOLMO_GROUP, 0, 0);
}

static size_t decode_leaf(TokenDecoder *self, size_t group) {
    const kolmo_tree *tree = &self->owner->tree;
    const kolmo_walker walker = {.spans = &self->spans, .decoder = &self->coder, .memory = self->memory ? self->memory->memory : NULL};
    size_t leaf = kolmo_descend(tree, &walker, self->heaps.leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, 0);
    if (walker.memory) tm_end(walker.memory);
    return leaf;
}

/* Whether the decoder has a memory, which needs whole rows; sets the error. */
static int needs_rows(const TokenDecoder *self) {
    if (self->memory) PyErr_SetString(PyExc_ValueError, "a decoder with a memory decodes whole rows");
    return self->memory != NULL;
}

/* Whether the payload is damaged; sets the error. */
static int decoder_failed(const TokenDecoder *self) {
    if (self->no_choice) PyErr_SetString(CorruptError, "a span of tokens has no choice of grids");
    return self->no_choice || kolmo_exhausted(&self->coder);
}

static PyObject *token_decoder_decode(PyObject *object, PyObject *args) {
    TokenDecoder *self = (TokenDecoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *logits;
    Py_ssize_t n;
    int itemsize, odd = 0;
    if (!PyArg_ParseTuple(args, "y#i:decode", &logits, &n, &itemsize) || kolmo_taken(self->busy)) return NULL;
    if ((itemsize != 4 && itemsize != 8) || n != (Py_ssize_t)tree->vocabulary * itemsize) {
        PyErr_SetString(PyExc_ValueError, "needs one row of the vocabulary's logits");
        return NULL;
    }
    if (self->memory && !kolmo_memory_has_next(self->memory, self->lane)) return NULL;
    int wide = itemsize == 8;
    size_t group = 0, token = 0;
    double greatest;
    self->busy = 1;
    if (self->memory) self->memory->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    odd = kolmo_heaps_top(&self->heaps, tree, logits, wide, &greatest);
    if (!odd) {
        group = decode_group(self);
        kolmo_heaps_leaf(&self->heaps, tree, logits, wide, group, greatest);
        token = group * KOLMO_GROUP + decode_leaf(self, group);
    }
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (self->memory) self->memory->busy = 0;
    if (odd) return kolmo_not_finite();
    return decoder_failed(self) ? NULL : PyLong_FromSize_t(token);
}

static PyObject *token_decoder_group(PyObject *object, PyObject *args) {
    TokenDecoder *self = (TokenDecoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *top;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "y#:group", &top, &n) || kolmo_taken(self->busy) || needs_rows(self)) return NULL;
    if (n != (Py_ssize_t)tree->groups * 8) {
        PyErr_SetString(PyExc_ValueError, "needs the sums of all groups");
        return NULL;
    }
    if (kolmo_heap_fill(self->heaps.top, kolmo_power(tree->groups), top, tree->groups)) return kolmo_not_finite();
    size_t group = decode_group(self);
    return decoder_failed(self) ? NULL : PyLong_FromSize_t(group);
}

static PyObject *token_decoder_leaf(PyObject *object, PyObject *args) {
    TokenDecoder *self = (TokenDecoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *leaf;
    Py_ssize_t n, group;
    if (!PyArg_ParseTuple(args, "ny#:leaf", &group, &leaf, &n) || kolmo_taken(self->busy) || needs_rows(self)) return NULL;
    if (n != KOLMO_GROUP * 8 || group < 0 || (size_t)group >= tree->groups) {
        PyErr_SetString(PyExc_ValueError, "needs the masses of a group's leaves");
        return NULL;
    }
    if (kolmo_heap_fill(self->heaps.leaf, KOLMO_GROUP, leaf, KOLMO_GROUP)) return kolmo_not_finite();
    size_t token = (size_t)group * KOLMO_GROUP + decode_leaf(self, (size_t)group);
    return decoder_failed(self) ? NULL : PyLong_FromSize_t(token);
}

static PyMethodDef token_decoder_methods[] = {
    {"decode", token_decoder_decode, METH_VARARGS, "decode(logits, itemsize): the next token."},
    {"group", token_decoder_group, METH_VARARGS, "group(top): the next token's group, from the sums of all."},
    {"leaf", token_decoder_leaf, METH_VARARGS, "leaf(group, masses): the next token, from its group's masses."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot token_decoder_slots[] = {
    {Py_tp_new, (void *)token_decoder_new},
    {Py_tp_dealloc, (void *)token_decoder_free},
    {Py_tp_methods, token_decoder_methods},
    {Py_tp_doc, (void *)"Decodes what TokenEncoder wrote, given nearly the same logits."},
    {0, NULL},
};
PyType_Spec token_decoder_spec = {"kolmo.native._kernels.TokenDecoder", sizeof(TokenDecoder), 0, Py_TPFLAGS_DEFAULT, token_decoder_slots};
