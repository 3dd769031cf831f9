/* The types Network and NetworkLanes: see network.h and network/reference.py. */
#include "module.h"
#include "objects.h"

typedef struct {
    PyObject_HEAD
    kolmo_network_lanes *lanes;
    PyObject *network;
    int busy;
} Lanes;

static PyObject *network_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *weights;
    Py_ssize_t config_size, size;
    int32_t numbers[5 + 2 * NETWORK_MAX_TABLES];
    kolmo_network_tables constants;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#:Network", &config, &config_size, &weights, &size)) return NULL;
    size_t count = config_size % 4 || config_size > (Py_ssize_t)sizeof numbers ? 0 : (size_t)config_size / 4;
    memcpy(numbers, config, 4 * count);
    const char *problem;
    Py_BEGIN_ALLOW_THREADS
    problem = kolmo_network_problem(numbers, count, (const uint8_t *)weights, (size_t)size);
    Py_END_ALLOW_THREADS
    if (problem) {
        PyErr_SetString(PyExc_ValueError, problem);
        return NULL;
    }
    if (!kolmo_network_constants(&constants)) return NULL;
    Network *self = (Network *)kolmo_instance(type);
    if (!self) return NULL;
    Py_BEGIN_ALLOW_THREADS
    self->network = kolmo_network_new(numbers, count, (const uint8_t *)weights, (size_t)size, &constants);
    Py_END_ALLOW_THREADS
    if (!self->network) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void network_free(PyObject *object) {
    kolmo_network_free(((Network *)object)->network);
    kolmo_release(object);
}

static PyObject *lanes_make(PyTypeObject *type, PyObject *network, Py_ssize_t count) {
    if (count < 1 || count > NETWORK_MAX_LANES) {
        PyErr_Format(PyExc_ValueError, "1 to %d lanes, not %zd", NETWORK_MAX_LANES, count);
        return NULL;
    }
    Lanes *self = (Lanes *)kolmo_instance(type);
    if (!self) return NULL;
    self->lanes = kolmo_network_lanes_new(((Network *)network)->network, (int)count, 1);
    if (!self->lanes) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    Py_INCREF(network);
    self->network = network;
    return (PyObject *)self;
}

static PyObject *network_start(PyObject *object, PyObject *args) {
    Py_ssize_t count;
    if (!PyArg_ParseTuple(args, "n:start", &count)) return NULL;
    return lanes_make(NetworkLanesType, object, count);
}

static PyObject *lanes_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    PyObject *network;
    Py_ssize_t count;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!n:NetworkLanes", NetworkType, &network, &count)) return NULL;
    return lanes_make(type, network, count);
}

static void lanes_free(PyObject *object) {
    Lanes *self = (Lanes *)object;
    kolmo_network_lanes_free(self->lanes);
    Py_XDECREF(self->network);
    kolmo_release(object);
}

static PyObject *lanes_step(PyObject *object, PyObject *args) {
    Lanes *self = (Lanes *)object;
    kolmo_network_lanes *l = self->lanes;
    const char *symbols;
    Py_ssize_t size, first = 0, last = l->lanes;
    if (!PyArg_ParseTuple(args, "y#|nn:step", &symbols, &size, &first, &last) || kolmo_taken(self->busy)) return NULL;
    if (size % l->lanes) {
        PyErr_Format(PyExc_ValueError, "%zd bytes are not a whole number of steps of %d lanes", size, l->lanes);
        return NULL;
    }
    if (first < 0 || first >= last || last > l->lanes) {
        PyErr_Format(PyExc_ValueError, "lanes %zd to %zd are not among %d", first, last, l->lanes);
        return NULL;
    }
    if (size > PY_SSIZE_T_MAX / (4 * NETWORK_SUMS) || size / l->lanes > INT32_MAX) return PyErr_NoMemory();
    PyObject *result = PyBytes_FromStringAndSize(NULL, size * 4 * NETWORK_SUMS);
    if (!result) return NULL;
    uint32_t *sums = (uint32_t *)(void *)PyBytes_AsString(result);
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    if (last - first < l->lanes) memset(sums, 0, (size_t)size * 4 * NETWORK_SUMS);
    kolmo_network_step(l, (const uint8_t *)symbols, (int)(size / l->lanes), (int)first, (int)last, sums);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    return result;
}

/* For tests: the log-odds that the context mixer computes from two sums. */
static PyObject *network_stretch(PyObject *module, PyObject *args) {
    unsigned int zeros, ones;
    kolmo_network_tables constants;
    (void)module;
    if (!PyArg_ParseTuple(args, "II:network_stretch", &zeros, &ones) || !kolmo_network_constants(&constants)) return NULL;
    if (!zeros || !ones) {
        PyErr_SetString(PyExc_ValueError, "weights are positive");
        return NULL;
    }
    return PyLong_FromLong(kolmo_network_stretch(constants.log, zeros, ones));
}

PyMethodDef network_functions[] = {
    {"network_stretch", network_stretch, METH_VARARGS, "network_stretch(zeros, ones): see network/reference.py."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef network_methods[] = {
    {"start", network_start, METH_VARARGS, "start(lanes): lanes before their first byte."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot network_slots[] = {
    {Py_tp_new, (void *)network_new},
    {Py_tp_dealloc, (void *)network_free},
    {Py_tp_methods, network_methods},
    {Py_tp_doc, (void *)"Network(config, weights): weights of a network, shared by all lanes."},
    {0, NULL},
};
PyType_Spec network_spec = {"kolmo.native._kernels.Network", sizeof(Network), 0, Py_TPFLAGS_DEFAULT, network_slots};

static PyMethodDef lanes_methods[] = {
    {"step", lanes_step, METH_VARARGS, "step(symbols, first=0, last=lanes): sums of weights, steps x lanes x 512."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lanes_slots[] = {
    {Py_tp_new, (void *)lanes_new},
    {Py_tp_dealloc, (void *)lanes_free},
    {Py_tp_methods, lanes_methods},
    {Py_tp_doc, (void *)"NetworkLanes(network, lanes): the state of a number of lanes."},
    {0, NULL},
};
PyType_Spec network_lanes_spec = {"kolmo.native._kernels.NetworkLanes", sizeof(Lanes), 0, Py_TPFLAGS_DEFAULT,
                                  lanes_slots};
