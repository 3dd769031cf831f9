/* The network that predicts samples: what a prediction does. Compiled once for each instruction set: the file that includes this
 * one defines KOLMO_TARGET, SAMPLE_RUN (the name of the entry point), and includes a file of products/ with inner products.
 *
 * The loops are plain ones, which compilers turn into vector code: each operation rounds once whatever the width. Each has a
 * variable to itself, since within an expression compilers may keep more than binary32 (s390x, x87). */
#include "products/weigh.h"
#include "samples/sample_weights.h"

/* About ln(value): see network.py; 1 <= value < 2^31. */
KOLMO_INLINE KOLMO_TARGET float sample_natural(int32_t value) {
    const float f = (float)value;
    int32_t bits;
    memcpy(&bits, &f, 4);
    const float exponent = (float)((bits >> 23) - 127);
    const int32_t mantissa = (bits & 0x7FFFFF) | 0x3F800000;
    float m, p;
    memcpy(&m, &mantissa, 4);
    p = -0x1.bd681cp-5f * m;
    p = p + 0x1.bc58cap-2f;
    p = p * m;
    p = p + -0x1.70caa6p+0f;
    p = p * m;
    p = p + 0x1.657baap+1f;
    p = p * m;
    p = p + -0x1.bb526cp+0f;
    const float whole = exponent * 0x1.62e430p-1f;
    return whole + p;
}

KOLMO_INLINE KOLMO_TARGET int32_t sample_near(int32_t value) {
    const int32_t most = SAMPLE_MOST;
    value = value > -most ? value : -most;
    return value < most ? value : most;
}

KOLMO_INLINE int32_t sample_size(int32_t value) { return value < 0 ? -value : value; }

/* The first layer's inputs, in 1/16 as logarithms. `n`: differences and, after them, quantities that are positive. */
KOLMO_INLINE KOLMO_TARGET void sample_inputs(const int32_t *restrict n, const int32_t unit, uint8_t *restrict u) {
    const float base = sample_natural(unit);
    for (int i = 0; i < SAMPLE_INPUTS; i++) {
        const int32_t size = n[i] < 0 ? -n[i] : n[i], value = i < SAMPLE_RELATIVE ? unit + size : size;
        const float l = sample_natural(value), d = l - base, scaled = 16.0f * d, back = -scaled;
        const float f = n[i] < 0 ? back : scaled;
        u[i] = (uint8_t)((int32_t)network_rint(network_clamp(f, -127.0f, 127.0f)) + NETWORK_OFFSET);
    }
}

/* The linear functions, in 2^-16 of a sample: sums of integers below 2^53, so exact in any order. */
KOLMO_INLINE KOLMO_TARGET void sample_functions(const double *restrict c, const int32_t *past, const int32_t *other,
                                                double *restrict sums) {
    double sum[SAMPLE_FUNCTIONS];
    for (int j = 0; j < SAMPLE_FUNCTIONS; j++) sum[j] = 0;
    for (int i = 0; i < SAMPLE_LAGS; i++) {
        const double x = past[-1 - i];
        for (int j = 0; j < SAMPLE_FUNCTIONS; j++) sum[j] += c[i * SAMPLE_FUNCTIONS + j] * x;
    }
    c += SAMPLE_LAGS * SAMPLE_FUNCTIONS;
    for (int i = 0; other && i < SAMPLE_OTHER; i++) {
        const double y = other[-i];
        for (int j = 0; j < SAMPLE_FUNCTIONS; j++) sum[j] += c[i * SAMPLE_FUNCTIONS + j] * y;
    }
    for (int j = 0; j < SAMPLE_FUNCTIONS; j++) sums[j] = sum[j];
}

KOLMO_INLINE KOLMO_TARGET void sample_product(const network_matrix *m, const uint8_t *u, int32_t *z) {
    for (int group = 0; group < m->rows; group += NETWORK_GROUP)
        network_tile(m->weights + (size_t)group * (size_t)m->inputs, m->start + group, m->inputs, u, 1, z + group, m->rows);
}

/* What the network makes of a view of the past: the last layer's outputs. */
KOLMO_INLINE KOLMO_TARGET void sample_layers(const kolmo_sample_network *n, uint8_t *restrict u, float *restrict o) {
    int32_t z[SAMPLE_MAX_WIDTH];
    float h[SAMPLE_MAX_WIDTH];
    const int width = n->width;
    for (int layer = 0; layer <= n->layers; layer++) {
        const network_matrix *m = &n->matrix[layer];
        const float *restrict scale = m->scale, *restrict bias = n->bias[layer];
        sample_product(m, u, z);
        if (layer == n->layers) {
            for (int j = 0; j < SAMPLE_HEAD; j++) {
                const float value = (float)z[j] * scale[j];
                o[j] = value + bias[j];
            }
            return;
        }
        for (int j = 0; j < width; j++) {
            const float value = (float)z[j] * scale[j], more = value + bias[j], open = more > 0.0f ? more : 0.0f;
            h[j] = layer ? h[j] + open : open;
        }
        for (int j = 0; j < width; j++) {
            const float wide = h[j] * 16.0f;
            u[j] = (uint8_t)((int32_t)network_rint(network_clamp(wide, 0.0f, 127.0f)) + NETWORK_OFFSET);
        }
    }
}

/* The order of differences and quantities in `n` is that of the inputs, but for these: two levels and two flags are set on
 * their own. */
KOLMO_TARGET void SAMPLE_RUN(const kolmo_sample_network *n, const int32_t *past, const int32_t *other, int bits,
                             kolmo_sample_mixture *mixture) {
    int32_t x[SAMPLE_PAST], d1[SAMPLE_PAST], size[SAMPLE_PAST]; /* newest first */
    int32_t differences[SAMPLE_INPUTS];
    double functions[SAMPLE_FUNCTIONS];
    int64_t guess[SAMPLE_GUESSES];
    uint8_t u[SAMPLE_MAX_WIDTH];
    float o[SAMPLE_HEAD];

    for (int i = 0; i < SAMPLE_PAST; i++) x[i] = past[-1 - i];
    for (int i = 0; i < SAMPLE_PAST - 1; i++) {
        d1[i] = x[i] - x[i + 1];
        size[i] = sample_size(d1[i]);
    }
    uint32_t s1 = 0, s2 = 0, s3 = 0;
    for (int i = 0; i < 32; i++) s1 += (uint32_t)size[i];
    for (int i = 0; i < 32; i++) s2 += (uint32_t)sample_size(d1[i] - d1[i + 1]);
    for (int i = 0; i < 31; i++) s3 += (uint32_t)sample_size(d1[i] - 2 * d1[i + 1] + d1[i + 2]);
    const uint32_t least = s1 < s2 ? s1 : s2;
    const int32_t unit = (int32_t)(least < s3 ? least : s3) + 8;

    sample_functions(n->coefficients, past, other, functions);
    int32_t slow[SAMPLE_FUNCTIONS];
    for (int j = 0; j < SAMPLE_FUNCTIONS; j++) {
        const int64_t wide = (int64_t)functions[j] >> 11, most = SAMPLE_MOST;
        slow[j] = (int32_t)(wide < -most ? -most : wide > most ? most : wide);
    }

    int32_t *to = differences, sum = 0;
    for (int i = 0; i < SAMPLE_LAGS; i++) to[i] = sample_near(32 * x[i] - slow[0]);
    to += SAMPLE_LAGS;
    for (int i = 0; i < 24; i++) to[i] = sample_near(32 * d1[i]);
    to += 24;
    for (int i = 0; i < 12; i++) {
        const int32_t d2 = d1[i] - d1[i + 1];
        to[i] = d2 > SAMPLE_MOST / 32 ? SAMPLE_MOST : d2 < -SAMPLE_MOST / 32 ? -SAMPLE_MOST : 32 * d2;
    }
    to += 12;
    for (int j = 1; j < SAMPLE_GUESSES; j++) *to++ = sample_near(slow[j] - slow[0]);
    for (int j = SAMPLE_GUESSES; j < SAMPLE_FUNCTIONS; j++) *to++ = slow[j];
    for (int i = 0; i < 32; i++) sum += x[i];
    *to++ = sum;
    uint32_t beside = 0;
    for (int i = 0; i < 8; i++) {
        const int32_t d = other ? other[-i] - other[-i - 1] : 0;
        to[i] = sample_near(32 * d);
        beside += (uint32_t)sample_size(d);
    }
    to += 8;
    uint32_t ratios[SAMPLE_RATIOS], *next = ratios, window = 0;
    for (int i = 0; i < 16; i++) {
        window += (uint32_t)size[i];
        if (!(i & (i + 1))) *next++ = 32 / (uint32_t)(i + 1) * window + 8; /* 1, 2, 4, 8 and 16 of them */
    }
    *next++ = s1 + 8;
    *next++ = s2 + 8;
    *next++ = s3 + 8;
    for (int part = 0; part < 15; part++) {
        uint32_t some = 0;
        for (int i = 0; i < 16; i++) some += (uint32_t)size[16 * part + i];
        *next++ = 2 * some + 8;
    }
    *next++ = other ? 4 * beside + 8 : (uint32_t)unit; /* the logarithm of 1 */
    for (int i = 0; i < SAMPLE_RATIOS; i++) to[i] = (int32_t)(ratios[i] < 1u << 30 ? ratios[i] : 1u << 30);
    to += SAMPLE_RATIOS;
    while (to < differences + SAMPLE_INPUTS) *to++ = unit;

    sample_inputs(differences, unit, u);
    const float high = sample_natural(unit + 4), low = sample_natural(4), level = high - low;
    const float coarse = 8.0f * level, fine = 32.0f * level;
    uint8_t *last = u + SAMPLE_INPUTS - 4;
    last[0] = (uint8_t)((int32_t)network_rint(network_clamp(coarse, -127.0f, 127.0f)) + NETWORK_OFFSET);
    last[1] = (uint8_t)((int32_t)network_rint(network_clamp(fine, -127.0f, 127.0f)) + NETWORK_OFFSET);
    last[2] = (uint8_t)((bits <= 8 ? SAMPLE_FLAG : 0) + NETWORK_OFFSET);
    last[3] = (uint8_t)((other ? SAMPLE_FLAG : 0) + NETWORK_OFFSET);
    sample_layers(n, u, o);

    /* The mixture. */
    const float *shift = o, *spread = o + SAMPLE_COMPONENTS, *logit = spread + SAMPLE_COMPONENTS;
    const float *share = logit + SAMPLE_COMPONENTS;
    float near = 0.0f, top = logit[0];
    for (int j = 0; j < SAMPLE_GUESSES; j++) guess[j] = (int64_t)functions[j] >> 8;
    for (int j = 1; j < SAMPLE_GUESSES; j++) {
        const float away = (float)(guess[j] - guess[0]), part = share[j - 1] * away;
        near = near + part;
    }
    const float step = (float)(8 * (int64_t)unit);
    const int32_t doublings = kolmo_sample_log2(&n->tables, (uint64_t)unit) - 5 * 1024;
    const int64_t most = (int64_t)1 << 33;
    for (int k = 1; k < SAMPLE_COMPONENTS; k++) top = logit[k] > top ? logit[k] : top;
    for (int k = 0; k < SAMPLE_COMPONENTS; k++) {
        const float moved = shift[k] * step, away = near + moved;
        const int64_t place = guess[0] + (int64_t)network_clamp(away, -0x1p+33f, 0x1p+33f);
        mixture->location[k] = place < -most ? -most : place > most ? most : place;
        const float wide = spread[k] * 1477.3197f;
        const int32_t scale = (int32_t)network_rint(network_clamp(wide, -65536.0f, 65536.0f)) + doublings;
        mixture->scale[k] = scale < SAMPLE_MIN_SCALE ? SAMPLE_MIN_SCALE : scale > SAMPLE_MAX_SCALE ? SAMPLE_MAX_SCALE : scale;
        const float below = logit[k] - top, d = below * 0x1.715476p+0f, thin = d * 1024.0f; /* 1.44269504 in binary32 */
        const uint32_t q = (uint32_t)-(int32_t)network_rint(network_clamp(thin, -24576.0f, 0.0f));
        mixture->weight[k] = n->tables.exp2[q & 1023] >> (q >> 10);
    }
    mixture->tables = &n->tables;
    mixture->bits = bits;
    mixture->count = SAMPLE_COMPONENTS;
    kolmo_sample_mixture_finish(mixture);
}
