/* The functions of residual.h for Python: see residual/reference.py. */
#include "module.h"
#include "objects.h"
#include "residual/residual.h"

#if defined(__GNUC__) || defined(__clang__)
#define RESIDUAL_INLINE static inline __attribute__((always_inline)) /* compiled once for each direction and size of float */
#else
#define RESIDUAL_INLINE static inline
#endif

static const struct {
    int itemsize, mantissa, largest;
} residual_floats[] = {{2, 7, 254}, {2, 10, 30}, {4, 23, 254}, {8, 52, 2046}};

typedef struct {
    kolmo_residual_odds odds;
    kolmo_encoder coder;
    kolmo_bit_writer bits;
} residual_writer;

typedef struct {
    kolmo_residual_odds odds;
    kolmo_decoder coder;
    kolmo_bit_reader bits;
} residual_reader;

/* A decision, encoded or decoded. */
RESIDUAL_INLINE int residual_decide(kolmo_encoder *encoder, kolmo_decoder *decoder, kolmo_trellis_odds *odds, int bit) {
    uint32_t chance = kolmo_trellis_chance(odds);
    if (decoder)
        bit = kolmo_decode(decoder, chance);
    else
        kolmo_encode(encoder, bit, chance);
    if (bit)
        kolmo_trellis_rise(odds);
    else
        kolmo_trellis_fall(odds);
    return bit;
}

RESIDUAL_INLINE uint64_t residual_raw(kolmo_bit_writer *writer, kolmo_bit_reader *reader, uint64_t bits, int count) {
    if (reader) return kolmo_bits_get(reader, count);
    kolmo_bits_put(writer, bits, count);
    return bits;
}

/* One walk over a tile, for both directions. An encoder passes values, from which levels follow; a decoder passes levels.
 * Returns 0 if memory is short, -1 if a value or a level is impossible. */
RESIDUAL_INLINE int residual_walk(const kolmo_residual *f, int itemsize, uint8_t *values, const int32_t *levels, size_t n,
                                  const uint8_t *counts, residual_writer *writer, residual_reader *reader) {
    kolmo_residual_odds *odds = reader ? &reader->odds : &writer->odds;
    kolmo_encoder own_encoder, *encoder = reader ? NULL : &own_encoder; /* copies stay in registers */
    kolmo_decoder own_decoder, *decoder = reader ? &own_decoder : NULL;
    kolmo_bit_writer own_writer, *put = reader ? NULL : &own_writer;
    kolmo_bit_reader own_reader, *get = reader ? &own_reader : NULL;
    size_t wide = f->period < n ? f->period : n, column = 0;
    uint16_t *columns = malloc((wide + 1) * sizeof *columns);
    if (!columns) return 0;
    if (reader) own_decoder = reader->coder, own_reader = reader->bits;
    else own_encoder = writer->coder, own_writer = writer->bits;
    for (size_t i = 0; i < wide; i++) columns[i] = RESIDUAL_START;
    const int depth = f->depth;
    int dropped = f->dropped, m = f->mantissa - dropped, changed = 0;
    size_t next = f->rows ? 0 : n; /* where the next row begins */
    int row = RESIDUAL_START, good = 1;
    for (size_t i = 0; i < n; i++) {
        if (i == next) {
            next += f->period - (i ? 0 : f->phase);
            changed = residual_decide(encoder, decoder, odds->change + changed, encoder ? *counts != dropped : 0);
            if (changed) dropped = (int)residual_raw(put, get, encoder ? *counts : 0, RESIDUAL_COUNT_BITS);
            if (encoder) counts++;
            m = f->mantissa - dropped;
            if (m < 0) {
                good = -1;
                break;
            }
        }
        const uint64_t mask = ((uint64_t)1 << m) - 1;
        uint64_t a = 0;
        int negative = 0, level;
        if (encoder) {
            uint64_t v = 0;
            if (itemsize == 2) { uint16_t x; memcpy(&x, values + 2 * i, 2); v = x; }
            if (itemsize == 4) { uint32_t x; memcpy(&x, values + 4 * i, 4); v = x; }
            if (itemsize == 8) memcpy(&v, values + 8 * i, 8);
            negative = (int)(v >> f->sign);
            v &= ((uint64_t)1 << f->sign) - 1;
            a = v >> dropped;
            int above = (int)(a >> m) - f->exponent;
            if (a << dropped != v || (int)(a >> m) > f->largest || above > RESIDUAL_MAX_OCTAVE) {
                good = -1;
                break;
            }
            uint64_t whole = (a & mask) | (mask + 1);
            level = above < 0 ? 0 : (int)(above <= m ? whole >> (m - above) : whole << (above - m));
        } else {
            level = levels[i];
            negative = level < 0;
            level = negative ? -level : level;
        }
        if (level) {
            int octave = kolmo_bit_length((uint64_t)level) - 1, rest = m - octave;
            if (decoder) {
                a = rest >= 0 ? (uint64_t)level << rest : (uint64_t)level >> -rest;
                a += (uint64_t)(f->exponent + octave - 1) << m; /* the leading 1 is one exponent more */
                if (f->exponent + octave > f->largest) {
                    good = -1;
                    break;
                }
            }
            if (rest > 0) {
                kolmo_trellis_odds *upper = odds->upper[level < RESIDUAL_CELLS ? level : RESIDUAL_CELLS];
                int node = 1, raw = rest;
                for (int k = 0; k < depth && raw > 0; k++) {
                    raw--;
                    int bit = residual_decide(encoder, decoder, upper + node, (int)(a >> raw & 1));
                    if (decoder) a |= (uint64_t)bit << raw;
                    node = node << 1 | bit;
                }
                uint64_t low = residual_raw(put, get, a & (((uint64_t)1 << raw) - 1), raw);
                if (decoder) a |= low;
            }
        } else {
            int class = kolmo_bit_length((uint64_t)row * columns[column]);
            if (f->zeros && residual_decide(encoder, decoder, odds->zero + class, a == 0)) {
                negative = residual_decide(encoder, decoder, &odds->minus, negative);
            } else {
                int octave = 0, below = f->exponent - 1 - (int)(a >> m), raw = m, node = 1;
                while (octave < RESIDUAL_OCTAVES && residual_decide(encoder, decoder, odds->octave[class] + octave, below > octave)) octave++;
                if (octave == RESIDUAL_OCTAVES) octave += (int)residual_raw(put, get, (uint64_t)(below - octave), RESIDUAL_FAR_BITS);
                if (decoder) {
                    if (octave >= f->exponent) {
                        good = -1;
                        break;
                    }
                    a = (uint64_t)(f->exponent - 1 - octave) << m;
                }
                kolmo_trellis_odds *upper = odds->upper[RESIDUAL_CELLS + 1 + (octave < RESIDUAL_OCTAVES ? octave : RESIDUAL_OCTAVES - 1)];
                for (int k = 0; k < depth && raw > 0; k++) {
                    raw--;
                    int bit = residual_decide(encoder, decoder, upper + node, (int)(a >> raw & 1));
                    if (decoder) a |= (uint64_t)bit << raw;
                    node = node << 1 | bit;
                }
                uint64_t low = residual_raw(put, get, (a & (((uint64_t)1 << raw) - 1)) << 1 | (uint64_t)negative, raw + 1);
                if (decoder) a |= low >> 1, negative = (int)(low & 1);
            }
        }
        if (decoder) {
            uint64_t v = a << dropped | (uint64_t)negative << f->sign;
            if (itemsize == 2) { uint16_t x = (uint16_t)v; memcpy(values + 2 * i, &x, 2); }
            if (itemsize == 4) { uint32_t x = (uint32_t)v; memcpy(values + 4 * i, &x, 4); }
            if (itemsize == 8) memcpy(values + 8 * i, &v, 8);
        }
        int loud = kolmo_trellis_loudness(level);
        row += (loud - row) >> RESIDUAL_RATE;
        columns[column] = (uint16_t)(columns[column] + ((loud - columns[column]) >> RESIDUAL_RATE));
        if (++column == f->period) column = 0;
    }
    free(columns);
    if (reader) reader->coder = own_decoder, reader->bits = own_reader;
    else writer->coder = own_encoder, writer->bits = own_writer;
    return good;
}

static int residual_encode(const kolmo_residual *f, uint8_t *values, size_t n, const uint8_t *counts, residual_writer *w) {
    if (f->itemsize == 2) return residual_walk(f, 2, values, NULL, n, counts, w, NULL);
    return f->itemsize == 4 ? residual_walk(f, 4, values, NULL, n, counts, w, NULL) : residual_walk(f, 8, values, NULL, n, counts, w, NULL);
}

static int residual_decode(const kolmo_residual *f, uint8_t *values, const int32_t *levels, size_t n, residual_reader *r) {
    if (f->itemsize == 2) return residual_walk(f, 2, values, levels, n, NULL, NULL, r);
    return f->itemsize == 4 ? residual_walk(f, 4, values, levels, n, NULL, NULL, r) : residual_walk(f, 8, values, levels, n, NULL, NULL, r);
}

static void residual_odds(kolmo_residual_odds *odds) {
    kolmo_trellis_odds *at = (kolmo_trellis_odds *)odds;
    for (size_t i = 0; i < sizeof *odds / sizeof *at; i++) at[i].fast = at[i].slow = 1 << 21;
}

/* Reads the settings and checks them; sets the error. */
static int residual_fits(kolmo_residual *f, int kind, int dropped, int exponent, int depth, int zeros, int rows, Py_ssize_t period,
                         Py_ssize_t phase, Py_ssize_t n) {
    int fits = kind >= 0 && kind < 4 && depth >= 0 && depth <= RESIDUAL_MAX_DEPTH && period >= 1 && phase >= 0 && phase < period &&
               n >= 0 && n <= TRELLIS_MAX_TILE;
    if (fits) {
        f->itemsize = residual_floats[kind].itemsize;
        f->mantissa = residual_floats[kind].mantissa;
        f->dropped = dropped;
        f->sign = 8 * f->itemsize - 1;
        f->largest = residual_floats[kind].largest;
        f->exponent = exponent;
        f->depth = depth;
        f->zeros = zeros != 0;
        f->rows = rows != 0;
        f->period = (size_t)period;
        f->phase = (size_t)phase;
        fits = dropped >= 0 && dropped <= f->mantissa && exponent >= 1 && exponent <= f->largest;
    }
    if (!fits) PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    return fits;
}

/* Number of rows, whole or in part, that n weights are in. */
static size_t residual_rows(const kolmo_residual *f, size_t n) {
    return n ? (n - 1 + f->phase) / f->period + 1 : 0;
}

static PyObject *encode_py(PyObject *module, PyObject *args) {
    const char *data, *counts;
    Py_ssize_t size, rows, period, phase;
    int kind, dropped, exponent, depth, zeros, good = 0;
    kolmo_residual f;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiiiinny#y#:residual_encode", &kind, &dropped, &exponent, &depth, &zeros, &period, &phase, &data, &size, &counts, &rows) ||
        !residual_fits(&f, kind, dropped, exponent, depth, zeros, rows > 0, period, phase,
                       kind >= 0 && kind < 4 ? size / residual_floats[kind].itemsize : 0))
        return NULL;
    const size_t n = (size_t)(size / f.itemsize);
    const int fits = !(size % (Py_ssize_t)f.itemsize) && (!rows || (size_t)rows == residual_rows(&f, n));
    residual_writer *w = calloc(1, sizeof *w);
    if (!w) return PyErr_NoMemory();
    residual_odds(&w->odds);
    kolmo_encoder_init(&w->coder);
    Py_BEGIN_ALLOW_THREADS
    good = fits ? residual_encode(&f, (uint8_t *)data, n, (const uint8_t *)counts, w) : -1;
    if (good == 1) {
        kolmo_encoder_finish(&w->coder);
        kolmo_bits_put_bytes(&w->bits, 0);
    }
    Py_END_ALLOW_THREADS
    PyObject *result = NULL;
    if (good < 0)
        PyErr_SetString(PyExc_ValueError, "the arguments do not fit the kernel");
    else if (!good || w->coder.failed || w->bits.failed)
        PyErr_NoMemory();
    else
        result = Py_BuildValue("(y#y#)", w->coder.out ? (char *)w->coder.out : "", (Py_ssize_t)w->coder.size,
                               w->bits.out ? (char *)w->bits.out : "", (Py_ssize_t)w->bits.size);
    free(w->coder.out);
    free(w->bits.out);
    free(w);
    return result;
}

static PyObject *decode_py(PyObject *module, PyObject *args) {
    const char *data, *raw, *given;
    Py_ssize_t size, raw_size, given_size, period, phase;
    int kind, dropped, exponent, depth, zeros, rows, good = 0;
    kolmo_residual f;
    (void)module;
    if (!PyArg_ParseTuple(args, "iiiiiinny#y#y#:residual_decode", &kind, &dropped, &exponent, &depth, &zeros, &rows, &period, &phase, &given, &given_size, &data,
                          &size, &raw, &raw_size) ||
        !residual_fits(&f, kind, dropped, exponent, depth, zeros, rows, period, phase, given_size / 4))
        return NULL;
    size_t n = (size_t)given_size / 4;
    PyObject *result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n * f.itemsize);
    int32_t *levels = malloc(n * 4 + 1);
    residual_reader *r = malloc(sizeof *r);
    if (result && levels && r) {
        uint8_t *values = (uint8_t *)PyBytes_AsString(result);
        memset(&r->bits, 0, sizeof r->bits);
        r->bits.next = (const uint8_t *)raw;
        r->bits.end = r->bits.next + raw_size;
        Py_BEGIN_ALLOW_THREADS
        residual_odds(&r->odds);
        kolmo_decoder_init(&r->coder, (const uint8_t *)data, (size_t)size);
        memcpy(levels, given, n * 4);
        good = given_size % 4 ? -1 : 1;
        for (size_t i = 0; i < n; i++) good = levels[i] > TRELLIS_MAX_LEVEL || levels[i] < -TRELLIS_MAX_LEVEL ? -1 : good;
        if (good == 1) good = residual_decode(&f, values, levels, n, r);
        if (good == 1 && (r->coder.next != r->coder.end || kolmo_decoder_failed(&r->coder) || r->bits.failed ||
                          r->bits.next != r->bits.end || r->bits.held))
            good = -1;
        Py_END_ALLOW_THREADS
    }
    free(levels);
    free(r);
    if (good == 1) return result;
    Py_XDECREF(result);
    if (!good) return PyErr_NoMemory();
    PyErr_SetString(CorruptError, "the coded residuals are not those of these levels");
    return NULL;
}

PyMethodDef residual_functions[] = {
    {"residual_encode", encode_py, METH_VARARGS, "residual_encode(kind, dropped, exponent, depth, zeros, period, phase, values, counts): code, bits."},
    {"residual_decode", decode_py, METH_VARARGS, "residual_decode(kind, dropped, exponent, depth, zeros, rows, period, phase, levels, code, bits): values."},
    {NULL, NULL, 0, NULL},
};
