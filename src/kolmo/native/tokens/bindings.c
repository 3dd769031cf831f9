/* The types TokenTree, TokenEncoder and TokenDecoder: see tokens.h and tokens/reference.py. */
#include "kernels.h"
#include "tokens/tokens.h"

#define KOLMO_TARGET
#define KOLMO_PATH(x) x
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH

#if defined(KOLMO_AVX2)
#define KOLMO_TARGET __attribute__((target("avx2")))
#define KOLMO_PATH(x) x##_avx2
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH
#endif
#if defined(KOLMO_AVX512)
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#define KOLMO_PATH(x) x##_avx512
#include "tokens/tokens_loop.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH
#endif

/* Greatest logit, masses of groups, masses of neighbours; [0] of floats, [1] of doubles. */
typedef struct {
    double (*best)(const void *, size_t);
    void (*top)(const void *, size_t, double, double *);
    void (*leaf)(const void *, size_t, double, double *);
} kolmo_masses;

#define MASSES_OF(path) {{best_float##path, top_float##path, leaf_float##path}, {best_double##path, top_double##path, leaf_double##path}}
static const kolmo_masses baseline[2] = MASSES_OF();
static const kolmo_masses *masses = baseline;
#if defined(KOLMO_AVX2)
static const kolmo_masses avx2[2] = MASSES_OF(_avx2);
#endif
#if defined(KOLMO_AVX512)
static const kolmo_masses avx512[2] = MASSES_OF(_avx512);
#endif

void kolmo_choose_masses(int width) {
    (void)width;
    masses = baseline;
#if defined(KOLMO_AVX2)
    if (width == 1) masses = avx2;
#endif
#if defined(KOLMO_AVX512)
    if (width == 2) masses = avx512;
#endif
}

typedef struct {
    PyObject_HEAD
    kolmo_tree tree;
} TokenTree;

typedef struct {
    PyObject_HEAD
    TokenTree *owner;
    kolmo_encoder coder;
    kolmo_queue queue;
    double *top, *leaf; /* heaps */
    int busy;
} TokenEncoder;

typedef struct {
    PyObject_HEAD
    TokenTree *owner;
    PyObject *payload;
    kolmo_decoder coder;
    kolmo_spans spans;
    int lost; /* a span has no choice */
    double *top, *leaf;
    int busy;
} TokenDecoder;

static PyTypeObject *tree_type;

/* ---- the tree ---- */

/* `tables`: doubles slack, span, points, then the points and their chances. */
static PyObject *tree_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *bytes;
    Py_ssize_t size, vocabulary;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#n:TokenTree", &bytes, &size, &vocabulary)) return NULL;
    double head[3] = {0};
    if ((size_t)size >= sizeof head) memcpy(head, bytes, sizeof head);
    int good = (size_t)size >= sizeof head && vocabulary >= 1 && vocabulary <= 1 << 24 && head[0] >= 0 && head[1] >= 0 &&
               head[1] <= 65536 && head[2] >= 1 && head[2] <= 65536;
    if (!good || (double)size != 8 * (3 + 2 * head[2])) {
        PyErr_SetString(PyExc_ValueError, "these are no grids of a token tree");
        return NULL;
    }
    TokenTree *self = (TokenTree *)kolmo_instance(type);
    if (!self) return NULL;
    kolmo_tree *tree = &self->tree;
    int points = (int)head[2];
    tree->tables = (double *)malloc((size_t)size);
    tree->chances = (uint16_t *)malloc((size_t)points * sizeof *tree->chances);
    if (!tree->tables || !tree->chances) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    memcpy(tree->tables, bytes, (size_t)size);
    const double *chances = tree->tables + 3 + points;
    for (int i = 0; i < points; i++) tree->chances[i] = (uint16_t)(chances[i] < 1 ? 1 : chances[i] > 65535 ? 65535 : chances[i]);
    tree->slack = head[0];
    tree->span = (uint32_t)head[1];
    tree->points = points;
    tree->point = tree->tables + 3;
    tree->chance = tree->chances;
    tree->vocabulary = (size_t)vocabulary;
    tree->groups = ((size_t)vocabulary + KOLMO_GROUP - 1) / KOLMO_GROUP;
    for (size_t n = kolmo_power(tree->groups); n > 1; n /= 2) tree->top_depth++;
    return (PyObject *)self;
}

static void tree_free(PyObject *object) {
    TokenTree *self = (TokenTree *)object;
    free(self->tree.tables);
    free(self->tree.chances);
    kolmo_release(object);
}

/* The heap's leaves are at its upper half. Returns 0, or says that a logit is no number. */
static int top_of(const kolmo_tree *tree, const void *row, int wide, double *heap, double *greatest) {
    size_t leaves = kolmo_power(tree->groups);
    *greatest = masses[wide].best(row, tree->vocabulary);
    masses[wide].top(row, tree->vocabulary, *greatest, heap + leaves);
    for (size_t i = tree->groups; i < leaves; i++) heap[leaves + i] = 0;
    kolmo_heap(heap, leaves);
    return !(heap[1] > 0 && heap[1] < HUGE_VAL); /* a NaN or an infinite logit */
}

static void leaf_of(const kolmo_tree *tree, const void *row, int wide, size_t group, double greatest, double *heap) {
    size_t first = group * KOLMO_GROUP, n = tree->vocabulary - first;
    n = n < KOLMO_GROUP ? n : KOLMO_GROUP;
    masses[wide].leaf((const char *)row + first * (wide ? 8 : 4), n, greatest, heap + KOLMO_GROUP);
    for (size_t i = n; i < KOLMO_GROUP; i++) heap[KOLMO_GROUP + i] = 0;
    kolmo_heap(heap, KOLMO_GROUP);
}

static PyObject *no_number(void) {
    PyErr_SetString(PyExc_ValueError, "a logit is no finite number");
    return NULL;
}

/* Rows of logits and targets: checks their sizes. Returns the rows, or -1. */
static Py_ssize_t rows_of(const kolmo_tree *tree, Py_ssize_t logits, int itemsize, const int32_t *targets, Py_ssize_t bytes) {
    Py_ssize_t rows = bytes / 4;
    if ((itemsize != 4 && itemsize != 8) || bytes % 4 || logits != rows * (Py_ssize_t)tree->vocabulary * itemsize) {
        PyErr_SetString(PyExc_ValueError, "needs a row of the vocabulary's logits for each target");
        return -1;
    }
    for (Py_ssize_t i = 0; i < rows; i++)
        if (targets[i] < 0 || (size_t)targets[i] >= tree->vocabulary) {
            PyErr_Format(PyExc_ValueError, "target %d is not in the vocabulary", (int)targets[i]);
            return -1;
        }
    return rows;
}

static double *heap_for(size_t leaves) { return (double *)malloc(2 * leaves * sizeof(double)); }

static PyObject *tree_costs(PyObject *object, PyObject *args) {
    const kolmo_tree *tree = &((TokenTree *)object)->tree;
    const char *logits, *targets;
    Py_ssize_t n, m;
    int itemsize, coded, odd = 0;
    if (!PyArg_ParseTuple(args, "y#iy#p:costs", &logits, &n, &itemsize, &targets, &m, &coded)) return NULL;
    Py_ssize_t rows = rows_of(tree, n, itemsize, (const int32_t *)(const void *)targets, m);
    if (rows < 0) return NULL;
    size_t leaves = kolmo_power(tree->groups);
    PyObject *result = PyBytes_FromStringAndSize(NULL, rows * 8);
    double *top = heap_for(leaves), *leaf = heap_for(KOLMO_GROUP);
    if (!result || !top || !leaf) {
        free(top);
        free(leaf);
        Py_XDECREF(result);
        return PyErr_NoMemory();
    }
    char *costs = PyBytes_AsString(result);
    int wide = itemsize == 8;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < rows && !odd; i++) {
        const char *row = logits + (size_t)i * tree->vocabulary * (size_t)itemsize;
        int32_t target;
        double greatest, cost = 0;
        memcpy(&target, targets + 4 * i, 4);
        odd = top_of(tree, row, wide, top, &greatest);
        if (coded && !odd) {
            size_t group = (size_t)target / KOLMO_GROUP;
            leaf_of(tree, row, wide, group, greatest, leaf);
            kolmo_walker meter = {.nats = &cost};
            kolmo_descend(tree, &meter, top, leaves, 0, KOLMO_GROUP, 0, group);
            kolmo_descend(tree, &meter, leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, (size_t)target % KOLMO_GROUP);
        } else {
            double logit = wide ? ((const double *)(const void *)row)[target] : (double)((const float *)(const void *)row)[target];
            cost = log(top[1]) + greatest - logit;
        }
        memcpy(costs + 8 * i, &cost, 8);
    }
    Py_END_ALLOW_THREADS
    free(top);
    free(leaf);
    if (!odd) return result;
    Py_DECREF(result);
    return no_number();
}

static PyObject *tree_odds(PyObject *object, PyObject *args) {
    const kolmo_tree *tree = &((TokenTree *)object)->tree;
    const char *logits, *targets;
    Py_ssize_t n, m;
    int itemsize, odd = 0;
    if (!PyArg_ParseTuple(args, "y#iy#:odds", &logits, &n, &itemsize, &targets, &m)) return NULL;
    Py_ssize_t rows = rows_of(tree, n, itemsize, (const int32_t *)(const void *)targets, m);
    if (rows < 0) return NULL;
    size_t leaves = kolmo_power(tree->groups), levels = (size_t)tree->top_depth + KOLMO_GROUP_DEPTH;
    PyObject *result = PyBytes_FromStringAndSize(NULL, rows * (Py_ssize_t)levels * 8);
    double *top = heap_for(leaves), *leaf = heap_for(KOLMO_GROUP), *odds = (double *)malloc(levels * sizeof(double));
    if (!result || !top || !leaf || !odds) {
        free(top);
        free(leaf);
        free(odds);
        Py_XDECREF(result);
        return PyErr_NoMemory();
    }
    char *out = PyBytes_AsString(result);
    int wide = itemsize == 8;
    kolmo_walker walker = {.odds = odds};
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < rows && !odd; i++) {
        const char *row = logits + (size_t)i * tree->vocabulary * (size_t)itemsize;
        int32_t target;
        double greatest;
        memcpy(&target, targets + 4 * i, 4);
        odd = top_of(tree, row, wide, top, &greatest);
        if (odd) break;
        size_t group = (size_t)target / KOLMO_GROUP;
        leaf_of(tree, row, wide, group, greatest, leaf);
        for (size_t k = 0; k < levels; k++) odds[k] = 0;
        kolmo_descend(tree, &walker, top, leaves, 0, KOLMO_GROUP, 0, group);
        kolmo_descend(tree, &walker, leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, (size_t)target % KOLMO_GROUP);
        memcpy(out + (size_t)i * levels * 8, odds, levels * 8);
    }
    Py_END_ALLOW_THREADS
    free(top);
    free(leaf);
    free(odds);
    if (!odd) return result;
    Py_DECREF(result);
    return no_number();
}

static PyMethodDef tree_methods[] = {
    {"odds", tree_odds, METH_VARARGS, "odds(logits, itemsize, targets): log-odds of each level on the ways to the targets."},
    {"costs", tree_costs, METH_VARARGS, "costs(logits, itemsize, targets, coded): nats of each target, as doubles."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot tree_slots[] = {
    {Py_tp_new, (void *)tree_new},
    {Py_tp_dealloc, (void *)tree_free},
    {Py_tp_methods, tree_methods},
    {Py_tp_doc, (void *)"Ids as leaves of a balanced tree, with the grids that their decisions are rounded on."},
    {0, NULL},
};
PyType_Spec token_tree_spec = {"kolmo.native._kernels.TokenTree", sizeof(TokenTree), 0, Py_TPFLAGS_DEFAULT, tree_slots};

void kolmo_token_tree_type(PyTypeObject *type) { tree_type = type; }

/* ---- the encoder ---- */

static PyObject *token_encoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    TokenTree *owner;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!:TokenEncoder", tree_type, &owner)) return NULL;
    TokenEncoder *self = (TokenEncoder *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(owner);
    self->owner = owner;
    kolmo_encoder_init(&self->coder);
    self->top = heap_for(kolmo_power(owner->tree.groups));
    self->leaf = heap_for(KOLMO_GROUP);
    if (self->top && self->leaf) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void token_encoder_free(PyObject *object) {
    TokenEncoder *self = (TokenEncoder *)object;
    free(self->coder.out);
    free(self->queue.made);
    free(self->queue.touchy);
    free(self->top);
    free(self->leaf);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

static int finished_or_taken(const TokenEncoder *self) {
    if (self->coder.finished) PyErr_SetString(PyExc_ValueError, "the encoder is finished");
    return self->coder.finished || kolmo_taken(self->busy);
}

/* The path to `target`, whose sums are in the two heaps. */
static void encode_path(TokenEncoder *self, size_t target) {
    const kolmo_tree *tree = &self->owner->tree;
    const kolmo_walker walker = {.queue = &self->queue, .encoder = &self->coder};
    size_t group = target / KOLMO_GROUP;
    kolmo_descend(tree, &walker, self->top, kolmo_power(tree->groups), 0, KOLMO_GROUP, 0, group);
    kolmo_descend(tree, &walker, self->leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, target % KOLMO_GROUP);
    kolmo_encode_token(tree, &self->queue, &self->coder);
}

/* Whether coding came to nothing; sets the error. */
static int encoder_failed(const TokenEncoder *self) {
    if (self->queue.stuck) PyErr_SetString(PyExc_OverflowError, "no choice of grids serves a span of tokens");
    else if (self->coder.failed || self->queue.failed) PyErr_NoMemory();
    return self->queue.stuck || self->coder.failed || self->queue.failed;
}

static PyObject *token_encoder_encode(PyObject *object, PyObject *args) {
    TokenEncoder *self = (TokenEncoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *logits, *targets;
    Py_ssize_t n, m;
    int itemsize, odd = 0;
    if (!PyArg_ParseTuple(args, "y#iy#:encode", &logits, &n, &itemsize, &targets, &m) || finished_or_taken(self)) return NULL;
    Py_ssize_t rows = rows_of(tree, n, itemsize, (const int32_t *)(const void *)targets, m);
    if (rows < 0) return NULL;
    int wide = itemsize == 8;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < rows && !odd; i++) {
        const char *row = logits + (size_t)i * tree->vocabulary * (size_t)itemsize;
        int32_t target;
        double greatest;
        memcpy(&target, targets + 4 * i, 4);
        odd = top_of(tree, row, wide, self->top, &greatest);
        if (odd) break;
        leaf_of(tree, row, wide, (size_t)target / KOLMO_GROUP, greatest, self->leaf);
        encode_path(self, (size_t)target);
    }
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (odd) return no_number();
    if (encoder_failed(self)) return NULL;
    Py_RETURN_NONE;
}

/* Sums that a device made, into a heap's leaves; missing leaves are empty. */
static int fill_heap(double *heap, size_t leaves, const char *sums, size_t n) {
    int odd = 0;
    memcpy(heap + leaves, sums, 8 * n);
    for (size_t i = 0; i < n; i++) odd |= !(heap[leaves + i] >= 0 && heap[leaves + i] < HUGE_VAL);
    for (size_t i = n; i < leaves; i++) heap[leaves + i] = 0;
    kolmo_heap(heap, leaves);
    return odd || !(heap[1] > 0);
}

static PyObject *token_encoder_encode_sums(PyObject *object, PyObject *args) {
    TokenEncoder *self = (TokenEncoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *top, *leaf, *targets;
    Py_ssize_t n, k, m;
    if (!PyArg_ParseTuple(args, "y#y#y#:encode_sums", &top, &n, &leaf, &k, &targets, &m) || finished_or_taken(self)) return NULL;
    Py_ssize_t rows = rows_of(tree, m / 4 * (Py_ssize_t)tree->vocabulary * 4, 4, (const int32_t *)(const void *)targets, m);
    if (rows < 0) return NULL;
    if (n != rows * (Py_ssize_t)tree->groups * 8 || k != rows * KOLMO_GROUP * 8) {
        PyErr_SetString(PyExc_ValueError, "needs the sums of all groups and of one group's leaves for each target");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < rows; i++) {
        int32_t target;
        memcpy(&target, targets + 4 * i, 4);
        if (fill_heap(self->top, kolmo_power(tree->groups), top + 8 * (size_t)i * tree->groups, tree->groups) ||
            fill_heap(self->leaf, KOLMO_GROUP, leaf + 8 * (size_t)i * KOLMO_GROUP, KOLMO_GROUP))
            return no_number();
        encode_path(self, (size_t)target);
    }
    if (encoder_failed(self)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *token_encoder_finish(PyObject *object, PyObject *unused) {
    TokenEncoder *self = (TokenEncoder *)object;
    (void)unused;
    if (finished_or_taken(self)) return NULL;
    kolmo_encode_span(&self->owner->tree, &self->queue, &self->coder);
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
    {"choices", token_encoder_choices, METH_NOARGS, "Spans so far, each with a choice of grids."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot token_encoder_slots[] = {
    {Py_tp_new, (void *)token_encoder_new},
    {Py_tp_dealloc, (void *)token_encoder_free},
    {Py_tp_methods, token_encoder_methods},
    {Py_tp_doc, (void *)"Codes tokens into bytes of their own."},
    {0, NULL},
};
PyType_Spec token_encoder_spec = {"kolmo.native._kernels.TokenEncoder", sizeof(TokenEncoder), 0, Py_TPFLAGS_DEFAULT, token_encoder_slots};

/* ---- the decoder ---- */

static PyObject *token_decoder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    TokenTree *owner;
    PyObject *payload;
    char *data;
    Py_ssize_t size;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!S:TokenDecoder", tree_type, &owner, &payload)) return NULL;
    if (PyBytes_AsStringAndSize(payload, &data, &size) < 0) return NULL;
    TokenDecoder *self = (TokenDecoder *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(owner);
    Py_INCREF(payload);
    self->owner = owner;
    self->payload = payload;
    kolmo_decoder_init(&self->coder, (const uint8_t *)data, (size_t)size);
    self->top = heap_for(kolmo_power(owner->tree.groups));
    self->leaf = heap_for(KOLMO_GROUP);
    if (self->top && self->leaf) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void token_decoder_free(PyObject *object) {
    TokenDecoder *self = (TokenDecoder *)object;
    free(self->top);
    free(self->leaf);
    Py_XDECREF(self->payload);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

static size_t decode_group(TokenDecoder *self) {
    const kolmo_tree *tree = &self->owner->tree;
    const kolmo_walker walker = {.spans = &self->spans, .decoder = &self->coder};
    self->lost |= kolmo_decode_token(tree, &self->spans, &self->coder);
    return kolmo_descend(tree, &walker, self->top, kolmo_power(tree->groups), 0, KOLMO_GROUP, 0, 0);
}

static size_t decode_leaf(TokenDecoder *self, size_t group) {
    const kolmo_tree *tree = &self->owner->tree;
    const kolmo_walker walker = {.spans = &self->spans, .decoder = &self->coder};
    return kolmo_descend(tree, &walker, self->leaf, KOLMO_GROUP, group * KOLMO_GROUP, 1, tree->top_depth, 0);
}

/* Whether the payload is at fault; sets the error. */
static int decoder_failed(const TokenDecoder *self) {
    if (self->lost) PyErr_SetString(CorruptError, "a span of tokens has no choice of grids");
    return self->lost || kolmo_exhausted(&self->coder);
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
    int wide = itemsize == 8;
    size_t group = 0, token = 0;
    double greatest;
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    odd = top_of(tree, logits, wide, self->top, &greatest);
    if (!odd) {
        group = decode_group(self);
        leaf_of(tree, logits, wide, group, greatest, self->leaf);
        token = group * KOLMO_GROUP + decode_leaf(self, group);
    }
    Py_END_ALLOW_THREADS
    self->busy = 0;
    if (odd) return no_number();
    return decoder_failed(self) ? NULL : PyLong_FromSize_t(token);
}

static PyObject *token_decoder_group(PyObject *object, PyObject *args) {
    TokenDecoder *self = (TokenDecoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *top;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "y#:group", &top, &n) || kolmo_taken(self->busy)) return NULL;
    if (n != (Py_ssize_t)tree->groups * 8) {
        PyErr_SetString(PyExc_ValueError, "needs the sums of all groups");
        return NULL;
    }
    if (fill_heap(self->top, kolmo_power(tree->groups), top, tree->groups)) return no_number();
    size_t group = decode_group(self);
    return decoder_failed(self) ? NULL : PyLong_FromSize_t(group);
}

static PyObject *token_decoder_leaf(PyObject *object, PyObject *args) {
    TokenDecoder *self = (TokenDecoder *)object;
    const kolmo_tree *tree = &self->owner->tree;
    const char *leaf;
    Py_ssize_t n, group;
    if (!PyArg_ParseTuple(args, "ny#:leaf", &group, &leaf, &n) || kolmo_taken(self->busy)) return NULL;
    if (n != KOLMO_GROUP * 8 || group < 0 || (size_t)group >= tree->groups) {
        PyErr_SetString(PyExc_ValueError, "needs the masses of a group's leaves");
        return NULL;
    }
    if (fill_heap(self->leaf, KOLMO_GROUP, leaf, KOLMO_GROUP)) return no_number();
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
