/* Products with bitshift payloads for AVX2, chosen at run time. */
#include "bitshift_product/product.h"
#if defined(KOLMO_AVX2)
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define KOLMO_PATH kolmo_bitshift_avx2
#include "bitshift_product/lanes_avx2.h"

#include "bitshift_product/product_loop.h"
#else
typedef int kolmo_no_avx2; /* ISO C wants something in every file */
#endif
