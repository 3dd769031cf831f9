/* The function of deflate.h for Python: see deflate/reference.py. */
#include "module.h"

#include "deflate/deflate.h"

static PyObject *deflate(PyObject *module, PyObject *args) {
    PyObject *content;
    char *bytes;
    Py_ssize_t size;
    int level, memory, window, filtered, done = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "Siiii:deflate", &content, &level, &memory, &window, &filtered)) return NULL;
    if (PyBytes_AsStringAndSize(content, &bytes, &size) < 0) return NULL;
    if (level < 1 || level > 9 || memory < 1 || memory > 9 || window < 9 || window > 15 || filtered < 0 || filtered > 1 || (size_t)size > DEFLATE_MAX_CONTENT) {
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
        return NULL;
    }
    deflate_stream *stream = malloc(sizeof *stream);
    if (!stream) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    done = deflate_begin(stream, (const uint8_t *)bytes, (size_t)size, level, memory, window, filtered) && deflate_run(stream, level);
    Py_END_ALLOW_THREADS
    PyObject *packed = done ? PyBytes_FromStringAndSize((const char *)stream->bits.bytes, (Py_ssize_t)stream->bits.size) : PyErr_NoMemory();
    deflate_release(stream);
    free(stream);
    return packed;
}

PyMethodDef deflate_functions[] = {
    {"deflate", deflate, METH_VARARGS, "deflate(content, level, memory, window, filtered) -> bytes: as deflate/reference.py."},
    {NULL, NULL, 0, NULL},
};
