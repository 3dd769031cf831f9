/* The mixer of pictures for the compiler's default instruction set (SSE2 on x86-64, NEON on arm64). */
#if defined(__GNUC__) && defined(__i386__)
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds to more than binary64 */
#else
#define KOLMO_TARGET
#endif
#define KOLMO_RUN pm_run_baseline
#include "pixel_mixer/pixel_mixer_loop.h"
