/* The mixer with a network and lanes, without Python: scores, encodes and decodes one content, printed as hashes.
 * `portability.py` writes content.h and network_content.h, builds this for other machines and compares. Exit status 1
 * when what was decoded differs. */
#include <stdio.h>

#include "content.h"
#include "mixer/context_mixing.h"
#define config network_config
#include "network_content.h"
#undef config
#include "network/network.h"

enum { LANES = 3 };

static uint64_t hash(uint64_t h, uint32_t value) { return (h ^ value) * 1099511628211u; }

static cm_model *fresh(const kolmo_network *network) {
    static cm_tables t;
    memcpy(t.stretch, stretch, sizeof t.stretch);
    memcpy(t.squash, squash, sizeof t.squash);
    memcpy(t.next, next, sizeof t.next);
    memcpy(t.priority, priority, sizeof t.priority);
    memcpy(t.kind, kind, sizeof t.kind);
    memcpy(t.reciprocal, reciprocal, sizeof t.reciprocal);
    cm_config c;
    memcpy(&c, config, sizeof c);
    cm_model *m = cm_valid(&c, 1) ? cm_new(&c, &t, prior, sizeof data, LANES, 1) : NULL;
    if (m) m->logarithms = network->constants.log;
    return m;
}

/* All of the block, a byte of every lane at a time; 0 when memory ran out. */
static int run(const kolmo_network *network, int mode, uint8_t *block, void *coder, uint16_t *costs) {
    static uint32_t sums[LANES * NETWORK_SUMS];
    uint8_t newest[LANES];
    memset(newest, 10, LANES);
    cm_model *m = fresh(network);
    kolmo_network_lanes *lanes = kolmo_network_lanes_new(network, LANES, 1);
    if (!m || !lanes) return 0;
    for (size_t done = 0; done < sizeof data;) {
        kolmo_network_step(lanes, newest, 1, 0, LANES, sums);
        done += cm_run_lanes_baseline(m, mode, block, sums, coder, costs);
        for (int k = 0; k < LANES; k++) newest[k] = (uint8_t)m->histories[k].last4;
    }
    cm_free(m), kolmo_network_lanes_free(lanes);
    return 1;
}

int main(void) {
    const size_t n = sizeof data;
    static kolmo_network_tables constants;
    memcpy(constants.exp2, exp2_weights, sizeof constants.exp2);
    memcpy(constants.log, logarithms, sizeof constants.log);
    kolmo_network *network =
        kolmo_network_new(network_config, sizeof network_config / 4, weights, sizeof weights, &constants);
    uint8_t *bytes = (uint8_t *)malloc(n);
    uint16_t *costs = (uint16_t *)malloc(n * 16);
    if (!network || !bytes || !costs) return 2;
    memcpy(bytes, data, n);

    uint64_t scored = 14695981039346656037u, written = scored;
    if (!run(network, CM_SCORE, bytes, NULL, costs)) return 2;
    for (size_t i = 0; i < n * 8; i++) scored = hash(scored, costs[i]);

    kolmo_encoder encoder;
    kolmo_encoder_init(&encoder);
    if (!run(network, CM_ENCODE, bytes, &encoder, NULL)) return 2;
    kolmo_encoder_finish(&encoder);
    for (size_t i = 0; i < encoder.size; i++) written = hash(written, encoder.out[i]);

    kolmo_decoder decoder;
    kolmo_decoder_init(&decoder, encoder.out, encoder.size);
    memset(bytes, 0, n);
    if (!run(network, CM_DECODE, bytes, &decoder, NULL)) return 2;
    int wrong = memcmp(bytes, data, n) != 0;

    printf("%016llx %016llx %lu\n", (unsigned long long)scored, (unsigned long long)written, (unsigned long)encoder.size);
    kolmo_network_free(network);
    free(encoder.out), free(bytes), free(costs);
    return wrong;
}
