/* The search with feedback, for the instruction set of the file that includes this one. It defines KOLMO_TARGET (a function
 * attribute, or nothing) and FEEDBACK_FOLLOW (a name). Plain loops over states, which the compiler turns into vectors: no
 * sum is over a vector, so every path adds the same numbers in the same order. feedback.py is the specification. */
#include <string.h>

#include "bitshift/search.h"

#if defined(_MSC_VER)
#pragma fp_contract(off)
#endif

/* The best choice before each set, and its cost. */
static KOLMO_TARGET void feedback_choose(const bitshift_feedback *f, size_t sets, float weight) {
    const float *restrict x = f->wanted, *restrict before = f->spread, *restrict v = f->values;
    float *restrict best = f->costs;
    int32_t *restrict choice = f->chosen;
    for (size_t j = 0; j < sets; j++) {
        const float apart = x[j] - v[j];
        best[j] = before[j] + weight * (apart * apart);
        choice[j] = 0;
    }
    for (int32_t p = 1; p < 1 << f->bits; p++) {
        x += sets, before += sets, v += sets;
        for (size_t j = 0; j < sets; j++) {
            const float apart = x[j] - v[j], here = before[j] + weight * (apart * apart);
            const int better = here < best[j];
            choice[j] = better ? p : choice[j];
            best[j] = better ? here : best[j];
        }
    }
}

KOLMO_TARGET void FEEDBACK_FOLLOW(const bitshift_feedback *f, const float *targets, size_t seam, uint8_t *news) {
    const int bits = f->bits, kept = f->states_log - bits;
    const size_t width = f->width, sets = (size_t)1 << kept, block = (size_t)1 << bits;
    float *after = f->near[0], *before = f->near[1], least = 0.0f;
    for (size_t s = 0; s < sets; s++) f->costs[s] = s == seam ? 0.0f : FEEDBACK_NEVER;
    memset(after, 0, sets * FEEDBACK_NEAR * sizeof *after);
    memset(f->far, 0, width * sizeof *f->far);
    for (size_t i = 0; i < width; i++) {
        const float *row = f->feedback + i * width, target = targets[i], base = target + f->far[i];
        const size_t slot = i % FEEDBACK_NEAR;
        uint8_t *choices = f->choices + i * sets;
        float near[FEEDBACK_NEAR] = {0};
        for (size_t c = i + 1; c < width && c <= i + FEEDBACK_NEAR; c++) near[c % FEEDBACK_NEAR] = row[c];
        for (size_t s = 0; s < sets; s++) {
            const float x = base + after[s * FEEDBACK_NEAR + slot], cost = f->costs[s] - least;
            for (size_t b = 0; b < block; b++) {
                f->wanted[(s << bits) + b] = x;
                f->spread[(s << bits) + b] = cost;
            }
        }
        feedback_choose(f, sets, f->importance[i]);
        float *swap = before;
        before = after;
        after = swap;
        for (size_t j = 0; j < sets; j++) {
            const size_t state = ((size_t)f->chosen[j] << kept) + j;
            const float *restrict old = before + (state >> bits) * FEEDBACK_NEAR, error = target - f->values[state];
            float *restrict new = after + j * FEEDBACK_NEAR;
            for (size_t c = 0; c < FEEDBACK_NEAR; c++) new[c] = old[c] + error * near[c];
            new[slot] = error * near[slot];
            choices[j] = (uint8_t)f->chosen[j];
        }
        size_t at = 0;
        for (size_t s = 1; s < sets; s++) at = f->costs[s] < f->costs[at] ? s : at;
        least = f->costs[at];
        if (i < FEEDBACK_NEAR) continue;
        const size_t decided = i - FEEDBACK_NEAR;
        size_t state = 0;
        for (size_t t = i + 1; t-- > decided; at = state >> bits) state = ((size_t)f->choices[t * sets + at] << kept) + at;
        const float error = targets[decided] - f->values[state], *restrict more = f->feedback + decided * width;
        float *restrict far = f->far;
        for (size_t c = i + 1; c < width; c++) far[c] += error * more[c];
    }
    for (size_t t = width; t-- > 0;) {
        const size_t state = ((size_t)f->choices[t * sets + seam] << kept) + seam;
        news[t] = (uint8_t)(state & (block - 1));
        seam = state >> bits;
    }
}
