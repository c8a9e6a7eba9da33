"""GPT-2: a pre-norm transformer with learned positions, GELU in its tanh form, and a head tied to the embedding.

Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
"""

from __future__ import annotations

import math
import pathlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.arrays import type_of_array
from nagraph.models import hugging_face
from nagraph.models.cache import Cache, LayerCache, attend, rows
from nagraph.models.language_model import LanguageModel
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.attention import join_heads, split_heads
from nagraph.nn.layers import Embedding, Linear, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import LayerNorm

Array = Any

#: Options of a Hugging Face configuration that change the function, and the values that are GPT-2's; a missing one has the first.
PUBLISHED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,), "scale_attn_by_inverse_layer_idx": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
#: Tensors of older files that say nothing new: causal masks, and the head, which is the embedding.
UNUSED = ("h.*.attn.bias", "h.*.attn.masked_bias", "lm_head.weight")


@dataclass(frozen=True)
class GPT2Config:
    """Sizes of a GPT-2. The defaults are those of the smallest published one (124 million parameters)."""

    vocabulary: int = 50257
    context: int = 1024
    layers: int = 12
    heads: int = 12
    width: int = 768
    inner: int = 0
    dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.inner < 0:
            raise ValueError(f"inner must be at least 0, got {self.inner}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def mlp_width(self) -> int:
        """Width of the hidden layer: `inner`, or 4 · width where that is 0."""
        return self.inner or 4 * self.width


class SelfAttention(Module):
    """y = concat_h(attention(q_h, k_h, v_h)) Wo, with [q, k, v] = x W from one product; each position sees itself and the past.

    With a cache, x are the positions from `start` on, and the past is what it holds; the second result is the cache with them.
    """

    projection: Linear
    output: Linear
    heads: int

    def __call__(self, x: Array, cache: LayerCache | None = None, start: Array = 0) -> tuple[Array, LayerCache | None]:
        q, k, v = (split_heads(part, self.heads) for part in ng.numpy.split(self.projection(x), 3, axis=-1))
        y, cache = attend(q, k, v, cache, start)
        return self.output(join_heads(y)), cache


class MLP(Module):
    """y = gelu(x W₁ + b₁) W₂ + b₂."""

    up: Linear
    down: Linear

    def __call__(self, x: Array) -> Array:
        return self.down(F.gelu_tanh(self.up(x)))


class Block(Module):
    """Pre-norm transformer block: h = x + attention(norm x); y = h + mlp(norm h), both branches under dropout."""

    attention_norm: LayerNorm
    attention: SelfAttention
    mlp_norm: LayerNorm
    mlp: MLP
    dropout: float

    def __call__(self, x: Array, cache: LayerCache | None = None, start: Array = 0, *, key: Array | None = None
                 ) -> tuple[Array, LayerCache | None]:
        k1, k2 = (None, None) if key is None else ng.random.split(key, 2)
        a, cache = self.attention(self.attention_norm(x), cache, start)
        h = x + dropout(a, self.dropout, k1)
        return h + dropout(self.mlp(self.mlp_norm(h)), self.dropout, k2), cache


class GPT2(LanguageModel):
    """logits[t] = head(blocks(token[ids[t]] + position[t])): scores of the next token at every position."""

    Config: ClassVar[type[GPT2Config]] = GPT2Config

    token: Embedding
    position: Array
    blocks: tuple[Block, ...]
    norm: LayerNorm
    config: GPT2Config

    @classmethod
    def init(cls, key: Array, config: GPT2Config, dtype: Any = np.float32) -> GPT2:
        """Random weights as GPT-2's: N(0, 0.02²), projections into the residual stream divided by √(2 layers), biases 0."""
        small = initializers.normal(0.02)
        into_residual = initializers.normal(0.02 / math.sqrt(2 * config.layers))
        k_token, k_position, *k_blocks = ng.random.split(key, 2 + config.layers)
        w, m = config.width, config.mlp_width

        def linear(key: Array, inputs: int, outputs: int, weight_init: Any) -> Linear:
            return Linear(weight_init(key, (inputs, outputs), dtype), np.zeros(outputs, dtype))

        def block(key: Array) -> Block:
            k1, k2, k3, k4 = ng.random.split(key, 4)
            return Block(LayerNorm.init(w, eps=config.eps, dtype=dtype),
                         SelfAttention(linear(k1, w, 3 * w, small), linear(k2, w, w, into_residual), config.heads),
                         LayerNorm.init(w, eps=config.eps, dtype=dtype),
                         MLP(linear(k3, w, m, small), linear(k4, m, w, into_residual)), config.dropout)

        return cls(Embedding.init(k_token, config.vocabulary, w, table_init=small, dtype=dtype),
                   small(k_position, (config.context, w), dtype), tuple(map(block, k_blocks)),
                   LayerNorm.init(w, eps=config.eps, dtype=dtype), config)

    def embed(self, ids: Array, start: Array) -> Array:
        return self.token(ids) + rows(self.position, start, ids.shape[-1])

    def scores(self, x: Array) -> Array:
        return self.token.attend(self.norm(x))

    def empty_cache(self, batch: int) -> Cache:
        c = self.config
        return Cache.empty(c.layers, (batch, c.heads, c.context, c.width // c.heads), type_of_array(self.position).dtype)

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> GPT2:
        """The model of a Hugging Face folder: config.json and safetensors. CheckpointError if it is no GPT-2's.

        Weights that have this dtype already stay in the file, read-only, until they are used.
        """
        found = hugging_face.read_config(folder, "gpt2")
        hugging_face.check_options(folder, found, PUBLISHED, "GPT-2")
        sizes = (hugging_face.size(found, name) for name in ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd"))
        try:
            config = GPT2Config(*sizes, inner=found.get("n_inner") or 0, eps=float(found.get("layer_norm_epsilon", 1e-5)))
        except (TypeError, ValueError) as error:
            raise ng.errors.CheckpointError(f"{folder}: config.json describes no GPT-2: {error}") from None
        tensors = hugging_face.read_tensors(folder, strip="transformer.")

        def take(name: str, *shape: int) -> Array:
            return tensors.take(name, shape, dtype)

        w, m = config.width, config.mlp_width

        def norm(name: str) -> LayerNorm:
            return LayerNorm(take(f"{name}.weight", w), take(f"{name}.bias", w), config.eps)

        def linear(name: str, inputs: int, outputs: int) -> Linear:
            return Linear(take(f"{name}.weight", inputs, outputs), take(f"{name}.bias", outputs))

        blocks = tuple(
            Block(norm(f"h.{i}.ln_1"),
                  SelfAttention(linear(f"h.{i}.attn.c_attn", w, 3 * w), linear(f"h.{i}.attn.c_proj", w, w), config.heads),
                  norm(f"h.{i}.ln_2"), MLP(linear(f"h.{i}.mlp.c_fc", w, m), linear(f"h.{i}.mlp.c_proj", m, w)), config.dropout)
            for i in range(config.layers))
        model = cls(Embedding(take("wte.weight", config.vocabulary, w)), take("wpe.weight", config.context, w), blocks,
                    norm("ln_f"), config)
        tensors.finish(ignored=UNUSED)
        return model
