/* The network for AVX-512 with VNNI, chosen at run time. */
#include "network.h"
#if defined(KOLMO_AVX512)
#include <immintrin.h>
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")))
#endif
#define KOLMO_RUN network_run_avx512
#define NETWORK_OFFSET 128
#define NETWORK_TILE 6

KOLMO_INLINE KOLMO_TARGET void network_tile(const int8_t *w, const int32_t *start, const int inputs, const uint8_t *u,
                                            const int n, int32_t *z, const int rows) {
    __m512i sum[NETWORK_TILE][4];
#pragma GCC unroll 6
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
        for (int b = 0; b < 4; b++) sum[i][b] = _mm512_load_si512(start + 16 * b);
    for (int k = 0; k < inputs; k += 4, w += 256) {
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

#include "network_step.h"
#else
typedef int kolmo_no_avx512; /* ISO C wants something in every file */
#endif
