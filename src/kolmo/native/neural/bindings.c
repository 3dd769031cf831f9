/* The type NeuralMixer: the context mixer over lanes, with a network's predictions; see neural/reference.py. */
#include "module.h"
#include "objects.h"
#include "paths.h"

#include "neural/guesses.h"
#include "neural/pace.h"

enum { MAX_LANES = 256, LATE_CHECK_STEPS = 64, BATCH = 64, MAX_GUESS_LANES = 4 };
/* LATE_CHECK_STEPS: steps between checks for late threads. BATCH: positions that the network evaluates together while
 * encoding. MAX_GUESS_LANES: most lanes for which decoding guesses bytes. */

/* A guessed byte of a lane, or a known one (a root), whose state is one of the network's branches. */
typedef struct {
    guess_history history; /* this byte included */
    guess_list next;
    int tried;    /* number of bytes of `next` that have places */
    int parent;   /* the place before, -1 for a root */
    uint8_t byte;
    float chance; /* probability that the decoded bytes lead here */
} place;

/* State of decoding with guesses: the guesses, and the place of each lane. */
typedef struct {
    guesser guesser;
    kolmo_pace pace;
    network_tree tree; /* the bytes that the network evaluates next */
    place place[NETWORK_BRANCHES]; /* lane k has those from k * (NETWORK_BRANCHES / lanes) on */
    int used[MAX_GUESS_LANES], now[MAX_GUESS_LANES]; /* for each lane, places in use; the place of its last byte, -1 for none */
    guess_history history[MAX_GUESS_LANES];
    uint32_t predicted[MAX_GUESS_LANES * NETWORK_SUMS]; /* sums at each lane's current place */
} lookahead;

typedef struct {
    PyObject_HEAD
    cm_model *model;
    kolmo_network_lanes *network;
    PyObject *owner, *prior; /* the Network, and bytes */
    uint8_t *content;  /* the decoded block */
    uint16_t *costs;   /* probabilities of the block's bits, 8 for each byte */
    uint8_t *symbols;  /* steps x lanes: the byte before each */
    uint32_t *sums;    /* steps x lanes x 512 */
    Py_ssize_t capacity;    /* size of the largest block that fits */
    Py_ssize_t step, steps; /* steps so far, and of the whole block */
    int batch, threads;
    lookahead *lookahead; /* decoding a few lanes */
    int direction, busy; /* direction: -1 until the first call */
} Neural;

static PyObject *neural_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    const char *config, *tables;
    Py_ssize_t config_size, tables_size, size;
    PyObject *prior, *network;
    int lanes, threads;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "y#y#SniiO!:NeuralMixer", &config, &config_size, &tables, &tables_size, &prior,
                          &size, &lanes, &threads, NetworkType, &network))
        return NULL;
    cm_config c;
    if (config_size != sizeof c || tables_size != sizeof(cm_tables) || size < 1 || size > (Py_ssize_t)1 << 30 ||
        lanes < 1 || lanes > MAX_LANES || lanes > size || threads < 1) {
        PyErr_SetString(PyExc_ValueError, "configuration, tables, size, lanes or threads do not fit the kernel");
        return NULL;
    }
    memcpy(&c, config, sizeof c);
    if (!cm_valid(&c, 1) || (size_t)PyBytes_Size(prior) != cm_prior_size(&c, 1)) {
        PyErr_SetString(PyExc_ValueError, "the configuration or the prior does not fit the kernel");
        return NULL;
    }
    Neural *self = (Neural *)kolmo_instance(type);
    if (!self) return NULL;
    self->direction = -1;
    self->batch = lanes < BATCH ? BATCH / lanes : 1;
    self->threads = threads < KOLMO_TEAM ? threads : KOLMO_TEAM;
    self->capacity = size;
    self->steps = (size + lanes - 1) / lanes;
    self->model = cm_new(&c, (const cm_tables *)tables, (const int32_t *)(void *)PyBytes_AsString(prior), (uint32_t)size, lanes, 1);
    self->network = kolmo_network_lanes_new(((Network *)network)->network, lanes, self->threads);
    self->symbols = (uint8_t *)malloc((size_t)self->batch * (size_t)lanes);
    self->sums = (uint32_t *)malloc((size_t)self->batch * (size_t)lanes * 512 * sizeof *self->sums);
    if (!self->model || !self->network || !self->symbols || !self->sums) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->model->logarithms = ((Network *)network)->network->constants.log;
    Py_INCREF(prior);
    self->prior = prior;
    Py_INCREF(network);
    self->owner = network;
    return (PyObject *)self;
}

static void neural_free(PyObject *object) {
    Neural *self = (Neural *)object;
    cm_free(self->model);
    if (self->network) kolmo_network_lanes_free(self->network);
    free(self->content);
    free(self->costs);
    free(self->symbols);
    free(self->sums);
    free(self->lookahead);
    Py_XDECREF(self->prior);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

typedef struct {
    Neural *self;
    int steps;
    kolmo_team *team;
    const network_tree *tree; /* NULL: all lanes' next `steps` bytes */
} network_task;

/* A part of the network, for all lanes. */
static void run_network_part(void *work, int part, int parts) {
    const network_task *l = (const network_task *)work;
    if (l->tree) kolmo_network_look_ahead(l->self->network, l->tree, l->self->sums, l->team, part, parts);
    else kolmo_network_share(l->self->network, l->self->symbols, l->steps, l->self->sums, l->team, part, parts);
}

/* Continue with one thread where the others are often late: on a busy machine they cost more than they save. */
static void neural_drop_late_threads(Neural *self, kolmo_team *team, network_task *work, Py_ssize_t count) {
    if (team->parts == 1 || count % LATE_CHECK_STEPS || !kolmo_team_is_late(team, 2)) return;
    kolmo_team_end(team);
    self->threads = 1;
    kolmo_team_begin(team, 1, run_network_part, work);
}

/* Add a byte of a lane to the tree, after another place or (-1) after the decoded bytes. */
static int add_guess(lookahead *f, int lane, int room, int parent, uint8_t byte, float chance) {
    const int at = lane * room + f->used[lane]++, row = f->tree.rows++;
    place *p = &f->place[at];
    p->history = guess_after(parent < 0 ? f->history[lane] : f->place[parent].history, byte);
    p->next = guess_next(&f->guesser, &p->history);
    p->tried = 0;
    p->parent = parent;
    p->byte = byte;
    p->chance = chance;
    f->tree.symbol[row] = byte;
    f->tree.lane[row] = (int16_t)lane;
    f->tree.parent[row] = (int8_t)parent;
    f->tree.place[row] = (int8_t)at;
    return at;
}

/* Choose the bytes that the network evaluates next: the last byte of each lane without guesses left, and after it the
 * most probable bytes, as long as another one saves more time than it takes. */
static void plan_guesses(lookahead *f, int lanes, const uint8_t *last) {
    const int room = NETWORK_BRANCHES / lanes;
    f->tree.rows = 0;
    for (int lane = 0; lane < lanes; lane++) {
        if (f->now[lane] >= 0) continue;
        f->used[lane] = 0;
        f->now[lane] = add_guess(f, lane, room, -1, last[lane], 1);
    }
    const int roots = f->tree.rows, most = kolmo_pace_most(&f->pace, roots, NETWORK_BRANCHES);
    while (f->tree.rows < most) {
        float chance = kolmo_pace_least(&f->pace, f->tree.rows);
        int best = -1;
        for (int row = 0; row < f->tree.rows; row++) {
            const place *p = &f->place[f->tree.place[row]];
            if (f->used[f->tree.lane[row]] == room || p->tried == p->next.count) continue;
            const float here = p->chance * p->next.chance[p->tried];
            if (here > chance) chance = here, best = f->tree.place[row];
        }
        if (best < 0) break;
        place *p = &f->place[best];
        add_guess(f, best / room, room, best, p->next.byte[p->tried], chance);
        p->tried++;
    }
}

/* Advance a lane by a decoded byte: to the byte's place, if it was guessed. */
static void lookahead_advance(lookahead *f, kolmo_network_lanes *network, int lane, int room, uint8_t byte) {
    const int now = f->now[lane];
    guess_learn(&f->guesser, &f->place[now].history, byte);
    for (int at = lane * room; at < lane * room + f->used[lane]; at++)
        if (f->place[at].parent == now && f->place[at].byte == byte) {
            f->now[lane] = at;
            return;
        }
    kolmo_network_follow(network, lane, now);
    f->history[lane] = f->place[now].history;
    f->now[lane] = -1;
}

/* Decode the next `steps` bytes of a few lanes, with guesses. */
static void neural_decode_guessing(Neural *self, Py_ssize_t steps, void *coder, kolmo_team *team, network_task *work) {
    lookahead *f = self->lookahead;
    const int lanes = self->model->lanes, room = NETWORK_BRANCHES / lanes;
    work->tree = &f->tree;
    for (Py_ssize_t end = self->step + steps; self->step < end; self->step++) {
        if (kolmo_decoder_failed((kolmo_decoder *)coder)) break;
        neural_drop_late_threads(self, team, work, self->step);
        uint8_t last[MAX_GUESS_LANES];
        int lacking = 0;
        for (int lane = 0; lane < lanes; lane++) {
            const cm_history *h = self->model->histories + lane;
            const Py_ssize_t at = (Py_ssize_t)h->origin + self->step;
            last[lane] = self->step == 0 ? 10 : at <= (Py_ssize_t)h->end ? self->content[at - 1] : 0;
            lacking += f->now[lane] < 0;
        }
        if (lacking) {
            plan_guesses(f, lanes, last);
            kolmo_pace_begin(&f->pace);
            kolmo_team_work(team);
            kolmo_pace_end(&f->pace, f->tree.rows);
        }
        for (int lane = 0; lane < lanes; lane++)
            memcpy(f->predicted + lane * NETWORK_SUMS, self->sums + f->now[lane] * NETWORK_SUMS, NETWORK_SUMS * sizeof *f->predicted);
        const size_t done = run_lanes(self->model, CM_DECODE, self->content, f->predicted, coder, NULL);
        kolmo_pace_count(&f->pace, (int)done);
        for (int lane = 0; lane < lanes; lane++) {
            const cm_history *h = self->model->histories + lane;
            const Py_ssize_t at = (Py_ssize_t)h->origin + self->step;
            lookahead_advance(f, self->network, lane, room, at < (Py_ssize_t)h->end ? self->content[at] : 0);
        }
    }
}

/* Start after a prompt of one lane, which is learned as the source of guesses. */
static void lookahead_begin(lookahead *f, int lanes, const uint8_t *content, Py_ssize_t known) {
    for (int lane = 0; lane < lanes; lane++) f->now[lane] = -1;
    for (Py_ssize_t at = 0; at < known; at++) {
        if (at) f->history[0] = guess_after(f->history[0], content[at - 1]);
        guess_learn(&f->guesser, &f->history[0], content[at]);
    }
}

/* The next `steps` bytes of every lane. When encoding, the network evaluates a batch of steps at once. */
static void neural_run(Neural *self, int mode, uint8_t *block, Py_ssize_t steps, void *coder) {
    cm_model *m = self->model;
    kolmo_team team;
    network_task work = {self, 1, &team, NULL};
    kolmo_team_begin(&team, self->threads, run_network_part, &work);
    if (mode == CM_DECODE && self->lookahead) {
        neural_decode_guessing(self, steps, coder, &team, &work);
        kolmo_team_end(&team);
        return;
    }
    for (Py_ssize_t end = self->step + steps; self->step < end; self->step += work.steps) {
        if (mode == CM_DECODE && kolmo_decoder_failed((kolmo_decoder *)coder)) break;
        work.steps = mode == CM_DECODE ? 1 : end - self->step < self->batch ? (int)(end - self->step) : self->batch;
        for (int t = 0; t < work.steps; t++)
            for (int lane = 0; lane < m->lanes; lane++) {
                const cm_history *h = m->histories + lane;
                Py_ssize_t at = (Py_ssize_t)h->origin + self->step + t - 1;
                self->symbols[t * m->lanes + lane] = self->step + t == 0 ? 10 : at < (Py_ssize_t)h->end ? block[at] : 0;
            }
        neural_drop_late_threads(self, &team, &work, self->step);
        kolmo_team_work(&team);
        for (int t = 0; t < work.steps; t++)
            run_lanes(m, mode, block, self->sums + (size_t)t * (size_t)m->lanes * 512, coder, self->costs);
    }
    kolmo_team_end(&team);
}

static int neural_begin(Neural *self, int direction, Py_ssize_t steps, Py_ssize_t size) {
    if (kolmo_taken(self->busy)) return -1;
    const int samples = self->direction == CM_SCORE && direction == CM_DECODE && self->model->lanes == 1;
    if (self->direction >= 0 && self->direction != direction && !samples) {
        PyErr_SetString(PyExc_ValueError, "a model codes in one direction only");
        return -1;
    }
    if (steps < 0 || steps > self->steps - self->step || size != (Py_ssize_t)self->model->histories->size) {
        PyErr_SetString(PyExc_ValueError, "another block than the model was started for");
        return -1;
    }
    self->direction = direction;
    return 0;
}

static PyObject *neural_encode(PyObject *object, PyObject *args) {
    Neural *self = (Neural *)object;
    PyObject *coder;
    const char *block;
    Py_ssize_t size, steps;
    if (!PyArg_ParseTuple(args, "O!y#n:encode", EncoderType, &coder, &block, &size, &steps)) return NULL;
    Encoder *encoder = (Encoder *)coder;
    if (neural_begin(self, CM_ENCODE, steps, size) < 0 || kolmo_encoder_taken(encoder)) return NULL;
    self->busy = encoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    neural_run(self, CM_ENCODE, (uint8_t *)block, steps, &encoder->coder);
    Py_END_ALLOW_THREADS
    self->busy = encoder->busy = 0;
    if (encoder->coder.failed) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *neural_decode(PyObject *object, PyObject *args) {
    Neural *self = (Neural *)object;
    PyObject *coder;
    Py_ssize_t steps;
    if (!PyArg_ParseTuple(args, "O!n:decode", DecoderType, &coder, &steps)) return NULL;
    Decoder *decoder = (Decoder *)coder;
    if (neural_begin(self, CM_DECODE, steps, (Py_ssize_t)self->model->histories->size) < 0 || kolmo_taken(decoder->busy))
        return NULL;
    if (!self->content) { /* the first call; what was scored before is a prompt, and known */
        if (!(self->content = (uint8_t *)calloc(self->model->histories->size, 1))) return PyErr_NoMemory();
        memcpy(self->content, self->model->histories->bytes, (size_t)self->step);
    }
    if (!self->lookahead && self->model->lanes <= MAX_GUESS_LANES) {
        if (!(self->lookahead = (lookahead *)calloc(1, sizeof *self->lookahead))) return PyErr_NoMemory();
        lookahead_begin(self->lookahead, self->model->lanes, self->content, self->step);
    }
    self->busy = decoder->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    neural_run(self, CM_DECODE, self->content, steps, &decoder->coder);
    Py_END_ALLOW_THREADS
    self->busy = decoder->busy = 0;
    if (kolmo_exhausted(&decoder->coder)) return NULL;
    Py_RETURN_NONE;
}

static PyObject *neural_score(PyObject *object, PyObject *args) {
    Neural *self = (Neural *)object;
    const char *block;
    Py_ssize_t size, steps;
    if (!PyArg_ParseTuple(args, "y#n:score", &block, &size, &steps) || neural_begin(self, CM_SCORE, steps, size) < 0)
        return NULL;
    if (!self->costs && !(self->costs = (uint16_t *)calloc((size_t)size, 8 * sizeof *self->costs))) return PyErr_NoMemory();
    self->busy = 1;
    Py_BEGIN_ALLOW_THREADS
    neural_run(self, CM_SCORE, (uint8_t *)block, steps, NULL);
    Py_END_ALLOW_THREADS
    self->busy = 0;
    Py_RETURN_NONE;
}

static PyObject *neural_content(PyObject *object, PyObject *args) {
    Neural *self = (Neural *)object;
    Py_ssize_t size = (Py_ssize_t)self->model->histories->size, first = 0, last = size;
    if (!PyArg_ParseTuple(args, "|nn:content", &first, &last) || kolmo_taken(self->busy)) return NULL;
    Py_ssize_t known = self->step == self->steps ? size : self->model->lanes == 1 ? self->step : 0;
    if (!self->content || first < 0 || first > last || last > known) {
        PyErr_SetString(PyExc_ValueError, "the block is not decoded yet");
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)self->content + first, last - first);
}

static PyObject *neural_costs(PyObject *object, PyObject *unused) {
    Neural *self = (Neural *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    if (!self->costs || self->step < self->steps) {
        PyErr_SetString(PyExc_ValueError, "the block is not scored yet");
        return NULL;
    }
    return PyBytes_FromStringAndSize((const char *)self->costs, (Py_ssize_t)self->model->histories->size * 16);
}

static PyObject *neural_learned(PyObject *object, PyObject *unused) {
    Neural *self = (Neural *)object;
    (void)unused;
    if (kolmo_taken(self->busy)) return NULL;
    PyObject *result = PyBytes_FromStringAndSize(NULL, PyBytes_Size(self->prior));
    if (!result) return NULL;
    cm_export(self->model, (const int32_t *)(void *)PyBytes_AsString(self->prior), (int32_t *)(void *)PyBytes_AsString(result));
    return result;
}

static PyObject *neural_forget(PyObject *object, PyObject *args) {
    Neural *self = (Neural *)object;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "n:forget", &size) || kolmo_taken(self->busy)) return NULL;
    int lanes = self->model->lanes;
    if (size < lanes || size > self->capacity) {
        PyErr_SetString(PyExc_ValueError, "the model has no room for this block");
        return NULL;
    }
    kolmo_network_lanes *fresh = kolmo_network_lanes_new(((Network *)self->owner)->network, lanes, self->threads);
    if (!fresh) return PyErr_NoMemory();
    kolmo_network_lanes_free(self->network);
    self->network = fresh;
    cm_forget(self->model, (uint32_t)size);
    self->direction = -1;
    self->step = 0;
    self->steps = (size + lanes - 1) / lanes;
    free(self->costs);
    free(self->content);
    free(self->lookahead);
    self->costs = NULL;
    self->content = NULL;
    self->lookahead = NULL;
    Py_RETURN_NONE;
}

static PyMethodDef neural_methods[] = {
    {"encode", neural_encode, METH_VARARGS, "encode(encoder, block, steps): code the next bytes of all lanes and learn from them."},
    {"decode", neural_decode, METH_VARARGS, "decode(decoder, steps): the mirror of encode; may follow score, too, in one lane."},
    {"content", neural_content, METH_VARARGS, "content(first=0, last=all): the block's bytes, once they are decoded; of several lanes, once all are."},
    {"score", neural_score, METH_VARARGS, "score(block, steps): like encode, without a coder."},
    {"costs", neural_costs, METH_NOARGS, "16-bit probability of each bit of the block, once all of it is scored; 8 for each byte, native order."},
    {"forget", neural_forget, METH_VARARGS, "forget(size): reset everything but the learned numbers: for the next sample of a training."},
    {"learned", neural_learned, METH_NOARGS, "The learned numbers, in the layout of a prior."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot neural_slots[] = {
    {Py_tp_new, (void *)neural_new},
    {Py_tp_dealloc, (void *)neural_free},
    {Py_tp_methods, neural_methods},
    {Py_tp_doc, (void *)"NeuralMixer(config, tables, prior, size, lanes, threads, network): a model of one block."},
    {0, NULL},
};
PyType_Spec neural_spec = {"kolmo.native._kernels.NeuralMixer", sizeof(Neural), 0, Py_TPFLAGS_DEFAULT, neural_slots};
