/* The type TokenMemory: see memory/token_memory.h and memory/reference.py. */
#include "module.h"
#include "tokens/bindings.h"

static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    TokenTree *owner;
    const char *tables, *kinds, *lengths;
    Py_ssize_t tables_size, kinds_size, lengths_size, remembered;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!y#y#y#n:TokenMemory", TokenTreeType, &owner, &tables, &tables_size, &kinds, &kinds_size, &lengths,
                          &lengths_size, &remembered))
        return NULL;
    const int32_t *each = (const int32_t *)(const void *)lengths;
    const Py_ssize_t lanes = lengths_size / 4;
    int64_t count = 0;
    int good = tables_size == sizeof(cm_tables) && kinds_size == (Py_ssize_t)owner->tree.vocabulary && lengths_size % 4 == 0 && lanes >= 1 &&
               lanes <= 1 << 24 && remembered >= 1;
    for (Py_ssize_t k = 0; good && k < lanes; k++) {
        good = each[k] >= 0;
        count += each[k];
    }
    if (!good || count > 1 << 30) {
        PyErr_SetString(PyExc_ValueError, "tables, kinds, lengths or memory do not fit the kernel");
        return NULL;
    }
    TokenMemory *self = (TokenMemory *)kolmo_instance(type);
    if (!self) return NULL;
    Py_INCREF(owner);
    self->owner = owner;
    self->memory = tm_new((const cm_tables *)(const void *)tables, (const uint8_t *)kinds, owner->tree.vocabulary, each, (int32_t)lanes,
                          remembered < 1 << 30 ? (uint32_t)remembered : 1u << 30);
    if (self->memory) return (PyObject *)self;
    Py_DECREF(self);
    return PyErr_NoMemory();
}

static void memory_free(PyObject *object) {
    TokenMemory *self = (TokenMemory *)object;
    tm_free(self->memory);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

int kolmo_memory_fits(const TokenMemory *memory, const TokenTree *tree, Py_ssize_t first, Py_ssize_t lanes) {
    int fits = memory->owner->tree.vocabulary == tree->tree.vocabulary && first >= 0 && lanes >= 0 &&
               first <= memory->memory->lanes - lanes;
    if (!fits) PyErr_SetString(PyExc_ValueError, "the memory is of another tree, or does not have these lanes");
    return fits;
}

int kolmo_memory_has_next(const TokenMemory *memory, int32_t lane) {
    const tm_lane *l = memory->memory->lane + lane;
    if (kolmo_taken(memory->busy)) return 0;
    if (l->at == l->end) PyErr_SetString(PyExc_ValueError, "the lane has no token left");
    return l->at < l->end;
}

/* One token of a lane: encoded where `nats` is NULL, else measured. `at`: its place in the lane, and of its first decision. */
static size_t code_token(tm_memory *memory, int32_t lane, TokenEncoder *self, size_t token, size_t at, double *nats) {
    const kolmo_tree *tree = &self->owner->tree;
    kolmo_queue *queue = &self->queue;
    const uint32_t target = queue->tokens[token];
    if (tree->span && !nats && token % tree->span == 0) kolmo_encode_choice(&queue->spans, &self->coder, queue->choices[token / tree->span]);
    tm_begin(memory, lane);
    for (int32_t level = memory->shape.levels - 1; level >= 0; level--) {
        if ((size_t)memory->low + ((size_t)1 << level) >= tree->vocabulary) { /* the right half is empty */
            tm_skip(memory);
            continue;
        }
        const int bit = target >> level & 1;
        const int32_t p = tm_predict(memory, queue->made[at++]);
        if (nats) *nats -= log((bit ? p : 65536 - p) / 65536.0);
        else kolmo_encode(&self->coder, bit, (uint32_t)p);
        tm_update(memory, bit);
    }
    tm_end(memory);
    return at;
}

/* All tokens of lanes from `first` on, each lane's kept by an encoder: the first of every lane, then the second, ... Their
 * costs are written where `nats` is not NULL, lane after lane; else they are encoded. */
static void code_lanes(tm_memory *memory, TokenEncoder *const *encoders, int32_t lanes, int32_t first, size_t *decisions, double *nats) {
    size_t longest = 0;
    for (int32_t k = 0; k < lanes; k++) longest = encoders[k]->queue.token_count > longest ? encoders[k]->queue.token_count : longest;
    for (size_t token = 0; token < longest; token++) {
        double *costs = nats;
        for (int32_t k = 0; k < lanes; k++) {
            const size_t count = encoders[k]->queue.token_count;
            if (token < count) decisions[k] = code_token(memory, first + k, encoders[k], token, decisions[k], costs ? costs + token : NULL);
            if (costs) costs += count;
        }
    }
}

/* The encoders of a list, each referenced; NULL with the error set. Their last spans are closed. */
static TokenEncoder **take_encoders(const TokenMemory *self, PyObject *list, Py_ssize_t first) {
    const Py_ssize_t n = PyList_Size(list);
    if (n < 0 || kolmo_taken(self->busy)) return NULL;
    TokenEncoder **encoders = (TokenEncoder **)calloc((size_t)n + 1, sizeof *encoders);
    if (!encoders) return (TokenEncoder **)PyErr_NoMemory();
    for (Py_ssize_t k = 0; k < n; k++) {
        PyObject *one = PyList_GetItem(list, k);
        int good = one && Py_TYPE(one) == TokenEncoderType;
        if (!good) PyErr_SetString(PyExc_TypeError, "needs a list of encoders");
        TokenEncoder *encoder = (TokenEncoder *)one;
        if (good && kolmo_token_encoder_close(encoder) && kolmo_memory_fits(self, encoder->owner, first, n)) {
            const tm_lane *lane = self->memory->lane + first + k;
            if (encoder->queue.keeps && lane->end - lane->at == encoder->queue.token_count) {
                Py_INCREF(one);
                encoders[k] = encoder;
                continue;
            }
            PyErr_SetString(PyExc_ValueError, "an encoder does not hold all tokens of its lane");
        }
        for (Py_ssize_t i = 0; i < k; i++) Py_DECREF(encoders[i]);
        free(encoders);
        return NULL;
    }
    return encoders;
}

static PyObject *memory_code(TokenMemory *self, PyObject *args, int costs) {
    PyObject *list, *result = NULL;
    Py_ssize_t first, n, total = 0;
    int failed = 0;
    if (!PyArg_ParseTuple(args, costs ? "O!n:costs" : "O!n:encode", &PyList_Type, &list, &first)) return NULL;
    TokenEncoder **encoders = take_encoders(self, list, first);
    if (!encoders) return NULL;
    n = PyList_Size(list);
    for (Py_ssize_t k = 0; k < n; k++) total += (Py_ssize_t)encoders[k]->queue.token_count;
    size_t *decisions = (size_t *)calloc((size_t)n + 1, sizeof *decisions);
    if (costs) result = PyBytes_FromStringAndSize(NULL, 8 * total);
    double *nats = result ? (double *)(void *)PyBytes_AsString(result) : NULL;
    if (!decisions || (costs && !result)) {
        failed = 1;
    } else {
        for (Py_ssize_t i = 0; nats && i < total; i++) nats[i] = 0;
        self->busy = 1;
        for (Py_ssize_t k = 0; k < n; k++) encoders[k]->busy = 1;
        Py_BEGIN_ALLOW_THREADS
        code_lanes(self->memory, encoders, (int32_t)n, (int32_t)first, decisions, nats);
        Py_END_ALLOW_THREADS
        self->busy = 0;
        for (Py_ssize_t k = 0; k < n; k++) {
            encoders[k]->busy = 0;
            failed |= encoders[k]->coder.failed;
        }
    }
    for (Py_ssize_t k = 0; k < n; k++) Py_DECREF(encoders[k]);
    free(encoders);
    free(decisions);
    if (failed) {
        Py_XDECREF(result);
        return PyErr_NoMemory();
    }
    if (costs) return result;
    Py_RETURN_NONE;
}

static PyObject *memory_encode(PyObject *self, PyObject *args) { return memory_code((TokenMemory *)self, args, 0); }
static PyObject *memory_costs(PyObject *self, PyObject *args) { return memory_code((TokenMemory *)self, args, 1); }

static PyMethodDef memory_methods[] = {
    {"encode", memory_encode, METH_VARARGS, "encode(encoders, first): code all tokens of lanes from `first` on, which the encoders keep."},
    {"costs", memory_costs, METH_VARARGS, "costs(encoders, first): nats of each token, lane after lane, instead of coding them."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot memory_slots[] = {
    {Py_tp_new, (void *)memory_new},
    {Py_tp_dealloc, (void *)memory_free},
    {Py_tp_methods, memory_methods},
    {Py_tp_doc, (void *)"What the tokens of a block so far say about the next one."},
    {0, NULL},
};
PyType_Spec token_memory_spec = {"kolmo.native._kernels.TokenMemory", sizeof(TokenMemory), 0, Py_TPFLAGS_DEFAULT, memory_slots};
