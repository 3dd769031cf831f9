/* Inner products with AVX-512 VNNI, and the work on their inputs and results, for files that define KOLMO_TARGET. In a small
 * network that work takes more time than the products, and compilers make scalar code of the plain loops. */
#include "products/tile_avx512.h"

#define NETWORK_OWN_NORMALISE
#define NETWORK_OWN_RECUR
#define NETWORK_OWN_WEIGH

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

/* 0.5 + (0.5 * t) / sqrt(1 + t * t), each operation rounded once. */
KOLMO_INLINE KOLMO_TARGET __m512 network_squeeze16(__m512 t) {
    const __m512 half = _mm512_set1_ps(0.5f);
    const __m512 more = _mm512_add_ps(_mm512_set1_ps(1.0f), _mm512_mul_ps(t, t));
    return _mm512_add_ps(half, _mm512_div_ps(_mm512_mul_ps(half, t), _mm512_sqrt_ps(more)));
}

KOLMO_INLINE KOLMO_TARGET __m512 network_scaled16(const int32_t *z, const float *scale) {
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(z)), _mm512_loadu_ps(scale));
}

/* See network_step.h: the gates of one lane and step. `first` and `last` are multiples of 64. */
static KOLMO_TARGET void network_recur(const int32_t *restrict z, const float *restrict scale,
                                       const float *restrict bias, float *restrict h, float *restrict y,
                                       const int state, const int first, const int last) {
    for (int j = first; j < last; j += 16) {
        const int c = state + j, g = 2 * state + j;
        const __m512 t = _mm512_add_ps(network_scaled16(z + j, scale + j), _mm512_loadu_ps(bias + j));
        const __m512 gate = network_scaled16(z + g, scale + g), before = _mm512_loadu_ps(h + j);
        const __m512 away = _mm512_sub_ps(network_scaled16(z + c, scale + c), before);
        const __m512 now = _mm512_add_ps(before, _mm512_mul_ps(network_squeeze16(t), away));
        _mm512_storeu_ps(h + j, now);
        _mm512_storeu_ps(y + j, _mm512_mul_ps(_mm512_mul_ps(now, gate), network_squeeze16(gate)));
    }
}

/* See network_step.h: from a row of the head's products to the partial sums of weights. */
static KOLMO_TARGET void network_weigh(const kolmo_network *n, const int32_t *restrict z, uint32_t *restrict sums) {
    float l[256];
    for (int b = 0; b < 256; b += 16)
        _mm512_storeu_ps(l + b, _mm512_add_ps(network_scaled16(z + b, n->head.scale + b), _mm512_loadu_ps(n->head_bias + b)));
    network_sum(n->constants.exp2, l, sums);
}
