"""Llama: a pre-norm transformer with RMSNorm, rotary positions, SwiGLU, shared keys and no biases, as most are built since.

Source: Touvron et al., LLaMA: Open and Efficient Foundation Language Models, 2023; query heads in groups that share a key and a
value head: Ainslie et al. 2023.
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
from nagraph.nn.layers import Embedding, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import RMSNorm

Array = Any

HEADS = ("own", "tied", "none")
#: Options of a Hugging Face configuration that change the function, and the values that are LLaMA's; a missing one has the first.
PUBLISHED = {"hidden_act": ("silu",), "attention_bias": (False,), "mlp_bias": (False,)}
#: The sizes that such a configuration has to name.
SIZES = {"vocabulary": "vocab_size", "context": "max_position_embeddings", "layers": "num_hidden_layers",
         "heads": "num_attention_heads", "width": "hidden_size", "inner": "intermediate_size"}


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama. The defaults are those of TinyLlama (1.1 billion parameters; Zhang et al. 2024).

    groups: key and value heads, 0 for as many as query heads. head_width: 0 for width / heads. base: of the rotary positions.
    head: "own", "tied" to the embedding, or "none".
    """

    vocabulary: int = 32000
    context: int = 2048
    layers: int = 22
    heads: int = 32
    groups: int = 4
    width: int = 2048
    inner: int = 5632
    head_width: int = 0
    base: float = 10000.0
    eps: float = 1e-5
    head: str = "own"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width", "inner"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.groups < 0 or self.heads % self.shared:
            raise ValueError(f"heads {self.heads} must be a multiple of groups {self.groups}")
        if self.head_width < 0 or not self.head_width and self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}, or head_width be given")
        if self.d % 2:
            raise ValueError(f"rotary positions turn pairs of numbers: a head's width must be even, got {self.d}")
        if self.head not in HEADS:
            raise ValueError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}")
        if not self.base > 0:
            raise ValueError(f"base must be more than 0, got {self.base}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def shared(self) -> int:
        """Key and value heads."""
        return self.groups or self.heads

    @property
    def d(self) -> int:
        """Width of one head."""
        return self.head_width or self.width // self.heads


class Projection(Module):
    """y = x Wᵀ, with weight [out, in]: as checkpoints hold it, so that it can stay in the file."""

    weight: Array

    def __call__(self, x: Array) -> Array:
        return ng.numpy.matmul(x, ng.numpy.swapaxes(self.weight, 0, 1))


class RotaryAttention(Module):
    """y = concat_h(attention(R q_h, R k_g(h), v_g(h))) Wo, where R turns each pair of numbers by its position; causal.

    With a cache, x are the positions from `start` on, and the past is what it holds; the second result is the cache with them.
    """

    query: Projection
    key: Projection
    value: Projection
    output: Projection
    heads: int
    groups: int

    def parts(self, x: Array, cos: Array, sin: Array) -> tuple[Array, Array, Array]:
        """Queries [..., heads, time, d], keys and values [..., groups, time, d] of x [..., time, width]; cos and sin [time, d / 2]."""
        q, k = split_heads(self.query(x), self.heads), split_heads(self.key(x), self.groups)
        return F.rope(q, cos, sin), F.rope(k, cos, sin), split_heads(self.value(x), self.groups)

    def __call__(self, x: Array, cos: Array, sin: Array, cache: LayerCache | None = None, start: Array = 0
                 ) -> tuple[Array, LayerCache | None]:
        y, cache = attend(*self.parts(x, cos, sin), cache, start)
        return self.output(join_heads(y)), cache


class SwiGLU(Module):
    """y = (silu(x Wg) · x Wu) Wd."""

    gate: Projection
    up: Projection
    down: Projection

    def __call__(self, x: Array) -> Array:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(Module):
    """Pre-norm transformer block: h = x + attention(norm x); y = h + mlp(norm h), both branches under dropout."""

    attention_norm: RMSNorm
    attention: RotaryAttention
    mlp_norm: RMSNorm
    mlp: SwiGLU
    dropout: float

    def __call__(self, x: Array, cos: Array, sin: Array, cache: LayerCache | None = None, start: Array = 0, *,
                 key: Array | None = None) -> tuple[Array, LayerCache | None]:
        k1, k2 = (None, None) if key is None else ng.random.split(key, 2)
        a, cache = self.attention(self.attention_norm(x), cos, sin, cache, start)
        h = x + dropout(a, self.dropout, k1)
        return h + dropout(self.mlp(self.mlp_norm(h)), self.dropout, k2), cache


class Llama(LanguageModel):
    """logits[t] = head(norm(blocks(token[ids[t]]))): scores of the next token at every position."""

    Config: ClassVar[type[LlamaConfig]] = LlamaConfig

    token: Embedding
    blocks: tuple[Block, ...]
    norm: RMSNorm
    head: Projection | None
    config: LlamaConfig

    @classmethod
    def init(cls, key: Array, config: LlamaConfig, dtype: Any = np.float32) -> Llama:
        """Random weights as GPT-2's: N(0, 0.02²), projections into the residual stream divided by √(2 layers)."""
        small, into_residual = initializers.normal(0.02), initializers.normal(0.02 / math.sqrt(2 * config.layers))
        k_token, k_head, *k_blocks = ng.random.split(key, 2 + config.layers)
        w, m, q, kv = config.width, config.inner, config.heads * config.d, config.shared * config.d

        def projection(key: Array, inputs: int, outputs: int, weight_init: Any = small) -> Projection:
            return Projection(weight_init(key, (outputs, inputs), dtype))

        def block(key: Array) -> Block:
            k = ng.random.split(key, 7)
            attention = RotaryAttention(projection(k[0], w, q), projection(k[1], w, kv), projection(k[2], w, kv),
                                        projection(k[3], q, w, into_residual), config.heads, config.shared)
            return Block(RMSNorm.init(w, eps=config.eps, dtype=dtype), attention, RMSNorm.init(w, eps=config.eps, dtype=dtype),
                         SwiGLU(projection(k[4], w, m), projection(k[5], w, m), projection(k[6], m, w, into_residual)), config.dropout)

        return cls(Embedding.init(k_token, config.vocabulary, w, table_init=small, dtype=dtype), tuple(map(block, k_blocks)),
                   RMSNorm.init(w, eps=config.eps, dtype=dtype),
                   projection(k_head, w, config.vocabulary) if config.head == "own" else None, config)

    def rotations(self, time: int) -> tuple[Array, Array]:
        """cos and sin of the angles of positions 0 ... time - 1, each [time, d / 2]."""
        return F.rope_tables(time, self.config.d, self.config.base, self.token.table.dtype)

    def embed(self, ids: Array, start: Array) -> Array:
        return self.token(ids)

    def positions(self, start: Array, time: int) -> tuple[Array, ...]:
        """Cosines and sines of their rotations."""
        return tuple(rows(table, start, time) for table in self.rotations(self.config.context))

    def scores(self, x: Array) -> Array:
        """Logits of the blocks' result x [..., time, width]; without a head x itself, normalised."""
        y = self.norm(x)
        return self.head(y) if self.head is not None else self.token.attend(y) if self.config.head == "tied" else y

    @property
    def has_head(self) -> bool:
        return self.config.head != "none"

    def empty_cache(self, batch: int) -> Cache:
        c = self.config
        return Cache.empty(c.layers, (batch, c.shared, c.context, c.d), type_of_array(self.token.table).dtype)

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> Llama:
        """The model of a Hugging Face folder: config.json and safetensors. CheckpointError if it is no Llama's.

        Weights that have this dtype already stay in the file, read-only, until they are used.
        """
        config = _read(folder, hugging_face.read_config(folder, "llama"))
        tensors = hugging_face.read_tensors(folder, strip="model.")
        w, m, q, kv = config.width, config.inner, config.heads * config.d, config.shared * config.d

        def norm(name: str) -> RMSNorm:
            return RMSNorm(tensors.take(f"{name}.weight", (w,), dtype), config.eps)

        def projection(name: str, inputs: int, outputs: int) -> Projection:
            return Projection(tensors.take(f"{name}.weight", (outputs, inputs), dtype))

        def block(at: str) -> Block:
            attention = RotaryAttention(projection(f"{at}.self_attn.q_proj", w, q), projection(f"{at}.self_attn.k_proj", w, kv),
                                        projection(f"{at}.self_attn.v_proj", w, kv), projection(f"{at}.self_attn.o_proj", q, w),
                                        config.heads, config.shared)
            mlp = SwiGLU(projection(f"{at}.mlp.gate_proj", w, m), projection(f"{at}.mlp.up_proj", w, m),
                         projection(f"{at}.mlp.down_proj", m, w))
            return Block(norm(f"{at}.input_layernorm"), attention, norm(f"{at}.post_attention_layernorm"), mlp, config.dropout)

        model = cls(Embedding(tensors.take("embed_tokens.weight", (config.vocabulary, w), dtype)),
                    tuple(block(f"layers.{i}") for i in range(config.layers)), norm("norm"),
                    projection("lm_head", w, config.vocabulary) if config.head == "own" else None, config)
        # Older files hold the frequencies of the rotary positions, and the head though it is the embedding.
        tensors.finish(ignored=("*.rotary_emb.inv_freq", *("lm_head.weight",) * (config.head == "tied")))
        return model


def _read(folder: str | pathlib.Path, found: dict[str, Any]) -> LlamaConfig:
    """The sizes in a configuration."""
    hugging_face.check_options(folder, found, PUBLISHED, "LLaMA")
    rope = found.get("rope_parameters") or found.get("rope_scaling") or {}
    if not isinstance(rope, dict) or any(isinstance(x, dict) for x in rope.values()):
        raise ng.errors.CheckpointError(f"{folder}: rope_parameters {rope!r} are not one set for all layers")
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise ng.errors.CheckpointError(f"{folder}: rotary positions are scaled by {scaling!r}; the model has 'default' ones alone")
    sizes: dict[str, Any] = {ours: hugging_face.size(found, theirs) for ours, theirs in SIZES.items()}
    own = "none" if found.get("architectures") == ["LlamaModel"] else "own"
    try:
        return LlamaConfig(
            **sizes, groups=found.get("num_key_value_heads") or 0, head_width=found.get("head_dim") or 0,
            base=float(rope.get("rope_theta", found.get("rope_theta", 10000.0))), eps=float(found.get("rms_norm_eps", 1e-6)),
            head="tied" if found.get("tie_word_embeddings", False) else own)
    except (TypeError, ValueError) as error:
        raise ng.errors.CheckpointError(f"{folder}: config.json describes no Llama: {error}") from None
