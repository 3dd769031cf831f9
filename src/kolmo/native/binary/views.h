/* Views of binary data: other orders of the same bytes, that a model predicts better. Counterpart of binary/views.py.
 *
 * A view is a bijection on strings of each length, so it cannot fail: whatever the bytes are, its inverse gives them back.
 * - x86: the four bytes of a relative address become the absolute one (modulo 2^32), highest byte first.
 * - arm64: a word is shown highest byte first, with the targets of BL and ADRP absolute.
 * - values: the bytes of a value are shown highest first. */
#ifndef KOLMO_VIEWS_H
#define KOLMO_VIEWS_H

#include <stddef.h>
#include <stdint.h>

enum { KOLMO_VIEW_NONE, KOLMO_VIEW_X86_64, KOLMO_VIEW_X86_32, KOLMO_VIEW_ARM64, KOLMO_VIEW_VALUES, KOLMO_VIEWS };

void kolmo_view(int view, uint32_t width, int inverse, const uint8_t *in, uint8_t *out, size_t size);

#endif
