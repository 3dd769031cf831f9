/* What the types TokenTree, TokenEncoder and TokenDecoder share. */
#ifndef KOLMO_TOKENS_BINDINGS_H
#define KOLMO_TOKENS_BINDINGS_H

#include "objects.h"
#include "tokens/heaps.h"

typedef struct {
    PyObject_HEAD
    kolmo_tree tree;
} TokenTree;

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

/* NULL, with the error of logits that are not finite. */
PyObject *kolmo_not_finite(void);

#endif
