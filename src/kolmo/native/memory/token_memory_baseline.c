/* The memory of tokens for the compiler's default instruction set (SSE2 on x86-64, NEON on arm64). */
#define KOLMO_TARGET
#define TM_PREDICT tm_predict_baseline
#define TM_UPDATE tm_update_baseline
#include "memory/token_memory_loop.h"
