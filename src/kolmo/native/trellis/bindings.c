/* The search, and the functions of trellis.h for Python: see trellis/search.py and reference.py. */
#include "module.h"
#include "objects.h"
#include "trellis/trellis.h"

#define TRELLIS_MAX_COST (1 << 29) /* cost of a state that no path has reached */

typedef struct {
    int32_t offset[4], cost[4], loud[4]; /* squared error in units of 1/65536 of a squared step; place in a row of costs; new activity */
    int32_t extra[4];                    /* cost of the exp-Golomb part */
} candidates;

/* Number of bits of the exp-Golomb part. */
static int trellis_tail(int value) {
    int bits = 0;
    if (value < TRELLIS_UNARY) return 0;
    while ((value - TRELLIS_UNARY + 1) >> bits > 1) bits++;
    return 2 * bits + 1;
}

/* For each coset (n mod 4, in the order 0, 2, 1, 3: quantiser, then bit) the best level for x, in 1/256 of a step: the
 * nearest, or the next one towards zero if the difference in cost, in the rows of the last best path, outweighs that in
 * error. */
static void trellis_candidates(candidates *c, int32_t *levels, int32_t x, const int32_t *even, const int32_t *odd, int slope) {
    for (int i = 0; i < 4; i++) {
        int coset = (i & 1) * 2 + (i >> 1), is_odd = i >> 1;
        const int32_t *costs = is_odd ? odd : even;
        int nearest = (int)((((int64_t)x - coset * 256 + 512) >> 10) * 4) + coset;
        int32_t best = 0;
        for (int k = 0; k < 2; k++) {
            int level = k ? nearest + (nearest > 0 ? -4 : 4) : nearest;
            int magnitude = level < 0 ? -level : level, value = (magnitude - is_odd) / 2;
            int place = value < TRELLIS_UNARY ? value : TRELLIS_UNARY;
            int32_t error = x - level * 256, extra = trellis_tail(value) * slope;
            int32_t total = error * error + costs[place] + extra;
            if (k && total >= best) break;
            best = total;
            levels[i] = level;
            c->offset[i] = error * error;
            c->cost[i] = place;
            c->extra[i] = extra;
            c->loud[i] = kolmo_trellis_loudness(magnitude);
        }
    }
}

/* Where a search begins within a tile: what the weights before left behind. */
typedef struct {
    size_t at; /* number of weights before */
    int state, row;
    uint16_t *columns; /* [period], activities */
} trellis_place;

/* Move a place behind n levels, as coder and decoder do; n is at most the period. */
static void trellis_pass(const kolmo_trellis *t, trellis_place *place, const int32_t *levels, size_t n) {
    size_t column = place->at % t->period, line = place->at / t->period;
    for (size_t i = 0; i < n; i++) {
        int loud = kolmo_trellis_loudness(abs(levels[i]));
        place->state = kolmo_trellis_next(t, place->state, kolmo_trellis_bit(levels[i]));
        place->row += (loud - place->row) >> 5;
        place->columns[column] = (uint16_t)(place->columns[column] + ((loud - place->columns[column]) >> kolmo_trellis_shift(line)));
        if (++column == t->period) column = 0, line++;
    }
    place->at += n;
}

/* With one state: for each weight alone the nearest level, or the next one towards zero. */
static void trellis_quantise_alone(const kolmo_trellis *t, const int32_t *x, size_t n, const int32_t *costs, int slope, int32_t *levels,
                                   uint16_t *columns, const trellis_place *begin) {
    int row = begin ? begin->row : t->start;
    for (size_t i = 0, column = begin ? begin->at % t->period : 0, line = begin ? begin->at / t->period : 0; i < n; i++) {
        size_t at_column = column++, at_line = line;
        if (column == t->period) column = 0, line++;
        levels[i] = TRELLIS_HOLE;
        if (x[i] == TRELLIS_HOLE) continue;
        const int32_t *at = costs + kolmo_trellis_row(0, t->logs[columns[at_column] >> 2] + t->logs[row >> 2]) * (TRELLIS_UNARY + 1);
        int magnitude = abs(x[i]), nearest = (magnitude + 127) >> 8, chosen = nearest;
        int64_t best = INT64_MAX;
        for (int level = nearest; level >= 0 && level >= nearest - 1; level--) {
            int64_t error = magnitude - (int64_t)level * 256;
            int64_t total = error * error + at[level < TRELLIS_UNARY ? level : TRELLIS_UNARY] + (int64_t)trellis_tail(level) * slope;
            if (total < best) best = total, chosen = level;
        }
        levels[i] = x[i] < 0 ? -chosen : chosen;
        int loud = kolmo_trellis_loudness(chosen);
        row += (loud - row) >> 5;
        columns[at_column] = (uint16_t)(columns[at_column] + ((loud - columns[at_column]) >> kolmo_trellis_shift(at_line)));
    }
}

/* The levels of least squared error plus cost for n weights, in 1/256 of a step. costs: [ROWS][UNARY + 1]. The search
 * begins at the start of a tile, or at a place within it if that is not NULL; then n is at most the period. Returns 0 if
 * memory is short. */
static int trellis_quantise(const kolmo_trellis *t, const int32_t *x, size_t n, const int32_t *costs, int slope, int32_t *levels,
                            const trellis_place *begin) {
    enum { WIDE = TRELLIS_UNARY + 1 };
    size_t wide = begin || t->period < n ? t->period : n;
    int32_t *choice = malloc(n * 4 * sizeof *choice);
    uint64_t *came = malloc(n * sizeof *came);
    uint16_t *columns = malloc((wide + 1) * sizeof *columns);
    int32_t cost[2][TRELLIS_STATES], row[2][TRELLIS_STATES];
    uint8_t from[TRELLIS_STATES][2], by[TRELLIS_STATES][2];
    int count[TRELLIS_STATES] = {0}, states = t->states, first = begin ? begin->state : 0, now = 0, best = 0;
    int done = choice && came && columns;
    for (size_t i = 0; done && i < wide; i++) columns[i] = begin ? begin->columns[i] : (uint16_t)t->start;
    if (done && states == 1) {
        trellis_quantise_alone(t, x, n, costs, slope, levels, columns, begin);
    } else if (done) {
        for (int s = 0; s < states; s++) {
            for (int bit = 0; bit < 2; bit++) {
                int to = kolmo_trellis_next(t, s, bit);
                from[to][count[to]] = (uint8_t)s;
                by[to][count[to]++] = (uint8_t)((s & 1) * 2 + bit);
            }
            cost[0][s] = s == first ? 0 : TRELLIS_MAX_COST;
            row[0][s] = begin ? begin->row : t->start;
        }
        best = first;
        size_t column = begin ? begin->at % t->period : 0, known = 0, known_column = 0, known_line = 0;
        for (size_t i = 0; i < n; i++) {
            if (x[i] != TRELLIS_HOLE) {
                candidates c;
                int base = t->logs[columns[column] >> 2];
                const int32_t *rows[TRELLIS_STATES];
                for (int s = 0; s < states; s++)
                    rows[s] = costs + kolmo_trellis_row(s & 1, base + t->logs[row[now][s] >> 2]) * WIDE;
                const int32_t *even = costs + kolmo_trellis_row(0, base + t->logs[row[now][best] >> 2]) * WIDE;
                trellis_candidates(&c, choice + 4 * i, x[i], even, even + TRELLIS_CLASSES * WIDE, slope);
                for (int k = 0; k < 4; k++) c.offset[k] += c.extra[k];
                uint64_t second = 0;
                int then = !now, least = 0;
                for (int s = 0; s < states; s++) {
                    int f0 = from[s][0], f1 = from[s][1], k0 = by[s][0], k1 = by[s][1];
                    int32_t a = cost[now][f0] + c.offset[k0] + rows[f0][c.cost[k0]];
                    int32_t b = cost[now][f1] + c.offset[k1] + rows[f1][c.cost[k1]];
                    int turn = b < a, f = turn ? f1 : f0, k = turn ? k1 : k0;
                    cost[then][s] = turn ? b : a;
                    row[then][s] = row[now][f] + ((c.loud[k] - row[now][f]) >> 5);
                    second |= (uint64_t)turn << s;
                    least = cost[then][s] < cost[then][least] ? s : least;
                }
                int32_t floor = cost[then][least];
                for (int s = 0; s < states; s++) cost[then][s] = cost[then][s] - floor < TRELLIS_MAX_COST ? cost[then][s] - floor : TRELLIS_MAX_COST;
                came[i] = second;
                now = then;
                best = least;
            }
            if (++column == t->period) column = 0;
            if (!begin && i % TRELLIS_DELAY == TRELLIS_DELAY - 1 && i >= 2 * TRELLIS_DELAY - 1) { /* else no column comes twice */
                int s = best;
                for (size_t j = i + 1; j-- > known;) { /* levels far back are nearly always the same for all paths */
                    levels[j] = TRELLIS_HOLE;
                    if (x[j] == TRELLIS_HOLE) continue;
                    int turn = (int)(came[j] >> s & 1);
                    levels[j] = choice[4 * j + by[s][turn]];
                    s = from[s][turn];
                }
                for (; known <= i - TRELLIS_DELAY; known++) {
                    if (levels[known] != TRELLIS_HOLE) {
                        int loud = kolmo_trellis_loudness(abs(levels[known]));
                        columns[known_column] = (uint16_t)(columns[known_column] + ((loud - columns[known_column]) >> kolmo_trellis_shift(known_line)));
                    }
                    if (++known_column == t->period) known_column = 0, known_line++;
                }
            }
        }
        for (size_t j = n; j-- > 0;) {
            levels[j] = TRELLIS_HOLE;
            if (x[j] == TRELLIS_HOLE) continue;
            int turn = (int)(came[j] >> best & 1);
            levels[j] = choice[4 * j + by[best][turn]];
            best = from[best][turn];
        }
    }
    free(choice);
    free(came);
    free(columns);
    return done;
}

#if defined(__GNUC__) || defined(__clang__)
#define TRELLIS_INLINE static inline __attribute__((always_inline)) /* compiled once for each purpose */
#else
#define TRELLIS_INLINE static inline
#endif

/* One walk over the levels of a tile, for three purposes: encoding them, counting their decisions, or decoding them.
 * The arguments of the other purposes are NULL. Returns 0 if memory is short or, when encoding, if a level is not allowed
 * in its state. */
TRELLIS_INLINE int trellis_walk(const kolmo_trellis *t, int holes, int half, int32_t *levels, size_t n, kolmo_trellis_odds *odds,
                                kolmo_encoder *encoder, kolmo_decoder *caller, uint32_t *counts) {
    kolmo_decoder own, *decoder = caller ? &own : NULL; /* a copy stays in registers */
    if (caller) own = *caller;
    size_t wide = t->period < n ? t->period : n, column = 0, line = 0;
    uint16_t *columns = malloc((2 * wide + 1) * sizeof *columns), *densities = columns + wide;
    int state = 0, row = t->start, density = TRELLIS_MAX_DENSITY / 2, good = columns != NULL;
    for (size_t i = 0; good && i < wide; i++) columns[i] = (uint16_t)t->start, densities[i] = TRELLIS_MAX_DENSITY / 2;
    for (size_t i = 0; good && i < n; i++) {
        int odd = state & half, hole = 0, shift = kolmo_trellis_shift(line), level;
        if (holes) {
            int at = kolmo_trellis_density(density, densities[column]);
            hole = decoder ? kolmo_trellis_decode_hole(decoder, odds, at) : levels[i] == TRELLIS_HOLE;
            if (encoder) kolmo_trellis_encode_hole(encoder, odds, at, hole);
            int now = hole ? TRELLIS_MAX_DENSITY : 0;
            density += (now - density) >> 5;
            densities[column] = (uint16_t)(densities[column] + ((now - densities[column]) >> shift));
        }
        if (hole) {
            levels[i] = TRELLIS_HOLE;
        } else {
            int contexts = kolmo_trellis_row(odd, t->logs[columns[column] >> 2] + t->logs[row >> 2]);
            if (decoder) {
                level = levels[i] = kolmo_trellis_decode_level(decoder, odds, contexts, half, odd);
            } else {
                level = levels[i];
                good = (level & half) == odd && level <= TRELLIS_MAX_LEVEL && level >= -TRELLIS_MAX_LEVEL;
            }
            if (encoder && good) kolmo_trellis_encode_level(encoder, odds, contexts, half, level);
            if (counts && good) {
                int value = abs(level) >> half;
                for (int k = 0; k < TRELLIS_UNARY && k <= value; k++)
                    counts[2 * (contexts * TRELLIS_PLACES + kolmo_trellis_place(k)) + (value > k)]++;
            }
            int loud = kolmo_trellis_loudness(level < 0 ? -level : level);
            state = kolmo_trellis_next(t, state, kolmo_trellis_bit(level));
            row += (loud - row) >> 5;
            columns[column] = (uint16_t)(columns[column] + ((loud - columns[column]) >> shift));
        }
        if (++column == t->period) column = 0, line++;
    }
    free(columns);
    if (caller) *caller = own;
    return good;
}

/* Compiled separately for the usual case: two quantisers without holes. */
static int trellis_decode(const kolmo_trellis *t, int32_t *levels, size_t n, kolmo_trellis_odds *odds, kolmo_decoder *decoder) {
    if (t->half && !t->holes) return trellis_walk(t, 0, 1, levels, n, odds, NULL, decoder, NULL);
    return trellis_walk(t, t->holes, t->half, levels, n, odds, NULL, decoder, NULL);
}

/* Finds the code and checks the arguments; sets the error. */
static int trellis_fits(kolmo_trellis *t, int states, int holes, const char *logs, Py_ssize_t logs_size, int start, Py_ssize_t period, Py_ssize_t n) {
    t->holes = holes;
    t->logs = (const uint8_t *)logs;
    t->start = start;
    t->period = (size_t)period;
    int fits = kolmo_trellis_code(t, states) && (holes & ~1) == 0 && logs_size == TRELLIS_LOGS && start >= 0 && start <= 64 * TRELLIS_MAX_ACTIVE_LEVEL &&
               period >= 2 * TRELLIS_DELAY && n >= 0 && n <= TRELLIS_MAX_TILE;
    for (Py_ssize_t i = 0; fits && i < logs_size; i++) fits = t->logs[i] <= 64;
    if (!fits) PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    return fits;
}

static int trellis_sized(int good) {
    if (!good) PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    return good;
}

static PyObject *quantise_py(PyObject *module, PyObject *args) {
    const char *logs, *x, *costs;
    Py_ssize_t logs_size, x_size, costs_size, period;
    int states, holes, start, slope, done = 0;
    kolmo_trellis t;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiy#iny#y#i:trellis_quantise", &states, &holes, &logs, &logs_size, &start, &period, &x, &x_size, &costs, &costs_size, &slope) ||
        !trellis_fits(&t, states, holes, logs, logs_size, start, period, x_size / 4) ||
        !trellis_sized(x_size % 4 == 0 && costs_size == TRELLIS_ROWS * (TRELLIS_UNARY + 1) * 4 && slope >= 0 && slope <= 65536))
        return NULL;
    size_t n = (size_t)x_size / 4;
    int32_t table[TRELLIS_ROWS * (TRELLIS_UNARY + 1)];
    memcpy(table, costs, sizeof table);
    PyObject *result = PyBytes_FromStringAndSize(NULL, x_size);
    int32_t *weights = malloc((size_t)x_size + 1), *levels = malloc((size_t)x_size + 1);
    int fits = 1;
    if (result && weights && levels) {
        memcpy(weights, x, (size_t)x_size);
        for (size_t i = 0; i < sizeof table / 4; i++) fits &= table[i] >= 0 && table[i] < 1 << 24;
        for (size_t i = 0; i < n; i++) fits &= weights[i] == TRELLIS_HOLE ? holes : abs(weights[i] / 256) < TRELLIS_MAX_LEVEL - 4;
        Py_BEGIN_ALLOW_THREADS
        done = fits && trellis_quantise(&t, weights, n, table, slope, levels, NULL);
        Py_END_ALLOW_THREADS
        if (done) memcpy(PyBytes_AsString(result), levels, (size_t)x_size);
    }
    free(weights);
    free(levels);
    if (done) return result;
    Py_XDECREF(result);
    return trellis_sized(fits) ? PyErr_NoMemory() : NULL;
}

/* One line of a tile: levels, and the place behind them. */
static PyObject *resume_py(PyObject *module, PyObject *args) {
    const char *logs, *x, *costs, *columns;
    Py_ssize_t logs_size, x_size, costs_size, columns_size, at;
    int states, start, slope, done = 0, fits = 1;
    kolmo_trellis t;
    trellis_place place;
    (void)module;
    if (!PyArg_ParseTuple(args, "iy#iniiy#y#y#i:trellis_resume", &states, &logs, &logs_size, &start, &at, &place.state, &place.row, &columns, &columns_size, &x,
                          &x_size, &costs, &costs_size, &slope) ||
        !trellis_fits(&t, states, 0, logs, logs_size, start, columns_size / 2, x_size / 4) ||
        !trellis_sized(x_size % 4 == 0 && x_size / 4 <= columns_size / 2 && columns_size % 2 == 0 && at >= 0 && at <= TRELLIS_MAX_TILE && place.state >= 0 &&
                       place.state < states && place.row >= 0 && place.row <= 64 * TRELLIS_MAX_ACTIVE_LEVEL &&
                       costs_size == TRELLIS_ROWS * (TRELLIS_UNARY + 1) * 4 && slope >= 0 && slope <= 65536))
        return NULL;
    size_t n = (size_t)x_size / 4;
    int32_t table[TRELLIS_ROWS * (TRELLIS_UNARY + 1)];
    memcpy(table, costs, sizeof table);
    int32_t *weights = malloc((size_t)x_size + 1), *levels = malloc((size_t)x_size + 1);
    place.at = (size_t)at;
    place.columns = malloc((size_t)columns_size + 1);
    PyObject *result = NULL;
    if (weights && levels && place.columns) {
        memcpy(weights, x, (size_t)x_size);
        memcpy(place.columns, columns, (size_t)columns_size);
        for (size_t i = 0; i < sizeof table / 4; i++) fits &= table[i] >= 0 && table[i] < 1 << 24;
        for (size_t i = 0; i < n; i++) fits &= abs(weights[i] / 256) < TRELLIS_MAX_LEVEL - 4;
        for (size_t i = 0; i < t.period; i++) fits &= place.columns[i] <= 64 * TRELLIS_MAX_ACTIVE_LEVEL;
        Py_BEGIN_ALLOW_THREADS
        done = fits && trellis_quantise(&t, weights, n, table, slope, levels, &place);
        if (done) trellis_pass(&t, &place, levels, n);
        Py_END_ALLOW_THREADS
        if (done) result = Py_BuildValue("y#iiy#", levels, x_size, place.state, place.row, place.columns, columns_size);
    }
    free(weights);
    free(levels);
    free(place.columns);
    if (!result && !PyErr_Occurred() && trellis_sized(fits)) PyErr_NoMemory();
    return result;
}

static PyObject *count_py(PyObject *module, PyObject *args) {
    const char *logs, *data;
    Py_ssize_t logs_size, size, period;
    int states, holes, start, done = 0;
    kolmo_trellis t;
    uint32_t counts[2 * TRELLIS_CONTEXTS] = {0};
    (void)module;
    if (!PyArg_ParseTuple(args, "iiy#iny#:trellis_count", &states, &holes, &logs, &logs_size, &start, &period, &data, &size) ||
        !trellis_fits(&t, states, holes, logs, logs_size, start, period, size / 4) || !trellis_sized(size % 4 == 0))
        return NULL;
    int32_t *levels = malloc((size_t)size + 1);
    if (!levels) return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    memcpy(levels, data, (size_t)size);
    done = trellis_walk(&t, holes, t.half, levels, (size_t)size / 4, NULL, NULL, NULL, counts);
    Py_END_ALLOW_THREADS
    free(levels);
    return trellis_sized(done) ? PyBytes_FromStringAndSize((const char *)counts, sizeof counts) : NULL;
}

static PyObject *encode_py(PyObject *module, PyObject *args) {
    const char *logs, *data, *table;
    Py_ssize_t logs_size, size, period, table_size;
    int states, holes, start, done = 0;
    kolmo_trellis t;
    kolmo_trellis_odds odds[TRELLIS_CONTEXTS + TRELLIS_DENSITIES];
    kolmo_encoder coder;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiy#iny#y#:trellis_encode", &states, &holes, &logs, &logs_size, &start, &period, &data, &size, &table, &table_size) ||
        !trellis_fits(&t, states, holes, logs, logs_size, start, period, size / 4) ||
        !trellis_sized(size % 4 == 0 && table_size == TRELLIS_CONTEXTS && !memchr(table, 0, (size_t)table_size)))
        return NULL;
    int32_t *levels = malloc((size_t)size + 1);
    if (!levels) return PyErr_NoMemory();
    kolmo_trellis_odds_init(odds, (const uint8_t *)table);
    kolmo_encoder_init(&coder);
    Py_BEGIN_ALLOW_THREADS
    memcpy(levels, data, (size_t)size);
    done = trellis_walk(&t, holes, t.half, levels, (size_t)size / 4, odds, &coder, NULL, NULL);
    if (done) kolmo_encoder_finish(&coder);
    Py_END_ALLOW_THREADS
    free(levels);
    PyObject *result = NULL;
    if (coder.failed)
        PyErr_NoMemory();
    else if (trellis_sized(done))
        result = PyBytes_FromStringAndSize((const char *)coder.out, (Py_ssize_t)coder.size);
    free(coder.out);
    return result;
}

static PyObject *decode_py(PyObject *module, PyObject *args) {
    const char *logs, *data, *table;
    Py_ssize_t logs_size, size, period, table_size, n;
    int states, holes, start, done = 0, whole = 0;
    kolmo_trellis t;
    kolmo_trellis_odds odds[TRELLIS_CONTEXTS + TRELLIS_DENSITIES];
    kolmo_decoder coder;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiy#iny#y#n:trellis_decode", &states, &holes, &logs, &logs_size, &start, &period, &data, &size, &table, &table_size, &n) ||
        !trellis_fits(&t, states, holes, logs, logs_size, start, period, n) ||
        !trellis_sized(table_size == TRELLIS_CONTEXTS && !memchr(table, 0, (size_t)table_size)))
        return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, n * 4);
    if (result) {
        int32_t *levels = (int32_t *)(void *)PyBytes_AsString(result); /* no other reference to it exists yet */
        kolmo_trellis_odds_init(odds, (const uint8_t *)table);
        Py_BEGIN_ALLOW_THREADS
        kolmo_decoder_init(&coder, (const uint8_t *)data, (size_t)size);
        done = trellis_decode(&t, levels, (size_t)n, odds, &coder);
        whole = coder.next == coder.end && !kolmo_decoder_failed(&coder);
        Py_END_ALLOW_THREADS
    }
    if (done && whole) return result;
    Py_XDECREF(result);
    if (!done) return PyErr_NoMemory();
    PyErr_SetString(CorruptError, "the coded levels do not end where they should");
    return NULL;
}

PyMethodDef trellis_functions[] = {
    {"trellis_quantise", quantise_py, METH_VARARGS, "trellis_quantise(states, holes, logs, start, period, weights, costs, slope): levels."},
    {"trellis_resume", resume_py, METH_VARARGS,
     "trellis_resume(states, logs, start, at, state, row, columns, weights, costs, slope): levels, state, row, columns."},
    {"trellis_count", count_py, METH_VARARGS, "trellis_count(states, holes, logs, start, period, levels): decisions of each context."},
    {"trellis_encode", encode_py, METH_VARARGS, "trellis_encode(states, holes, logs, start, period, levels, table): bytes."},
    {"trellis_decode", decode_py, METH_VARARGS, "trellis_decode(states, holes, logs, start, period, data, table, count): levels."},
    {NULL, NULL, 0, NULL},
};
