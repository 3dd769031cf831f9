/* Products with bitshift payloads for AVX-512 with VNNI, chosen at run time. */
#include "bitshift_product/product.h"
#if defined(KOLMO_AVX512)
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")))
#endif
#define KOLMO_PATH kolmo_bitshift_avx512
#include "bitshift_product/lanes_avx512.h"

#include "bitshift_product/product_loop.h"
#else
typedef int kolmo_no_avx512; /* ISO C wants something in every file */
#endif
