/* See sample_mixture.h. */
#include "samples/sample_mixture.h"

/* The place of the leading one, and the ten bits below it; value > 0. */
static inline uint32_t leading(uint64_t value, uint32_t *below) {
#if defined(__GNUC__) || defined(__clang__)
    uint32_t n = 63 - (uint32_t)__builtin_clzll(value);
#else
    uint32_t n = 0;
    for (uint64_t v = value >> 1; v; v >>= 1) n++;
#endif
    *below = (uint32_t)(n >= 10 ? value >> (n - 10) : value << (10 - n)) & 1023;
    return n;
}

/* ln(value) in 1/4096. */
static inline int32_t natural(const kolmo_sample_tables *tables, uint64_t value) {
    uint32_t below, n = leading(value, &below);
    return (int32_t)n * 2839 + tables->log[below];
}

int32_t kolmo_sample_log2(const kolmo_sample_tables *tables, uint64_t value) {
    if (!value) return 0;
    uint32_t below, n = leading(value, &below);
    return (int32_t)(n * 1024 + (tables->log[below] * 23637u >> 16)); /* 1024 / (4096 ln 2) = 23637 / 65536 */
}

static inline int64_t within(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

void kolmo_sample_mixture_finish(kolmo_sample_mixture *m) {
    uint64_t total = 0;
    for (int k = 0; k < m->count; k++) total += m->weight[k];
    m->uniform = (total << 19) >> m->bits;
}

void kolmo_sample_mixture_one(kolmo_sample_mixture *m, const kolmo_sample_tables *tables, int bits, int64_t location,
                              int32_t scale) {
    m->tables = tables;
    m->bits = bits;
    m->count = 1;
    m->location[0] = within(location, -((int64_t)1 << 33), (int64_t)1 << 33);
    m->scale[0] = (int32_t)within(scale, SAMPLE_MIN_SCALE, SAMPLE_MAX_SCALE);
    m->weight[0] = 1 << 22;
    kolmo_sample_mixture_finish(m);
}

/* 2^32 times the logistic function of (value - 1/2 - location) / 2^(scale / 1024), on a straight line between entries. */
static inline uint64_t component_below(const kolmo_sample_tables *tables, int64_t place, int64_t location, int32_t scale) {
    const int32_t from = scale - SAMPLE_MIN_SCALE, whole = from >> 10; /* 2^(whole - 5), and a fraction */
    const int64_t wide = (place - location) * (int64_t)tables->exp2[from & 1023]; /* at most 2^35 * 2^22 */
    const int64_t most = (int64_t)SAMPLE_REACH << 20;
    const int64_t z = within(wide >> (whole + 5), -most, most - 1) + most; /* in 2^-20 of a scale */
    const uint32_t *at = tables->sigmoid + (z >> 15);
    return at[0] + ((uint64_t)(at[1] - at[0]) * (uint64_t)(z & 32767) >> 15);
}

uint64_t kolmo_sample_mixture_below(const kolmo_sample_mixture *m, int32_t value) {
    const int32_t least = -((int32_t)1 << (m->bits - 1));
    uint64_t sum = 0;
    if (value <= least) return 0;
    if (value >= -least) {
        for (int k = 0; k < m->count; k++) sum += (uint64_t)m->weight[k] << 32;
    } else {
        const int64_t place = (int64_t)value * 256 - 128;
        for (int k = 0; k < m->count; k++)
            sum += m->weight[k] * component_below(m->tables, place, m->location[k], m->scale[k]);
    }
    return sum + m->uniform * (uint64_t)((int64_t)value - least);
}

int32_t kolmo_sample_split(const kolmo_sample_tables *tables, uint64_t low, uint64_t middle, uint64_t high) {
    const int32_t s = (natural(tables, high - middle) - natural(tables, middle - low) + 8) >> 4;
    return s < -2047 ? -2047 : s > 2047 ? 2047 : s;
}

int32_t kolmo_sample_mixture_logit(const kolmo_sample_mixture *m, int32_t low, int32_t middle, int32_t high) {
    return kolmo_sample_split(m->tables, kolmo_sample_mixture_below(m, low), kolmo_sample_mixture_below(m, middle),
                              kolmo_sample_mixture_below(m, high));
}
