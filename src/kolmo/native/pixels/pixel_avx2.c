/* The network of pixels for AVX2, chosen at run time. */
#include "pixels/pixel_layout.h"
#if defined(KOLMO_AVX2)
#if defined(__i386__)
#define KOLMO_TARGET __attribute__((target("avx2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET __attribute__((target("avx2")))
#endif
#define KOLMO_RUN pixel_run_avx2
#include "products/tile_avx2.h"

#include "pixels/pixel_network_step.h"
#else
typedef int kolmo_no_pixel_avx2; /* ISO C wants something in every file */
#endif
