/* The network of pixels for AVX-512 with VNNI, chosen at run time. */
#include "pixels/pixel_layout.h"
#if defined(KOLMO_AVX512)
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#else
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,prefer-vector-width=512")))
#endif
#define KOLMO_RUN pixel_run_avx512
#include "products/tile_avx512.h"

#include "pixels/pixel_network_step.h"
#else
typedef int kolmo_no_pixel_avx512; /* ISO C wants something in every file */
#endif
