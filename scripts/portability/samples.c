/* The network of samples without Python: a hash of the mixtures of all samples, and of the weights below and the logits of some
 * values, on every path that this machine has. `portability.py` writes samples_content.h, builds this for other machines and
 * compares. Exit status 1 when the paths differ. */
#include <stdio.h>
#include <stdlib.h>

#include "samples/sample_weights.h"
#include "samples_content.h"

enum { COUNT = sizeof sound / sizeof *sound };

static uint64_t mix(uint64_t h, uint64_t value) { return (h ^ value) * 1099511628211u; }

/* The second half of the sound is the other channel. It is copied, so that a sanitizer sees reads outside it. */
static uint64_t run(const kolmo_sample_network *n) {
    uint64_t h = 14695981039346656037u;
    int32_t *past = (int32_t *)calloc(SAMPLE_PAST + COUNT / 2, 4), *other = (int32_t *)calloc(SAMPLE_OTHER + COUNT / 2, 4);
    if (!past || !other) return 0;
    memcpy(past + SAMPLE_PAST, sound, COUNT / 2 * 4);
    memcpy(other + SAMPLE_OTHER, sound + COUNT / 2, COUNT / 2 * 4);
    for (int stereo = 0; stereo < 2; stereo++)
        for (int i = 0; i < COUNT / 2; i++) {
            kolmo_sample_mixture m;
            kolmo_sample_network_predict(n, past + SAMPLE_PAST + i, stereo ? other + SAMPLE_OTHER + i : NULL, 16, &m);
            for (int k = 0; k < SAMPLE_COMPONENTS; k++) {
                h = mix(h, (uint64_t)m.location[k]);
                h = mix(h, (uint64_t)(int64_t)m.scale[k]);
                h = mix(h, m.weight[k]);
            }
            const int32_t value = sound[i] & ~1;
            h = mix(h, kolmo_sample_mixture_below(&m, value));
            h = mix(h, (uint64_t)(int64_t)kolmo_sample_mixture_logit(&m, -32768, value / 2, 32768));
        }
    free(past);
    free(other);
    return h;
}

int main(void) {
    static kolmo_sample_tables tables;
    memcpy(tables.sigmoid, sigmoid, sizeof tables.sigmoid);
    memcpy(tables.exp2, exp2_weights, sizeof tables.exp2);
    memcpy(tables.log, logarithms, sizeof tables.log);
    kolmo_sample_network *n = kolmo_sample_network_new(config, 2, weights, sizeof weights, &tables);
    if (!n) return 2;
    const uint64_t baseline = run(n);
    int wrong = 0;
#if defined(KOLMO_AVX2)
    __builtin_cpu_init();
    kolmo_sample_path = sample_run_avx2;
    if (__builtin_cpu_supports("avx2")) wrong |= run(n) != baseline;
#endif
#if defined(KOLMO_AVX512)
    kolmo_sample_path = sample_run_avx512;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) wrong |= run(n) != baseline;
#endif
    printf("%016llx\n", (unsigned long long)baseline);
    kolmo_sample_network_free(n);
    return wrong;
}
