/* See paths.h. */
#if defined(__linux__)
#define _GNU_SOURCE /* syscall */
#endif
#include "paths.h"

#include <string.h>

#include "bitshift/search.h"
#include "bitshift_product/product.h"
#include "network/network.h"
#include "pixel_mixer/pixel_mixer.h"
#include "pixels/pixel_layout.h"
#include "samples/sample_weights.h"
#include "sounds/sound_mixer.h"
#include "tokens/heaps.h"

#if defined(KOLMO_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

cm_run run_context_mixing = cm_run_baseline;
cm_run_lanes run_lanes = cm_run_lanes_baseline;

static int has_baseline(void) { return 1; }

#if defined(KOLMO_AVX2)
static int has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
}
#endif

#if defined(KOLMO_AVX512)
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(KOLMO_AMX)
/* Tiles of 8-bit integers: the processor has them, and the system keeps them for this process when it is asked to. */
static int has_amx(void) {
    static int answer = -1;
    if (answer >= 0) return answer;
    const unsigned tiles = 3u << 24, state = 3u << 17; /* TILE and INT8; both parts of their state */
    unsigned a, b, c, d, low, high;
    answer = 0;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & tiles) != tiles) return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & state) != state) return 0;
    return answer = !syscall(SYS_arch_prctl, 0x1023, 18); /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
}
#endif

/* Slowest first. Mixers have no path of their own for AVX-512 and AMX, nor have masses of logits, pixels, samples and products with bitshift payloads for AMX. */
static const struct {
    const char *name;
    int (*is_here)(void);
    cm_run mixer;
    cm_run_lanes mixer_lanes;
    network_run *network;
    pixel_run *pixels;
    pm_run *pixel_mixer;
    sample_run *samples;
    sound_run *sounds;
    const kolmo_bitshift_path *bitshift;
    int masses;
} paths[] = {
    {"baseline", has_baseline, cm_run_baseline, cm_run_lanes_baseline, network_run_baseline, pixel_run_baseline, pm_run_baseline, sample_run_baseline, sound_run_baseline, &kolmo_bitshift_baseline, 0},
#if defined(KOLMO_AVX2)
    {"avx2", has_avx2, cm_run_avx2, cm_run_lanes_avx2, network_run_avx2, pixel_run_avx2, pm_run_avx2, sample_run_avx2, sound_run_avx2, &kolmo_bitshift_avx2, 1},
#endif
#if defined(KOLMO_AVX512)
    {"avx512", has_avx512, cm_run_avx2, cm_run_lanes_avx2, network_run_avx512, pixel_run_avx512, pm_run_avx2, sample_run_avx512, sound_run_avx2, &kolmo_bitshift_avx512, 2},
#endif
#if defined(KOLMO_AMX)
    {"amx", has_amx, cm_run_avx2, cm_run_lanes_avx2, network_run_amx, pixel_run_avx512, pm_run_avx2, sample_run_avx512, sound_run_avx2, &kolmo_bitshift_avx512, 2},
#endif
};

int kolmo_list_paths(const char *names[KOLMO_MAX_PATHS]) {
    int count = 0;
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i].is_here()) names[count++] = paths[i].name;
    return count;
}

int kolmo_choose_path(const char *name) {
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        if (strcmp(paths[i].name, name) || !paths[i].is_here()) continue;
        run_context_mixing = paths[i].mixer;
        run_lanes = paths[i].mixer_lanes;
        kolmo_network_path = paths[i].network;
        kolmo_pixel_path = paths[i].pixels;
        kolmo_pixel_mixer_path = paths[i].pixel_mixer;
        kolmo_sample_path = paths[i].samples;
        kolmo_sound_path = paths[i].sounds;
        kolmo_bitshift_in_use = paths[i].bitshift;
        kolmo_choose_masses(paths[i].masses);
        tm_choose(paths[i].masses);
        bitshift_choose_search(paths[i].masses);
        bitshift_choose_feedback(paths[i].masses);
        return 1;
    }
    return 0;
}
