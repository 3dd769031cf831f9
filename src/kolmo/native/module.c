/* The Python module `kolmo.native._kernels`: its types and functions. */
#include "module.h"

#include "objects.h"
#include "paths.h"

static PyObject *force_path(PyObject *module, PyObject *args) {
    const char *path;
    (void)module;
    if (!PyArg_ParseTuple(args, "s:force_path", &path)) return NULL;
    if (!kolmo_choose_path(path)) {
        PyErr_Format(PyExc_ValueError, "no such path here: %s", path);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"force_path", force_path, METH_VARARGS, "force_path(name): use one of PATHS for all models from now on."},
    {NULL, NULL, 0, NULL},
};

/* `kept`: where bindings find the type, for those that other bindings use; NULL for the others. */
static const struct {
    const char *name;
    PyType_Spec *spec;
    PyTypeObject **kept;
} types[] = {
    {"BinaryEncoder", &encoder_spec, &EncoderType},
    {"BinaryDecoder", &decoder_spec, &DecoderType},
    {"ContextMixer", &mixer_spec, NULL},
    {"Network", &network_spec, &NetworkType},
    {"NetworkLanes", &network_lanes_spec, &NetworkLanesType},
    {"NeuralMixer", &neural_spec, NULL},
    {"PixelMixer", &pixel_mixer_spec, NULL},
    {"PixelNetwork", &pixel_network_spec, &PixelNetworkType},
    {"SampleNetwork", &sample_network_spec, &SampleNetworkType},
    {"SoundMixer", &sound_mixer_spec, NULL},
    {"TokenTree", &token_tree_spec, &TokenTreeType},
    {"TokenMemory", &token_memory_spec, &TokenMemoryType},
    {"TokenEncoder", &token_encoder_spec, &TokenEncoderType},
    {"TokenDecoder", &token_decoder_spec, NULL},
};

static PyMethodDef *const tables_of_functions[] = {training_functions, network_functions, trellis_functions, residual_functions,
                                                 sample_functions, deflate_functions, binary_functions, quants_functions,
                                                 bitshift_search_functions, product_functions, trellis_packing_functions};

static int add_types(PyObject *module) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        PyObject *type = PyType_FromSpec(types[i].spec);
        if (!type || PyModule_AddObjectRef(module, types[i].name, type) < 0) {
            Py_XDECREF(type);
            return 0;
        }
        if (types[i].kept) *types[i].kept = (PyTypeObject *)type;
    }
    return 1;
}

static int add_functions(PyObject *module) {
    for (size_t i = 0; i < sizeof tables_of_functions / sizeof *tables_of_functions; i++)
        if (PyModule_AddFunctions(module, tables_of_functions[i]) < 0) return 0;
    return 1;
}

/* PATHS, and the fastest of them in use. */
static int add_paths(PyObject *module) {
    const char *names[KOLMO_MAX_PATHS];
    int count = kolmo_list_paths(names);
    PyObject *paths = PyTuple_New(count);
    for (int i = 0; paths && i < count; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyTuple_SetItem(paths, i, name) < 0) Py_CLEAR(paths);
    }
    int done = paths && PyModule_AddObjectRef(module, "PATHS", paths) == 0 && kolmo_choose_path(names[count - 1]);
    Py_XDECREF(paths);
    return done;
}

static int find_errors(void) {
    PyObject *errors = PyImport_ImportModule("kolmo.errors");
    CorruptError = errors ? PyObject_GetAttrString(errors, "CorruptError") : NULL;
    Py_XDECREF(errors);
    return CorruptError != NULL;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", "kolmo's kernels in C.", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    PyObject *module = PyModule_Create(&definition);
    if (!module || !find_errors() || !add_paths(module) || !add_types(module) || !add_functions(module)) Py_CLEAR(module);
    return module;
}
