/* The search with feedback, and its function for Python: feedback.py is the specification. */
#include <stdlib.h>
#include <string.h>

#include "bitshift/search.h"
#include "bitshift_product/product.h"
#include "module.h"
#include "products/arithmetic.h"

static bitshift_follow *follow = bitshift_follow_baseline;

void bitshift_choose_feedback(int width) {
    (void)width;
    follow = bitshift_follow_baseline;
#if defined(KOLMO_AVX2)
    if (width == 1) follow = bitshift_follow_avx2;
#endif
#if defined(KOLMO_AVX512)
    if (width == 2) follow = bitshift_follow_avx512;
#endif
}

static void end_feedback(bitshift_feedback *f) {
    free(f->values);
    free(f->wanted);
    free(f->spread);
    free(f->costs);
    free(f->chosen);
    free(f->near[0]);
    free(f->near[1]);
    free(f->far);
    free(f->choices);
}

/* 0 if memory is short; then there is nothing to end. */
static int begin_feedback(bitshift_feedback *f) {
    const size_t states = (size_t)1 << f->states_log, sets = states >> f->bits;
    f->values = malloc(states * sizeof *f->values);
    f->wanted = malloc(states * sizeof *f->wanted);
    f->spread = malloc(states * sizeof *f->spread);
    f->costs = malloc(sets * sizeof *f->costs);
    f->chosen = malloc(sets * sizeof *f->chosen);
    for (int i = 0; i < 2; i++) f->near[i] = malloc(sets * FEEDBACK_NEAR * sizeof *f->near[i]);
    f->far = malloc(f->width * sizeof *f->far);
    f->choices = malloc(f->width * sets);
    if (!f->values || !f->wanted || !f->spread || !f->costs || !f->chosen || !f->near[0] || !f->near[1] || !f->far || !f->choices) {
        end_feedback(f);
        return 0;
    }
    for (size_t i = 0; i < states; i++) f->values[i] = (float)bitshift_value((uint32_t)i);
    return 1;
}

static int follow_rows(bitshift_feedback *f, const char *seams, const char *targets, size_t rows, char *words, char *values) {
    if (!begin_feedback(f)) return 0;
    const size_t width = f->width, row_bytes = (size_t)f->bits * width / 8;
    float *row = malloc(width * sizeof *row);
    uint32_t *found = malloc(row_bytes);
    uint8_t *news = malloc(width);
    const int done = row && found && news;
    const uint64_t had = kolmo_plain_arithmetic();
    for (size_t i = 0; done && i < rows; i++) {
        uint32_t seam;
        memcpy(&seam, seams + i * sizeof seam, sizeof seam);
        memcpy(row, targets + i * width * sizeof *row, width * sizeof *row);
        follow(f, row, seam, news);
        bitshift_write_row(f->states_log, f->bits, width, news, found, (int8_t *)values + i * width);
        memcpy(words + i * row_bytes, found, row_bytes);
    }
    kolmo_restore_arithmetic(had);
    free(row);
    free(found);
    free(news);
    end_feedback(f);
    return done;
}

/* Whether all seams are numbers of sets. */
static int are_sets(const char *seams, size_t rows, int kept) {
    for (size_t i = 0; i < rows; i++) {
        uint32_t seam;
        memcpy(&seam, seams + i * sizeof seam, sizeof seam);
        if (seam >> kept) return 0;
    }
    return 1;
}

PyObject *bitshift_feedback_search_py(PyObject *module, PyObject *args) {
    const char *seams, *targets, *importance, *feedback;
    Py_ssize_t width, seams_size, targets_size, importance_size, feedback_size;
    bitshift_feedback f = {0};
    int done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiny#y#y#y#:bitshift_feedback_search", &f.states_log, &f.bits, &width, &seams, &seams_size,
                          &targets, &targets_size, &importance, &importance_size, &feedback, &feedback_size))
        return NULL;
    const int fits = (f.states_log == 12 || f.states_log == 16) && f.bits >= 2 && f.bits <= 4 && width >= 32 &&
                     width <= BITSHIFT_COLUMNS && width % 32 == 0;
    const Py_ssize_t rows = seams_size / 4;
    if (!fits || seams_size % 4 || targets_size / (4 * width) != rows || targets_size % (4 * width) || importance_size != 4 * width ||
        feedback_size / (4 * width) != width || feedback_size % (4 * width) ||
        !are_sets(seams, (size_t)rows, f.states_log - f.bits)) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    f.width = (size_t)width;
    f.importance = (const float *)(const void *)importance;
    f.feedback = (const float *)(const void *)feedback;
    PyObject *words = PyBytes_FromStringAndSize(NULL, rows * f.bits * width / 8);
    PyObject *values = PyBytes_FromStringAndSize(NULL, rows * width);
    if (words && values) {
        char *w = PyBytes_AsString(words), *v = PyBytes_AsString(values); /* no other reference to them exists yet */
        Py_BEGIN_ALLOW_THREADS
        done = follow_rows(&f, seams, targets, (size_t)rows, w, v);
        Py_END_ALLOW_THREADS
        if (!done) PyErr_NoMemory();
    }
    PyObject *result = done ? PyTuple_Pack(2, words, values) : NULL;
    Py_XDECREF(words);
    Py_XDECREF(values);
    return result;
}
