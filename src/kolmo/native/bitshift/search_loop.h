/* The loop over states, for the instruction set of the file that includes this one. It defines KOLMO_TARGET (a function
 * attribute, or nothing), SEARCH_EXTEND (a name), and vectors of unsigned 16-bit integers:
 *
 *     LANES, lanes      their number, and the type of a vector
 *     lanes_all(x)      a vector of equal elements
 *     lanes_pattern(k)  what lanes_spread needs for k bits
 *     lanes_spread(m, pattern)             m[0], 2^k times, then m[1], ...
 *     lanes_cost(x, v)                     (saturated(x - v)^2 + 2^14) >> 15, of signed integers
 *     lanes_add(a, b), lanes_subtract(a, b), lanes_min(a, b)    the first saturates
 *     lanes_choose(old, a, b, p)           p where a < b, else old
 *     lanes_store(to, x), lanes_load(from), lanes_store_bytes(to, x), lanes_least(x)
 *
 * A state is (oldest bits p, the others j); the states after it are 2^k j and up. So the best state before is one of
 * those with equal j, and 2^k states share it:
 *
 *     costs after [j] = min over p of (costs before [(p, j) >> k] + cost of (p, j)) - the least of the costs before */
#include "bitshift/search.h"

#if defined(__GNUC__)
#define SEARCH_INLINE static inline __attribute__((always_inline))
#else
#define SEARCH_INLINE static inline
#endif

SEARCH_INLINE KOLMO_TARGET void search_extend(const bitshift_search *s, const int16_t *targets, size_t count, size_t columns, const int bits) {
    const size_t sets = ((size_t)1 << s->states_log) >> bits;
    const lanes pattern = lanes_pattern(bits);
    uint16_t least = UINT16_MAX;
    for (size_t j = 0; j < sets; j++) least = s->costs[0][j] < least ? s->costs[0][j] : least;
    for (size_t t = 0; t < count; t++) {
        const uint16_t *before = s->costs[t & 1];
        uint16_t *after = s->costs[~t & 1];
        const int16_t *values = t < columns ? s->values : s->nothing;
        const lanes base = lanes_all(least);
        const lanes target = lanes_all(t < columns ? (uint16_t)targets[t] : 0);
        uint8_t *choices = s->choices + t * sets;
        lanes smallest = lanes_all(UINT16_MAX);
        for (size_t j = 0; j < sets; j += LANES) {
            lanes best = lanes_add(lanes_spread(before + (j >> bits), pattern), lanes_cost(target, values + j));
            lanes choice = lanes_all(0);
            for (int p = 1; p < 1 << bits; p++) {
                const size_t state = (size_t)p * sets + j;
                const lanes here = lanes_add(lanes_spread(before + (state >> bits), pattern), lanes_cost(target, values + state));
                choice = lanes_choose(choice, here, best, (uint16_t)p);
                best = lanes_min(here, best);
            }
            best = lanes_subtract(best, base);
            smallest = lanes_min(smallest, best);
            lanes_store(after + j, best);
            lanes_store_bytes(choices + j, choice);
        }
        least = lanes_least(smallest);
    }
}

KOLMO_TARGET void SEARCH_EXTEND(const bitshift_search *s, const int16_t *targets, size_t count, size_t columns) {
    if (s->bits == 2) search_extend(s, targets, count, columns, 2);
    else if (s->bits == 3) search_extend(s, targets, count, columns, 3);
    else search_extend(s, targets, count, columns, 4);
}
