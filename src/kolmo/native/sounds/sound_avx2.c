/* The mixer of sound for AVX2, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX2)
#if defined(__i386__)
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2,fpmath=sse")))
#else
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2")))
#endif
#define SOUND_RUN sound_run_avx2
#include "sounds/sound_loop.h"
#else
typedef int kolmo_no_avx2_sounds; /* ISO C wants something in every file */
#endif
