/* The type TokenTree: see tokens.h and tokens/reference.py. */
#include "module.h"
#include "tokens/bindings.h"

/* `tables`: slack, span, number of points, the points, their chances; all are doubles. */
static PyObject *tree_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *bytes;
    Py_ssize_t size, vocabulary;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#n:TokenTree", &bytes, &size, &vocabulary)) return NULL;
    double head[3] = {0};
    if ((size_t)size >= sizeof head) memcpy(head, bytes, sizeof head);
    int good = (size_t)size >= sizeof head && vocabulary >= 1 && vocabulary <= 1 << 24 && head[0] >= 0 && head[1] >= 0 &&
               head[1] <= 65536 && head[2] >= 1 && head[2] <= KOLMO_MAX_POINTS;
    if (!good || (double)size != 8 * (3 + 2 * head[2])) {
        PyErr_SetString(PyExc_ValueError, "the tables are not those of a token tree");
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

PyObject *kolmo_not_finite(void) {
    PyErr_SetString(PyExc_ValueError, "a logit is not finite");
    return NULL;
}

size_t kolmo_target(const token_rows *rows, Py_ssize_t i) {
    int32_t target;
    memcpy(&target, rows->targets + 4 * i, 4);
    return (size_t)target;
}

const char *kolmo_row(const kolmo_tree *tree, const token_rows *rows, Py_ssize_t i) {
    return rows->logits + (size_t)i * tree->vocabulary * (size_t)rows->itemsize;
}

Py_ssize_t kolmo_count_rows(const kolmo_tree *tree, const token_rows *rows) {
    Py_ssize_t count = rows->targets_size / 4;
    int good = (rows->itemsize == 4 || rows->itemsize == 8) && rows->targets_size % 4 == 0;
    if (!good || rows->logits_size != count * (Py_ssize_t)tree->vocabulary * rows->itemsize) {
        PyErr_SetString(PyExc_ValueError, "needs a row of the vocabulary's logits for each target");
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (kolmo_target(rows, i) >= tree->vocabulary) { /* a negative one is huge */
            PyErr_Format(PyExc_ValueError, "target %d is not in the vocabulary", (int)(int32_t)kolmo_target(rows, i));
            return -1;
        }
    return count;
}

/* What is measured of a row, whose sums above the middle are in `heaps`. */
typedef void measure(const kolmo_tree *tree, const kolmo_heaps *heaps, const char *row, int wide, size_t target, double greatest, double *values);

/* The cost of the target when it is coded, on the first grid. */
static void coded_cost(const kolmo_tree *tree, const kolmo_heaps *heaps, const char *row, int wide, size_t target, double greatest, double *values) {
    const kolmo_walker walker = {.nats = values};
    kolmo_heaps_leaf(heaps, tree, row, wide, target / KOLMO_GROUP, greatest);
    kolmo_walk_to(heaps, tree, &walker, target);
}

/* The cost of the target by its probability. */
static void ideal_cost(const kolmo_tree *tree, const kolmo_heaps *heaps, const char *row, int wide, size_t target, double greatest, double *values) {
    (void)tree;
    double logit = wide ? ((const double *)(const void *)row)[target] : (double)((const float *)(const void *)row)[target];
    *values = log(heaps->top[1]) + greatest - logit;
}

static void path_odds(const kolmo_tree *tree, const kolmo_heaps *heaps, const char *row, int wide, size_t target, double greatest, double *values) {
    const kolmo_walker walker = {.odds = values};
    kolmo_heaps_leaf(heaps, tree, row, wide, target / KOLMO_GROUP, greatest);
    kolmo_walk_to(heaps, tree, &walker, target);
}

/* `width` values of each row, as bytes. */
static PyObject *measure_rows(const kolmo_tree *tree, const token_rows *rows, size_t width, measure *row_values) {
    Py_ssize_t count = kolmo_count_rows(tree, rows);
    if (count < 0) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, count * (Py_ssize_t)width * 8);
    double *values = (double *)malloc(width * sizeof *values);
    kolmo_heaps heaps;
    int odd = 0, wide = rows->itemsize == 8, there = kolmo_heaps_new(&heaps, tree);
    if (result && values && there) {
        char *out = PyBytes_AsString(result);
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count && !odd; i++) {
            const char *row = kolmo_row(tree, rows, i);
            double greatest;
            odd = kolmo_heaps_top(&heaps, tree, row, wide, &greatest);
            if (odd) break;
            for (size_t k = 0; k < width; k++) values[k] = 0;
            row_values(tree, &heaps, row, wide, kolmo_target(rows, i), greatest, values);
            memcpy(out + (size_t)i * width * 8, values, width * 8);
        }
        Py_END_ALLOW_THREADS
        if (odd) {
            Py_CLEAR(result);
            kolmo_not_finite();
        }
    } else {
        Py_CLEAR(result);
        PyErr_NoMemory();
    }
    free(values);
    kolmo_heaps_free(&heaps);
    return result;
}

static PyObject *tree_costs(PyObject *object, PyObject *args) {
    token_rows rows;
    int coded;
    if (!PyArg_ParseTuple(args, "y#iy#p:costs", &rows.logits, &rows.logits_size, &rows.itemsize, &rows.targets, &rows.targets_size, &coded))
        return NULL;
    return measure_rows(&((TokenTree *)object)->tree, &rows, 1, coded ? coded_cost : ideal_cost);
}

static PyObject *tree_odds(PyObject *object, PyObject *args) {
    const kolmo_tree *tree = &((TokenTree *)object)->tree;
    token_rows rows;
    if (!PyArg_ParseTuple(args, "y#iy#:odds", &rows.logits, &rows.logits_size, &rows.itemsize, &rows.targets, &rows.targets_size))
        return NULL;
    return measure_rows(tree, &rows, (size_t)tree->top_depth + KOLMO_GROUP_DEPTH, path_odds);
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
