/* Inner products for the compiler's default instruction set, for files that define KOLMO_TARGET: what network_step.h expects. */
#include <string.h>

#define NETWORK_OFFSET 0
#define NETWORK_TILE 2

/* Vectors of four sums; network_dot4 adds products of 16 bytes of weights, which are 4 rows x 4 inputs, into a pair. */
#if defined(__SSE2__) || defined(_M_X64)
#define NETWORK_PAIRS
#include <emmintrin.h>
typedef __m128i network_sums;

KOLMO_INLINE __m128i network_four(const uint8_t *u) {
    int32_t four;
    memcpy(&four, u, 4);
    const __m128i a = _mm_set1_epi32(four);
    return _mm_srai_epi16(_mm_unpacklo_epi8(a, a), 8);
}

KOLMO_INLINE void network_dot4(__m128i *low, __m128i *high, __m128i a, const int8_t *weights) {
    const __m128i w = _mm_load_si128((const __m128i *)weights);
    *low = _mm_add_epi32(*low, _mm_madd_epi16(a, _mm_srai_epi16(_mm_unpacklo_epi8(w, w), 8)));
    *high = _mm_add_epi32(*high, _mm_madd_epi16(a, _mm_srai_epi16(_mm_unpackhi_epi8(w, w), 8)));
}

KOLMO_INLINE void network_store(int32_t *z, __m128i low, __m128i high) {
    const __m128 l = _mm_castsi128_ps(low), h = _mm_castsi128_ps(high);
    const __m128 even = _mm_shuffle_ps(l, h, _MM_SHUFFLE(2, 0, 2, 0));
    const __m128 odd = _mm_shuffle_ps(l, h, _MM_SHUFFLE(3, 1, 3, 1));
    _mm_storeu_si128((__m128i *)z, _mm_add_epi32(_mm_castps_si128(even), _mm_castps_si128(odd)));
}

#elif (defined(__aarch64__) && !defined(__AARCH64EB__)) || defined(_M_ARM64)
#define NETWORK_PAIRS
#include <arm_neon.h>
typedef int32x4_t network_sums;

KOLMO_INLINE int8x16_t network_four(const uint8_t *u) {
    int32_t four;
    memcpy(&four, u, 4);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

#if defined(__ARM_FEATURE_DOTPROD)
KOLMO_INLINE void network_dot4(int32x4_t *low, int32x4_t *high, int8x16_t a, const int8_t *weights) {
    (void)high;
    *low = vdotq_s32(*low, vld1q_s8(weights), a);
}

KOLMO_INLINE void network_store(int32_t *z, int32x4_t low, int32x4_t high) {
    (void)high;
    vst1q_s32(z, low);
}
#else
KOLMO_INLINE void network_dot4(int32x4_t *low, int32x4_t *high, int8x16_t a, const int8_t *weights) {
    const int8x16_t w = vld1q_s8(weights);
    *low = vpadalq_s16(*low, vmull_s8(vget_low_s8(w), vget_low_s8(a)));
    *high = vpadalq_s16(*high, vmull_s8(vget_high_s8(w), vget_low_s8(a)));
}

KOLMO_INLINE void network_store(int32_t *z, int32x4_t low, int32x4_t high) { vst1q_s32(z, vpaddq_s32(low, high)); }
#endif
#endif

#if defined(NETWORK_PAIRS)
KOLMO_INLINE void network_tile(const int8_t *group, const int32_t *start, const int inputs, const uint8_t *u,
                               const int n, int32_t *z, const int rows) {
    (void)start;
    for (int part = 0; part < NETWORK_GROUP; part += 8) { /* few enough sums for 16 registers */
        const int8_t *w = group + 4 * part;
        network_sums low[NETWORK_TILE][2], high[NETWORK_TILE][2];
        memset(low, 0, sizeof low);
        memset(high, 0, sizeof high);
        for (int k = 0; k < inputs; k += 4, w += 4 * NETWORK_GROUP)
            for (int i = 0; i < n; i++)
                for (int b = 0; b < 2; b++)
                    network_dot4(&low[i][b], &high[i][b], network_four(u + (size_t)i * (size_t)inputs + k), w + 16 * b);
        for (int i = 0; i < n; i++)
            for (int b = 0; b < 2; b++)
                network_store(z + (size_t)i * (size_t)rows + part + 4 * b, low[i][b], high[i][b]);
    }
}
#else
KOLMO_INLINE KOLMO_TARGET void network_tile(const int8_t *group, const int32_t *start, const int inputs,
                                            const uint8_t *u, const int n, int32_t *z, const int rows) {
    (void)start;
    for (int i = 0; i < n; i++, u += inputs, z += rows) {
        const int8_t *w = group;
        memset(z, 0, NETWORK_GROUP * sizeof *z);
        for (int k = 0; k < inputs; k += 4, w += 4 * NETWORK_GROUP) {
            const int32_t a0 = (int8_t)u[k], a1 = (int8_t)u[k + 1], a2 = (int8_t)u[k + 2], a3 = (int8_t)u[k + 3];
            for (int r = 0; r < NETWORK_GROUP; r++)
                z[r] += w[4 * r] * a0 + w[4 * r + 1] * a1 + w[4 * r + 2] * a2 + w[4 * r + 3] * a3;
        }
    }
}
#endif
