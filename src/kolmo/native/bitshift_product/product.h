/* Products with a payload of the bitshift trellis, and its rows decoded: docs/bitshift.md. reference.py is the specification.
 *
 * Words of 16 rows are interleaved, so a vector holds the same word of 16 rows, and the same weight of 16 rows is one
 * shift, one mask and one multiplication. Activations are integers, so sums do not depend on their order. */
#ifndef KOLMO_BITSHIFT_PRODUCT_H
#define KOLMO_BITSHIFT_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

#include "cpu.h"

#if defined(__GNUC__) || defined(__clang__)
#if !defined(KOLMO_INLINE)
#define KOLMO_INLINE static inline __attribute__((always_inline))
#endif
#elif !defined(KOLMO_INLINE)
#define KOLMO_INLINE static __forceinline
#endif

enum {
    BITSHIFT_HEADER = 16,        /* bytes */
    BITSHIFT_GROUP = 16,         /* rows whose words are interleaved */
    BITSHIFT_PERIOD = 32,        /* weights after which a row is at the start of a word again */
    BITSHIFT_OFFSET = 126,       /* the sum of four masked bytes of a weight 0 */
    BITSHIFT_COLUMNS = 1 << 17,  /* most columns: then no sum leaves 32 bits */
};
#define BITSHIFT_FACTOR 0x379B28F5u
#define BITSHIFT_MASK 0x3F3F3F3Fu
#define BITSHIFT_LEAST 0x1p-100f /* a row of activations below it counts as zeros: the quotient 127 / top stays finite */

/* A payload: its header, and where its parts are. `words` may be at any address. */
typedef struct {
    const uint8_t *words, *exponents;
    size_t rows, columns;
    size_t row_words;     /* of 32 bits: columns, filled up to a multiple of 32, times bits, over 32 */
    int log_states, bits; /* bits of a state; bits of a weight */
    int rotated;
    uint32_t seed; /* of the rotation */
    float scale;
} kolmo_bitshift;

/* y[count][rows] = matrix x[count][columns]. 0 if memory is short. */
typedef int bitshift_product(const kolmo_bitshift *m, const float *x, size_t count, float *y, int threads);
/* Rows of the matrix as binary32, out[count][columns]; places must be below `rows`. 0 if memory is short. */
typedef int bitshift_rows(const kolmo_bitshift *m, const int64_t *places, size_t count, int restore, float *out, int threads);
/* x[count][columns] rotated in place, or turned back. 0 if memory is short. */
typedef int bitshift_rotate(float *x, size_t count, size_t columns, uint32_t seed, int back, int threads);

/* One vector path. */
typedef struct {
    bitshift_product *product;
    bitshift_rows *rows;
    bitshift_rotate *rotate;
} kolmo_bitshift_path;
extern const kolmo_bitshift_path kolmo_bitshift_baseline, kolmo_bitshift_avx2, kolmo_bitshift_avx512;
extern const kolmo_bitshift_path *kolmo_bitshift_in_use;

#endif
