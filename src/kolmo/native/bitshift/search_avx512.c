/* The search for AVX-512, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX512)
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define SEARCH_EXTEND bitshift_extend_avx512
#define LANES_INLINE static inline __attribute__((always_inline)) KOLMO_TARGET

enum { LANES = 32 };
typedef __m512i lanes;

LANES_INLINE lanes lanes_all(uint16_t x) { return _mm512_set1_epi16((short)x); }
LANES_INLINE lanes lanes_pattern(int bits) {
    uint16_t at[32];
    for (int i = 0; i < 32; i++) at[i] = (uint16_t)(0x0100 + 0x0202 * (i >> bits));
    return _mm512_loadu_si512(at);
}
LANES_INLINE lanes lanes_spread(const uint16_t *m, lanes pattern) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)m)), pattern);
}
LANES_INLINE lanes lanes_cost(lanes x, const int16_t *v) {
    const __m512i d = _mm512_subs_epi16(x, _mm512_loadu_si512(v));
    return _mm512_mulhrs_epi16(d, d);
}
LANES_INLINE lanes lanes_add(lanes a, lanes b) { return _mm512_adds_epu16(a, b); }
LANES_INLINE lanes lanes_subtract(lanes a, lanes b) { return _mm512_sub_epi16(a, b); }
LANES_INLINE lanes lanes_min(lanes a, lanes b) { return _mm512_min_epu16(a, b); }
LANES_INLINE lanes lanes_choose(lanes old, lanes a, lanes b, uint16_t p) {
    return _mm512_mask_mov_epi16(old, _mm512_cmplt_epu16_mask(a, b), lanes_all(p));
}
LANES_INLINE void lanes_store(uint16_t *to, lanes x) { _mm512_storeu_si512(to, x); }
LANES_INLINE void lanes_store_bytes(uint8_t *to, lanes x) {
    _mm256_storeu_si256((__m256i *)(void *)to, _mm512_cvtepi16_epi8(x));
}
LANES_INLINE uint16_t lanes_least(lanes x) {
    const __m256i half = _mm256_min_epu16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    const __m128i quarter = _mm_min_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return (uint16_t)_mm_extract_epi16(_mm_minpos_epu16(quarter), 0);
}

#include "bitshift/search_loop.h"

#define FEEDBACK_FOLLOW bitshift_follow_avx512
#include "bitshift/feedback_loop.h"
#else
typedef int kolmo_no_avx512; /* ISO C wants something in every file */
#endif
