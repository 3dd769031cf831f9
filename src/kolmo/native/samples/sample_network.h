/* The network of docs/samples.md: weights, and the prediction of a sample from those before it.
 *
 * C counterpart of samples/network.py. It has no state: a prediction depends on the samples before it alone. Sums are sums of
 * integers; all else is elementwise in binary32, in the order written, so every instruction set gives the same bits. */
#ifndef KOLMO_SAMPLE_NETWORK_H
#define KOLMO_SAMPLE_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "samples/sample_mixture.h"

enum {
    SAMPLE_PAST = 256,  /* samples before the next one that must be readable, 0 before the first */
    SAMPLE_OTHER = 16,  /* samples of the other channel that must be readable: other[0], ..., other[-15] */
};

typedef struct kolmo_sample_network kolmo_sample_network;

/* NULL, or a message: wrong sizes, a wrong length of the weights, or a value that docs/samples.md does not allow. */
const char *kolmo_sample_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size);
/* NULL without memory, or where `kolmo_sample_network_problem` is not NULL. `weights` as in the file: see network.py. */
kolmo_sample_network *kolmo_sample_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                               const kolmo_sample_tables *tables);
void kolmo_sample_network_free(kolmo_sample_network *network);

/* The constants that the network was made with. */
const kolmo_sample_tables *kolmo_sample_network_tables(const kolmo_sample_network *network);

/* The distribution of the next sample of a channel.
 *
 * past:  past[-1] is the newest sample, past[-SAMPLE_PAST] the oldest that is read; 0 where there is none before it;
 * other: NULL where no other channel's sample of the same time is known; else other[0] is that sample, and other[-1] to
 *        other[-15] are those before it (0 where there are none);
 * bits:  of a sample, 1 to 24; all samples are within -2^(bits-1) .. 2^(bits-1) - 1.
 *
 * Threads may share a network. */
void kolmo_sample_network_predict(const kolmo_sample_network *network, const int32_t *past, const int32_t *other, int bits,
                                  kolmo_sample_mixture *mixture);

#endif
