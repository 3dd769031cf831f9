/* The memory of tokens for AVX2, chosen at run time. */
#include "cpu.h"
#if defined(KOLMO_AVX2)
#define KOLMO_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define TM_PREDICT tm_predict_avx2
#define TM_UPDATE tm_update_avx2
#include "memory/token_memory_loop.h"
#else
typedef int kolmo_no_avx2; /* ISO C wants something in every file */
#endif
