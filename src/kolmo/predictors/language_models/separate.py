"""Many contents under a language model, each coded as a block of its own, all of them in parallel lanes.

One by one, a small model spends its time in the steps of a decoder, which reads one token of one lane at a time. Here
the contents are the lanes. Each result is what `LanguageModelBlock` writes for a block of one chunk, but for the
tolerance, which is measured once.

What it is not: the coding of a file, whose block becomes lanes of equal length (`predictors.language_models.block`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kolmo.coder.binary import BinaryDecoder, BinaryEncoder
from kolmo.predictors.language_models.block import read_block, write_block
from kolmo.predictors.language_models.language_model import LanguageModel
from kolmo.progress import Progress


def encode_separately(
    model: LanguageModel, contents: Sequence[bytes], progress: Progress | None = None, threads: int = 1
) -> list[bytes]:
    """Code each content from a fresh state: the payload of each, with everything that decoding needs but its size.

    Args:
        model: with `settings.verify`, they are coded on the decoder's way; else in one batched pass.
        contents: each of at least one byte.
        progress: of bytes.
        threads: of the model.

    Raises:
        PredictorError: the noise of the model is more than the coder can tolerate.
    """
    if not contents:
        return []
    block = model.start(max(map(len, contents)), threads)
    block.coder.separate = True
    found = [model.backend.vocabulary.tokenise(data) for data in contents]
    chunks = [tokens.ids for tokens in found]
    chosen, _ = block.choose_tolerance(chunks)
    payloads, chosen, _ = block.coder.encode(chunks, chosen, progress, stepped=model.settings.verify)
    result = []
    for tokens, payload in zip(found, payloads, strict=True):
        encoder = BinaryEncoder()
        write_block(encoder, tokens, chosen, [payload] if len(tokens.ids) else [])
        result.append(encoder.finish())
    return result


def decode_separately(
    model: LanguageModel,
    packed: Sequence[bytes],
    sizes: Sequence[int],
    progress: Progress | None = None,
    threads: int = 1,
) -> list[bytes]:
    """The contents: the mirror of `encode_separately`.

    Raises:
        CorruptError: a payload is damaged, or another model wrote it.
    """
    if not packed:
        return []
    block = model.start(max(sizes), threads)
    block.coder.separate = True
    found = [
        read_block(BinaryDecoder(payload), size, lambda count: [count] if count else [])
        for payload, size in zip(packed, sizes, strict=True)
    ]
    payloads = [payload for one in found for payload in one.payloads]
    lengths = [length for one in found for length in one.lengths]
    chunks = iter(block.coder.decode(payloads, lengths, found[0].chosen, progress))
    return [model.backend.vocabulary.join(one.tokens([next(chunks) for _ in one.lengths])) for one in found]
