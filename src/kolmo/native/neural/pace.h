/* The time of an evaluation of the network by the number of bytes (rows): base + slope * rows, fitted to the last
 * evaluations. A decoder decides by it how many guesses save time. No decoded bit depends on it. */
#ifndef KOLMO_PACE_H
#define KOLMO_PACE_H

#include <time.h>

enum { PACE_TRIALS = 16, PACE_TRIES = 128 }; /* first evaluations, which only measure; later on, the period of those that measure */

typedef struct {
    double weight, rows, squares, time, products; /* sums over evaluations, in which older ones have less weight */
    double base, slope, spent, bytes;
    struct timespec began;
    unsigned looks;
} kolmo_pace;

static inline void kolmo_pace_begin(kolmo_pace *p) { timespec_get(&p->began, TIME_UTC); }

static inline void kolmo_pace_end(kolmo_pace *p, int rows) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    double time = (double)(now.tv_sec - p->began.tv_sec) * 1e6 + (double)(now.tv_nsec - p->began.tv_nsec) * 1e-3;
    const double expected = p->base + p->slope * rows;
    p->looks++;
    if (p->looks > PACE_TRIALS && time > 2 * expected) time = 2 * expected; /* an outlier: another program ran at the same time */
    if (time < 0.01) time = 0.01;
    const double keep = 1 - 1.0 / 256;
    p->weight = p->weight * keep + 1;
    p->rows = p->rows * keep + rows;
    p->squares = p->squares * keep + (double)rows * rows;
    p->time = p->time * keep + time;
    p->products = p->products * keep + time * rows;
    p->spent = p->spent * keep + time;
    p->bytes *= keep;
    const double spread = p->weight * p->squares - p->rows * p->rows;
    if (spread > 1e-3) p->slope = (p->weight * p->products - p->rows * p->time) / spread;
    const double all = p->time / p->weight, mean = p->rows / p->weight;
    if (p->slope < 0.02 * all / mean) p->slope = 0.02 * all / mean;
    if (p->slope > all / mean) p->slope = all / mean;
    p->base = all - p->slope * mean;
}

static inline void kolmo_pace_count(kolmo_pace *p, int bytes) { p->bytes += bytes; }

/* Whether the next evaluation measures: it then has one row, or several at any cost. */
static inline int kolmo_pace_tries(const kolmo_pace *p) { return p->looks < PACE_TRIALS || p->looks % PACE_TRIES < 2; }

static inline int kolmo_pace_most(const kolmo_pace *p, int least, int most) {
    return kolmo_pace_tries(p) && p->looks % 2 ? least : most;
}

/* The probability from which on another row saves time: the time of a row over the time of a byte. */
static inline float kolmo_pace_least(const kolmo_pace *p, int rows) {
    if (kolmo_pace_tries(p)) return rows < 6 ? 0.0f : 1.0f;
    return (float)(p->slope * p->bytes / p->spent);
}

#endif
