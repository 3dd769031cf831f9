/* The network of pixels for the compiler's default instruction set. */
#include "pixels/pixel_layout.h"
#if defined(__GNUC__) && defined(__i386__)
#define KOLMO_TARGET __attribute__((target("sse2,fpmath=sse"))) /* its default rounds to more than binary32 */
#else
#define KOLMO_TARGET
#endif
#define KOLMO_RUN pixel_run_baseline
#include "products/tile_baseline.h"

#include "pixels/pixel_network_step.h"
