/* What the types TokenTree, TokenEncoder and TokenDecoder share. */
#ifndef KOLMO_TOKENS_BINDINGS_H
#define KOLMO_TOKENS_BINDINGS_H

#include "objects.h"
#include "tokens/heaps.h"

typedef struct {
    PyObject_HEAD
    kolmo_tree tree;
} TokenTree;

typedef struct {
    PyObject_HEAD
    TokenTree *owner;
    kolmo_encoder coder;
    kolmo_queue queue;
    kolmo_heaps heaps;
    int busy;
} TokenEncoder;

typedef struct {
    PyObject_HEAD
    TokenTree *owner;
    tm_memory *memory;
    int busy;
} TokenMemory;

/* Rows of logits, and the token of each. */
typedef struct {
    const char *logits, *targets; /* `targets`: 32-bit integers */
    Py_ssize_t logits_size, targets_size; /* in bytes */
    int itemsize; /* of a logit */
} token_rows;

/* How many rows there are; -1, with the error set, where sizes or targets are wrong. */
Py_ssize_t kolmo_count_rows(const kolmo_tree *tree, const token_rows *rows);
/* Row i, and its token. */
const char *kolmo_row(const kolmo_tree *tree, const token_rows *rows, Py_ssize_t i);
size_t kolmo_target(const token_rows *rows, Py_ssize_t i);

/* Whether lanes `first` to `first + lanes - 1` of a memory can be used with this tree; sets the error. */
int kolmo_memory_fits(const TokenMemory *memory, const TokenTree *tree, Py_ssize_t first, Py_ssize_t lanes);
/* Whether the lane has a token left, and nobody uses the memory; sets the error. */
int kolmo_memory_has_next(const TokenMemory *memory, int32_t lane);

/* Close the encoder's last span; 0 where encoding failed, or it is finished or in use, with the error set. */
int kolmo_token_encoder_close(TokenEncoder *encoder);

/* NULL, with the error of logits that are not finite. */
PyObject *kolmo_not_finite(void);

#endif
