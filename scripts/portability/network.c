/* The network without Python: a hash of its sums on every path that this machine has. `portability.py` writes
 * network_content.h, builds this for other machines and compares. Exit status 1 when the paths, or two ways of cutting
 * the same symbols into steps and lanes, differ. */
#include <stdio.h>
#include <stdlib.h>

#include "network/network.h"
#include "network_content.h"

enum { LANES = 3, STEPS = sizeof symbols / LANES };

static uint64_t hash(const uint32_t *sums) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < (size_t)STEPS * LANES * NETWORK_SUMS; i++) h = (h ^ sums[i]) * 1099511628211u;
    return h;
}

/* All at once; then lane by lane, in pieces of 1, 2, 3, ... steps. */
static int run(const kolmo_network *n, uint32_t *sums, uint64_t *sum) {
    kolmo_network_lanes *whole = kolmo_network_lanes_new(n, LANES, 1), *pieces = kolmo_network_lanes_new(n, LANES, 1);
    if (!whole || !pieces) return 0;
    kolmo_network_step(whole, symbols, STEPS, 0, LANES, sums);
    *sum = hash(sums);
    memset(sums, 0, (size_t)STEPS * LANES * NETWORK_SUMS * 4);
    for (int lane = 0; lane < LANES; lane++)
        for (int t = 0, size = 1; t < STEPS; t += size++) {
            int steps = STEPS - t < size ? STEPS - t : size;
            uint32_t *to = sums + (size_t)t * LANES * NETWORK_SUMS;
            kolmo_network_step(pieces, symbols + t * LANES, steps, lane, lane + 1, to);
        }
    kolmo_network_lanes_free(whole), kolmo_network_lanes_free(pieces);
    return hash(sums) == *sum;
}

int main(void) {
    static kolmo_network_tables constants;
    memcpy(constants.exp2, exp2_weights, sizeof constants.exp2);
    memcpy(constants.log, logarithms, sizeof constants.log);
    kolmo_network *n = kolmo_network_new(config, sizeof config / 4, weights, sizeof weights, &constants);
    uint32_t *sums = (uint32_t *)malloc((size_t)STEPS * LANES * NETWORK_SUMS * 4);
    uint64_t baseline, other;
    if (!n || !sums || !run(n, sums, &baseline)) return 2;
    int wrong = 0;
#if defined(KOLMO_AVX2)
    __builtin_cpu_init();
    kolmo_network_path = network_run_avx2;
    if (__builtin_cpu_supports("avx2")) wrong |= !run(n, sums, &other) || other != baseline;
#endif
#if defined(KOLMO_AVX512)
    kolmo_network_path = network_run_avx512;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        wrong |= !run(n, sums, &other) || other != baseline;
#endif
    (void)other;
    int32_t stretched = 0;
    for (size_t k = 1; k < 256; k++)
        stretched += (int32_t)k * kolmo_network_stretch(constants.log, sums[2 * k], sums[2 * k + 1]);
    printf("%016llx %ld\n", (unsigned long long)baseline, (long)stretched);
    kolmo_network_free(n), free(sums);
    return wrong;
}
