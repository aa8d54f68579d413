"""The runner for every device and precision that transformers knows; the reference for faster ones.

All new tokens of a step are packed into one row. An attention function registered with transformers reads and
writes the block pool, so the model's own code runs unchanged.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from langchain_qwen.engine.blocks import BLOCK_SIZE
from langchain_qwen.engine.runners.protocol import Chunk
from langchain_qwen.errors import EngineClosedError, EngineError

ATTENTION = "langchain_qwen_paged"


@dataclass(frozen=True, slots=True)
class _Span:
    """Where one request's new tokens lie in the packed row, and where all its tokens lie in the pool."""

    row: slice
    slots: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class _Step:
    """What the attention function needs to know of a step."""

    keys: list[Tensor]
    values: list[Tensor]
    new_slots: Tensor
    spans: list[_Span]


def _paged_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  transformers passes it; the spans say the same exactly
    scaling: float | None = None,
    paged: _Step | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention over the pool; query, key and value have the shape [1, heads, new tokens, head size]."""
    assert paged is not None, "this attention runs only under TransformersRunner"
    layer: int = module.layer_idx  # type: ignore[assignment]
    keys, values = paged.keys[layer], paged.values[layer]
    keys.index_copy_(1, paged.new_slots, key[0])
    values.index_copy_(1, paged.new_slots, value[0])
    outputs = [
        scaled_dot_product_attention(
            query[:, :, span.row],
            keys[None, :, span.slots],
            values[None, :, span.slots],
            attn_mask=span.mask,
            scale=scaling,
            enable_gqa=True,
        )
        for span in paged.spans
    ]
    return torch.cat(outputs, dim=2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, _paged_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_args, **_kwargs: None)


# The first process that came here. A child that it forks has its memory and none of the threads that torch waits for.
_process = os.getpid()


def refuse_in_forked_child() -> None:
    """Raise at once where torch may hang.

    Raises:
        EngineError: The process was forked from one that has loaded torch.
    """
    if os.getpid() != _process:
        raise EngineError(
            "models that run through torch cannot be used in a process that was forked after torch was loaded: its "
            "threads and devices stay with the parent. Start workers with the methods 'spawn' or 'forkserver' of "
            "multiprocessing, or load the model in each worker only, after the fork; the CPU engine (precision int4, "
            "int8 or bf16) can be forked"
        )


class TransformersRunner:
    """Runs a transformers Qwen2 model whose attention implementation is `ATTENTION`."""

    def __init__(self, model: PreTrainedModel, precision: str):
        config = model.config
        self._model: PreTrainedModel | None = model
        self._layers: int = config.num_hidden_layers
        self._kv_heads: int = config.num_key_value_heads
        self._head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        embedding: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]  # always an nn.Embedding
        self._dtype = embedding.dtype
        self._device = embedding.device
        self.device = str(embedding.device)
        self.precision = precision
        self.vocab_size: int = config.vocab_size
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        return 2 * self._layers * self._kv_heads * self._head_dim * self._dtype.itemsize

    def allocate(self, num_blocks: int) -> None:
        """Reserve one tensor [KV heads, slots, head size] for the keys and one for the values of each layer."""
        refuse_in_forked_child()
        shape = (self._kv_heads, num_blocks * BLOCK_SIZE, self._head_dim)
        # Empty rather than zero: the system hands out a page of CPU memory when it is first written.
        self._keys = [torch.empty(shape, dtype=self._dtype, device=self._device) for _ in range(self._layers)]
        self._values = [torch.empty(shape, dtype=self._dtype, device=self._device) for _ in range(self._layers)]

    @torch.inference_mode()
    def step(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Process all chunks; see `Runner.step`."""
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        new_slots: list[int] = []
        spans: list[_Span] = []
        for chunk in chunks:
            count, end = len(chunk.tokens), chunk.start + len(chunk.tokens)
            row = slice(len(tokens), len(tokens) + count)
            slots = [block * BLOCK_SIZE + i for block in chunk.blocks for i in range(BLOCK_SIZE)][:end]
            tokens += chunk.tokens
            positions += range(chunk.start, end)
            wanted += range(row.stop - chunk.num_logits, row.stop)
            new_slots += slots[chunk.start :]
            spans.append(_Span(row, self._ids(slots), self._causal_mask(chunk.start, count)))
        step = _Step(self._keys, self._values, self._ids(new_slots), spans)
        if self._model is None:
            raise EngineClosedError("the runner has been closed")
        output = self._model(
            input_ids=self._ids(tokens)[None],
            position_ids=self._ids(positions)[None],
            use_cache=False,
            logits_to_keep=self._ids(wanted),
            paged=step,
        )
        logits: NDArray[np.float32] = output.logits[0].float().cpu().numpy()
        return logits

    def read(self, blocks: Sequence[int]) -> NDArray[np.uint8]:
        """Copy blocks out; see `Runner.read`."""
        rows = [[self._block_rows(layer)[:, blocks] for layer in memory] for memory in (self._keys, self._values)]
        stacked = torch.stack([torch.stack([row.transpose(0, 1).flatten(1) for row in part]) for part in rows])
        contents: NDArray[np.uint8] = stacked.cpu().contiguous().view(torch.uint8).numpy()
        return contents

    def write(self, blocks: Sequence[int], contents: NDArray[np.uint8]) -> None:
        """Put blocks in; see `Runner.write`."""
        for memory, part in zip((self._keys, self._values), torch.tensor(contents), strict=True):
            for layer, content in zip(memory, part, strict=True):
                rows = content.contiguous().view(self._dtype).view(len(blocks), self._kv_heads, -1).transpose(0, 1)
                self._block_rows(layer)[:, blocks] = rows.to(self._device)

    def _block_rows(self, layer: Tensor) -> Tensor:
        """A layer's memory as [KV heads, blocks, numbers of a block]."""
        return layer.view(self._kv_heads, -1, BLOCK_SIZE * self._head_dim)

    def close(self) -> None:
        """Free weights and KV memory."""
        self._model = None
        self._keys.clear()
        self._values.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _ids(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(self._device, non_blocking=True)

    def _causal_mask(self, start: int, count: int) -> Tensor | None:
        """Each new token sees all before it and itself; a single one sees everything, which needs no mask."""
        if count == 1:
            return None
        mask = torch.ones(count, start + count, dtype=torch.bool, device=self._device)
        return mask.tril(diagonal=start)
