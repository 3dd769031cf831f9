/* The function binary_view: see binary/views.h. */
#include "module.h"

#include "binary/views.h"

static PyObject *binary_view(PyObject *module, PyObject *args) {
    int view, width, inverse;
    const char *data;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "iipy#:binary_view", &view, &width, &inverse, &data, &size)) return NULL;
    if (view < 0 || view >= KOLMO_VIEWS || width < 1 || width > 8) {
        PyErr_SetString(PyExc_ValueError, "there is no such view");
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, size);
    if (!result) return NULL;
    uint8_t *out = (uint8_t *)PyBytes_AsString(result);
    Py_BEGIN_ALLOW_THREADS
    kolmo_view(view, (uint32_t)width, inverse, (const uint8_t *)data, out, (size_t)size);
    Py_END_ALLOW_THREADS
    return result;
}

PyMethodDef binary_functions[] = {
    {"binary_view", binary_view, METH_VARARGS, "binary_view(view, width, inverse, data): the bytes in another order, or back."},
    {NULL, NULL, 0, NULL},
};
