/* The arithmetic of mixers, for the instruction set of the file that includes this one: it defines KOLMO_TARGET (a
 * function attribute, or nothing) first.
 *
 * Plain loops over 32-bit integers with no aliasing, which compilers turn into vector code. Sums of integers do not
 * depend on their order, so every path gives the same bits. */
#include "mixer/primitives.h"

KOLMO_INLINE KOLMO_TARGET int32_t cm_clamp(int32_t v, int32_t low, int32_t high) {
    return v < low ? low : v > high ? high : v;
}

KOLMO_INLINE KOLMO_TARGET int32_t cm_dot(const int32_t *restrict w, const int32_t *restrict x, const int n) {
    uint32_t sum = 0;
    for (int i = 0; i < n; i++) sum += (uint32_t)(w[i] >> 16) * (uint32_t)x[i];
    return cm_clamp((int32_t)sum >> 11, -(CM_SQUASH / 2 - 1), CM_SQUASH / 2 - 1);
}

/* Online gradient descent on the code length (Mattern 2013): error times input; weights stay within +-15. */
KOLMO_INLINE KOLMO_TARGET void cm_train(int32_t *restrict w, const int32_t *restrict x, const int n, int32_t error) {
    if (!error) return;
    for (int i = 0; i < n; i++) w[i] = cm_clamp(w[i] + x[i] * error, -(15 << 27), 15 << 27);
}

KOLMO_INLINE KOLMO_TARGET int32_t cm_scaled_error(int32_t y, int32_t p, int32_t rate) {
    return (((y << 16) - p) * rate + (1 << 12)) >> 13;
}

/* The rate of a weight set falls with the sum of its errors (16 bits each), from about rate + boost to rate: a set that
 * was rarely used, or was always right, still learns fast. */
KOLMO_INLINE KOLMO_TARGET int32_t cm_rate(const cm_tables *tables, uint32_t errors, int32_t rate, int32_t boost) {
    uint32_t at = 15 + (errors >> 16);
    return rate + (int32_t)((uint32_t)boost * tables->reciprocal[at < 1022 ? at : 1022] >> 12);
}

/* Add the error of a prediction to a set's sum. */
KOLMO_INLINE KOLMO_TARGET void cm_count_error(uint32_t *errors, int32_t y, int32_t p) {
    if (*errors < 1u << 26) *errors += (uint32_t)(y ? 65536 - p : p);
}

/* Move an averaging probability (22 bits, with a 10-bit count) towards the bit. */
KOLMO_INLINE KOLMO_TARGET void cm_move(const cm_tables *tables, uint32_t *map, int32_t y, uint32_t limit) {
    uint32_t v = *map, count = v & 1023;
    int32_t p = (int32_t)(v >> 10), target = y ? (1 << 22) - 1 : 0;
    p += (int32_t)((int64_t)(target - p) * tables->reciprocal[count] >> 16);
    *map = (uint32_t)p << 10 | (count + (count < limit));
}

/* Adaptive probability map: interpolates between the knots around s; sets `knot` to the nearer one. */
KOLMO_INLINE KOLMO_TARGET int32_t cm_refine(uint16_t *table, uint32_t row, int32_t s, uint16_t **knot) {
    uint16_t *t = table + (size_t)row * CM_APM_STEPS;
    uint32_t at = (uint32_t)cm_clamp(s, -2943, 2943) + 2944, low = at >> 8, fraction = at & 255;
    *knot = t + low + (fraction >> 7);
    return (int32_t)((t[low] * (256 - fraction) + t[low + 1] * fraction) >> 8);
}
