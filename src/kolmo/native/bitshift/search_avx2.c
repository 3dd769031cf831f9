/* The search for AVX2, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX2)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define KOLMO_TARGET __attribute__((target("avx2")))
#define SEARCH_EXTEND bitshift_extend_avx2
#define LANES_INLINE static inline __attribute__((always_inline)) KOLMO_TARGET

enum { LANES = 16 };
typedef __m256i lanes;

LANES_INLINE lanes lanes_all(uint16_t x) { return _mm256_set1_epi16((short)x); }
LANES_INLINE lanes lanes_pattern(int bits) {
    uint16_t at[16];
    for (int i = 0; i < 16; i++) at[i] = (uint16_t)(0x0100 + 0x0202 * (i >> bits));
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}
LANES_INLINE lanes lanes_spread(const uint16_t *m, lanes pattern) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)m)), pattern);
}
LANES_INLINE lanes lanes_cost(lanes x, const int16_t *v) {
    const __m256i d = _mm256_subs_epi16(x, _mm256_loadu_si256((const __m256i *)(const void *)v));
    return _mm256_mulhrs_epi16(d, d);
}
LANES_INLINE lanes lanes_add(lanes a, lanes b) { return _mm256_adds_epu16(a, b); }
LANES_INLINE lanes lanes_subtract(lanes a, lanes b) { return _mm256_sub_epi16(a, b); }
LANES_INLINE lanes lanes_min(lanes a, lanes b) { return _mm256_min_epu16(a, b); }
LANES_INLINE lanes lanes_choose(lanes old, lanes a, lanes b, uint16_t p) {
    const __m256i not_less = _mm256_cmpeq_epi16(_mm256_max_epu16(a, b), a);
    return _mm256_blendv_epi8(lanes_all(p), old, not_less);
}
LANES_INLINE void lanes_store(uint16_t *to, lanes x) { _mm256_storeu_si256((__m256i *)(void *)to, x); }
LANES_INLINE void lanes_store_bytes(uint8_t *to, lanes x) {
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storeu_si128((__m128i *)(void *)to, bytes);
}
LANES_INLINE uint16_t lanes_least(lanes x) {
    const __m128i half = _mm_min_epu16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    return (uint16_t)_mm_extract_epi16(_mm_minpos_epu16(half), 0);
}

#include "bitshift/search_loop.h"

#define FEEDBACK_FOLLOW bitshift_follow_avx2
#include "bitshift/feedback_loop.h"
#else
typedef int kolmo_no_avx2; /* ISO C wants something in every file */
#endif
