/* Filtered rows of PNG pictures: see rows.py, whose names are used here. */
#ifndef KOLMO_DEFLATE_ROWS_H
#define KOLMO_DEFLATE_ROWS_H

#include <stddef.h>
#include <stdint.h>

static inline uint8_t rows_expected(int filter, int left, int above, int corner) {
    if (filter == 1) return (uint8_t)left;
    if (filter == 2) return (uint8_t)above;
    if (filter == 3) return (uint8_t)((left + above) >> 1);
    if (filter != 4) return 0;
    int sum = left + above - corner;
    int by_left = sum > left ? sum - left : left - sum, by_above = sum > above ? sum - above : above - sum;
    int by_corner = sum > corner ? sum - corner : corner - sum;
    return (uint8_t)(by_left <= by_above && by_left <= by_corner ? left : by_above <= by_corner ? above : corner);
}

/* `rows` has `size` bytes, rows behind their filters; `apart` has the filters, then all pixels. Fills the other one. */
static inline void rows_convert(uint8_t *rows, uint8_t *apart, size_t size, size_t row, size_t pixel, int split) {
    size_t count = (size + row) / (row + 1);
    uint8_t *here = apart + count;
    for (size_t k = 0; k < count; k++, here += row) {
        uint8_t *filtered = rows + k * (row + 1) + 1;
        size_t left_over = size - k * (row + 1) - 1, length = left_over < row ? left_over : row;
        if (split) apart[k] = filtered[-1];
        else filtered[-1] = apart[k];
        int filter = apart[k];
        for (size_t i = 0; i < length; i++) {
            int left = i >= pixel ? here[i - pixel] : 0, above = k ? (here - row)[i] : 0;
            int corner = k && i >= pixel ? (here - row)[i - pixel] : 0;
            uint8_t expected = rows_expected(filter, left, above, corner);
            if (split) here[i] = (uint8_t)(filtered[i] + expected);
            else filtered[i] = (uint8_t)(here[i] - expected);
        }
    }
}

#endif
