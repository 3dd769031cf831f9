/* A network that predicts samples: sizes, weights as a prediction reads them, and the vector paths. */
#ifndef KOLMO_SAMPLE_WEIGHTS_H
#define KOLMO_SAMPLE_WEIGHTS_H

#include "network/network.h"
#include "samples/sample_network.h"

enum {
    SAMPLE_LAGS = 32,      /* samples before the next one that the linear functions have coefficients for */
    SAMPLE_GUESSES = 8,    /* linear functions that predict the sample */
    SAMPLE_FUNCTIONS = 24, /* all linear functions */
    SAMPLE_RELATIVE = 100, /* inputs that are differences, */
    SAMPLE_RATIOS = 24,    /* and ratios of sizes; two levels and two flags follow */
    SAMPLE_INPUTS = 128,
    SAMPLE_OUTPUTS = 3 * SAMPLE_COMPONENTS + SAMPLE_GUESSES - 1,
    SAMPLE_HEAD = NETWORK_GROUP, /* rows of the last matrix, filled with zeros */
    SAMPLE_MAX_WIDTH = 256,
    SAMPLE_MAX_LAYERS = 8,
    SAMPLE_MOST = 1 << 29, /* bound of a difference in 1/32 of a sample */
    SAMPLE_FLAG = 64,
};

struct kolmo_sample_network {
    int width, layers;                             /* hidden layers, the first included */
    double *coefficients;                          /* SAMPLE_LAGS + SAMPLE_OTHER rows of SAMPLE_FUNCTIONS integers */
    network_matrix matrix[SAMPLE_MAX_LAYERS + 1];  /* those of the hidden layers, then the last */
    float *bias[SAMPLE_MAX_LAYERS + 1];
    kolmo_sample_tables tables;
    uint8_t *memory; /* holds all arrays above */
};

/* A prediction on one vector path. */
typedef void sample_run(const kolmo_sample_network *network, const int32_t *past, const int32_t *other, int bits,
                        kolmo_sample_mixture *mixture);
extern sample_run *kolmo_sample_path; /* the path in use */

sample_run sample_run_baseline;
#if defined(KOLMO_AVX2)
sample_run sample_run_avx2;
#endif
#if defined(KOLMO_AVX512)
sample_run sample_run_avx512;
#endif

#endif
