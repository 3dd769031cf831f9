/* The mixer of pictures: state, and what is done once for each byte or row.
 *
 * C counterpart of pixel_mixer/reference.py, which specifies it; docs/image.md explains it. The work of a byte is in
 * pixel_mixer_loop.h, compiled once for each instruction set. Sums are sums of integers; the one elimination of
 * pixel_least_squares.h is elementwise in binary64. So every path gives the same bits. */
#ifndef KOLMO_PIXEL_MIXER_H
#define KOLMO_PIXEL_MIXER_H

#include "coder/coder.h"
#include "mixer/primitives.h"
#include "pixels/pixel_network.h"

enum {
    PM_MARGIN = 8,      /* columns that planes have beside the picture */
    PM_TURNS = 4,       /* bytes of a pixel, at most */
    PM_TAPS = 24,       /* columns of a matrix: neighbours in a least-squares prediction, and the value */
    PM_SETS = 3,        /* least-squares predictions; */
    PM_LOCAL = 2,       /* those with a matrix for every block of columns */
    PM_FIXED = 4,       /* other predictions */
    PM_PREDICTORS = PM_SETS + PM_FIXED,
    PM_SPREADS = PM_PREDICTORS + 1, /* distributions: of the predictors, and the network's */
    PM_CATALOGUE = 17,  /* contexts that a shape picks from */
    PM_SELECTORS = 6,   /* weight sets in the first layer */
    PM_GUESSES = 4,     /* contexts that remember the last value */
    PM_CONFIDENCES = 16,
    PM_SCALES = 64,     /* steps of an error's size */
    PM_BIASES = 2048,
    PM_INPUTS = 40,     /* of the first layer, at most */
    PM_CURVES = 8192,   /* rows of an adaptive map */
    PM_MAX_STRIDE = 1 << 15,
    PM_WHOLE = 1 << 28, /* a whole distribution */
    PM_SPACE = 1 << 10, /* added to the weight of each value */
    PM_FRESH = 64,      /* columns between solutions of the set with one matrix */
    PM_BLOCK = 4,       /* columns of a block of the others */
    PM_RIDGE = 250,     /* observations that the prior's weights count as */
};

/* Constants, computed in Python (native/pixel_mixer/shapes.py and native/tables.py). */
typedef struct {
    uint32_t logistic[2049]; /* the logistic function on -16..16, in steps of 1/64, times PM_WHOLE */
    uint32_t bucket[1024];   /* of a count: 0..7 */
    int8_t count[PM_SETS][PM_TURNS + 1];           /* neighbours of each set, by turn; the last: of a picture without colour */
    int8_t taps[PM_SETS][PM_TURNS + 1][PM_TAPS][3]; /* (turn, rows up, columns right) */
    uint16_t logarithms[1024];
} pm_tables;

typedef struct {
    int32_t size, stride, channels, order[PM_TURNS];
    int32_t contexts, context[PM_CATALOGUE], selectors; /* the first selectors of the catalogue */
    int32_t slot_bits, guess_bits;                     /* log2 of the bytes of slots; of the entries of a guess's table */
    int32_t rate, rate_start, rate_shift, final_rate;
    int32_t slot_limit; /* events over which a slot's probability is averaged, at most */
    int32_t network;
} pm_config;

typedef int32_t pm_matrix[PM_TAPS][PM_TAPS];

typedef struct {
    int32_t weights[PM_TAPS]; /* 2^-16 */
    int32_t x[PM_TAPS];
    int32_t mean;
    const int8_t (*taps)[3];
    int32_t count, plane; /* plane: added to the turns of taps */
    pm_matrix *matrices;
    const int32_t *began; /* the prior's weights */
    int64_t sums[PM_TAPS], solutions; /* of weights, for the training of priors */
} pm_squares;

/* The distribution of a byte, turned so that value (base + s) modulo 256 has the symbol s. */
typedef struct {
    int32_t center;      /* 1/16 */
    uint32_t inverse;    /* 2^16 * steps of 2^-12 of the logistic function for each 1/16 */
    uint32_t below;      /* weight of the values below base */
    uint32_t whole, space;
    uint32_t low, high;  /* weight of the symbols before the interval that is still possible, and before its end */
    const uint32_t *sums; /* of a network's weights: below each value; else NULL */
} pm_spread;

typedef struct {
    pm_config config;
    cm_tables base;
    pm_tables tables;
    const kolmo_pixel_network *network;
    int32_t rows; /* of a prior: 1 for grey, 3 for colour */
    int32_t inputs;
    uint32_t width, position, coded, row, x, turn;
    uint8_t *bytes; /* the picture in the order of the file */
    kolmo_picture picture;
    uint8_t *values[PM_TURNS][4];               /* planes: a ring of rows, each from the first column on */
    uint8_t *errors[PM_TURNS][PM_PREDICTORS][2]; /* absolute errors in 1/4, at most 255 */
    int8_t *signs[PM_TURNS][2];                 /* errors of the centre */
    pm_squares squares[PM_TURNS][PM_SETS];
    int32_t predicted[PM_PREDICTORS]; /* 1/16 */
    int32_t bias[PM_TURNS][PM_BIASES];
    uint32_t bias_at;
    uint32_t scales[PM_TURNS][PM_PREDICTORS][PM_SCALES], scale_at[PM_PREDICTORS];
    int32_t energy, level, texture, center, fraction; /* level: of the energy, 0..31 */
    uint32_t base_value;
    uint32_t *slots, slot_mask;
    uint8_t *slots_base;
    uint32_t hash[PM_CATALOGUE], *slot[PM_CATALOGUE];
    uint32_t *cells; /* contexts x 256 */
    uint32_t *guesses[PM_GUESSES], guess_mask, *guess_entry[PM_GUESSES], guess_check[PM_GUESSES];
    int32_t guess[PM_GUESSES], confidence[PM_GUESSES]; /* -1: no guess */
    uint32_t guess_map[PM_GUESSES][PM_CONFIDENCES];
    pm_spread spreads[PM_SPREADS];
    int32_t spread_count;
    uint32_t sums[NETWORK_SUMS], below[257];
    int32_t *weights[PM_SELECTORS], *final_weights;
    uint16_t *curves[2];
    uint32_t *padding; /* 256 x 256 probabilities of bytes behind a row's pixels, by the byte above; NULL without such */
    int32_t rate_now;
    uint8_t *memory; /* holds planes and matrices */
} pm_model;

static const int32_t pm_selector_sizes[PM_SELECTORS] = {256, 128, 256, 256, 256, 320}; /* for each turn */

static inline int32_t pm_inputs(const pm_config *c) { return (c->contexts + 2 * PM_SPREADS + PM_GUESSES + 1 + 7) & ~7; }
/* The row of a prior that a turn starts from. */
static inline int32_t pm_row(const pm_config *c, int turn) { return c->channels >= 3 && turn < 3 ? turn : 0; }

/* Returns 0 for a configuration or tables that no model has. */
int pm_valid(const pm_config *config, const pm_tables *tables);
size_t pm_prior_size(const pm_config *config);
/* NULL when memory runs out. `prior` holds pm_prior_size bytes. The network (NULL: none) must outlive the model. */
pm_model *pm_new(const pm_config *config, const cm_tables *base, const pm_tables *tables, const int32_t *prior,
                 const kolmo_pixel_network *network);
void pm_free(pm_model *m);
/* Learned numbers in the layout of a prior, to train one; `began` is the prior that the model started from. */
void pm_export(const pm_model *m, const int32_t *began, int32_t *prior);
/* Reset everything but the learned numbers: for the next sample of a prior's training. */
void pm_forget(pm_model *m, const int32_t *prior);

/* Code the next `size` bytes, whole rows or the rest of the picture. */
typedef void pm_run(pm_model *m, int mode, uint8_t *data, size_t size, void *coder, uint16_t *costs);
extern pm_run *kolmo_pixel_mixer_path;
pm_run pm_run_baseline;
#if defined(KOLMO_AVX2)
pm_run pm_run_avx2;
#endif

#endif
