/* The mixer of pictures for AVX2, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX2)
#if defined(__i386__)
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2,fpmath=sse"))) /* its default rounds to more than binary64 */
#else
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2")))
#endif
#define KOLMO_RUN pm_run_avx2
#include "pixel_mixer/pixel_mixer_loop.h"
#else
typedef int kolmo_no_avx2; /* ISO C wants something in every file */
#endif
