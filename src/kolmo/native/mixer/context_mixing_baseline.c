/* Context mixing for the compiler's default instruction set (SSE2 on x86-64, NEON on arm64). */
#define KOLMO_TARGET
#define KOLMO_RUN cm_run_baseline
#define KOLMO_RUN_LANES cm_run_lanes_baseline
#include "mixer/context_mixing_loop.h"
