/* Inner products with AVX-512 VNNI, and weights from logits, for files that define KOLMO_TARGET: what network_step.h expects. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define NETWORK_OFFSET 128
#define NETWORK_OWN_SUM
#define NETWORK_TILE 6
#define NETWORK_FAR 2048 /* bytes that weights are fetched ahead: more than the processor does on its own */

KOLMO_INLINE KOLMO_TARGET void network_tile(const int8_t *w, const int32_t *start, const int inputs, const uint8_t *u,
                                            const int n, int32_t *z, const int rows) {
    __m512i sum[NETWORK_TILE][4];
#pragma GCC unroll 6
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) sum[i][b] = _mm512_load_si512(start + 16 * b);
    for (int k = 0; k < inputs; k += 4, w += 256) {
        for (int line = 0; line < 256; line += 64) _mm_prefetch((const char *)w + NETWORK_FAR + line, _MM_HINT_T0);
        const __m512i w0 = _mm512_load_si512(w), w1 = _mm512_load_si512(w + 64);
        const __m512i w2 = _mm512_load_si512(w + 128), w3 = _mm512_load_si512(w + 192);
#pragma GCC unroll 6
        for (int i = 0; i < n; i++) {
            int32_t four;
            memcpy(&four, u + (size_t)i * (size_t)inputs + k, 4);
            const __m512i a = _mm512_set1_epi32(four);
            sum[i][0] = _mm512_dpbusd_epi32(sum[i][0], a, w0);
            sum[i][1] = _mm512_dpbusd_epi32(sum[i][1], a, w1);
            sum[i][2] = _mm512_dpbusd_epi32(sum[i][2], a, w2);
            sum[i][3] = _mm512_dpbusd_epi32(sum[i][3], a, w3);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) _mm512_storeu_si512(z + (size_t)i * (size_t)rows + 16 * b, sum[i][b]);
}

/* Sums of the pairs of 32 neighbours. */
KOLMO_INLINE KOLMO_TARGET __m512i network_pairs(__m512i low, __m512i high) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    return _mm512_add_epi32(_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high));
}

/* See weigh.h: from logits to the partial sums of weights. */
KOLMO_INLINE KOLMO_TARGET void network_sum(const uint32_t *exp2, const float *restrict l, uint32_t *restrict sums) {
    const __m512 per_nat = _mm512_set1_ps(0x1.715476p+0f), steps = _mm512_set1_ps(1024.0f); /* 1.44269504 in binary32 */
    const __m512 least = _mm512_set1_ps(-24576.0f), zero = _mm512_setzero_ps();
    __m512 most = _mm512_set1_ps(-INFINITY);
    for (int b = 0; b < 256; b += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(l + b));
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int b = 0; b < 256; b += 16) {
        const __m512 fine = _mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(l + b), top), per_nat), steps);
        const __m512i below = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(fine, least), zero));
        const __m512i q = _mm512_sub_epi32(_mm512_setzero_si512(), below);
        const __m512i at = _mm512_and_si512(q, _mm512_set1_epi32(1023));
        const __m512i mantissa = _mm512_i32gather_epi32(at, exp2, 4);
        const __m512i weight = _mm512_srlv_epi32(mantissa, _mm512_srli_epi32(q, 10));
        _mm512_storeu_si512(sums + 256 + b, _mm512_max_epu32(weight, _mm512_set1_epi32(1)));
    }
    for (int count = 128; count >= 16; count /= 2)
        for (int i = count; i < 2 * count; i += 16)
            _mm512_storeu_si512(sums + i,
                                network_pairs(_mm512_loadu_si512(sums + 2 * i), _mm512_loadu_si512(sums + 2 * i + 16)));
    for (int i = 15; i; i--) sums[i] = sums[2 * i] + sums[2 * i + 1];
    sums[0] = 0;
}
