/* Which instruction sets this compiler can aim at besides its default. */
#ifndef KOLMO_CPU_H
#define KOLMO_CPU_H
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
#define KOLMO_AVX2 1
#endif
#endif
