/* The network of pixels without Python: a hash of the weights of a picture's bytes on every path that this machine has.
 * `portability.py` writes pixels_content.h, builds this for other machines and compares. Exit status 1 when the paths differ. */
#include <stdio.h>
#include <stdlib.h>

#include "pixels/pixel_layout.h"
#include "pixels_content.h"

/* Weight and sum of weights of every byte of whole pixels, in the order of the file's pixels. The picture is copied, so that
 * a sanitizer sees reads outside it. */
static uint64_t run(const kolmo_pixel_network *n) {
    uint64_t h = 14695981039346656037u;
    uint8_t *copy = (uint8_t *)malloc(sizeof picture);
    if (!copy) return 0;
    memcpy(copy, picture, sizeof picture);
    const kolmo_picture p = {copy, STRIDE, CHANNELS, {1, 0, 2, 3}};
    for (uint32_t row = 0; row < sizeof picture / STRIDE; row++)
        for (uint32_t column = 0; column < STRIDE / CHANNELS; column++)
            for (uint32_t turn = 0; turn < CHANNELS; turn++) {
                uint32_t sums[NETWORK_SUMS];
                kolmo_pixel_network_predict(n, &p, row, column, turn, sums);
                for (int i = 0; i < NETWORK_SUMS; i++) h = (h ^ sums[i]) * 1099511628211u;
            }
    free(copy);
    return h;
}

int main(void) {
    static kolmo_network_tables constants;
    memcpy(constants.exp2, exp2_weights, sizeof constants.exp2);
    memcpy(constants.log, logarithms, sizeof constants.log);
    kolmo_pixel_network *n = kolmo_pixel_network_new(config, 2, weights, sizeof weights, &constants, squeezed);
    if (!n) return 2;
    const uint64_t baseline = run(n);
    int wrong = 0;
#if defined(KOLMO_AVX2)
    __builtin_cpu_init();
    kolmo_pixel_path = pixel_run_avx2;
    if (__builtin_cpu_supports("avx2")) wrong |= run(n) != baseline;
#endif
#if defined(KOLMO_AVX512)
    kolmo_pixel_path = pixel_run_avx512;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) wrong |= run(n) != baseline;
#endif
    printf("%016llx\n", (unsigned long long)baseline);
    kolmo_pixel_network_free(n);
    return wrong;
}
