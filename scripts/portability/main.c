/* The kernels without Python: one model over one content, printed as hashes. `portability.py` writes content.h,
 * builds this for other machines and compares. Exit status 1 when what was decoded differs. */
#include <stdio.h>

#include "content.h"
#include "mixer/context_mixing.h"

static uint64_t hash(uint64_t h, uint32_t value) { return (h ^ value) * 1099511628211u; }

static cm_model *fresh(void) {
    static cm_tables t;
    memcpy(t.stretch, stretch, sizeof t.stretch);
    memcpy(t.squash, squash, sizeof t.squash);
    memcpy(t.next, next, sizeof t.next);
    memcpy(t.priority, priority, sizeof t.priority);
    memcpy(t.kind, kind, sizeof t.kind);
    memcpy(t.reciprocal, reciprocal, sizeof t.reciprocal);
    cm_config c;
    memcpy(&c, config, sizeof c);
    return cm_valid(&c, 0) ? cm_new(&c, &t, prior, sizeof data, 1, 0) : NULL;
}

int main(void) {
    const size_t n = sizeof data;
    uint8_t *bytes = (uint8_t *)malloc(n);
    uint16_t *costs = (uint16_t *)malloc(n * 16);
    cm_model *scorer = fresh(), *writer = fresh(), *reader = fresh();
    if (!bytes || !costs || !scorer || !writer || !reader) return 2;
    memcpy(bytes, data, n);

    uint64_t scored = 14695981039346656037u, written = scored;
    cm_run_baseline(scorer, CM_SCORE, bytes, n, NULL, costs);
    for (size_t i = 0; i < n * 8; i++) scored = hash(scored, costs[i]);

    kolmo_encoder encoder;
    kolmo_encoder_init(&encoder);
    cm_run_baseline(writer, CM_ENCODE, bytes, n, &encoder, NULL);
    kolmo_encoder_finish(&encoder);
    for (size_t i = 0; i < encoder.size; i++) written = hash(written, encoder.out[i]);

    kolmo_decoder decoder;
    kolmo_decoder_init(&decoder, encoder.out, encoder.size);
    memset(bytes, 0, n);
    cm_run_baseline(reader, CM_DECODE, bytes, n, &decoder, NULL);
    int wrong = memcmp(bytes, data, n) != 0;

    printf("%016llx %016llx %lu\n", (unsigned long long)scored, (unsigned long long)written, (unsigned long)encoder.size);
    cm_free(scorer), cm_free(writer), cm_free(reader);
    free(encoder.out), free(bytes), free(costs);
    return wrong;
}
