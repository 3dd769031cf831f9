/* What the bindings of the mixers share: a model of one block or stream that codes in one direction, and begins with a prior.
 *
 * A type adds its constructor and `forget`. What this is not: the type NeuralMixer, which codes all lanes of a block in steps. */
#ifndef KOLMO_MODELS_H
#define KOLMO_MODELS_H

#include "objects.h"

/* How the models of a type work. */
typedef struct {
    /* The next bytes: `coder` is a kolmo_encoder, a kolmo_decoder or NULL; `costs` takes 8 numbers for each byte when scoring. */
    void (*run)(void *model, int direction, uint8_t *data, size_t size, void *coder, uint16_t *costs);
    /* Why the next `size` bytes (below 0: an error of the caller) cannot be coded; NULL where they can. */
    const char *(*refusal)(const void *model, Py_ssize_t size);
    /* The learned numbers, in the layout of the prior that the model began with. */
    void (*export_prior)(const void *model, const int32_t *began, int32_t *prior);
    void (*release)(void *model);
} model_kind;

typedef struct {
    PyObject_HEAD
    const model_kind *kind;
    void *model;
    PyObject *prior, *network; /* bytes; the object of its network, or NULL */
    int direction, busy;       /* direction: -1 until the first call */
} Model;

/* A new object, which owns the model and releases it where there is no memory; sets the error for a model that is NULL. */
PyObject *kolmo_model_object(PyTypeObject *type, const model_kind *kind, void *model, PyObject *prior, PyObject *network);
void kolmo_model_free(PyObject *object);

/* Methods: encode(encoder, data), decode(decoder, size), costs(data), learned(). */
PyObject *kolmo_model_encode(PyObject *object, PyObject *args);
PyObject *kolmo_model_decode(PyObject *object, PyObject *args);
PyObject *kolmo_model_costs(PyObject *object, PyObject *args);
PyObject *kolmo_model_learned(PyObject *object, PyObject *unused);

#endif
