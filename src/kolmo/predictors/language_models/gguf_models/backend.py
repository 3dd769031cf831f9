"""A model of llama.cpp in memory, its contexts, and lanes of them.

llama.cpp rounds the inputs of a product of matrices (to 8 bits for most quantised weights). So where two sums differ in
the last bit, a value may round the other way, and logits differ by tenths, which is too much to tolerate. Hence there
are two ways to compute, and a file records which one was used:

    plain   Weights in binary32, and all of attention too. Nothing is rounded coarsely: logits differ by about 1e-5
            between batches, and as little between processors.
    flash   Other weights: flash attention over keys and values in binary16, in batches of such shapes that llama.cpp
            runs the same code for one token as for many tokens at once. On one processor all logits are equal bit for
            bit. Another type of processor may fail to decode, unless the writer gave a tolerance.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kolmo.errors import PredictorError
from kolmo.parallel import available_cores
from kolmo.predictors.guard import guarded
from kolmo.predictors.language_models.backends import MAX_LOGITS_BYTES, Logits
from kolmo.predictors.language_models.gguf_models.files import check, parts
from kolmo.predictors.language_models.gguf_models.library import Model, errors, library, read_fact, reason
from kolmo.predictors.language_models.gguf_models.vocabulary import PIECE_BYTES, SENTENCEPIECE, LlamaCppVocabulary
from kolmo.predictors.language_models.vocabulary import Vocabulary, pieces

PLAIN, FLASH = b"plain\0\0\0", b"flash\0\0\0"  # ways to compute; they replace the hash of a configuration
WAYS = (PLAIN, FLASH)  # records store 1 + the index into this tuple
MAX_BATCH_TOKENS = 512  # tokens of all lanes that llama.cpp is given at once
MAX_LANE_TOKENS = {
    PLAIN: MAX_BATCH_TOKENS,
    FLASH: 32,
}  # likewise of a lane; from 64 on, flash attention runs other code
CACHE_UNIT_TOKENS = 256  # llama.cpp rounds a lane's cache up to a multiple of this
CACHE_GROWTH = 4  # factor by which a cache grows that is too small
MIN_THREAD_PRODUCTS = 1 << 24  # products for each thread: with fewer, threads only wait for one another
F32 = 0  # number of the type float32 in ggml
GUESSED = 1024  # flag of a file's type: llama.cpp guessed it
NO_FLASH_ATTENTION = 0
ALL_LAYERS = 1 << 30


class Context:
    """A context of llama.cpp: the caches of a number of lanes."""

    def __init__(self, pointer: int, model: Model, lanes: int, room: int) -> None:
        self.pointer, self.lanes, self.room = pointer, lanes, room
        weakref.finalize(self, _free, pointer, model)  # the model must outlive it, also at the end of the program


def _free(pointer: int, model: Model) -> None:
    del model
    library().llama_free(pointer)


@dataclass
class LlamaCppBackend:
    """A model in memory. Threads may share it; each has its own lanes."""

    model: Model
    path: Path
    way: bytes
    vocabulary: Vocabulary
    size: int
    start: int
    window: int | None
    weights: int  # number of weights
    token_bytes: int
    on_cpu: bool  # use the CPU even if there is another device
    span: int  # most tokens that a lane reads
    itemsize: int = 4
    sums: bool = False
    continues: bool = True
    slides: bool = False
    idle: list[Context] = field(
        default_factory=list
    )  # at most one, since making a context takes longer than many steps

    def lanes(self, count: int, threads: int) -> LlamaCppLanes:
        """New lanes, which have read nothing."""
        return LlamaCppLanes(self, count, threads)

    def encode(self, text: str, special: bool) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """A text as llama.cpp tokenises it by default: tokens, and the bytes of the text that each stands for.

        Args:
            text: the text.
            special: whether to add the special tokens that llama.cpp adds by default.
        """
        llama, words = library(), self.model.words
        space = (
            llama.llama_vocab_type(words) == SENTENCEPIECE
            and read_fact(self.model.pointer, "tokenizer.ggml.add_space_prefix") != "false"
        )  # `load` has switched the option off
        data = b" " * space + text.encode()
        ids: list[int] = []
        for piece in pieces(data, PIECE_BYTES):
            room = len(piece) + 8
            found = (ctypes.c_int32 * room)()
            count = llama.llama_tokenize(words, piece, len(piece), found, room, False, special)
            ids += found[: max(count, 0)]
        lengths = self.vocabulary.lengths(ids).astype(np.int32)
        if space:
            lengths[np.flatnonzero(lengths)[:1]] -= 1
        if special and llama.llama_vocab_get_add_bos(words):
            ids.insert(0, llama.llama_vocab_bos(words))
            lengths = np.insert(lengths, 0, 0)
        if special and llama.llama_vocab_get_add_eos(words):
            ids.append(llama.llama_vocab_eos(words))
            lengths = np.append(lengths, np.int32(0))
        return np.array(ids, np.int32), lengths

    @property
    def at_once(self) -> int:
        """Most tokens of a lane that llama.cpp is given at once."""
        return MAX_LANE_TOKENS[self.way]

    def columns(self, lanes: int) -> int:
        """Most tokens of all lanes that llama.cpp is given at once; fewer where the vocabulary is large."""
        return max(min(MAX_BATCH_TOKENS, MAX_LOGITS_BYTES // (self.size * self.itemsize)), lanes)

    def take(self, lanes: int, tokens: int) -> Context:
        """A context for a number of lanes of a number of tokens: the idle one, or a new one.

        Raises:
            PredictorError: there is not enough memory for it.
        """
        llama = library()
        try:
            found: Context | None = self.idle.pop()
        except IndexError:
            found = None
        if found is None or found.lanes < lanes or (found.room < tokens and self.window is not None):
            found = None  # free it before another takes as much memory
            found = self._make(lanes, tokens)
        llama.llama_memory_clear(llama.llama_get_memory(found.pointer), True)
        return found

    def give(self, context: Context) -> None:
        """Keep a context for the next call of `take`, if it is the largest."""
        self.idle.append(context)
        while len(self.idle) > 1:
            self.idle.remove(min(self.idle, key=lambda one: one.lanes * one.room))

    def _make(self, lanes: int, tokens: int) -> Context:
        llama = library()
        room = CACHE_UNIT_TOKENS
        if self.window is not None:  # a recurrent state has the same size after any number of tokens
            while room < tokens:
                room *= CACHE_GROWTH
            room = -(-max(min(room, self.span), tokens) // CACHE_UNIT_TOKENS) * CACHE_UNIT_TOKENS
        parameters = llama.llama_context_default_params()
        parameters.n_batch = parameters.n_ubatch = (
            self.columns(lanes) + MAX_LANE_TOKENS[FLASH]
        )  # the tokens of a spare lane
        parameters.n_seq_max = lanes + (self.way == FLASH and lanes % 2)
        parameters.n_ctx = max(parameters.n_seq_max * room, parameters.n_batch)
        if self.way == FLASH and lanes == 1:  # the lane and its spare share a cache, since the spare needs little
            parameters.n_ctx, parameters.kv_unified = max(room + CACHE_UNIT_TOKENS, parameters.n_batch), True
        if self.way == PLAIN:
            parameters.flash_attn_type = NO_FLASH_ATTENTION
            parameters.type_k = parameters.type_v = F32
        if self.on_cpu:
            parameters.offload_kqv = parameters.op_offload = False
        errors.clear()
        pointer = llama.llama_init_from_model(self.model.pointer, parameters)
        if not pointer:
            raise PredictorError(
                f"{self.path}: llama.cpp has no memory for {lanes} texts of {room} tokens{reason()}; lower the "
                "argument batch or the argument context"
            )
        made = Context(pointer, self.model, lanes, room)
        if not llama.llama_get_memory(pointer):
            raise PredictorError(f"{self.path}: not a causal language model; give one that continues texts")
        return made


class LlamaCppLanes:
    """Texts that a model reads in lockstep, in a context that returns to the backend when they are no longer used.

    The context is taken with the first tokens: by then, the lanes that these replace have returned theirs. It begins
    small. Where it is full, a larger one reads all tokens again, which costs little beside the steps that filled it.
    """

    def __init__(self, backend: LlamaCppBackend, count: int, threads: int) -> None:
        self._backend, self._count = backend, count
        self._threads = threads if threads > 0 else available_cores()
        self._tokens: list[npt.NDArray[np.int32]] = []  # read so far
        self._read = 0  # how many, of each lane
        self._context: Context | None = None
        self._back: Any = None

    def feed(self, tokens: npt.NDArray[np.int64], wanted: int) -> Logits:
        """Read tokens (lanes, length); logits after the last `wanted`, shape (lanes, wanted, size)."""
        with guarded(str(self._backend.path), "the model fails", "update llama-cpp-python"):
            return self._read_on(tokens.astype(np.int32), wanted)

    def _read_on(self, part: npt.NDArray[np.int32], wanted: int) -> Logits:
        end = self._read + part.shape[1]
        if self._context is None or (end > self._context.room and self._backend.window is not None):
            self._move(end)
        if self._backend.window is not None:
            self._tokens.append(part)
        logits = np.empty((self._count, wanted, self._backend.size), np.float32)
        self._feed(part, logits)
        return logits

    def _move(self, tokens: int) -> None:
        """Take a context with room for a number of tokens, and read in it what was read before."""
        if self._back:
            self._context = None  # free it before another takes as much memory
            self._back()
        self._context = self._backend.take(self._count, tokens)
        self._back = weakref.finalize(self, self._backend.give, self._context)
        self._back.atexit = False
        self._read = 0
        if self._tokens:
            self._tokens = [np.concatenate(self._tokens, axis=1)]
            self._feed(self._tokens[0], np.empty((self._count, 0, self._backend.size), np.float32))

    def _feed(self, tokens: npt.NDArray[np.int32], logits: npt.NDArray[np.float32]) -> None:
        length, wanted = tokens.shape[1], logits.shape[1]
        most = max(min(self._backend.columns(self._count) // self._count, self._backend.at_once), 1)
        cuts = np.linspace(0, length, -(-length // most) + 1).astype(
            int
        )  # equal parts, so that the last one is not a single token
        for first, last in pairwise(cuts.tolist()):
            begin = max(first, length - wanted)  # the first token whose logits are wanted
            rows = self._decode(tokens[:, first:last], max(last - begin, 0))
            if rows is not None:
                logits[:, begin - length + wanted : last - length + wanted] = rows

    def _decode(self, tokens: npt.NDArray[np.int32], wanted: int) -> npt.NDArray[np.float32] | None:
        """A view of llama.cpp's logits after the last `wanted` tokens, valid until the next call.

        For a single column of a matrix, llama.cpp runs other code than for several, and on some processors also for one
        that is left over from pairs. So the way FLASH has an even number of columns: a spare lane is read and dropped.
        """
        llama, context = library(), self._context
        assert context
        count, length = tokens.shape
        even = self._backend.way == FLASH
        if spare := even and tokens.size % 2:
            tokens = np.concatenate([tokens, tokens[:1]])
        rows = wanted + (even and len(tokens) * wanted % 2)
        total = tokens.size
        tokens = np.ascontiguousarray(tokens)
        places = np.tile(np.arange(self._read, self._read + length, dtype=np.int32), len(tokens))
        places[count * length :] -= self._read
        self._read += length
        numbers = np.repeat(np.arange(len(tokens), dtype=np.int32), length)
        pointers = numbers.ctypes.data + 4 * np.arange(total, dtype=np.uintp)
        ones = np.ones(total, np.int32)
        flags = np.zeros(tokens.shape, np.int8)
        flags[:, length - rows :] = 1
        batch = llama.llama_batch(
            total,
            _pointer(tokens, ctypes.c_int32),
            None,
            _pointer(places, ctypes.c_int32),
            _pointer(ones, ctypes.c_int32),
            _pointer(pointers, ctypes.POINTER(ctypes.c_int32)),
            _pointer(flags, ctypes.c_int8),
        )
        threads = min(self._threads, max(total * self._backend.weights // MIN_THREAD_PRODUCTS, 1))
        llama.llama_set_n_threads(context.pointer, threads, threads)
        errors.clear()
        code = llama.llama_decode(context.pointer, batch)
        if code:
            raise PredictorError(
                f"{self._backend.path}: llama.cpp stopped with code {code}{reason()}; lower the argument batch "
                "or the argument context"
            )
        if spare:
            llama.llama_memory_seq_rm(llama.llama_get_memory(context.pointer), count, -1, -1)
        if not wanted:
            return None
        found = llama.llama_get_logits(context.pointer)
        if not found:
            raise PredictorError(f"{self._backend.path}: the model has no logits; give a causal language model")
        return np.ctypeslib.as_array(found, (len(tokens), rows, self._backend.size))[:count, rows - wanted :]


def _pointer(values: npt.NDArray[Any], kind: Any) -> Any:
    return values.ctypes.data_as(ctypes.POINTER(kind))


def load(path: Path, way: bytes | None = None, device: str = "auto") -> LlamaCppBackend:
    """The model of a file.

    Args:
        path: the file.
        way: how to compute; default: by the types of its weights.
        device: "cpu", another that llama.cpp was built for, or "auto".

    Raises:
        PredictorError: the file is not a model, or cannot be opened.
    """
    for part in parts(path):
        check(part)
    llama = library()
    parameters = llama.llama_model_default_params()
    if device != "auto":
        parameters.n_gpu_layers = 0 if device == "cpu" else ALL_LAYERS
        if device != "cpu" and not llama.llama_supports_gpu_offload():
            raise PredictorError(
                f"this llama-cpp-python has no device {device}; install a build of it that has, or use device='cpu'"
            )
    parameters.use_extra_bufts = False  # reordered weights run other code for few tokens than for many
    # A space that is added before each text would have to be removed again.
    overrides = (llama.llama_model_kv_override * 2)()
    overrides[0].tag, overrides[0].key = llama.LLAMA_KV_OVERRIDE_TYPE_BOOL, b"tokenizer.ggml.add_space_prefix"
    overrides[0].value.val_bool = False
    parameters.kv_overrides = overrides  # the second entry ends the list
    errors.clear()
    pointer = llama.llama_model_load_from_file(os.fsencode(path), parameters)
    if not pointer:
        raise PredictorError(
            f"{path}: llama.cpp cannot open it{reason()}; get the file again, or update llama-cpp-python"
        )
    model = Model(pointer)
    if (
        llama.llama_model_has_encoder(pointer)
        or llama.llama_model_is_diffusion(pointer)
        or read_fact(pointer, f"{read_fact(pointer, 'general.architecture')}.attention.causal") == "false"
    ):
        raise PredictorError(f"{path}: not a causal language model; give one that continues texts")
    if not llama.llama_vocab_type(model.words):
        raise PredictorError(f"{path}: has no tokenizer; give a model that has one")
    size = llama.llama_vocab_n_tokens(model.words)
    special = (llama.llama_vocab_bos(model.words), llama.llama_vocab_eos(model.words))
    start = next((token for token in special if 0 <= token < size), 0)
    window = None if llama.llama_model_is_recurrent(pointer) else llama.llama_model_n_ctx_train(pointer)
    kind = llama.llama_model_ftype(pointer) & ~GUESSED
    way = way or (FLASH if kind else PLAIN)
    return LlamaCppBackend(
        model,
        path,
        way,
        LlamaCppVocabulary(model, size),
        size,
        start,
        window,
        weights=llama.llama_model_n_params(pointer),
        token_bytes=0 if window is None else _token_bytes(pointer, way),
        on_cpu=device == "cpu",
        span=window or 0,
    )


def _token_bytes(pointer: int, way: bytes) -> int:
    """Estimated bytes of a token's keys and values, to choose the batch by."""
    llama = library()
    layers, heads = llama.llama_model_n_layer(pointer), max(llama.llama_model_n_head(pointer), 1)
    given = read_fact(pointer, f"{read_fact(pointer, 'general.architecture')}.attention.key_length")
    width = int(given) if given and given.isdigit() else llama.llama_model_n_embd(pointer) // heads
    return int(2 * layers * llama.llama_model_n_head_kv(pointer) * width * (4 if way == PLAIN else 2))
