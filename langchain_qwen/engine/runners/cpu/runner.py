"""CpuRunner: int4, int8 and bf16 on the CPU."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from langchain_qwen.checkpoints.limits import head_dim
from langchain_qwen.checkpoints.rope import read_rope
from langchain_qwen.checkpoints.safetensors_file import as_float32
from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.cpu import library
from langchain_qwen.engine.runners.cpu.kernels import choose
from langchain_qwen.engine.runners.cpu.packing import Packed
from langchain_qwen.engine.runners.cpu.rope import frequencies
from langchain_qwen.engine.runners.cpu.weights import ModelWeights
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.errors import EngineClosedError, EngineError, OutOfMemoryError, UnsupportedModelError

PANEL_ROWS = 8  # model.h


class CpuRunner:
    """Runs packed weights through the native library."""

    device = "cpu"

    def __init__(
        self,
        weights: ModelWeights,
        *,
        precision: str,
        num_threads: int,
        max_step_tokens: int,
        kernels: str | None = None,
    ):
        """Take the weights; `allocate` starts the threads.

        Args:
            weights: As `load_weights` gives them.
            precision: The name of how they are held.
            num_threads: How many threads share each step.
            max_step_tokens: The most tokens of a step.
            kernels: The name of a table of kernels; the one of LANGCHAIN_QWEN_KERNELS, or the best, if None.

        Raises:
            ConfigurationError: There are no such kernels on this machine.
        """
        config = weights.config
        self.precision = precision
        self.vocab_size: int = config["vocab_size"]
        self._weights = weights  # keeps the memory that the structs point to
        self._heads: int = config["num_attention_heads"]
        self._kv_heads: int = config["num_key_value_heads"]
        self._head_dim: int = head_dim(config)
        self._hidden: int = config["hidden_size"]
        self._num_layers = len(weights.layers)
        rope = read_rope(config, "the model")
        self._window = rope.window
        self._frequencies, self._rope_scale = frequencies(rope, self._head_dim)
        self._num_threads = num_threads
        self._max_step_tokens = max_step_tokens
        self._library = library.load()
        self.kernels = choose(kernels)
        self._handle: int | None = None
        self._kv: tuple[mmap.mmap, mmap.mmap] | None = None  # keys and values
        self._logits = np.empty((0, self.vocab_size), np.float32)
        self._inputs = np.empty(0, np.float32)

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers in fp16."""
        return 2 * self._num_layers * self._kv_heads * self._head_dim * 2

    def allocate(self, num_blocks: int) -> None:
        """Reserve KV memory; the system hands out its pages when they are first written."""
        self.close()
        size = self._num_layers * num_blocks * self._kv_heads * BLOCK_SIZE * self._head_dim * 2
        keys, values = self._kv = _reserve(size), _reserve(size)
        kv = library.KV(num_blocks, size, _address(keys), _address(values))
        self._num_blocks, self._max_length = num_blocks, min(self._window, num_blocks * BLOCK_SIZE)
        refused = ctypes.c_char_p()
        handle = self._library.lq_runner_new(
            ctypes.byref(self._model()),
            ctypes.byref(kv),
            self._num_threads,
            self._max_step_tokens,
            self._max_length,
            self.kernels.encode(),
            ctypes.byref(refused),
        )
        if refused.value is not None:
            raise UnsupportedModelError(
                f"the native engine is not made for this model: {refused.value.decode()} is not what it takes"
            )
        if handle is None:
            self._kv = None
            raise OutOfMemoryError("the native engine could not get its buffers or threads; free some memory")
        self._handle = handle

    def step(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Process all chunks; see `Runner.step`."""
        return self._run(chunks, None)

    def step_inputs(self, chunks: Sequence[Chunk]) -> dict[str, NDArray[np.float32]]:
        """Process all chunks, and return what each matrix was given.

        Returns:
            By the names of `source.matrices`: [tokens, columns], for the head [logits asked for, columns]; overwritten
            by the next step of this kind.
        """
        tokens, wanted = sum(len(chunk.tokens) for chunk in chunks), sum(chunk.num_logits for chunk in chunks)
        attended, ffn = self._heads * self._head_dim, self._weights.config["intermediate_size"]
        widths = {"qkv": self._hidden, "out": attended, "gate_up": self._hidden, "down": ffn}
        shapes = {f"{i}.{name}": (tokens, width) for i in range(self._num_layers) for name, width in widths.items()}
        shapes["head"] = (wanted, self._hidden)
        sizes = [rows * cols for rows, cols in shapes.values()]
        if self._inputs.size < sum(sizes):
            self._inputs = np.empty(sum(sizes), np.float32)
        self._run(chunks, self._inputs)
        parts = np.split(self._inputs[: sum(sizes)], np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}

    def _run(self, chunks: Sequence[Chunk], inputs: NDArray[np.float32] | None) -> NDArray[np.float32]:
        if self._handle is None:
            raise EngineClosedError("the runner has been closed")
        counts = [len(chunk.tokens) for chunk in chunks]
        if sum(counts) > self._max_step_tokens:
            raise EngineError(f"a step of {sum(counts)} tokens; the buffers hold {self._max_step_tokens}")
        tokens = [token for chunk in chunks for token in chunk.tokens]
        position = np.concatenate(
            [np.arange(chunk.start, chunk.start + n, dtype=np.int32) for chunk, n in zip(chunks, counts, strict=True)]
        )
        starts = np.cumsum([0, *(len(chunk.blocks) for chunk in chunks)])[:-1]
        table = np.repeat(starts, counts).astype(np.int32)
        blocks = np.concatenate([np.asarray(chunk.blocks, np.int32) for chunk in chunks])
        ends = np.cumsum(counts)
        wanted = np.concatenate(
            [np.arange(end - chunk.num_logits, end) for chunk, end in zip(chunks, ends, strict=True)]
        ).astype(np.int32)
        self._check(chunks, tokens, blocks)
        hidden = np.require(as_float32(self._weights.embedding[tokens]), np.float32, ["C", "A"])
        angles = position[:, None].astype(np.float32) * self._frequencies
        cosine, sine = np.cos(angles), np.sin(angles)
        if self._rope_scale != 1:
            cosine, sine = cosine * np.float32(self._rope_scale), sine * np.float32(self._rope_scale)
        logits = self._logits_rows(len(wanted))
        panels = self._head_panels(chunks)
        if panels is not None:
            logits.fill(-np.inf)
        step = library.Step(
            len(tokens),
            position.ctypes.data,
            table.ctypes.data,
            blocks.ctypes.data,
            cosine.ctypes.data,
            sine.ctypes.data,
            hidden.ctypes.data,
            len(wanted),
            wanted.ctypes.data,
            logits.ctypes.data,
            0 if panels is None else len(panels),
            None if panels is None else panels.ctypes.data,
            None if inputs is None else inputs.ctypes.data,
        )
        self._library.lq_runner_step(self._handle, ctypes.byref(step))
        return logits

    def _check(self, chunks: Sequence[Chunk], tokens: Sequence[int], blocks: NDArray[np.int32]) -> None:
        """Raise for what lies outside of the memory that the native code goes to."""
        if min(tokens) < 0 or max(tokens) >= self.vocab_size:
            outside = next(token for token in tokens if not 0 <= token < self.vocab_size)
            raise EngineError(f"the token {outside} is none of the model's {self.vocab_size}")
        if blocks.min() < 0 or blocks.max() >= self._num_blocks:
            raise EngineError(f"a block outside of the {self._num_blocks} of the KV memory")
        for chunk in chunks:
            end = chunk.start + len(chunk.tokens)
            if chunk.start < 0 or end > min(self._max_length, len(chunk.blocks) * BLOCK_SIZE):
                raise EngineError(f"tokens up to the position {end} are more than their blocks or the window hold")
            if not 0 <= chunk.num_logits <= len(chunk.tokens):
                raise EngineError(f"logits of {chunk.num_logits} tokens of a chunk of {len(chunk.tokens)}")

    def _head_panels(self, chunks: Sequence[Chunk]) -> NDArray[np.int32] | None:
        """The panels of the head that hold all tokens that may come next; None where one request may take any."""
        limits = [chunk.allowed for chunk in chunks if chunk.num_logits]
        few = [allowed for allowed in limits if allowed is not None]
        if not few or len(few) < len(limits):
            return None
        ids = np.concatenate(few)  # a tokenizer may know more tokens than the head has rows
        return np.unique(ids[(ids >= 0) & (ids < self.vocab_size)] // PANEL_ROWS).astype(np.int32)

    def _logits_rows(self, count: int) -> NDArray[np.float32]:
        """Memory for this many rows, used again by the next step: fresh pages cost more than writing them."""
        if len(self._logits) < count:
            self._logits = np.empty((count, self.vocab_size), np.float32)
        return self._logits[:count]

    def multiply_all(self, tokens: int) -> None:
        """The matrix products of a step of `tokens` tokens and nothing else; a benchmark times it."""
        if self._handle is None:
            raise EngineClosedError("the runner has been closed")
        if not 1 <= tokens <= self._max_step_tokens:
            raise EngineError(f"a step of {tokens} tokens; the buffers hold {self._max_step_tokens}")
        step = library.Step(tokens=tokens, logits=self._logits_rows(tokens).ctypes.data)
        self._library.lq_runner_products(self._handle, ctypes.byref(step))

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """Copy blocks out; see `Runner.read`."""
        return np.stack([memory[:, blocks] for memory in self._memory()])

    def write(self, blocks: Sequence[int], contents: NDArray[np.uint8]) -> None:
        """Put blocks in; see `Runner.write`."""
        for memory, content in zip(self._memory(), contents, strict=True):
            memory[:, blocks] = content

    def _memory(self) -> list[NDArray[np.uint8]]:
        """Keys and values, each [layers, blocks, bytes]."""
        if self._kv is None:
            raise EngineClosedError("the runner has been closed")
        block = self._kv_heads * BLOCK_SIZE * self._head_dim * 2
        return [np.frombuffer(memory, np.uint8).reshape(self._num_layers, -1, block) for memory in self._kv]

    def close(self) -> None:
        """Stop the threads and free the memory."""
        if self._handle is not None:
            self._library.lq_runner_free(self._handle)
            self._handle = None
        self._kv = None

    def _model(self) -> library.Model:
        weights, config = self._weights, self._weights.config
        layers = (library.Layer * self._num_layers)(
            *(
                library.Layer(
                    (library.Matrix * library.QKV_PARTS)(*_matrices(layer.qkv, layer.qkv_bias)),
                    _matrix(layer.out),
                    (library.Matrix * library.GATE_UP_PARTS)(*_matrices(layer.gate_up)),
                    _matrix(layer.down),
                    layer.attention_norm.ctypes.data,
                    layer.ffn_norm.ctypes.data,
                )
                for layer in weights.layers
            )
        )
        self._layers = layers  # the struct below points to it
        return library.Model(
            self._num_layers,
            self._hidden,
            self._heads,
            self._kv_heads,
            self._head_dim,
            config["intermediate_size"],
            self.vocab_size,
            config["rms_norm_eps"],
            layers,
            weights.final_norm.ctypes.data,
            _matrix(weights.head),
        )


def _matrices(parts: Sequence[Packed], bias: NDArray[np.float32] | None = None) -> Iterator[library.Matrix]:
    """Parts that are run as one, with the bias of all of them."""
    rows, first = sum(part.rows for part in parts), 0
    for part in parts:
        yield _matrix(part, None if bias is None else bias[first:], rows)
        first += part.rows


def _matrix(packed: Packed, bias: NDArray[np.float32] | None = None, stride: int | None = None) -> library.Matrix:
    return library.Matrix(
        packed.format,
        packed.group,
        packed.rows,
        packed.cols,
        packed.rows if stride is None else stride,
        packed.data.nbytes,
        packed.data.ctypes.data,
        None if bias is None else bias.ctypes.data,
        None if packed.order is None else packed.order.ctypes.data,
    )


def _reserve(size: int) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size)
    # Private: by default Python maps memory that a forked child would share, and write into.
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _address(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
