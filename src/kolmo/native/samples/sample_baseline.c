/* The network that predicts samples, for the compiler's default instruction set. */
#include "samples/sample_weights.h"
#if defined(__GNUC__) && defined(__i386__)
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET
#endif
#define SAMPLE_RUN sample_run_baseline
#include "products/tile_baseline.h"

#include "samples/sample_step.h"
