/* What the files of the network of pixels share: its contents, and one prediction on a vector path. */
#ifndef KOLMO_PIXEL_LAYOUT_H
#define KOLMO_PIXEL_LAYOUT_H

#include "cpu.h"
#include "pixels/pixel_network.h"

enum {
    PIXEL_KINDS = 4, /* of bytes: grey, green, red, blue */
    PIXEL_OWN = 44,  /* neighbours in the byte's own channel, */
    PIXEL_OTHER = 12, /* and in another one */
    PIXEL_FLAGS = 5,
    PIXEL_MAX_DIFFERENCES = PIXEL_OWN + 3 * PIXEL_OTHER + 3 + 13, /* those of blue, to a multiple of 32 */
    PIXEL_MAX_INPUTS = 96,
    PIXEL_RESIDUALS = 512,
    PIXEL_MAX_HIDDEN = 512,
    PIXEL_MAX_LAYERS = 8,
};

extern const uint16_t pixel_differences[PIXEL_KINDS];

struct kolmo_pixel_network {
    int hidden, layers;
    int16_t *linear[PIXEL_KINDS]; /* PIXEL_MAX_DIFFERENCES, zeros beyond */
    network_matrix first[PIXEL_KINDS], deeper[PIXEL_MAX_LAYERS], head;
    float *first_bias[PIXEL_KINDS], *deeper_bias[PIXEL_MAX_LAYERS], *head_bias[PIXEL_KINDS];
    kolmo_network_tables constants;
    int8_t squeezed[511];
    uint8_t *memory; /* holds all arrays above */
};

/* A prediction on one vector path. */
typedef void pixel_run(const kolmo_pixel_network *n, const kolmo_picture *p, uint32_t row, uint32_t column, uint32_t turn,
                       uint32_t *sums);
extern pixel_run *kolmo_pixel_path; /* the path in use */

pixel_run pixel_run_baseline;
#if defined(KOLMO_AVX2)
pixel_run pixel_run_avx2;
#endif
#if defined(KOLMO_AVX512)
pixel_run pixel_run_avx512;
#endif

#endif
