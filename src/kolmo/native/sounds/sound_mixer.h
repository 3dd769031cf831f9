/* The mixer of sound: the state, and its sizes. C counterpart of sounds/mixer.py, which specifies it; docs/audio.md explains it.
 *
 * The work once per sample is in sound_filters.h and sound_loop.h, compiled once for each instruction set. Integers, and
 * elementwise binary64 in the order written, so every path gives the same bits. */
#ifndef KOLMO_SOUND_MIXER_H
#define KOLMO_SOUND_MIXER_H

#include "coder/coder.h"
#include "mixer/primitives.h"
#include "samples/sample_network.h"

enum {
    SOUND_FILTERS = 4,    /* most filters of least squares, besides the one that combines predictions */
    SOUND_ORDER = 64,     /* most inputs of a filter */
    SOUND_STAGES = 3,     /* most stages of the cascade */
    SOUND_TAPS = 512,     /* most taps of a stage */
    SOUND_CHANNELS = 8,
    SOUND_PREDICTIONS = SOUND_FILTERS + SOUND_STAGES + 1,
    SOUND_SPANS = 3,      /* averages of the error of each prediction, over about 8, 32 and 128 samples */
    SOUND_EXPERTS = SOUND_PREDICTIONS * SOUND_SPANS,
    SOUND_CONTEXTS = 6,   /* hashed contexts: none or all */
    SOUND_SELECTORS = 5,
    SOUND_FINAL_INPUTS = 8,
    SOUND_FINAL_SETS = 128,
    SOUND_MOST_INPUTS = SOUND_EXPERTS + 2 + 2 * SOUND_CONTEXTS + 7,
    SOUND_RING = 4096,    /* samples of a channel that are kept, besides those that are read */
    SOUND_PAST = SAMPLE_PAST,
    SOUND_CURVES = 2,     /* adaptive maps: */
    SOUND_ROWS_0 = 2048, SOUND_ROWS_1 = 6144,
    SOUND_SOFTPLUS = 3073,
};

static const int32_t sound_sets[SOUND_SELECTORS] = {192, 128, 2048, 768, 576};

typedef struct {
    int32_t bits, channels, big, plain, phase; /* big: big endian; plain: unsigned; phase: bytes of the first frame before the first byte */
    int32_t filters, own[SOUND_FILTERS], other[SOUND_FILTERS], every[SOUND_FILTERS], forget[SOUND_FILTERS];
    int32_t base, stages, taps[SOUND_STAGES], step[SOUND_STAGES], final_forget;
    int32_t contexts, table_bits;
    int32_t rate, rate_start, rate_shift, final_rate, map_limit;
} sound_config;

/* Recursive least squares with forgetting: see sound_filters.h. */
typedef struct {
    int32_t order, every, waiting; /* inputs; samples between computations of weights, and since the last one */
    int32_t seen, shift; /* samples so far, up to 2^20; from a product of weight and input to 1/256 of a sample */
    double forget, least;
    double products[SOUND_ORDER][SOUND_ORDER], targets[SOUND_ORDER]; /* upper triangle */
    int32_t weights[SOUND_ORDER], x[SOUND_ORDER]; /* weights in 2^-20 */
} sound_filter;

/* Normalised least mean squares. `x` is newest first; weights in 2^-22, inputs in 1/16 of a sample. */
typedef struct {
    int32_t taps, at;
    double step;
    int64_t power;
    int32_t weights[SOUND_TAPS], x[SOUND_TAPS + SOUND_RING];
} sound_stage;

typedef struct {
    sound_filter filter[SOUND_FILTERS], final;
    sound_stage stage[SOUND_STAGES];
    int64_t error[SOUND_PREDICTIONS][SOUND_SPANS]; /* mean size, in 2^-18 of a sample */
    uint32_t count;                                 /* samples so far */
    int32_t past[SOUND_PAST + SOUND_RING], at;      /* the next sample's place */
} sound_channel;

typedef struct {
    sound_config config;
    cm_tables tables;
    int32_t softplus[SOUND_SOFTPLUS]; /* ln(1 + e^-z) in 1/4096, z in 1/256 */
    const kolmo_sample_network *network;  /* or NULL */
    uint64_t size, position; /* bytes of the stream; coded so far */
    uint32_t coded;          /* samples, over all channels */
    int32_t predictions, experts, inputs;
    sound_channel *channel;
    int32_t *weights[SOUND_SELECTORS], *final_weights;
    uint16_t *curves[SOUND_CURVES];
    uint32_t maps[SOUND_CONTEXTS][256];
    uint8_t *buckets, *buckets_base;
    uint32_t bucket_mask;
    /* the current sample */
    int64_t prediction[SOUND_PREDICTIONS];   /* in 1/256 of a sample */
    int32_t correction[SOUND_STAGES];        /* in 1/16 */
    double place[SOUND_EXPERTS], sharpness[SOUND_EXPERTS]; /* 256 / scale */
    kolmo_sample_mixture mixture;
} sound_model;

size_t sound_prior_size(const sound_config *c, int network);
int sound_valid(const sound_config *c);
sound_model *sound_new(const sound_config *config, const cm_tables *tables, const uint16_t *softplus, const int32_t *prior,
                       uint64_t size, const kolmo_sample_network *network);
void sound_free(sound_model *m);
void sound_export(const sound_model *m, const int32_t *began, int32_t *prior);
void sound_forget(sound_model *m, uint64_t size);
/* Whether a call may end `size` bytes on: at a sample's end, or the stream's. */
int sound_may_end(const sound_model *m, uint64_t size);

typedef void sound_run(sound_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs);
extern sound_run *kolmo_sound_path; /* the path in use */
sound_run sound_run_baseline;
#if defined(KOLMO_AVX2)
sound_run sound_run_avx2;
#endif

#endif
