"""Blocks of a deflate stream (RFC 1951) with the codes that zlib chooses: the specification of trees.h.

A block's tokens are literals and matches. Their counts give two Huffman codes, made exactly as in zlib's trees.c: among
nodes of equal count, the order of a heap decides, and codes that are too long are shortened in one particular way. Any
other order gives streams of the same size and other bits.

What it is not: the choice of tokens (see `reference`).
"""

from __future__ import annotations

from collections.abc import Sequence

LENGTHS = [(3 + i, 0) for i in range(8)]
LENGTHS += [((4 + i % 4 << i // 4 - 1) + 3, i // 4 - 1) for i in range(8, 28)] + [(258, 0)]  # first length, extra bits
DISTANCES = [(i + 1, 0) for i in range(4)] + [((2 + i % 2 << i // 2 - 1) + 1, i // 2 - 1) for i in range(4, 30)]
LENGTH_CODES = [max(i for i, (first, _) in enumerate(LENGTHS) if first <= length) for length in range(3, 259)]
END, CODES, DISTANCE_CODES, LENGTH_LENGTHS = 256, 286, 30, 19
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)  # in which code lengths' lengths are sent
FIXED_LENGTHS = [8] * 144 + [9] * 112 + [7] * 24 + [8] * 8
FIXED_DISTANCES = [5] * DISTANCE_CODES
LENGTH_EXTRA = [0] * 257 + [extra for _, extra in LENGTHS]
DISTANCE_EXTRA = [extra for _, extra in DISTANCES]
RUN_EXTRA = [0] * 16 + [2, 3, 7]

Token = tuple[int, int]  # (0, byte), or (distance, length)


def distance_code(distance: int) -> int:
    """The code of a distance from 1 to 32768."""
    if distance <= 4:
        return distance - 1
    top = (distance - 1).bit_length() - 1
    return 2 * top + ((distance - 1) >> (top - 1) & 1)


class Bits:
    """Bits from the lowest of each byte up."""

    def __init__(self) -> None:
        self.bytes, self.held, self.count = bytearray(), 0, 0

    def put(self, value: int, count: int) -> None:
        """Write the lowest bits of a value."""
        self.held |= value << self.count
        self.count += count
        while self.count >= 8:
            self.bytes.append(self.held & 255)
            self.held >>= 8
            self.count -= 8

    def align(self) -> None:
        """Zeros up to the next byte."""
        self.put(0, -self.count % 8)


def code_lengths(counts: Sequence[int], extra: Sequence[int], most: int) -> tuple[list[int], int]:
    """Bits of the code of each symbol, and of all that is counted (with its extra bits).

    Args:
        counts: how often each symbol occurs.
        extra: extra bits that follow each symbol's code.
        most: most bits that a code may have.
    """
    symbols = len(counts)
    count = [*counts, *[0] * (symbols + 1)]
    depth = [0] * (2 * symbols + 1)
    heap = [symbol for symbol in range(symbols) if counts[symbol]]
    last = heap[-1] if heap else -1
    total = 0
    while len(heap) < 2:  # at least two symbols have codes
        last, symbol = (last + 1, last + 1) if last < 2 else (last, 0)
        heap.append(symbol)
        count[symbol] = 1
        total -= 1

    def before(a: int, b: int) -> bool:
        return count[a] < count[b] or (count[a] == count[b] and depth[a] <= depth[b])

    def sink(place: int) -> None:
        node = heap[place]
        while (child := 2 * place + 1) < len(heap):
            if child + 1 < len(heap) and before(heap[child + 1], heap[child]):
                child += 1
            if before(node, heap[child]):
                break
            heap[place], place = heap[child], child
        heap[place] = node

    for place in range(len(heap) // 2 - 1, -1, -1):
        sink(place)
    parent = [0] * (2 * symbols + 1)
    taken = []  # nodes in the order in which they leave the heap
    node = symbols
    while True:
        first = heap[0]
        heap[0] = heap[-1]
        heap.pop()
        sink(0)
        second = heap[0]
        taken += [first, second]
        count[node] = count[first] + count[second]
        depth[node] = max(depth[first], depth[second]) + 1
        parent[first] = parent[second] = node
        heap[0] = node
        node += 1
        sink(0)
        if len(heap) < 2:
            break

    bits = [0] * (2 * symbols + 1)
    of_length = [0] * (most + 1)
    overflow = 0
    for node in reversed(taken):
        bits[node] = bits[parent[node]] + 1
        if bits[node] > most:
            bits[node] = most
            overflow += 1
        if node < symbols:
            of_length[bits[node]] += 1
            total += count[node] * (bits[node] + extra[node])
    if overflow:
        while overflow > 0:
            shorter = most - 1
            while not of_length[shorter]:
                shorter -= 1
            of_length[shorter] -= 1
            of_length[shorter + 1] += 2
            of_length[most] -= 1
            overflow -= 2
        leaves = (node for node in taken if node < symbols)
        for length in range(most, 0, -1):
            for _ in range(of_length[length]):
                node = next(leaves)
                total += (length - bits[node]) * count[node]
                bits[node] = length
    return bits[:symbols], total


def codes(lengths: Sequence[int]) -> list[int]:
    """The codes of symbols by their lengths, their bits in the order of the stream."""
    found, code = [0] * len(lengths), 0
    for length in range(1, 16):
        for symbol, bits in enumerate(lengths):
            if bits == length:
                found[symbol] = int(format(code, f"0{length}b")[::-1], 2)
                code += 1
        code <<= 1
    return found


def runs(lengths: Sequence[int]) -> list[Token]:
    """Code lengths as symbols of the third code: (symbol, value of its extra bits)."""
    found: list[Token] = []
    before, at = -1, 0
    while at < len(lengths):
        length = lengths[at]
        most, least = (138, 3) if length == 0 else (6, 3) if length == before else (7, 4)
        size = 1
        while size < most and at + size < len(lengths) and lengths[at + size] == length:
            size += 1
        at += size
        if size < least:
            found += [(length, 0)] * size
        elif length:
            if length != before:
                found.append((length, 0))
                size -= 1
            found.append((16, size - 3))
        else:
            found.append((17, size - 3) if size <= 10 else (18, size - 11))
        before = length
    return found


def put_block(bits: Bits, tokens: Sequence[Token], raw: bytes | None, last: bool) -> None:
    """Write a block in the shortest of the three ways, as zlib counts.

    Args:
        bits: where to.
        tokens: of the block.
        raw: the block's content, or None where it can no longer be stored.
        last: whether it is the stream's last block.
    """
    counts, distance_counts = [0] * CODES, [0] * DISTANCE_CODES
    for distance, value in tokens:
        if distance:
            counts[257 + LENGTH_CODES[value - 3]] += 1
            distance_counts[distance_code(distance)] += 1
        else:
            counts[value] += 1
    counts[END] = 1
    lengths, size = code_lengths(counts, LENGTH_EXTRA, 15)
    distances, distance_size = code_lengths(distance_counts, DISTANCE_EXTRA, 15)
    fixed = sum(n * (FIXED_LENGTHS[i] + LENGTH_EXTRA[i]) for i, n in enumerate(counts))
    fixed += sum(n * (5 + DISTANCE_EXTRA[i]) for i, n in enumerate(distance_counts))
    lengths = lengths[: max(i for i, n in enumerate(lengths) if n) + 1]
    distances = distances[: max(i for i, n in enumerate(distances) if n) + 1]
    sent = runs(lengths) + runs(distances)
    run_counts = [0] * LENGTH_LENGTHS
    for symbol, _ in sent:
        run_counts[symbol] += 1
    run_lengths, run_size = code_lengths(run_counts, RUN_EXTRA, 7)
    used = max([4] + [place + 1 for place, symbol in enumerate(ORDER) if run_lengths[symbol]])
    own_bytes = size + distance_size + run_size + 14 + 3 * used + 3 + 7 >> 3
    fixed_bytes = fixed + 3 + 7 >> 3
    if raw is not None and len(raw) + 4 <= min(own_bytes, fixed_bytes):
        bits.put(int(last), 3)
        bits.align()
        bits.bytes += len(raw).to_bytes(2, "little") + (len(raw) ^ 0xFFFF).to_bytes(2, "little") + raw
        return
    if fixed_bytes <= own_bytes:
        bits.put(2 | last, 3)
        lengths, distances = FIXED_LENGTHS, FIXED_DISTANCES
    else:
        bits.put(4 | last, 3)
        bits.put(len(lengths) - 257, 5)
        bits.put(len(distances) - 1, 5)
        bits.put(used - 4, 4)
        for symbol in ORDER[:used]:
            bits.put(run_lengths[symbol], 3)
        run_codes = codes(run_lengths)
        for symbol, value in sent:
            bits.put(run_codes[symbol], run_lengths[symbol])
            bits.put(value, RUN_EXTRA[symbol])
    symbols, places = codes(lengths), codes(distances)
    for distance, value in tokens:
        if not distance:
            bits.put(symbols[value], lengths[value])
            continue
        code = LENGTH_CODES[value - 3]
        bits.put(symbols[257 + code], lengths[257 + code])
        bits.put(value - LENGTHS[code][0], LENGTHS[code][1])
        code = distance_code(distance)
        bits.put(places[code], distances[code])
        bits.put(distance - DISTANCES[code][0], DISTANCES[code][1])
    bits.put(symbols[END], lengths[END])
