/* The weights of 16 rows for the compiler's default instructions, for files that define KOLMO_TARGET: what product_loop.h
 * expects. Loops over 16 rows become vectors.
 *
 * A panel holds weights as 16-bit integers: for every two columns two numbers of each row. */
#include <string.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

typedef int16_t bitshift_q; /* an activation as the products of panels take it */
#define BITSHIFT_TILE 2       /* rows of activations that are multiplied at once */
#define BITSHIFT_PANEL_UNIT 2 /* bytes of a weight in a panel */
#define BITSHIFT_SHIFTED 0    /* whether weights have 126 added in sums of panels */

typedef struct {
    uint32_t word[BITSHIFT_GROUP];
} bitshift_lanes;

/* The next word of up to 16 rows, whose words follow each other. */
KOLMO_INLINE bitshift_lanes bitshift_load(const uint8_t *words, size_t rows) {
    bitshift_lanes found;
    memset(&found, 0, sizeof found);
    for (size_t i = 0; i < rows; i++, words += 4)
        found.word[i] = (uint32_t)words[0] | (uint32_t)words[1] << 8 | (uint32_t)words[2] << 16 | (uint32_t)words[3] << 24;
    return found;
}

/* Weight t of a period, of each row. All but `w` is constant where it is called. */
KOLMO_INLINE void bitshift_weights(const bitshift_lanes *w, const int t, const int bits, const int states, uint32_t *to) {
    const int at = bits * t % 32, end = at + states;
    const bitshift_lanes *from = w + bits * t / 32;
    for (int i = 0; i < BITSHIFT_GROUP; i++) {
        uint32_t state = end <= 32 ? from[0].word[i] >> ((32 - end) & 31)
                                   : from[0].word[i] << ((end - 32) & 31) | from[1].word[i] >> ((64 - end) & 31);
        uint32_t h = (state & ((1u << states) - 1)) * BITSHIFT_FACTOR & BITSHIFT_MASK;
        h = (h & 0x00FF00FFu) + (h >> 8 & 0x00FF00FFu);
        to[i] = (h >> 16) + (h & 0xFFFFu) - BITSHIFT_OFFSET;
    }
}

/* The panel of one period of 32 columns: 1024 bytes. */
KOLMO_INLINE void bitshift_unpack(const bitshift_lanes *w, const int bits, const int states, uint8_t *panel) {
#pragma GCC unroll 16
    for (int t = 0; t < BITSHIFT_PERIOD; t += 2, panel += 4 * BITSHIFT_GROUP) {
        uint32_t first[BITSHIFT_GROUP], second[BITSHIFT_GROUP];
        bitshift_weights(w, t, bits, states, first);
        bitshift_weights(w, t + 1, bits, states, second);
        for (int i = 0; i < BITSHIFT_GROUP; i++) first[i] = (first[i] & 0xFFFFu) | second[i] << 16;
        memcpy(panel, first, sizeof first);
    }
}

/* The weights of a row (of 16) in two columns: the lower half is that of the first. */
KOLMO_INLINE uint32_t bitshift_pair(const uint8_t *panel, size_t pair, size_t row) {
    uint32_t both;
    memcpy(&both, panel + 64 * pair + 4 * row, sizeof both);
    return both;
}

/* Weight j of a row, whose parts of panels follow each other in `line`; the first of two is in the lower half. */
KOLMO_INLINE int bitshift_weight(const uint8_t *line, size_t j) {
    return (int16_t)(bitshift_pair(line, 0, j / 2) >> 16 * (j % 2));
}

/* Add to sums[n][16] the products of a panel of `columns` with n rows of activations, `stride` apart. n is constant. */
#if defined(__SSE2__) || defined(_M_X64)
KOLMO_INLINE void bitshift_tile(const uint8_t *panel, size_t columns, const bitshift_q *q, size_t stride, const int n,
                                int32_t *sums) {
    __m128i sum[BITSHIFT_TILE][4];
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 4; k++) sum[i][k] = _mm_loadu_si128((const __m128i *)(const void *)(sums + BITSHIFT_GROUP * i + 4 * k));
    for (size_t c = 0; c < columns; c += 2, panel += 64)
        for (int i = 0; i < n; i++) {
            int32_t two;
            memcpy(&two, q + (size_t)i * stride + c, 4);
            const __m128i a = _mm_set1_epi32(two);
            for (int k = 0; k < 4; k++)
                sum[i][k] = _mm_add_epi32(sum[i][k], _mm_madd_epi16(a, _mm_load_si128((const __m128i *)(const void *)(panel + 16 * k))));
        }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < 4; k++) _mm_storeu_si128((__m128i *)(void *)(sums + BITSHIFT_GROUP * i + 4 * k), sum[i][k]);
}
#else
KOLMO_INLINE void bitshift_tile(const uint8_t *panel, size_t columns, const bitshift_q *q, size_t stride, const int n,
                                int32_t *sums) {
    for (int i = 0; i < n; i++) {
        int32_t sum[BITSHIFT_GROUP];
        memcpy(sum, sums + BITSHIFT_GROUP * i, sizeof sum);
        for (size_t c = 0; c < columns; c += 2) {
            const int32_t a = q[(size_t)i * stride + c], b = q[(size_t)i * stride + c + 1];
            for (size_t row = 0; row < BITSHIFT_GROUP; row++) {
                const uint32_t both = bitshift_pair(panel, c / 2, row);
                sum[row] += (int16_t)both * a + (int16_t)(both >> 16) * b;
            }
        }
        memcpy(sums + BITSHIFT_GROUP * i, sum, sizeof sum);
    }
}
#endif
