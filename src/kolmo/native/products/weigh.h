/* Elementwise operations of docs/neural.md, and the weights of 256 values from their logits, for files that define
 * KOLMO_TARGET. NETWORK_OWN_SUM is defined where network_sum is. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#pragma fp_contract(off)
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

/* Ties to even where |x| <= 2^22, since the sum is in 2^23 .. 2^24 and so is rounded to whole numbers. Beyond, what
 * docs/neural.md specifies: coarser, and a half may be left. */
KOLMO_INLINE KOLMO_TARGET float network_rint(float x) {
    float shifted = x + 12582912.0f;
    return shifted - 12582912.0f;
}

KOLMO_INLINE KOLMO_TARGET float network_clamp(float x, float low, float high) {
    x = x > low ? x : low;
    return x < high ? x : high;
}

#if !defined(NETWORK_OWN_SUM)
/* From logits in nats to the partial sums of weights. */
KOLMO_INLINE KOLMO_TARGET void network_sum(const uint32_t *restrict exp2, const float *restrict l, uint32_t *restrict sums) {
    float most[16];
    for (int i = 0; i < 16; i++) most[i] = l[i];
    for (int b = 16; b < 256; b += 16)
        for (int i = 0; i < 16; i++) most[i] = l[b + i] > most[i] ? l[b + i] : most[i];
    for (int i = 1; i < 16; i++) most[0] = most[i] > most[0] ? most[i] : most[0];
    const float top = most[0];
    uint32_t w[256], half[128], quarter[64]; /* separate arrays, so that the loops are vectorised */
    int32_t below_top[256];                  /* likewise: a loop with table look-ups is not vectorised */
    for (int b = 0; b < 256; b++) {
        float below = l[b] - top, d = below * 0x1.715476p+0f, fine = d * 1024.0f; /* 1.44269504 in binary32 */
        below_top[b] = -(int32_t)network_rint(network_clamp(fine, -24576.0f, 0.0f));
    }
    for (int b = 0; b < 256; b++) {
        uint32_t q = (uint32_t)below_top[b], weight = exp2[q & 1023] >> (q >> 10);
        w[b] = weight + !weight;
    }
    for (int i = 0; i < 128; i++) half[i] = w[2 * i] + w[2 * i + 1];
    for (int i = 0; i < 64; i++) quarter[i] = half[2 * i] + half[2 * i + 1];
    memcpy(sums + 256, w, sizeof w);
    memcpy(sums + 128, half, sizeof half);
    memcpy(sums + 64, quarter, sizeof quarter);
    for (int i = 0; i < 32; i++) sums[32 + i] = quarter[2 * i] + quarter[2 * i + 1];
    for (int i = 31; i; i--) sums[i] = sums[2 * i] + sums[2 * i + 1];
    sums[0] = 0;
}
#endif
