/* What each room's bindings hand to the module: types and functions. */
#ifndef KOLMO_MODULE_H
#define KOLMO_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

extern PyType_Spec encoder_spec, decoder_spec, mixer_spec, network_spec, network_lanes_spec, neural_spec;
extern PyType_Spec pixel_network_spec, pixel_mixer_spec, sample_network_spec, sound_mixer_spec;
extern PyType_Spec token_tree_spec, token_encoder_spec, token_decoder_spec, token_memory_spec;
extern PyMethodDef training_functions[], network_functions[], trellis_functions[], residual_functions[];
extern PyMethodDef sample_functions[], deflate_functions[], binary_functions[], quants_functions[];
extern PyMethodDef bitshift_search_functions[], product_functions[], trellis_packing_functions[];
PyObject *bitshift_feedback_search_py(PyObject *module, PyObject *args);

#endif
