/* The network of docs/pixels.md: weights, and the prediction of one byte of a picture from its neighbours.
 *
 * C counterpart of pixels/network.py. It has no state: a prediction depends on the picture's bytes before it alone. Sums are
 * sums of integers; all else is elementwise in binary32, in the order written, so every instruction set gives the same bits. */
#ifndef KOLMO_PIXEL_NETWORK_H
#define KOLMO_PIXEL_NETWORK_H

#include <stddef.h>
#include <stdint.h>

#include "network/network.h"

typedef struct kolmo_pixel_network kolmo_pixel_network;

/* A picture, or the part of it that is coded so far.
 *
 * bytes:    pixels in the order of the file, the first one at the beginning of row 0;
 * stride:   bytes of a row, channels or more;
 * channels: bytes of a pixel, 1 to 4;
 * order:    order[t] is the offset in a pixel of the byte that is coded in turn t. With three or four channels the turns are
 *           green, red, blue and any fourth: 1, 0, 2, 3 for RGB and RGBA, 1, 2, 0, 3 for BGR and BGRA. */
typedef struct {
    const uint8_t *bytes;
    uint32_t stride, channels;
    uint32_t order[4];
} kolmo_picture;

/* NULL, or a message: wrong sizes, a wrong length of the weights, or a value that docs/pixels.md does not allow. */
const char *kolmo_pixel_network_problem(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size);
/* NULL without memory, or where `kolmo_pixel_network_problem` is not NULL. `weights` as in the
 * file: see network.py; `squeezed`: the table of native/tables.py. */
kolmo_pixel_network *kolmo_pixel_network_new(const int32_t *config, size_t config_count, const uint8_t *weights, size_t size,
                                             const kolmo_network_tables *constants, const int8_t squeezed[511]);
void kolmo_pixel_network_free(kolmo_pixel_network *network);

/* The constants that the network was made with: `log` is what kolmo_network_stretch takes. */
const kolmo_network_tables *kolmo_pixel_network_constants(const kolmo_pixel_network *network);

/* The weights of the 256 values of the byte of turn `turn` of the pixel in a row and column: sums[256 + v] is that of v, from
 * 1 to 2^22, sums[i] = sums[2 i] + sums[2 i + 1], sums[0] = 0. The logit of a bit is kolmo_network_stretch(log, sums[2 c0],
 * sums[2 c0 + 1]).
 *
 * A row has stride / channels columns, rounded down; column is below that, turn below channels. Only bytes that are coded
 * before are read: at most 4 rows above, 6 pixels to the left, and earlier turns of the same pixel. Neighbours outside
 * the picture are known to be missing. Turns 0, 1 and 2 of 3 or 4 channels are predicted together; any other byte is
 * predicted as a picture of one channel. Threads may share a network. */
void kolmo_pixel_network_predict(const kolmo_pixel_network *network, const kolmo_picture *picture, uint32_t row,
                                 uint32_t column, uint32_t turn, uint32_t sums[NETWORK_SUMS]);

#endif
