/* Which instruction sets this compiler can aim at besides its default. */
#ifndef KOLMO_CPU_H
#define KOLMO_CPU_H
#if (defined(__GNUC__) || defined(__clang__)) && (defined(__x86_64__) || defined(__i386__))
#define KOLMO_AVX2 1
#if defined(__x86_64__) && (defined(__clang__) || __GNUC__ >= 9)
#define KOLMO_AVX512 1 /* with VNNI: the context mixer uses AVX2 there, the network all of it */
#endif
#if defined(__x86_64__) && defined(__linux__) && ((defined(__clang__) && __clang_major__ >= 12) || (!defined(__clang__) && __GNUC__ >= 11))
#define KOLMO_AMX 1 /* the network's products of many rows */
#endif
#endif
#endif
