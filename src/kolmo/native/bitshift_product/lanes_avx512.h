/* The weights of 16 rows with AVX-512 VNNI, for files that define KOLMO_TARGET: what product_loop.h expects.
 *
 * A panel holds weights plus 126, unsigned bytes: for every four columns one vector, and in it four bytes of each row. */
#include <immintrin.h>
#include <string.h>

typedef int8_t bitshift_q; /* an activation as the products of panels take it */
#define BITSHIFT_OWN_ROW
#define BITSHIFT_OWN_SHORT
#define BITSHIFT_TILE 12     /* rows of activations that are multiplied at once */
#define BITSHIFT_PANEL_UNIT 1 /* bytes of a weight in a panel */
#define BITSHIFT_SHIFTED 1    /* whether weights have 126 added in sums */

typedef struct {
    __m512i word;
} bitshift_lanes;

/* The next word of up to 16 rows, whose words follow each other. */
KOLMO_INLINE KOLMO_TARGET bitshift_lanes bitshift_load(const uint8_t *words, size_t rows) {
    uint32_t some[BITSHIFT_GROUP];
    if (rows == BITSHIFT_GROUP) return (bitshift_lanes){_mm512_loadu_si512(words)};
    memset(some, 0, sizeof some);
    memcpy(some, words, 4 * rows);
    return (bitshift_lanes){_mm512_loadu_si512(some)};
}

/* Weight t of a period: four masked bytes whose sum is the weight plus 126. A state that two words share is taken from
 * the halves of both. All but `w` is constant where it is called, so the halves are joined once for a word. */
KOLMO_INLINE KOLMO_TARGET __m512i bitshift_hash(const bitshift_lanes *w, const int t, const int bits, const int states) {
    const bitshift_lanes *from = w + bits * t / 32;
    int at = bits * t % 32;
    __m512i state = from->word;
    if (at + states > 32) {
        state = _mm512_or_si512(_mm512_slli_epi32(from[0].word, 16), _mm512_srli_epi32(from[1].word, 16));
        at -= 16;
    }
    if (at + states < 32) state = _mm512_srli_epi32(state, (unsigned)(32 - states - at));
    if (at) state = _mm512_and_si512(state, _mm512_set1_epi32((1 << states) - 1));
    const __m512i product = _mm512_mullo_epi32(state, _mm512_set1_epi32((int)BITSHIFT_FACTOR));
    return _mm512_and_si512(product, _mm512_set1_epi32((int)BITSHIFT_MASK));
}

/* Sums of 16 rows with one row of activations; `fours` has each of these as four equal bytes. */
KOLMO_INLINE KOLMO_TARGET void bitshift_row(const uint8_t *words, size_t rows, size_t row_words, const int bits,
                                            const int states, const uint32_t *fours, int32_t *sums) {
    const size_t step = 4 * rows;
    __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    bitshift_lanes w[5];
    w[0] = bitshift_load(words, rows);
    for (size_t at = 0; at < row_words; at += (size_t)bits, fours += BITSHIFT_PERIOD) {
        for (int i = 1; i < bits; i++) w[i] = bitshift_load(words + (at + (size_t)i) * step, rows);
        const size_t following = at + (size_t)bits < row_words ? at + (size_t)bits : 0;
        w[bits] = bitshift_load(words + following * step, rows);
#pragma GCC unroll 32
        for (int t = 0; t < BITSHIFT_PERIOD; t++)
            sum[t % 4] = _mm512_dpbusd_epi32(sum[t % 4], bitshift_hash(w, t, bits, states), _mm512_set1_epi32((int)fours[t]));
        w[0] = w[bits];
    }
    const __m512i half = _mm512_add_epi32(sum[0], sum[1]), other = _mm512_add_epi32(sum[2], sum[3]);
    _mm512_storeu_si512(sums, _mm512_add_epi32(half, other));
}

/* The panel of one period of 32 columns: 512 bytes. */
KOLMO_INLINE KOLMO_TARGET void bitshift_unpack(const bitshift_lanes *w, const int bits, const int states, uint8_t *panel) {
    const __m512i zero = _mm512_setzero_si512(), ones = _mm512_set1_epi32(0x01010101);
#pragma GCC unroll 8
    for (int four = 0; four < BITSHIFT_PERIOD / 4; four++) {
        __m512i v[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) v[i] = _mm512_dpbusd_epi32(zero, bitshift_hash(w, 4 * four + i, bits, states), ones);
        const __m512i low = _mm512_or_si512(v[0], _mm512_slli_epi32(v[1], 8));
        const __m512i high = _mm512_or_si512(_mm512_slli_epi32(v[2], 16), _mm512_slli_epi32(v[3], 24));
        _mm512_store_si512(panel + 64 * four, _mm512_or_si512(low, high));
    }
}

/* Add to sums[n][16] the products of a panel of `columns` with n rows of activations, `stride` apart. n is constant. */
KOLMO_INLINE KOLMO_TARGET void bitshift_tile(const uint8_t *panel, size_t columns, const bitshift_q *q, size_t stride,
                                             const int n, int32_t *sums) {
    __m512i sum[BITSHIFT_TILE];
#pragma GCC unroll 12
    for (int i = 0; i < n; i++) sum[i] = _mm512_loadu_si512(sums + BITSHIFT_GROUP * i);
    for (size_t c = 0; c < columns; c += 4, panel += 64) {
        const __m512i w = _mm512_load_si512(panel);
#pragma GCC unroll 12
        for (int i = 0; i < n; i++) {
            int32_t four;
            memcpy(&four, q + (size_t)i * stride + c, 4);
            sum[i] = _mm512_dpbusd_epi32(sum[i], w, _mm512_set1_epi32(four));
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < n; i++) _mm512_storeu_si512(sums + BITSHIFT_GROUP * i, sum[i]);
}

/* Weight j of a row, whose parts of panels follow each other in `line`. */
KOLMO_INLINE int bitshift_weight(const uint8_t *line, size_t j) { return line[j] - BITSHIFT_OFFSET; }

/* Butterflies at distances 1, 2, 4 and 8 of n numbers, a multiple of 16. */
KOLMO_INLINE KOLMO_TARGET void bitshift_short(float *x, size_t n) {
    const __m512 minus = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        v = _mm512_add_ps(_mm512_mask_xor_ps(v, 0xAAAA, v, minus), _mm512_permute_ps(v, 0xB1));
        v = _mm512_add_ps(_mm512_mask_xor_ps(v, 0xCCCC, v, minus), _mm512_permute_ps(v, 0x4E));
        v = _mm512_add_ps(_mm512_mask_xor_ps(v, 0xF0F0, v, minus), _mm512_shuffle_f32x4(v, v, 0xB1));
        v = _mm512_add_ps(_mm512_mask_xor_ps(v, 0xFF00, v, minus), _mm512_shuffle_f32x4(v, v, 0x4E));
        _mm512_storeu_ps(x + i, v);
    }
}
