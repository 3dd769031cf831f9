/* Inner products with AVX2, and weights from logits, for files that define KOLMO_TARGET: what network_step.h expects. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#define NETWORK_OFFSET 0
#define NETWORK_OWN_SUM
#define NETWORK_TILE 2

/* |a| times w with a's sign: two such products are at most 2 * 127 * 127, which 16 bits hold. */
KOLMO_INLINE KOLMO_TARGET __m256i network_dot4(__m256i sum, __m256i a, __m256i size, __m256i w) {
    const __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(w, a));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

KOLMO_INLINE KOLMO_TARGET void network_tile(const int8_t *group, const int32_t *start, const int inputs,
                                            const uint8_t *u, const int n, int32_t *z, const int rows) {
    (void)start;
    for (int part = 0; part < 64; part += 32) { /* half of the group's rows: sums and all fit into 16 registers */
        const int8_t *w = group + 4 * part;
        __m256i sum[NETWORK_TILE][4];
#pragma GCC unroll 2
        for (int i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++) sum[i][b] = _mm256_setzero_si256();
        for (int k = 0; k < inputs; k += 4, w += 256) {
#pragma GCC unroll 2
            for (int i = 0; i < n; i++) {
                int32_t four;
                memcpy(&four, u + (size_t)i * (size_t)inputs + k, 4);
                const __m256i a = _mm256_set1_epi32(four), size = _mm256_abs_epi8(a);
#pragma GCC unroll 4
                for (int b = 0; b < 4; b++)
                    sum[i][b] = network_dot4(sum[i][b], a, size, _mm256_load_si256((const __m256i *)(w + 32 * b)));
            }
        }
#pragma GCC unroll 2
        for (int i = 0; i < n; i++)
#pragma GCC unroll 4
            for (int b = 0; b < 4; b++)
                _mm256_storeu_si256((__m256i *)(z + (size_t)i * (size_t)rows + part + 8 * b), sum[i][b]);
    }
}

/* Sums of the pairs of 16 neighbours. */
KOLMO_INLINE KOLMO_TARGET __m256i network_pairs(const uint32_t *from) {
    const __m256i low = _mm256_loadu_si256((const __m256i *)(const void *)from);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(const void *)(from + 8));
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), _MM_SHUFFLE(3, 1, 2, 0));
}

/* See weigh.h: from logits to the partial sums of weights. */
KOLMO_INLINE KOLMO_TARGET void network_sum(const uint32_t *exp2, const float *restrict l, uint32_t *restrict sums) {
    const __m256 per_nat = _mm256_set1_ps(0x1.715476p+0f), steps = _mm256_set1_ps(1024.0f); /* 1.44269504 in binary32 */
    const __m256 least = _mm256_set1_ps(-24576.0f), zero = _mm256_setzero_ps();
    __m256 most = _mm256_set1_ps(-INFINITY);
    for (int b = 0; b < 256; b += 8) most = _mm256_max_ps(most, _mm256_loadu_ps(l + b));
    float largest[8];
    _mm256_storeu_ps(largest, most);
    for (int i = 1; i < 8; i++) largest[0] = largest[i] > largest[0] ? largest[i] : largest[0];
    const __m256 top = _mm256_set1_ps(largest[0]);
    for (int b = 0; b < 256; b += 8) {
        const __m256 fine = _mm256_mul_ps(_mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(l + b), top), per_nat), steps);
        const __m256i below = _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(fine, least), zero));
        const __m256i q = _mm256_sub_epi32(_mm256_setzero_si256(), below);
        const __m256i at = _mm256_and_si256(q, _mm256_set1_epi32(1023));
        const __m256i mantissa = _mm256_i32gather_epi32((const int *)exp2, at, 4);
        const __m256i weight = _mm256_srlv_epi32(mantissa, _mm256_srli_epi32(q, 10));
        _mm256_storeu_si256((__m256i *)(void *)(sums + 256 + b), _mm256_max_epu32(weight, _mm256_set1_epi32(1)));
    }
    for (int count = 128; count >= 8; count /= 2)
        for (int i = count; i < 2 * count; i += 8)
            _mm256_storeu_si256((__m256i *)(void *)(sums + i), network_pairs(sums + 2 * i));
    for (int i = 7; i; i--) sums[i] = sums[2 * i] + sums[2 * i + 1];
    sums[0] = 0;
}
