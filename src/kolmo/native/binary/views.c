/* Views of binary data; see views.h. */
#include "binary/views.h"

#include <string.h>

#include "binary/programs.h"

static uint32_t kolmo_little(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }

static uint32_t kolmo_big(const uint8_t *p) { return p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24; }

/* The reader sees opcodes, which are the same on both sides, and never the bytes of an address. */
static void kolmo_view_x86(uint32_t wide, int inverse, const uint8_t *in, uint8_t *out, size_t size) {
    kolmo_x86 x = {.wide = wide};
    for (size_t i = 0; i < size;) {
        if (x.relative && x.left == 4 && size - i >= 4) {
            uint32_t end = (uint32_t)i + 4 + (x.stage == KOLMO_DISPLACEMENT ? x.immediate : 0);
            uint32_t v = inverse ? kolmo_big(in + i) - end : kolmo_little(in + i) + end;
            for (int k = 0; k < 4; k++) {
                out[i + k] = (uint8_t)(inverse ? v >> 8 * k : v >> (24 - 8 * k));
                kolmo_x86_read(&x, 0);
            }
            i += 4;
        } else {
            out[i] = in[i];
            kolmo_x86_read(&x, in[i]);
            i++;
        }
    }
}

static void kolmo_view_arm64(int inverse, const uint8_t *in, uint8_t *out, size_t size) {
    size_t i = 0;
    for (; i + 4 <= size; i += 4) {
        uint32_t w = inverse ? kolmo_big(in + i) : kolmo_little(in + i), here = (uint32_t)i >> 2;
        if (w >> 26 == 0x25) { /* BL */
            w = 0x25u << 26 | ((inverse ? w - here : w + here) & 0x3FFFFFF);
        } else if ((w & 0x9F000000) == 0x90000000) { /* ADRP: pages of 4096 bytes; low two bits of 21 are bits 29 and 30 */
            uint32_t page = (uint32_t)i >> 12, v;
            if (inverse) { /* shown: the upper bits in place, see below */
                v = ((w >> 5 & 0x7FFFF) << 2 | (w >> 29 & 3)) - page;
            } else {
                v = ((w >> 5 & 0x7FFFF) << 2 | (w >> 29 & 3)) + page;
            }
            v &= 0x1FFFFF;
            w = (w & 0x9F00001F) | (v >> 2) << 5 | (v & 3) << 29;
        }
        for (int k = 0; k < 4; k++) out[i + k] = (uint8_t)(inverse ? w >> 8 * k : w >> (24 - 8 * k));
    }
    if (i < size) memcpy(out + i, in + i, size - i);
}

static void kolmo_view_values(uint32_t width, const uint8_t *in, uint8_t *out, size_t size) {
    size_t i = 0;
    for (; i + width <= size; i += width)
        for (uint32_t k = 0; k < width; k++) out[i + k] = in[i + width - 1 - k];
    if (i < size) memcpy(out + i, in + i, size - i);
}

void kolmo_view(int view, uint32_t width, int inverse, const uint8_t *in, uint8_t *out, size_t size) {
    switch (view) {
    case KOLMO_VIEW_X86_64: kolmo_view_x86(1, inverse, in, out, size); break;
    case KOLMO_VIEW_X86_32: kolmo_view_x86(0, inverse, in, out, size); break;
    case KOLMO_VIEW_ARM64: kolmo_view_arm64(inverse, in, out, size); break;
    case KOLMO_VIEW_VALUES: kolmo_view_values(width, in, out, size); break;
    default: memcpy(out, in, size);
    }
}
