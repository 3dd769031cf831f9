/* Inner products with AVX-512 VNNI, and what makes their inputs, for files that define KOLMO_TARGET. */
#include <immintrin.h>
#include <math.h>

#define NETWORK_OFFSET 128
#define NETWORK_OWN_NORMALISE
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

/* Rows with a root mean square of `scale`, as integers within +-127; conversions round to nearest, ties to even. */
static KOLMO_TARGET void network_normalise(const float *restrict x, int rows, int width, float scale,
                                           uint8_t *restrict u) {
    const double inverse = 1.0 / (width * 16777216.0);
    const __m512 most = _mm512_set1_ps(127.0f), least = _mm512_set1_ps(-127.0f);
    const __m512 low = _mm512_set1_ps(-67108864.0f), shift = _mm512_set1_ps(12582912.0f);
    for (int row = 0; row < rows; row++, x += width, u += width) {
        __m512i even = _mm512_setzero_si512(), odd = even;
        for (int j = 0; j < width; j += 16) {
            const __m512 wide = _mm512_mul_ps(_mm512_loadu_ps(x + j), _mm512_set1_ps(4096.0f));
            const __m512 near = _mm512_min_ps(_mm512_max_ps(wide, low), _mm512_sub_ps(_mm512_setzero_ps(), low));
            const __m512 whole = _mm512_sub_ps(_mm512_add_ps(near, shift), shift); /* as network_rint */
            const __m512i i = _mm512_abs_epi32(_mm512_cvttps_epi32(whole));
            const __m512i high = _mm512_srli_epi64(i, 32);
            even = _mm512_add_epi64(even, _mm512_mul_epu32(i, i));
            odd = _mm512_add_epi64(odd, _mm512_mul_epu32(high, high));
        }
        const int64_t sum = _mm512_reduce_add_epi64(_mm512_add_epi64(even, odd));
        const double mean = (double)sum * inverse;
        const float m = (float)mean, above = m + 0x1p-20f, by = scale / sqrtf(above);
        for (int j = 0; j < width; j += 16) {
            const __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + j), _mm512_set1_ps(by));
            const __m512i i = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(scaled, least), most));
            const __m512i shifted = _mm512_add_epi32(i, _mm512_set1_epi32(NETWORK_OFFSET));
            _mm_storeu_si128((__m128i *)(void *)(u + j), _mm512_cvtepi32_epi8(shifted));
        }
    }
}
