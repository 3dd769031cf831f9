/* Loops over time for kolmo.training: the recurrence and the normalisation, on memory that torch owns. Addresses come
 * as integers and are trusted: kolmo.training.networks.cells alone calls these, with tensors that it holds. */
#include "module.h"

#define KOLMO_TARGET
#define KOLMO_PATH(x) x
#include "training/training.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#define KOLMO_WIDE 1
#define KOLMO_TARGET __attribute__((target("avx2,fma")))
#define KOLMO_PATH(x) x##_avx2
#include "training/training.h"
#undef KOLMO_TARGET
#undef KOLMO_PATH
#if defined(__clang__) /* has no such option here, and would ignore all of the list */
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prefer-vector-width=512")))
#endif
#define KOLMO_PATH(x) x##_avx512
#include "training/training.h"
#define RUN(name, ...) (wide == 2 ? name##_avx512(__VA_ARGS__) : wide ? name##_avx2(__VA_ARGS__) : name(__VA_ARGS__))
#else
#define RUN(name, ...) name(__VA_ARGS__)
#endif

#if defined(KOLMO_WIDE)
static int width_of_vectors(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#define BEGIN int wide = width_of_vectors(); Py_BEGIN_ALLOW_THREADS
#else
#define BEGIN Py_BEGIN_ALLOW_THREADS
#endif

#define AT(x) ((void *)(uintptr_t)(x))

static PyObject *cell_forward_py(PyObject *module, PyObject *args) {
    unsigned long long z, bias, before, h, y;
    Py_ssize_t steps, lanes, width, first, last;
    int bf16;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKKKKnnnnnp:cell_forward", &z, &bias, &before, &h, &y, &steps, &lanes, &width, &first, &last, &bf16))
        return NULL;
    BEGIN
    if (bf16) RUN(cell_forward_bf16, AT(z), AT(bias), AT(before), AT(h), AT(y), (size_t)steps, (size_t)lanes, (size_t)width, (size_t)first, (size_t)last);
    else RUN(cell_forward_float, AT(z), AT(bias), AT(before), AT(h), AT(y), (size_t)steps, (size_t)lanes, (size_t)width, (size_t)first, (size_t)last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *cell_backward_py(PyObject *module, PyObject *args) {
    unsigned long long z, bias, before, h, dy, dz, carry, dbias;
    Py_ssize_t steps, lanes, width, first, last;
    int bf16;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKKKKKKKnnnnnp:cell_backward", &z, &bias, &before, &h, &dy, &dz, &carry, &dbias, &steps, &lanes, &width, &first, &last, &bf16))
        return NULL;
    BEGIN
    if (bf16) RUN(cell_backward_bf16, AT(z), AT(bias), AT(before), AT(h), AT(dy), AT(dz), AT(carry), AT(dbias), (size_t)steps, (size_t)lanes, (size_t)width, (size_t)first, (size_t)last);
    else RUN(cell_backward_float, AT(z), AT(bias), AT(before), AT(h), AT(dy), AT(dz), AT(carry), AT(dbias), (size_t)steps, (size_t)lanes, (size_t)width, (size_t)first, (size_t)last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *norm_forward_py(PyObject *module, PyObject *args) {
    unsigned long long x, u, inverse;
    Py_ssize_t width, first, last;
    float scale;
    int integers, bf16;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKKnfpnnp:norm_forward", &x, &u, &inverse, &width, &scale, &integers, &first, &last, &bf16))
        return NULL;
    BEGIN
    if (bf16) RUN(norm_forward_bf16, AT(x), AT(u), AT(inverse), (size_t)width, scale, integers, (size_t)first, (size_t)last);
    else RUN(norm_forward_float, AT(x), AT(u), AT(inverse), (size_t)width, scale, integers, (size_t)first, (size_t)last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyObject *norm_backward_py(PyObject *module, PyObject *args) {
    unsigned long long x, inverse, du, dx;
    Py_ssize_t width, first, last;
    float scale;
    int integers, bf16;
    (void)module;
    if (!PyArg_ParseTuple(args, "KKKKnfpnnp:norm_backward", &x, &inverse, &du, &dx, &width, &scale, &integers, &first, &last, &bf16))
        return NULL;
    BEGIN
    if (bf16) RUN(norm_backward_bf16, AT(x), AT(inverse), AT(du), AT(dx), (size_t)width, scale, integers, (size_t)first, (size_t)last);
    else RUN(norm_backward_float, AT(x), AT(inverse), AT(du), AT(dx), (size_t)width, scale, integers, (size_t)first, (size_t)last);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyMethodDef training_functions[] = {
    {"cell_forward", cell_forward_py, METH_VARARGS, "See kolmo.training.networks.cells."},
    {"cell_backward", cell_backward_py, METH_VARARGS, "See kolmo.training.networks.cells."},
    {"norm_forward", norm_forward_py, METH_VARARGS, "See kolmo.training.networks.cells."},
    {"norm_backward", norm_backward_py, METH_VARARGS, "See kolmo.training.networks.cells."},
    {NULL, NULL, 0, NULL},
};
