/* The type NeuralMixer: the context mixer over lanes, with a network's opinion; see neural/reference.py. */
#include "module.h"
#include "objects.h"
#include "paths.h"

#include "neural/guesses.h"
#include "neural/pace.h"

enum { MAX_LANES = 256, PATIENCE = 64, BATCH = 64, AHEAD = 4 };
/* BATCH: positions that the network looks at together while encoding. AHEAD: the most lanes that decoding guesses for. */

/* A guessed byte of a lane, or a known one, the root: a place in the network's branches. */
typedef struct {
    guess_history history; /* this byte included */
    guess_list next;
    int tried;    /* of `next`, those that have places */
    int parent;   /* the place before, -1 for a root */
    uint8_t byte;
    float chance; /* that decoding comes here */
} place;

/* Decoding: what was guessed, and where each lane is. */
typedef struct {
    guesser guesser;
    kolmo_pace pace;
    network_tree tree; /* what the network looks at next */
    place place[NETWORK_BRANCHES]; /* lane k has those from k * (NETWORK_BRANCHES / lanes) on */
    int used[AHEAD], now[AHEAD]; /* of a lane's places, those in use; the one that its last byte led to, -1 for none */
    guess_history history[AHEAD];
    uint32_t spoken[AHEAD * NETWORK_SUMS]; /* of each lane's present place */
} foresight;

typedef struct {
    PyObject_HEAD
    cm_model *model;
    kolmo_network_lanes *network;
    PyObject *owner, *prior; /* the Network, and bytes */
    uint8_t *content;  /* what was decoded, a whole block */
    uint16_t *costs;   /* 8 a byte, a whole block */
    uint8_t *symbols;  /* steps x lanes: the byte before each */
    uint32_t *sums;    /* steps x lanes x 512 */
    Py_ssize_t capacity;    /* the largest block that there is room for */
    Py_ssize_t step, steps; /* done, and all */
    int batch, threads;
    foresight *foresight; /* decoding a few lanes */
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
    free(self->foresight);
    Py_XDECREF(self->prior);
    Py_XDECREF(self->owner);
    kolmo_release(object);
}

typedef struct {
    Neural *self;
    int steps;
    kolmo_team *team;
    const network_tree *tree; /* NULL: all lanes' next `steps` bytes */
} listening;

/* A part of the network, for all lanes. */
static void listen(void *work, int part, int parts) {
    const listening *l = (const listening *)work;
    if (l->tree) kolmo_network_look_ahead(l->self->network, l->tree, l->self->sums, l->team, part, parts);
    else kolmo_network_share(l->self->network, l->self->symbols, l->steps, l->self->sums, l->team, part, parts);
}

/* Go on alone where the other threads keep coming late: on a busy machine they cost more than they do. */
static void neural_mind(Neural *self, kolmo_team *team, listening *work, Py_ssize_t count) {
    if (team->parts == 1 || count % PATIENCE || !kolmo_team_is_late(team, 2)) return;
    kolmo_team_end(team);
    self->threads = 1;
    kolmo_team_begin(team, 1, listen, work);
}

/* Give a byte of a lane a place, after another place or (-1) after all that is decoded. */
static int foresee(foresight *f, int lane, int room, int parent, uint8_t byte, float chance) {
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

/* What the network is to look at: the last byte of each lane that has run out of guesses, and of those that may follow
 * the likeliest ones, as long as one more is worth its time. */
static void foresee_all(foresight *f, int lanes, const uint8_t *last) {
    const int room = NETWORK_BRANCHES / lanes;
    f->tree.rows = 0;
    for (int lane = 0; lane < lanes; lane++) {
        if (f->now[lane] >= 0) continue;
        f->used[lane] = 0;
        f->now[lane] = foresee(f, lane, room, -1, last[lane], 1);
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
        foresee(f, best / room, room, best, p->next.byte[p->tried], chance);
        p->tried++;
    }
}

/* Where a lane is once a byte is decoded: at its place, if it was foreseen. */
static void foresight_learn(foresight *f, kolmo_network_lanes *network, int lane, int room, uint8_t byte) {
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

/* The next `steps` bytes of a few lanes, decoded. */
static void neural_decode_ahead(Neural *self, Py_ssize_t steps, void *coder, kolmo_team *team, listening *work) {
    foresight *f = self->foresight;
    const int lanes = self->model->lanes, room = NETWORK_BRANCHES / lanes;
    work->tree = &f->tree;
    for (Py_ssize_t end = self->step + steps; self->step < end; self->step++) {
        if (kolmo_decoder_failed((kolmo_decoder *)coder)) break;
        neural_mind(self, team, work, self->step);
        uint8_t last[AHEAD];
        int lacking = 0;
        for (int lane = 0; lane < lanes; lane++) {
            const cm_history *h = self->model->histories + lane;
            const Py_ssize_t at = (Py_ssize_t)h->origin + self->step;
            last[lane] = self->step == 0 ? 10 : at <= (Py_ssize_t)h->end ? self->content[at - 1] : 0;
            lacking += f->now[lane] < 0;
        }
        if (lacking) {
            foresee_all(f, lanes, last);
            kolmo_pace_begin(&f->pace);
            kolmo_team_work(team);
            kolmo_pace_end(&f->pace, f->tree.rows);
        }
        for (int lane = 0; lane < lanes; lane++)
            memcpy(f->spoken + lane * NETWORK_SUMS, self->sums + f->now[lane] * NETWORK_SUMS, NETWORK_SUMS * sizeof *f->spoken);
        const size_t done = run_lanes(self->model, CM_DECODE, self->content, f->spoken, coder, NULL);
        kolmo_pace_count(&f->pace, (int)done);
        for (int lane = 0; lane < lanes; lane++) {
            const cm_history *h = self->model->histories + lane;
            const Py_ssize_t at = (Py_ssize_t)h->origin + self->step;
            foresight_learn(f, self->network, lane, room, at < (Py_ssize_t)h->end ? self->content[at] : 0);
        }
    }
}

/* A prompt of one lane was scored: the last byte is all that matters but for what follows what. */
static void foresight_begin(foresight *f, int lanes, const uint8_t *content, Py_ssize_t known) {
    for (int lane = 0; lane < lanes; lane++) f->now[lane] = -1;
    for (Py_ssize_t at = 0; at < known; at++) {
        if (at) f->history[0] = guess_after(f->history[0], content[at - 1]);
        guess_learn(&f->guesser, &f->history[0], content[at]);
    }
}

/* The next `steps` bytes of every lane. Encoding, the network runs ahead over a batch of steps; decoding, it cannot. */
static void neural_run(Neural *self, int mode, uint8_t *block, Py_ssize_t steps, void *coder) {
    cm_model *m = self->model;
    kolmo_team team;
    listening work = {self, 1, &team, NULL};
    kolmo_team_begin(&team, self->threads, listen, &work);
    if (mode == CM_DECODE && self->foresight) {
        neural_decode_ahead(self, steps, coder, &team, &work);
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
        neural_mind(self, &team, &work, self->step);
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
        PyErr_SetString(PyExc_ValueError, "a model serves one direction only");
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
    if (!self->foresight && self->model->lanes <= AHEAD) {
        if (!(self->foresight = (foresight *)calloc(1, sizeof *self->foresight))) return PyErr_NoMemory();
        foresight_begin(self->foresight, self->model->lanes, self->content, self->step);
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
    free(self->foresight);
    self->costs = NULL;
    self->content = NULL;
    self->foresight = NULL;
    Py_RETURN_NONE;
}

static PyMethodDef neural_methods[] = {
    {"encode", neural_encode, METH_VARARGS, "encode(encoder, block, steps): code the next bytes of all lanes and learn from them."},
    {"decode", neural_decode, METH_VARARGS, "decode(decoder, steps): the mirror of encode; goes on after score, too, in one lane."},
    {"content", neural_content, METH_VARARGS, "content(first=0, last=all): the block's bytes, once they are decoded; of several lanes, once all are."},
    {"score", neural_score, METH_VARARGS, "score(block, steps): like encode, without a coder."},
    {"costs", neural_costs, METH_NOARGS, "16-bit probability of each bit of the block, once all of it is scored; 8 a byte, native order."},
    {"forget", neural_forget, METH_VARARGS, "forget(size): forget the data, keep what was learned: the next sample of a training."},
    {"learned", neural_learned, METH_NOARGS, "What was learned, in the layout of a prior."},
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
