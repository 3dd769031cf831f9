/* The mixer of sound for the compiler's default instruction set (SSE2 on x86-64, NEON on arm64). */
#if defined(__i386__) && (defined(__GNUC__) || defined(__clang__))
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds twice */
#else
#define KOLMO_TARGET
#endif
#define SOUND_RUN sound_run_baseline
#include "sounds/sound_loop.h"
