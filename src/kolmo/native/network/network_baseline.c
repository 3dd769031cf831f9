/* The network for the compiler's default instruction set: SSE2 on x86-64, NEON on arm64, else plain C. */
#include "network/network.h"
#if defined(__GNUC__) && defined(__i386__)
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET
#endif
#define KOLMO_RUN network_run_baseline
#include "products/tile_baseline.h"

#include "network/network_step.h"
