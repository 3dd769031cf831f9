/* Context mixing for AVX2, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX2)
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define KOLMO_RUN cm_run_avx2
#define KOLMO_RUN_LANES cm_run_lanes_avx2
#include "mixer/context_mixing_loop.h"
#else
typedef int kolmo_no_avx2; /* ISO C wants something in every file */
#endif
