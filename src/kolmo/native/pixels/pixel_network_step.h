/* The network of pixels: one prediction. Compiled once for each instruction set: the file that includes this one defines
 * KOLMO_TARGET, KOLMO_RUN (the name of the entry point), and includes products/tile_*.h. */
#include <math.h>
#include <string.h>

#include "pixels/pixel_layout.h"
#include "products/weigh.h"

/* A channel around the pixel to predict, by (rows down, columns to the right). */
typedef struct {
    const uint8_t *here; /* its byte of that pixel */
    ptrdiff_t down, right;
} pixel_plane;

/* The byte's own neighbours in the order of the inputs: rows down and columns to the right; and as rows: down, first, last. */
static const int8_t pixel_down[PIXEL_OWN] = {
    0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2, -2,
    -3, -3, -3, -3, -3, -3, -3, -3, -3, -4, -4, -4, -4, -4,
};
static const int8_t pixel_right[PIXEL_OWN] = {
    -6, -5, -4, -3, -2, -1, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, -4, -3,
    -2, -1, 0, 1, 2, 3, 4, -2, -1, 0, 1, 2,
};
static const int8_t pixel_rows[5][3] = {{0, -6, -1}, {-1, -6, 6}, {-2, -5, 5}, {-3, -4, 4}, {-4, -2, 2}};
/* The neighbours that another channel has, and those that have flags: their numbers among the byte's own. */
enum { PIXEL_WEST = 5, PIXEL_NORTH = 12, PIXEL_CORNER = 11 };
static const uint8_t pixel_other[PIXEL_OTHER] = {5, 12, 11, 13, 4, 24, 10, 14, 23, 25, 3, 26};
static const uint8_t pixel_flags[PIXEL_FLAGS] = {5, 4, 12, 11, 13};

/* Which neighbours there are: those of row 0 .. -4 within the columns -west .. east. */
typedef struct {
    int rows, west, east;
} pixel_room;

KOLMO_INLINE int pixel_is_known(const pixel_room *room, int down, int right) {
    return -down <= room->rows && right >= -room->west && right <= room->east;
}

KOLMO_INLINE int pixel_is_inside(const pixel_room *room) { return room->rows >= 4 && room->west >= 6 && room->east >= 6; }

/* 1 for each own neighbour that is there, else 0. */
KOLMO_INLINE void pixel_know(const pixel_room *room, uint8_t *known) {
    if (pixel_is_inside(room)) memset(known, 1, PIXEL_OWN);
    else
        for (int i = 0; i < PIXEL_OWN; i++) known[i] = (uint8_t)pixel_is_known(room, pixel_down[i], pixel_right[i]);
}

/* All own neighbours; 0 where there is none. */
KOLMO_INLINE void pixel_look(const pixel_plane *p, const pixel_room *room, int16_t *restrict values) {
    if (!pixel_is_inside(room)) {
        for (int i = 0; i < PIXEL_OWN; i++) {
            const int down = pixel_down[i], right = pixel_right[i];
            values[i] = pixel_is_known(room, down, right) ? p->here[down * p->down + right * p->right] : 0;
        }
        return;
    }
    for (int r = 0, at = 0; r < 5; r++) {
        const uint8_t *line = p->here + pixel_rows[r][0] * p->down;
        for (int right = pixel_rows[r][1]; right <= pixel_rows[r][2]; right++) values[at++] = line[right * p->right];
    }
}

KOLMO_INLINE int pixel_median(const pixel_room *room, int west, int north, int corner, int missing) {
    const int has_west = room->west > 0, has_north = room->rows > 0;
    west = has_west ? west : has_north ? north : missing;
    north = has_north ? north : west;
    corner = has_west && has_north ? corner : has_west ? west : north;
    const int low = west < north ? west : north, high = west < north ? north : west, plane = west + north - corner;
    return plane < low ? low : plane > high ? high : plane;
}

KOLMO_INLINE int pixel_med(const pixel_room *room, const int16_t *values) {
    return pixel_median(room, values[PIXEL_WEST], values[PIXEL_NORTH], values[PIXEL_CORNER], 128);
}

KOLMO_INLINE int16_t pixel_within(int d) { return (int16_t)(d < -255 ? -255 : d > 255 ? 255 : d); }

/* The differences of docs/pixels.md; returns the guess. `known`: 1 for each own neighbour that is there, else 0. */
KOLMO_INLINE int pixel_compare(const kolmo_picture *p, const uint8_t *pixel, uint32_t turn, int colour, const pixel_room *room,
                               const uint8_t *known, int16_t *restrict d) {
    int16_t own[PIXEL_OWN], other[2][PIXEL_OWN];
    pixel_plane plane = {pixel + p->order[turn], (ptrdiff_t)p->stride, (ptrdiff_t)p->channels};
    pixel_look(&plane, room, own);
    int guess = pixel_med(room, own), plain = guess, base = 0, at = PIXEL_OWN;
    for (uint32_t t = 0, k = 0; colour && t < 3; t++) {
        if (t == turn) continue;
        int16_t *values = other[k++];
        plane.here = pixel + p->order[t];
        pixel_look(&plane, room, values);
        const int med = pixel_med(room, values), here = t < turn ? *plane.here : med;
        for (int i = 0; i < PIXEL_OTHER; i++) {
            const int j = pixel_other[i];
            d[at++] = (int16_t)(known[j] ? values[j] - here : 0);
        }
        if (t < turn) d[at++] = (int16_t)(here - med);
        if (t == 0) {
            const int median = pixel_median(room, own[PIXEL_WEST] - values[PIXEL_WEST], own[PIXEL_NORTH] - values[PIXEL_NORTH],
                                            own[PIXEL_CORNER] - values[PIXEL_CORNER], 0);
            const int sum = here + median;
            guess = sum < 0 ? 0 : sum > 255 ? 255 : sum;
            base = guess - here;
        }
    }
    if (colour && turn) {
        for (int i = 0; i < PIXEL_OTHER; i++) {
            const int j = pixel_other[i];
            d[at++] = known[j] ? pixel_within(own[j] - other[0][j] - base) : 0;
        }
        d[at] = (int16_t)(plain - guess);
    }
    for (int j = 0; j < PIXEL_OWN; j++) d[j] = (int16_t)(known[j] ? own[j] - guess : 0);
    return guess;
}

/* x = max(0, m . u * scale + bias), added to x where `more`. */
KOLMO_INLINE KOLMO_TARGET void pixel_layer(const network_matrix *m, const float *restrict bias, const uint8_t *u, int more,
                                           float *restrict x) {
    int32_t z[PIXEL_MAX_HIDDEN];
    const float *restrict scale = m->scale;
    for (int row = 0; row < m->rows; row += NETWORK_GROUP)
        network_tile(m->weights + (size_t)row * (size_t)m->inputs, m->start + row, m->inputs, u, 1, z + row, m->rows);
    for (int j = 0; j < m->rows; j++) {
        const float scaled = (float)z[j] * scale[j], sum = scaled + bias[j], positive = sum > 0.0f ? sum : 0.0f;
        x[j] = more ? x[j] + positive : positive;
    }
}

KOLMO_INLINE KOLMO_TARGET void pixel_round(const float *restrict x, int count, uint8_t *restrict u) {
    for (int j = 0; j < count; j++) {
        const float near = x[j] < 127.0f ? x[j] : 127.0f, whole = network_rint(near);
        u[j] = (uint8_t)((int32_t)whole + NETWORK_OFFSET);
    }
}

KOLMO_TARGET void KOLMO_RUN(const kolmo_pixel_network *n, const kolmo_picture *p, uint32_t row, uint32_t column, uint32_t turn,
                            uint32_t *sums) {
    const uint32_t columns = p->stride / p->channels, after = columns - 1 - column;
    const int colour = p->channels >= 3 && turn < 3, kind = colour ? (int)turn + 1 : 0;
    const pixel_room room = {row < 4 ? (int)row : 4, column < 6 ? (int)column : 6, after < 6 ? (int)after : 6};
    const uint8_t *pixel = p->bytes + (size_t)row * p->stride + (size_t)column * p->channels;
    uint8_t known[PIXEL_OWN], u[PIXEL_MAX_HIDDEN];
    int16_t d[PIXEL_MAX_DIFFERENCES] = {0};
    int at = 0;
    pixel_know(&room, known);
    const int guess = pixel_compare(p, pixel, turn, colour, &room, known, d), count = pixel_differences[kind];

    int32_t shift = 0;
    for (int i = 0; i < PIXEL_MAX_DIFFERENCES; i++) shift += (int32_t)d[i] * n->linear[kind][i];
    int32_t mean = guess * 256 + (shift >> 6);
    mean = mean < 0 ? 0 : mean > 65280 ? 65280 : mean;
    const int8_t *squeezed = n->squeezed + 255;
    for (at = 0; at < count; at++) u[at] = (uint8_t)(squeezed[d[at]] + NETWORK_OFFSET);
    for (int i = 0; i < PIXEL_FLAGS; i++) u[at++] = (uint8_t)(127 * known[pixel_flags[i]] + NETWORK_OFFSET);
    u[at++] = (uint8_t)((guess ? guess - 128 : -127) + NETWORK_OFFSET);
    u[at++] = (uint8_t)(squeezed[((mean + 128) >> 8) - guess] + NETWORK_OFFSET);
    for (; at < n->first[kind].inputs; at++) u[at] = 0; /* their weights are zeros */

    float x[PIXEL_MAX_HIDDEN], logits[PIXEL_RESIDUALS], l[256];
    pixel_layer(&n->first[kind], n->first_bias[kind], u, 0, x);
    for (int k = 0; k < n->layers; k++) {
        pixel_round(x, n->hidden, u);
        pixel_layer(&n->deeper[k], n->deeper_bias[k], u, 1, x);
    }
    pixel_round(x, n->hidden, u);

    int32_t z[PIXEL_RESIDUALS];
    const int first = 255 - (mean >> 8); /* of 257 rows: two neighbouring ones for each value */
    const float fraction = (float)(mean & 255) * 0x1p-8f, *restrict scale = n->head.scale, *restrict bias = n->head_bias[kind];
    for (int group = first & -NETWORK_GROUP; group < first + 257; group += NETWORK_GROUP)
        network_tile(n->head.weights + (size_t)group * (size_t)n->hidden, n->head.start + group, n->hidden, u, 1, z + group,
                     PIXEL_RESIDUALS);
    for (int k = first; k < first + 257; k++) {
        const float scaled = (float)z[k] * scale[k];
        logits[k] = scaled + bias[k];
    }
    for (int v = 0; v < 256; v++) {
        const float here = logits[first + 1 + v], apart = logits[first + v] - here, part = fraction * apart;
        l[v] = here + part;
    }
    network_sum(n->constants.exp2, l, sums);
}
