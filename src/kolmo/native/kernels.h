/* What the files of the Python module share. Each type mirrors the class of the same name in reference.py: same methods,
 * same bits, same errors. Long runs release the interpreter's lock; an object serves one thread at a time, and says so
 * when two try. CPython's Limited API, 3.10. */
#ifndef KOLMO_KERNELS_H
#define KOLMO_KERNELS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "mixer/context_mixing.h"
#include "network/network.h"

typedef struct {
    PyObject_HEAD
    kolmo_encoder coder;
    int busy;
} Encoder;

typedef struct {
    PyObject_HEAD
    kolmo_decoder coder;
    PyObject *payload, *remap;
    int busy;
} Decoder;

typedef struct {
    PyObject_HEAD
    kolmo_network *network;
} Network;

extern PyTypeObject *EncoderType, *DecoderType, *NetworkType, *NetworkLanesType;
extern PyType_Spec encoder_spec, decoder_spec, mixer_spec, network_spec, network_lanes_spec, neural_spec;
extern PyType_Spec token_tree_spec, token_encoder_spec, token_decoder_spec;
extern PyMethodDef training_functions[], network_functions[], trellis_functions[], residual_functions[];
extern PyObject *CorruptError;

/* How the context mixer's bits are run: the path that was chosen. */
typedef void (*cm_run)(cm_model *, int, uint8_t *, size_t, void *, uint16_t *);
extern cm_run run_context_mixing;
typedef size_t (*cm_run_lanes)(cm_model *, int, uint8_t *, const uint32_t *, void *, uint16_t *);
extern cm_run_lanes run_lanes;

/* The same for masses of logits: 0 baseline, 1 AVX2, 2 AVX-512. And the type that tokens/bindings.c looks for. */
void kolmo_choose_masses(int width);
void kolmo_token_tree_type(PyTypeObject *type);

/* Whether the object is in use by another thread; sets the error. */
int kolmo_taken(int busy);
/* The same for an encoder; a finished one is an error too. */
int kolmo_encoder_taken(const Encoder *encoder);
/* Whether the decoder has read past its payload; sets the error. */
int kolmo_exhausted(const kolmo_decoder *decoder);
/* A new object of a type, and the end of one. */
void *kolmo_instance(PyTypeObject *type);
void kolmo_release(PyObject *self);

#endif
