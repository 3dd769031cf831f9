/* The search for the compiler's default instruction set: plain loops, which the compiler turns into vectors. */
#include "bitshift/search.h"

enum { BLOCK = 32 };

static void spread(const bitshift_search *s, const uint16_t *costs, size_t states) {
    for (size_t i = 0; i < states >> s->bits; i++)
        for (size_t b = 0; b < (size_t)1 << s->bits; b++) s->spread[(i << s->bits) + b] = costs[i];
}

void bitshift_extend_baseline(const bitshift_search *s, const int16_t *targets, size_t count, size_t columns) {
    const size_t states = (size_t)1 << s->states_log, sets = states >> s->bits;
    uint16_t least = UINT16_MAX;
    for (size_t j = 0; j < sets; j++) least = s->costs[0][j] < least ? s->costs[0][j] : least;
    for (size_t t = 0; t < count; t++) {
        const int16_t *values = t < columns ? s->values : s->nothing;
        const int32_t target = t < columns ? targets[t] : 0;
        uint16_t *after = s->costs[~t & 1], smallest = UINT16_MAX;
        spread(s, s->costs[t & 1], states);
        for (size_t j = 0; j < sets; j += BLOCK) {
            uint16_t best[BLOCK];
            uint16_t choice[BLOCK] = {0};
            for (size_t i = 0; i < BLOCK; i++) best[i] = UINT16_MAX; /* which no path exceeds; of equal ones, the first */
            for (size_t state = j, p = 0; state < states; state += sets, p++) {
                uint16_t here[BLOCK];
                int16_t apart[BLOCK]; /* of 16 bits, since old processors multiply no wider integers at once */
                for (size_t i = 0; i < BLOCK; i++) {
                    const int32_t d = target - values[state + i];
                    apart[i] = (int16_t)(d > INT16_MAX ? INT16_MAX : d < INT16_MIN ? INT16_MIN : d);
                }
                for (size_t i = 0; i < BLOCK; i++) {
                    const int32_t square = apart[i] * apart[i], cost = s->spread[state + i] + ((square + (1 << 14)) >> 15);
                    here[i] = (uint16_t)(cost > UINT16_MAX ? UINT16_MAX : cost);
                }
                for (size_t i = 0; i < BLOCK; i++) {
                    const int better = here[i] < best[i];
                    choice[i] = better ? (uint16_t)p : choice[i];
                    best[i] = better ? here[i] : best[i];
                }
            }
            for (size_t i = 0; i < BLOCK; i++) {
                best[i] = (uint16_t)(best[i] - least);
                smallest = best[i] < smallest ? best[i] : smallest;
                after[j + i] = best[i];
                s->choices[t * sets + j + i] = (uint8_t)choice[i];
            }
        }
        least = smallest;
    }
}

#define KOLMO_TARGET
#define FEEDBACK_FOLLOW bitshift_follow_baseline
#include "bitshift/feedback_loop.h"
