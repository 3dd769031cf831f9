/* The weights of 16 rows with AVX2, for files that define KOLMO_TARGET: what product_loop.h expects.
 *
 * A panel holds weights as 16-bit integers: for every two columns two vectors, and in them two numbers of each row. */
#include <immintrin.h>
#include <string.h>

typedef int16_t bitshift_q; /* an activation as the products of panels take it */
#define BITSHIFT_OWN_ROW
#define BITSHIFT_OWN_SHORT
#define BITSHIFT_TILE 4       /* rows of activations that are multiplied at once */
#define BITSHIFT_PANEL_UNIT 2 /* bytes of a weight in a panel */
#define BITSHIFT_SHIFTED 0    /* whether weights have 126 added in sums of panels */

typedef struct {
    __m256i word[2];
} bitshift_lanes;

/* The next word of up to 16 rows, whose words follow each other. */
KOLMO_INLINE KOLMO_TARGET bitshift_lanes bitshift_load(const uint8_t *words, size_t rows) {
    uint32_t some[BITSHIFT_GROUP];
    bitshift_lanes found;
    if (rows != BITSHIFT_GROUP) {
        memset(some, 0, sizeof some);
        memcpy(some, words, 4 * rows);
        words = (const uint8_t *)some;
    }
    found.word[0] = _mm256_loadu_si256((const __m256i *)(const void *)words);
    found.word[1] = _mm256_loadu_si256((const __m256i *)(const void *)(words + 32));
    return found;
}

/* Weight t of a period, in half of the rows: four masked bytes whose sum is the weight plus 126. A state that two words
 * share is taken from the halves of both. All but `w` is constant where it is called, so the halves are joined once for a
 * word. */
KOLMO_INLINE KOLMO_TARGET __m256i bitshift_hash(const bitshift_lanes *w, const int half, const int t, const int bits,
                                                const int states) {
    const bitshift_lanes *from = w + bits * t / 32;
    int at = bits * t % 32;
    __m256i state = from->word[half];
    if (at + states > 32) {
        state = _mm256_or_si256(_mm256_slli_epi32(from[0].word[half], 16), _mm256_srli_epi32(from[1].word[half], 16));
        at -= 16;
    }
    if (at + states < 32) state = _mm256_srli_epi32(state, 32 - states - at);
    if (at) state = _mm256_and_si256(state, _mm256_set1_epi32((1 << states) - 1));
    const __m256i product = _mm256_mullo_epi32(state, _mm256_set1_epi32((int)BITSHIFT_FACTOR));
    return _mm256_and_si256(product, _mm256_set1_epi32((int)BITSHIFT_MASK));
}

/* Sums of 16 rows with one row of activations; `fours` has each of these as four equal bytes. Two products of pairs are at
 * most 4 * 63 * 127, which 16 bits hold. */
KOLMO_INLINE KOLMO_TARGET void bitshift_row(const uint8_t *words, size_t rows, size_t row_words, const int bits,
                                            const int states, const uint32_t *fours, int32_t *sums) {
    const size_t step = 4 * rows;
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i sum[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    bitshift_lanes w[5];
    w[0] = bitshift_load(words, rows);
    for (size_t at = 0; at < row_words; at += (size_t)bits, fours += BITSHIFT_PERIOD) {
        for (int i = 1; i < bits; i++) w[i] = bitshift_load(words + (at + (size_t)i) * step, rows);
        const size_t following = at + (size_t)bits < row_words ? at + (size_t)bits : 0;
        w[bits] = bitshift_load(words + following * step, rows);
#pragma GCC unroll 16
        for (int t = 0; t < BITSHIFT_PERIOD; t += 2) {
            const __m256i a = _mm256_set1_epi32((int)fours[t]), b = _mm256_set1_epi32((int)fours[t + 1]);
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                const __m256i first = _mm256_maddubs_epi16(bitshift_hash(w, half, t, bits, states), a);
                const __m256i second = _mm256_maddubs_epi16(bitshift_hash(w, half, t + 1, bits, states), b);
                sum[half] = _mm256_add_epi32(sum[half], _mm256_madd_epi16(_mm256_add_epi16(first, second), ones));
            }
        }
        w[0] = w[bits];
    }
    _mm256_storeu_si256((__m256i *)(void *)sums, sum[0]);
    _mm256_storeu_si256((__m256i *)(void *)(sums + 8), sum[1]);
}

/* The panel of one period of 32 columns: 1024 bytes. */
KOLMO_INLINE KOLMO_TARGET void bitshift_unpack(const bitshift_lanes *w, const int bits, const int states, uint8_t *panel) {
    const __m256i bytes = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    const __m256i offset = _mm256_set1_epi16(BITSHIFT_OFFSET);
#pragma GCC unroll 16
    for (int t = 0; t < BITSHIFT_PERIOD; t += 2) {
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            const __m256i a = _mm256_maddubs_epi16(bitshift_hash(w, half, t, bits, states), bytes);
            const __m256i b = _mm256_maddubs_epi16(bitshift_hash(w, half, t + 1, bits, states), bytes);
            const __m256i first = _mm256_madd_epi16(a, ones), second = _mm256_madd_epi16(b, ones);
            const __m256i pair = _mm256_or_si256(first, _mm256_slli_epi32(second, 16));
            _mm256_store_si256((__m256i *)(void *)(panel + 32 * t + 32 * half), _mm256_sub_epi16(pair, offset));
        }
    }
}

/* Add to sums[n][16] the products of a panel of `columns` with n rows of activations, `stride` apart. n is constant. */
KOLMO_INLINE KOLMO_TARGET void bitshift_tile(const uint8_t *panel, size_t columns, const bitshift_q *q, size_t stride,
                                             const int n, int32_t *sums) {
    __m256i sum[BITSHIFT_TILE][2];
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            sum[i][half] = _mm256_loadu_si256((const __m256i *)(const void *)(sums + BITSHIFT_GROUP * i + 8 * half));
    for (size_t c = 0; c < columns; c += 2, panel += 64) {
        const __m256i low = _mm256_load_si256((const __m256i *)(const void *)panel);
        const __m256i high = _mm256_load_si256((const __m256i *)(const void *)(panel + 32));
#pragma GCC unroll 4
        for (int i = 0; i < n; i++) {
            int32_t two;
            memcpy(&two, q + (size_t)i * stride + c, 4);
            const __m256i a = _mm256_set1_epi32(two);
            sum[i][0] = _mm256_add_epi32(sum[i][0], _mm256_madd_epi16(low, a));
            sum[i][1] = _mm256_add_epi32(sum[i][1], _mm256_madd_epi16(high, a));
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; i++)
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            _mm256_storeu_si256((__m256i *)(void *)(sums + BITSHIFT_GROUP * i + 8 * half), sum[i][half]);
}

/* Weight j of a row, whose parts of panels follow each other in `line`. */
KOLMO_INLINE int bitshift_weight(const uint8_t *line, size_t j) {
    int16_t weight;
    memcpy(&weight, line + 2 * j, sizeof weight);
    return weight;
}

/* Butterflies at distances 1, 2 and 4 of n numbers, a multiple of 16; then at 8. */
KOLMO_INLINE KOLMO_TARGET void bitshift_short(float *x, size_t n) {
    const __m256 one = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
    const __m256 two = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
    const __m256 four = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __m256 v[2];
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            v[k] = _mm256_loadu_ps(x + i + 8 * k);
            v[k] = _mm256_add_ps(_mm256_xor_ps(v[k], one), _mm256_permute_ps(v[k], 0xB1));
            v[k] = _mm256_add_ps(_mm256_xor_ps(v[k], two), _mm256_permute_ps(v[k], 0x4E));
            v[k] = _mm256_add_ps(_mm256_xor_ps(v[k], four), _mm256_permute2f128_ps(v[k], v[k], 1));
        }
        _mm256_storeu_ps(x + i, _mm256_add_ps(v[0], v[1]));
        _mm256_storeu_ps(x + i + 8, _mm256_sub_ps(v[0], v[1]));
    }
}
