/* The network for AMX, whose tiles multiply sixteen rows at once; the rest as for AVX-512. Chosen at run time. */
#include "network/network.h"
#if defined(KOLMO_AMX)
#if defined(__clang__)
#define KOLMO_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8")))
#else
#define KOLMO_TARGET                                                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,amx-tile,amx-int8,prefer-vector-width=512")))
#endif
#define KOLMO_RUN network_run_amx
#define NETWORK_MANY 6 /* rows; fewer are not worth it */
#include "network/network_vnni.h"

/* Tiles 0 to 3 hold sums of `rows` rows and 16 columns each, 4 holds 64 inputs of these rows, 5 to 7 weights. */
KOLMO_INLINE KOLMO_TARGET void network_tiles(int rows) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles;
    memset(&tiles, 0, sizeof tiles);
    tiles.palette = 1;
    for (int k = 0; k < 8; k++) {
        tiles.bytes[k] = 64;
        tiles.rows[k] = (uint8_t)(k < 5 ? rows : 16);
    }
    _tile_loadconfig(&tiles);
}

/* See network_step.h. Tiles of rows are of equal height; the last one does some of them again where they do not fit. */
static KOLMO_TARGET void network_product_many(const network_matrix *m, const uint8_t *u, int rows, int32_t *z, int first,
                                         int last) {
    const int tiles = (rows + 15) / 16, height = (rows + tiles - 1) / tiles;
    const size_t inputs = (size_t)m->inputs, stride = 4 * (size_t)m->rows;
    network_tiles(height);
    for (int group = first; group < last; group += NETWORK_GROUP) {
        for (int tile = 0; tile < tiles; tile++) {
            const int8_t *w = m->weights + (size_t)group * inputs;
            const int at = tile < tiles - 1 ? tile * height : rows - height;
            const uint8_t *from = u + (size_t)at * inputs;
            int32_t *to = z + (size_t)at * (size_t)m->rows + group;
            _tile_loadd(0, m->start + group, 0);
            _tile_loadd(1, m->start + group + 16, 0);
            _tile_loadd(2, m->start + group + 32, 0);
            _tile_loadd(3, m->start + group + 48, 0);
            for (size_t k = 0; k < inputs; k += 64, w += 16 * 256) {
                _tile_loadd(4, from + k, inputs);
                _tile_loadd(5, w, 256);
                _tile_loadd(6, w + 64, 256);
                _tile_dpbusd(0, 4, 5);
                _tile_loadd(7, w + 128, 256);
                _tile_dpbusd(1, 4, 6);
                _tile_loadd(5, w + 192, 256);
                _tile_dpbusd(2, 4, 7);
                _tile_dpbusd(3, 4, 5);
            }
            _tile_stored(0, to, stride);
            _tile_stored(1, to + 16, stride);
            _tile_stored(2, to + 32, stride);
            _tile_stored(3, to + 48, stride);
        }
    }
    _tile_release();
}

#include "network/network_step.h"
#else
typedef int kolmo_no_amx; /* ISO C wants something in every file */
#endif
