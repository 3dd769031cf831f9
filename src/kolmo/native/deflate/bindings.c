/* The functions of deflate.h and rows.h for Python: see deflate/reference.py and deflate/rows.py. */
#include "module.h"

#include "deflate/deflate.h"
#include "deflate/rows.h"

static PyObject *deflate(PyObject *module, PyObject *args) {
    PyObject *content;
    char *bytes;
    Py_ssize_t size;
    long long most = DEFLATE_UNLIMITED;
    int level, memory, window, filtered, done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "Siiii|L:deflate", &content, &level, &memory, &window, &filtered, &most)) return NULL;
    if (PyBytes_AsStringAndSize(content, &bytes, &size) < 0) return NULL;
    if (level < 1 || level > 9 || memory < 1 || memory > 9 || window < 9 || window > 15 || filtered < 0 || filtered > 1 || most < 0 || (size_t)size > DEFLATE_MAX_CONTENT) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    deflate_stream *stream = malloc(sizeof *stream);
    if (!stream) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    done = deflate_begin(stream, (const uint8_t *)bytes, (size_t)size, level, memory, window, filtered, (uint64_t)most) && deflate_run(stream, level);
    Py_END_ALLOW_THREADS
    PyObject *packed = NULL;
    if (done) {
        packed = PyBytes_FromStringAndSize((const char *)stream->bits.bytes, (Py_ssize_t)stream->bits.size);
    } else if (stream->compared > stream->most_compared) {
        PyErr_SetString(PyExc_OverflowError, "the search takes more comparisons than are allowed");
    } else {
        PyErr_NoMemory();
    }
    deflate_release(stream);
    free(stream);
    return packed;
}

static PyObject *convert_rows(PyObject *args, int split) {
    PyObject *given;
    char *from;
    Py_ssize_t size;
    int row, pixel;
    if (!PyArg_ParseTuple(args, "Sii", &given, &row, &pixel)) return NULL;
    if (PyBytes_AsStringAndSize(given, &from, &size) < 0) return NULL;
    if (pixel < 1 || row < pixel || row > 1 << 15) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    PyObject *made = PyBytes_FromStringAndSize(NULL, size);
    if (!made) return NULL;
    uint8_t *to = (uint8_t *)PyBytes_AsString(made);
    Py_BEGIN_ALLOW_THREADS
    rows_convert(split ? (uint8_t *)from : to, split ? to : (uint8_t *)from, (size_t)size, (size_t)row, (size_t)pixel, split);
    Py_END_ALLOW_THREADS
    return made;
}

static PyObject *split_rows(PyObject *module, PyObject *args) {
    (void)module;
    return convert_rows(args, 1);
}

static PyObject *join_rows(PyObject *module, PyObject *args) {
    (void)module;
    return convert_rows(args, 0);
}

PyMethodDef deflate_functions[] = {
    {"deflate", deflate, METH_VARARGS, "deflate(content, level, memory, window, filtered, most=2**62) -> bytes: as deflate/reference.py."},
    {"split_rows", split_rows, METH_VARARGS, "split_rows(content, row, pixel) -> bytes: as deflate/rows.py."},
    {"join_rows", join_rows, METH_VARARGS, "join_rows(apart, row, pixel) -> bytes: as deflate/rows.py."},
    {NULL, NULL, 0, NULL},
};
