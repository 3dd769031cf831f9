/* The Python module `kolmo.native._kernels`. */
#include "kernels.h"

#if defined(KOLMO_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

PyObject *CorruptError;
cm_run run_context_mixing = cm_run_baseline;
cm_run_lanes run_lanes = cm_run_lanes_baseline;

int kolmo_taken(int busy) {
    if (busy) PyErr_SetString(PyExc_RuntimeError, "this object is in use by another thread");
    return busy;
}

void *kolmo_instance(PyTypeObject *type) {
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    return alloc(type, 0);
}

void kolmo_release(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

static int has_avx2(void) {
#if defined(KOLMO_AVX2)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
#else
    return 0;
#endif
}

static int has_avx512(void) {
#if defined(KOLMO_AVX512)
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

/* Tiles of 8-bit integers: the processor has them, and the system keeps them for this process when it is asked to. */
static int has_amx(void) {
#if defined(KOLMO_AMX)
    static int answer = -1;
    if (answer >= 0) return answer;
    const unsigned tiles = 3u << 24, state = 3u << 17; /* TILE and INT8; both parts of their state */
    unsigned a, b, c, d, low, high;
    answer = 0;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tiles) != tiles) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & state) != state) return 0;
    return answer = !syscall(SYS_arch_prctl, 0x1023, 18); /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
#else
    return 0;
#endif
}

/* The path of a name; the context mixer has none of its own for AVX-512 and AMX. */
static int choose(const char *path) {
#if defined(KOLMO_AMX)
    if (!strcmp(path, "amx") && has_amx()) {
        run_context_mixing = cm_run_avx2;
        run_lanes = cm_run_lanes_avx2;
        kolmo_network_path = network_run_amx;
        kolmo_choose_masses(2);
        return 1;
    }
#endif
#if defined(KOLMO_AVX512)
    if (!strcmp(path, "avx512") && has_avx512()) {
        run_context_mixing = cm_run_avx2;
        run_lanes = cm_run_lanes_avx2;
        kolmo_network_path = network_run_avx512;
        kolmo_choose_masses(2);
        return 1;
    }
#endif
#if defined(KOLMO_AVX2)
    if (!strcmp(path, "avx2") && has_avx2()) {
        run_context_mixing = cm_run_avx2;
        run_lanes = cm_run_lanes_avx2;
        kolmo_network_path = network_run_avx2;
        kolmo_choose_masses(1);
        return 1;
    }
#endif
    if (strcmp(path, "baseline")) return 0;
    run_context_mixing = cm_run_baseline;
    run_lanes = cm_run_lanes_baseline;
    kolmo_network_path = network_run_baseline;
    kolmo_choose_masses(0);
    return 1;
}

static PyObject *force_path(PyObject *module, PyObject *args) {
    const char *path;
    (void)module;
    if (!PyArg_ParseTuple(args, "s:force_path", &path)) return NULL;
    if (!choose(path)) {
        PyErr_Format(PyExc_ValueError, "no such path here: %s", path);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"force_path", force_path, METH_VARARGS, "force_path(name): use one of PATHS for all models from now on."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, const char *name) {
    PyObject *type = PyType_FromSpec(spec);
    if (type && PyModule_AddObjectRef(module, name, type) < 0) Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_kernels", "kolmo's kernels in C.", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__kernels(void) {
    PyObject *module = PyModule_Create(&definition), *errors = PyImport_ImportModule("kolmo.errors");
    PyTypeObject *tree;
    PyObject *paths = has_amx()      ? Py_BuildValue("(ssss)", "baseline", "avx2", "avx512", "amx")
                      : has_avx512() ? Py_BuildValue("(sss)", "baseline", "avx2", "avx512")
                      : has_avx2() ? Py_BuildValue("(ss)", "baseline", "avx2")
                                   : Py_BuildValue("(s)", "baseline");
    CorruptError = errors ? PyObject_GetAttrString(errors, "CorruptError") : NULL;
    Py_XDECREF(errors);
    if (!module || !paths || !CorruptError || PyModule_AddObjectRef(module, "PATHS", paths) < 0 ||
        !(EncoderType = add_type(module, &encoder_spec, "BinaryEncoder")) ||
        !(DecoderType = add_type(module, &decoder_spec, "BinaryDecoder")) ||
        !add_type(module, &mixer_spec, "ContextMixer") || !(NetworkType = add_type(module, &network_spec, "Network")) ||
        !(NetworkLanesType = add_type(module, &network_lanes_spec, "NetworkLanes")) ||
        !add_type(module, &neural_spec, "NeuralMixer") || !(tree = add_type(module, &token_tree_spec, "TokenTree")) ||
        !add_type(module, &token_encoder_spec, "TokenEncoder") || !add_type(module, &token_decoder_spec, "TokenDecoder") ||
        PyModule_AddFunctions(module, training_functions) < 0 || PyModule_AddFunctions(module, network_functions) < 0 ||
        PyModule_AddFunctions(module, trellis_functions) < 0 || PyModule_AddFunctions(module, residual_functions) < 0) {
        Py_XDECREF(module);
        Py_XDECREF(paths);
        return NULL;
    }
    Py_DECREF(paths);
    kolmo_token_tree_type(tree);
    choose(has_amx() ? "amx" : has_avx512() ? "avx512" : has_avx2() ? "avx2" : "baseline");
    return module;
}
