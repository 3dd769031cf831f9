/* What the bindings share: the objects that several of them use, whether one is in use, and memory for new ones.
 *
 * Each type mirrors the class of the same name in reference.py: same methods, same bits, same errors. Long runs release
 * the interpreter's lock; an object is used by one thread at a time, and raises an error when two try. CPython's Limited API, 3.10. */
#ifndef KOLMO_OBJECTS_H
#define KOLMO_OBJECTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "coder/coder.h"
#include "network/network.h"
#include "pixels/pixel_network.h"
#include "samples/sample_network.h"

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

typedef struct {
    PyObject_HEAD
    kolmo_pixel_network *network;
} PixelNetwork;

typedef struct {
    PyObject_HEAD
    kolmo_sample_network *network;
} SampleNetwork;

/* Set once, when the module is made. */
extern PyTypeObject *EncoderType, *DecoderType, *NetworkType, *NetworkLanesType, *PixelNetworkType, *SampleNetworkType, *TokenTreeType, *TokenEncoderType, *TokenMemoryType;
extern PyObject *CorruptError;

/* Whether the object is in use by another thread; sets the error. */
int kolmo_taken(int busy);
/* The same for an encoder; a finished one is an error too. */
int kolmo_encoder_taken(const Encoder *encoder);
/* Whether the decoder has read past its payload; sets the error. */
int kolmo_exhausted(const kolmo_decoder *decoder);
/* A table of native/tables.py, of `size` bytes; 0 where it has another size, with the error set. */
int kolmo_constant(PyObject *tables, const char *name, void *into, Py_ssize_t size);
/* The constants of the networks; 0 where that fails, with the error set. */
int kolmo_network_constants(kolmo_network_tables *constants);
/* A new object of a type, and the end of one. */
void *kolmo_instance(PyTypeObject *type);
void kolmo_release(PyObject *self);

#endif
