"""Kernels in Triton for products with a payload of the bitshift trellis (docs/bitshift.md, "Product").

    turn        rotates rows of numbers, or turns them back
    round_rows  rounds rows of activations to int8
    multiply    decodes codes in registers and sums products in int32
    decode      decodes rows

They follow kolmo.native.bitshift_product.reference step by step. Sums of weights times activations are sums of
integers; everything else is single IEEE operations of binary32 in the same order, launched with
`enable_fp_fusion=False`, so that no product and sum become one. Divisions are `div_rn`, which rounds to nearest; `/`
does not. What they are not: a check of a payload, which `triton_product` makes. This file imports triton at once, so it
is imported inside functions only.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _flip(x: tl.tensor, seed: tl.tensor, columns: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Change the signs of a row."""
    for at in range(0, columns, BLOCK):
        column = at + tl.arange(0, BLOCK)
        u = (column.to(tl.uint32) + seed.to(tl.uint32)) * 0x9E3779B1
        u ^= u >> 15
        u *= 0x85EBCA77
        u ^= u >> 13
        u *= 0xC2B2AE3D
        bits = tl.load(x + column, column < columns, other=0.0).to(tl.uint32, bitcast=True)
        tl.store(x + column, (bits ^ (u & 0x80000000)).to(tl.float32, bitcast=True), column < columns)
    tl.debug_barrier()


@triton.jit
def _hadamard(x: tl.tensor, m: tl.tensor, root: tl.tensor, BLOCK: tl.constexpr) -> None:
    """Butterflies at distances 1, 2, 4, ..., m / 2, two distances in one pass; then one product with 1 / sqrt(m)."""
    distance = tl.full((), 1, tl.int32)
    while 4 * distance <= m:
        last = tl.where(4 * distance == m, root, 1.0)
        for at in range(0, m // 4, BLOCK):
            i = at + tl.arange(0, BLOCK)
            inside = i < m // 4
            place = x + (4 * i - 3 * (i & (distance - 1)))
            a = tl.load(place, inside, other=0.0)
            b = tl.load(place + distance, inside, other=0.0)
            c = tl.load(place + 2 * distance, inside, other=0.0)
            d = tl.load(place + 3 * distance, inside, other=0.0)
            ab, ba, cd, dc = a + b, a - b, c + d, c - d
            tl.store(place, (ab + cd) * last, inside)
            tl.store(place + distance, (ba + dc) * last, inside)
            tl.store(place + 2 * distance, (ab - cd) * last, inside)
            tl.store(place + 3 * distance, (ba - dc) * last, inside)
        tl.debug_barrier()
        distance *= 4
    if 2 * distance == m:
        for at in range(0, m // 2, BLOCK):
            i = at + tl.arange(0, BLOCK)
            inside = i < m // 2
            a = tl.load(x + i, inside, other=0.0)
            b = tl.load(x + i + distance, inside, other=0.0)
            tl.store(x + i, (a + b) * root, inside)
            tl.store(x + i + distance, (a - b) * root, inside)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["seed"])
def turn(
    x: tl.tensor,
    seed: tl.tensor,
    columns: tl.tensor,
    m: tl.tensor,
    root: tl.tensor,
    BACK: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Rotate rows in place; one program for each row, which it reads and writes in a fast cache.

    Args:
        x: binary32, (count, columns); the grid is (count,).
        seed: int32, whose bits are those of the seed.
        columns: length of a row, at least 1.
        m: the largest power of two up to that.
        root: the binary32 nearest to 1 / sqrt(m).
        BACK: whether to turn back.
        BLOCK: numbers that are loaded at once.
    """
    x += tl.program_id(0).to(tl.int64) * columns
    if BACK:
        if m < columns:
            _hadamard(x + (columns - m), m, root, BLOCK)
            _flip(x, seed, columns, BLOCK)
        _hadamard(x, m, root, BLOCK)
        _flip(x, seed, columns, BLOCK)
    else:
        _flip(x, seed, columns, BLOCK)
        _hadamard(x, m, root, BLOCK)
        if m < columns:
            _flip(x, seed, columns, BLOCK)
            _hadamard(x + (columns - m), m, root, BLOCK)


@triton.jit
def round_rows(
    x: tl.tensor, q: tl.tensor, units: tl.tensor, columns: tl.tensor, width: tl.tensor, BLOCK: tl.constexpr
) -> None:
    """Round rows of activations to integers; one program for each row.

    Args:
        x: binary32, (count, columns), rotated if the weights are; the grid is (count,).
        q: int8, (count, width): the integers, and 0 from `columns` on.
        units: binary32, (count,): what an integer is worth; 0 for a row below 2^-100, NaN for one that is not finite.
        columns: length of a row.
        width: the same, filled up.
        BLOCK: numbers that are loaded at once.
    """
    row = tl.program_id(0).to(tl.int64)
    x += row * columns
    q += row * width
    magnitudes = tl.zeros((BLOCK,), tl.int32)  # they are ordered as their bits are
    for at in range(0, columns, BLOCK):
        column = at + tl.arange(0, BLOCK)
        bits = tl.load(x + column, column < columns, other=0.0).to(tl.int32, bitcast=True)
        magnitudes = tl.maximum(magnitudes, bits & 0x7FFFFFFF)
    most = tl.max(magnitudes, 0)
    is_finite = most < 0x7F800000
    is_loud = is_finite & (most >= 0x0D800000)  # 2^-100
    top = tl.where(is_loud, most, 0x3F800000).to(tl.float32, bitcast=True)  # 1 where it does not count
    unit = tl.div_rn(top, 127.0)
    other = tl.where(is_finite, 0, 0x7FC00000)  # 0 or NaN
    unit_bits = tl.where(is_loud, unit.to(tl.int32, bitcast=True), other)
    tl.store(units + row, unit_bits.to(tl.float32, bitcast=True))
    per_unit = tl.div_rn(127.0, top)
    for at in range(0, width, BLOCK):
        column = at + tl.arange(0, BLOCK)
        one = tl.where(is_loud, tl.load(x + column, column < columns, other=0.0), 0.0)
        shifted = one * per_unit + 12582912.0  # to the nearest integer, of two the even one
        tl.store(q + column, (shifted - 12582912.0).to(tl.int32).to(tl.int8), column < width)


@triton.jit
def _place_of(row: tl.tensor, rows: tl.tensor, row_words: tl.tensor) -> tl.tensor:
    """Number of the first word of rows, and the distance of two words of one row."""
    group = row // 16
    height = tl.minimum(rows - group * 16, 16)
    return group.to(tl.int64) * 16 * row_words + row % 16, height


@triton.jit
def _integers(
    words: tl.tensor,
    quads: tl.tensor,
    step: tl.tensor,
    row_words: tl.tensor,
    mask: tl.tensor,
    BITS: tl.constexpr,
    STATES: tl.constexpr,
) -> tl.tensor:
    """The integers of some weights, int32, (rows, quads, 4).

    The states of four weights in a row are within 32 bits: 3 * BITS + STATES is 28 at most.

    Args:
        words: pointers to the first word of each row, (rows, 1).
        quads: numbers of fours of weights, (1, quads).
        step: distance of two words of a row, (rows, 1).
        row_words: words of a row.
        mask: whether a row and its four weights exist, (rows, quads).
        BITS: bits of a weight.
        STATES: bits of a state.
    """
    at = quads * (4 * BITS)
    here = at >> 5
    after = tl.where(here + 1 < row_words, here + 1, 0)  # the string is cyclic
    high = tl.load(words + here * step, mask, other=0).to(tl.uint32, bitcast=True)
    low = tl.load(words + after * step, mask, other=0).to(tl.uint32, bitcast=True)
    shift = (at & 31).to(tl.uint32)
    window = (high << shift) | ((low >> 1) >> (31 - shift))
    shifts = (32 - STATES - BITS * tl.arange(0, 4)).to(tl.uint32)
    state = (window[:, :, None] >> shifts[None, None, :]) & ((1 << STATES) - 1)
    h = (state * 0x379B28F5) & 0x3F3F3F3F
    return ((h * 0x01010101) >> 24).to(tl.int32) - 126  # the highest byte is the sum of all four, below 256


@triton.jit
def _factors(exponents: tl.tensor, octaves: tl.tensor, scale: tl.tensor, row: tl.tensor, mask: tl.tensor) -> tl.tensor:
    """The factors of rows: two products of binary32."""
    e = tl.load(exponents + row, mask, other=0).to(tl.int32)
    octave = ((112 + (e >> 4)) << 23).to(tl.float32, bitcast=True)
    return tl.where(e == 0, 0.0, (scale * tl.load(octaves + (e & 15))) * octave)


@triton.jit
def multiply(
    words: tl.tensor,
    exponents: tl.tensor,
    octaves: tl.tensor,
    q: tl.tensor,
    units: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    count: tl.tensor,
    row_words: tl.tensor,
    width: tl.tensor,
    scale: tl.tensor,
    BITS: tl.constexpr,
    STATES: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    COUNT: tl.constexpr,
) -> None:
    """Products of some rows of the matrix with some rows of activations.

    Args:
        words: int32, all words of the payload.
        exponents: uint8, (rows,).
        octaves: binary32, 2^(i/16), (16,).
        q: int8, (count, width).
        units: binary32, (count,).
        y: binary32, (count, rows), the result; the grid is (rows / ROWS, count / COUNT), rounded up.
        rows: rows of the matrix.
        count: rows of activations.
        row_words: words of a row.
        width: columns, filled up to a multiple of 32.
        scale: of the payload.
        BITS: bits of a weight.
        STATES: bits of a state.
        ROWS: rows of a program.
        COLUMNS: columns that are decoded at once, at least 32.
        COUNT: rows of activations of a program: 1, or at least 16.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    has_row = row < rows
    first, step = _place_of(row, rows, row_words)
    one = tl.program_id(1) * COUNT + tl.arange(0, COUNT)
    source = q + one.to(tl.int64)[:, None] * width
    sums = tl.zeros((ROWS, COLUMNS) if COUNT == 1 else (COUNT, ROWS), tl.int32)
    for at in range(0, width, COLUMNS):
        quads = at // 4 + tl.arange(0, COLUMNS // 4)
        mask = has_row[:, None] & (quads < width // 4)[None, :]
        found = _integers((words + first)[:, None], quads[None, :], step[:, None], row_words, mask, BITS, STATES)
        weights = tl.reshape(found, (ROWS, COLUMNS))
        column = at + tl.arange(0, COLUMNS)
        inside = (one < count)[:, None] & (column < width)[None, :]
        activations = tl.load(source + column[None, :], inside, other=0)
        if COUNT == 1:
            sums += weights * activations.to(tl.int32)
        else:
            sums = tl.dot(activations, tl.trans(weights.to(tl.int8)), sums, out_dtype=tl.int32)
    if COUNT == 1:
        sums = tl.sum(sums, 1)[None, :]
    unit = tl.load(units + one, one < count, other=0.0)
    factor = _factors(exponents, octaves, scale, row, has_row)
    product = sums.to(tl.float32) * (unit[:, None] * factor[None, :])
    result = tl.where((unit > 0)[:, None], product, unit[:, None])  # all of a row is 0 or NaN
    target = y + one.to(tl.int64)[:, None] * rows + row[None, :]
    tl.store(target, result, (one < count)[:, None] & has_row[None, :])


@triton.jit
def decode(
    words: tl.tensor,
    exponents: tl.tensor,
    octaves: tl.tensor,
    places: tl.tensor,
    y: tl.tensor,
    rows: tl.tensor,
    columns: tl.tensor,
    row_words: tl.tensor,
    scale: tl.tensor,
    BITS: tl.constexpr,
    STATES: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """Rows of the matrix as they are coded, binary32.

    Args:
        words: as for `multiply`, and so are the arguments that are not here.
        exponents: see there.
        octaves: see there.
        places: int64, numbers of rows, each below `rows`.
        y: binary32, (number of places, columns); the grid is (number of places, columns / COLUMNS), rounded up.
        rows: see there.
        columns: columns of the matrix.
        row_words: see there.
        scale: see there.
        BITS: see there.
        STATES: see there.
        COLUMNS: columns of a program.
    """
    place = tl.program_id(0)
    row = tl.load(places + place)
    first, step = _place_of(row, rows, row_words)
    quads = tl.program_id(1) * (COLUMNS // 4) + tl.arange(0, COLUMNS // 4)[None, :]
    found = _integers(words + first, quads, step, row_words, quads * 4 < columns, BITS, STATES)
    weights = tl.reshape(found, (COLUMNS,)).to(tl.float32) * _factors(exponents, octaves, scale, row, True)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(y + place.to(tl.int64) * columns + column, weights, column < columns)
