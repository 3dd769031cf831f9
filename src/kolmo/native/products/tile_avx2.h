/* Inner products with AVX2, for files that define KOLMO_TARGET: what network_step.h expects. */
#include <immintrin.h>
#include <string.h>

#define NETWORK_OFFSET 0
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
