/* The network that predicts samples, for AVX2, chosen at run time. */
#include "samples/sample_weights.h"
#if defined(KOLMO_AVX2)
#if defined(__i386__)
#define KOLMO_TARGET __attribute__((target("avx2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET __attribute__((target("avx2")))
#endif
#define SAMPLE_RUN sample_run_avx2
#include "products/tile_avx2.h"

#include "samples/sample_step.h"
#else
typedef int kolmo_no_avx2_samples; /* ISO C wants something in every file */
#endif
