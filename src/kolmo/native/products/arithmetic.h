/* The floating-point settings that the exact networks are specified for. */
#ifndef KOLMO_ARITHMETIC_H
#define KOLMO_ARITHMETIC_H

#include <stdint.h>

#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#endif

/* Sets rounding to nearest and subnormal numbers, whatever the program has set; returns the settings before. */
static inline uint64_t kolmo_plain_arithmetic(void) {
#if defined(__SSE2__) || defined(_M_X64)
    uint64_t had = _mm_getcsr();
    _mm_setcsr(0x1F80);
#elif defined(__aarch64__) && defined(__GNUC__)
    uint64_t had, plain = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(had));
    __asm__ volatile("msr fpcr, %0" : : "r"(plain));
#else
    uint64_t had = 0;
#endif
    return had;
}

static inline void kolmo_restore_arithmetic(uint64_t had) {
#if defined(__SSE2__) || defined(_M_X64)
    _mm_setcsr((unsigned)had);
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("msr fpcr, %0" : : "r"(had));
#else
    (void)had;
#endif
}

#endif
