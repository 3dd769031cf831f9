/* Instantiates training_loop.h for both element types; the file that includes this one defines KOLMO_TARGET and
 * KOLMO_PATH(x), the name of x on this path. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef KOLMO_BF16
#define KOLMO_BF16
static inline float bf16_load(const uint16_t *p) {
    uint32_t u = (uint32_t)*p << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline void bf16_store(uint16_t *p, float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    *p = (uint16_t)((u + 0x7FFF + (u >> 16 & 1)) >> 16);
}

static inline float float_load(const float *p) { return *p; }
static inline void float_store(float *p, float f) { *p = f; }
#endif

#define ELEMENT uint16_t
#define LOAD bf16_load
#define STORE bf16_store
#define KOLMO_NAME(x) KOLMO_PATH(x##_bf16)
#include "training/training_loop.h"
#undef ELEMENT
#undef LOAD
#undef STORE
#undef KOLMO_NAME

#define ELEMENT float
#define LOAD float_load
#define STORE float_store
#define KOLMO_NAME(x) KOLMO_PATH(x##_float)
#include "training/training_loop.h"
#undef ELEMENT
#undef LOAD
#undef STORE
#undef KOLMO_NAME
