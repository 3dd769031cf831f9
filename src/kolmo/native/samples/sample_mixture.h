/* Distributions of a sample (docs/samples.md, "Mixtures"): a weighted sum of logistic distributions and a small uniform one.
 *
 * C counterpart of samples/mixture.py, in integers alone. A sample is coded from its top bit down: each bit halves an
 * interval of values, and its logit follows from the weights below the two ends and the middle. */
#ifndef KOLMO_SAMPLE_MIXTURE_H
#define KOLMO_SAMPLE_MIXTURE_H

#include <stdint.h>

enum {
    SAMPLE_COMPONENTS = 8,
    SAMPLE_REACH = 24,                                /* the table covers +-24 scales around a location */
    SAMPLE_STEPS = 32,                                /* entries of the table for each scale */
    SAMPLE_SIGMOID = 2 * SAMPLE_REACH * SAMPLE_STEPS, /* its length, less one */
    SAMPLE_MIN_SCALE = -5 * 1024,                     /* 2^-5 of a sample */
    SAMPLE_MAX_SCALE = 26 * 1024,
    SAMPLE_MAX_BITS = 24,
};

/* Constants, computed in Python (native/tables.py). */
typedef struct {
    uint32_t sigmoid[SAMPLE_SIGMOID + 1]; /* 2^32 / (1 + e^-z), rounded, at z = -24, -24 + 1/32, ..., 24; below 2^32 */
    uint32_t exp2[1024];                  /* 2^22 * 2^(-f/1024) */
    uint16_t log[1024];                   /* 4096 ln(1 + (i + 1/2) / 1024) */
} kolmo_sample_tables;

typedef struct {
    const kolmo_sample_tables *tables;
    int32_t bits;                        /* of a sample, 1 to 24: values from -2^(bits-1) to 2^(bits-1) - 1 */
    int32_t count;                       /* of components, 1 to 8 */
    int64_t location[SAMPLE_COMPONENTS]; /* in 1/256 of a sample, within +-2^33 */
    int32_t scale[SAMPLE_COMPONENTS];    /* log2 of the scale in samples, in 1/1024; from SAMPLE_MIN_SCALE to SAMPLE_MAX_SCALE */
    uint32_t weight[SAMPLE_COMPONENTS];  /* 0 to 2^22; one at least is 2^22 */
    uint64_t uniform;                    /* weight of each value besides: kolmo_sample_mixture_finish sets it */
} kolmo_sample_mixture;

/* log2(value) in 1/1024, from the leading one and the ten bits below it; 0 for 0. */
int32_t kolmo_sample_log2(const kolmo_sample_tables *tables, uint64_t value);

/* A mixture of one logistic distribution, from a prediction and its scale, both in the units above; values outside the
 * bounds are moved to them. The scale of a logistic distribution is its mean absolute deviation / 1.386, which is
 * kolmo_sample_log2(mean absolute error) - 482; in 1/256 of a sample, 8 * 1024 less. */
void kolmo_sample_mixture_one(kolmo_sample_mixture *mixture, const kolmo_sample_tables *tables, int bits, int64_t location,
                              int32_t scale);

/* Set `uniform`, 2^-13 of the weights divided among all values, after a change of weights or bits. */
void kolmo_sample_mixture_finish(kolmo_sample_mixture *mixture);

/* The weight of all samples below a value, from 0 to 2^58; it increases strictly from the least value, where it is 0, to the
 * greatest plus 1. So a coder computes one of these for each bit: */
uint64_t kolmo_sample_mixture_below(const kolmo_sample_mixture *mixture, int32_t value);

/* ln(P(middle <= sample < high) / P(low <= sample < middle)) in 1/256, within +-2047, from the weights below low < middle < high. */
int32_t kolmo_sample_split(const kolmo_sample_tables *tables, uint64_t low, uint64_t middle, uint64_t high);

/* The same from the values themselves. */
int32_t kolmo_sample_mixture_logit(const kolmo_sample_mixture *mixture, int32_t low, int32_t middle, int32_t high);

#endif
