/* Predictions of a sample: filters of recursive least squares, and a cascade of adaptive ones. Compiled once for each
 * instruction set: the file that includes this one defines KOLMO_TARGET.
 *
 * Plain loops over elements, each operation rounded once; sums are sums of integers. */
#include "mixer/primitives_loop.h"
#include "sounds/sound_mixer.h"

KOLMO_INLINE KOLMO_TARGET int64_t sound_within(int64_t v, int64_t most) { return v < -most ? -most : v > most ? most : v; }

/* Inputs times weights, in 1/256 of a sample. */
KOLMO_INLINE KOLMO_TARGET int64_t sound_filter_predict(const sound_filter *f) {
    int64_t sum = 0;
    for (int i = 0; i < f->order; i++) sum += (int64_t)f->weights[i] * f->x[i];
    return sum >> f->shift;
}

/* New weights: Gaussian elimination without pivots, since the matrix is positive definite. Where rounding makes it not so, the
 * weights stay. Sums of many products are built one product at a time, a whole row at once. */
static KOLMO_TARGET void sound_filter_solve(sound_filter *f) {
    const int n = f->order;
    double a[SOUND_ORDER][SOUND_ORDER], y[SOUND_ORDER], inverse[SOUND_ORDER];
    const double share = f->products[0][0] * 0x1p-44, ridge = f->least + share, smallest = ridge * 0.5;
    for (int i = 0; i < n; i++) {
        for (int j = i; j < n; j++) a[i][j] = f->products[i][j];
        a[i][i] = a[i][i] + ridge;
        y[i] = f->targets[i];
    }
    for (int k = 0; k < n; k++) {
        if (!(a[k][k] > smallest)) return;
        inverse[k] = 1.0 / a[k][k];
        for (int i = k + 1; i < n; i++) {
            const double factor = a[k][i] * inverse[k];
            const double *restrict from = a[k];
            double *restrict to = a[i];
            for (int j = i; j < n; j++) {
                const double part = factor * from[j];
                to[j] = to[j] - part;
            }
            const double part = factor * y[k];
            y[i] = y[i] - part;
        }
    }
    for (int k = n - 1; k >= 0; k--) {
        y[k] = y[k] * inverse[k];
        if (!(y[k] > -2000.0 && y[k] < 2000.0)) return;
        for (int i = 0; i < k; i++) {
            const double part = a[i][k] * y[k];
            y[i] = y[i] - part;
        }
    }
    for (int i = 0; i < n; i++) { /* rounded to whole numbers, halves to even */
        const double scaled = y[i] * 0x1p20, moved = scaled + 0x1.8p52;
        f->weights[i] = (int32_t)(moved - 0x1.8p52);
    }
}

/* Learn that the inputs led to `target`, in the inputs' unit. */
KOLMO_INLINE KOLMO_TARGET void sound_filter_learn(sound_filter *f, int32_t target) {
    const int n = f->order;
    double x[SOUND_ORDER];
    /* The tiny number vanishes but in zeros: without it, a long silence leaves subnormal numbers, which are slow. */
    const double forget = f->forget, tiny = 0x1p-150, y = target + tiny;
    for (int i = 0; i < n; i++) x[i] = f->x[i] + tiny;
    for (int i = 0; i < n; i++) {
        double *restrict row = f->products[i];
        const double xi = x[i];
        for (int j = i; j < n; j++) {
            const double kept = row[j] * forget, product = xi * x[j];
            row[j] = kept + product;
        }
        const double kept = f->targets[i] * forget, product = xi * y;
        f->targets[i] = kept + product;
    }
    f->seen += f->seen < 1 << 20;
    const int32_t soon = f->seen >> 4; /* early weights improve fast */
    if (++f->waiting >= f->every || f->waiting > soon) {
        f->waiting = 0;
        sound_filter_solve(f);
    }
}

KOLMO_INLINE KOLMO_TARGET int32_t sound_stage_predict(const sound_stage *s) {
    const int32_t *restrict w = s->weights, *restrict x = s->x + s->at;
    int64_t sum = 0;
    for (int i = 0; i < s->taps; i++) sum += (int64_t)w[i] * x[i];
    return (int32_t)sound_within(sum >> 22, 1 << 28);
}

/* Learn a target, in 1/16 of a sample, which becomes the newest input. */
KOLMO_INLINE KOLMO_TARGET void sound_stage_learn(sound_stage *s, int64_t target, int32_t predicted) {
    const int n = s->taps;
    int32_t *restrict w = s->weights, *restrict x = s->x + s->at;
    const int32_t newest = (int32_t)sound_within(target, 1 << 26);
    const double error = (double)sound_within(target - predicted, 1 << 30), scaled = error * s->step;
    const double power = (double)(s->power + 256 * n);
    double g = scaled / power;
    g = g > 2147483647.0 ? 2147483647.0 : g < -2147483647.0 ? -2147483647.0 : g;
    const int32_t gain = (int32_t)g;
    for (int i = 0; i < n; i++) {
        const int64_t w1 = w[i] + (((int64_t)gain * x[i] + (1 << 15)) >> 16), most = 1 << 26;
        w[i] = (int32_t)(w1 < -most ? -most : w1 > most ? most : w1);
    }
    s->power += (int64_t)newest * newest - (int64_t)x[n - 1] * x[n - 1];
    if (!s->at) {
        memmove(s->x + SOUND_RING, s->x, (size_t)n * sizeof *s->x);
        s->at = SOUND_RING;
    }
    s->x[--s->at] = newest;
}

/* Predictions of the next sample of channel c, from the samples before it. */
KOLMO_INLINE KOLMO_TARGET void sound_predict(sound_model *m, int c) {
    const sound_config *o = &m->config;
    sound_channel *h = m->channel + c;
    const int64_t most = (int64_t)1 << (o->bits + 7);
    const int32_t *past = h->past + h->at;
    const sound_channel *beside = m->channel + (c ? c - 1 : 1);
    const int32_t *other = o->channels > 1 ? beside->past + beside->at : NULL; /* its newest: of the same time from channel 1 on */
    for (int k = 0; k < o->filters; k++) {
        sound_filter *f = h->filter + k;
        for (int i = 0; i < o->own[k]; i++) f->x[i] = past[-1 - i];
        for (int i = 0; other && i < o->other[k]; i++) f->x[o->own[k] + i] = other[-1 - i];
        m->prediction[k] = sound_within(sound_filter_predict(f), most);
    }
    int64_t so_far = m->prediction[o->base];
    for (int k = 0; k < o->stages; k++) {
        m->correction[k] = sound_stage_predict(h->stage + k);
        so_far = sound_within(so_far + (int64_t)m->correction[k] * 16, most);
        m->prediction[o->filters + k] = so_far;
    }
    const int all = o->filters + o->stages;
    for (int k = 0; k < all; k++) h->final.x[k] = (int32_t)(m->prediction[k] >> 4);
    h->final.x[all] = 16;
    m->prediction[all] = sound_within(sound_filter_predict(&h->final), most);
}

/* Learn the sample that predictions were made of. */
KOLMO_INLINE KOLMO_TARGET void sound_learn(sound_model *m, int c, int32_t value) {
    const sound_config *o = &m->config;
    sound_channel *h = m->channel + c;
    const int64_t place = (int64_t)value * 256;
    const int32_t first = m->tables.reciprocal[h->count < 1022 ? h->count : 1022];
    for (int k = 0; k < m->predictions; k++) {
        int64_t size = place - m->prediction[k];
        size = (size < 0 ? -size : size) << 10;
        for (int s = 0; s < SOUND_SPANS; s++) {
            const int32_t step = 65536 >> (3 + 2 * s);
            h->error[k][s] += (size - h->error[k][s]) * (step > first ? step : first) >> 16;
        }
    }
    for (int k = 0; k < o->filters; k++) sound_filter_learn(h->filter + k, value);
    int64_t rest = (place - m->prediction[o->base]) >> 4;
    for (int k = 0; k < o->stages; k++) {
        sound_stage_learn(h->stage + k, rest, m->correction[k]);
        rest -= m->correction[k];
    }
    sound_filter_learn(&h->final, value * 16);
    h->count++;
    if (h->at == SOUND_PAST + SOUND_RING) {
        memmove(h->past, h->past + SOUND_RING, SOUND_PAST * sizeof *h->past);
        h->at = SOUND_PAST;
    }
    h->past[h->at++] = value;
}
