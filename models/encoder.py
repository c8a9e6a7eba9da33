"""What BERT, the vision transformer and CLIP are made of: attention, perceptron, blocks in both orders of norm, and reading them.

Source: Vaswani et al., Attention Is All You Need, 2017 (post-norm); Xiong et al., On Layer Normalization in the Transformer
Architecture, 2020 (pre-norm).
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models import hugging_face
from nagraph.nn import functional as F
from nagraph.nn.attention import join_heads, split_heads
from nagraph.nn.layers import Linear, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import LayerNorm

Array = Any


def quick_gelu(x: Array) -> Array:
    """y = x σ(1.702 x). Source: Hendrycks and Gimpel 2016."""
    return x * F.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes of a stack of transformer blocks. The defaults are those of the published base models."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    inner: int = 0
    activation: str = "gelu"
    dropout: float = 0.0
    eps: float = 1e-12
    #: Sizes that may be 0, and the values that words may have; subclasses add theirs.
    optional: ClassVar[tuple[str, ...]] = ("inner",)
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"activation": tuple(ACTIVATIONS)}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < (least := 0 if field.name in self.optional else 1):
                raise ValueError(f"{field.name} must be at least {least}, got {value}")
        for name, allowed in self.choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be {' or '.join(map(repr, allowed))}, got {getattr(self, name)!r}")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")

    @property
    def mlp_width(self) -> int:
        """Width of the hidden layer: `inner`, or 4 · width where that is 0."""
        return self.inner or 4 * self.width


class SelfAttention(Module):
    """y = concat_h(attention(q_h, k_h, v_h)) Wo, with [q, k, v] = x W from one product."""

    projection: Linear
    output: Linear
    heads: int

    def __call__(self, x: Array, mask: Array | None = None, *, causal: bool = False) -> Array:
        q, k, v = (split_heads(part, self.heads) for part in ng.numpy.split(self.projection(x), 3, axis=-1))
        return self.output(join_heads(F.attention(q, k, v, mask, causal=causal)))


class MLP(Module):
    """y = f(x W₁ + b₁) W₂ + b₂, with f the activation."""

    up: Linear
    down: Linear
    activation: str

    def __call__(self, x: Array) -> Array:
        return self.down(ACTIVATIONS[self.activation](self.up(x)))


class Block(Module):
    """A transformer block in parts; its two subclasses differ in where the norms are."""

    attention_norm: LayerNorm
    attention: SelfAttention
    mlp_norm: LayerNorm
    mlp: MLP
    dropout: float

    @classmethod
    def init(cls, key: Array, config: EncoderConfig, dtype: Any, *, inward: Any, outward: Any, up: Any, down: Any) -> Self:
        """Norms 1, biases 0; initialisers for the maps into attention and out of it, and for the perceptron's two."""
        w, m = config.width, config.mlp_width
        k_query, k_key, k_value, *keys = ng.random.split(key, 6)
        projection = ng.numpy.concatenate([inward(k, (w, w), dtype) for k in (k_query, k_key, k_value)], axis=1)
        output, rise, fall = (
            Linear(draw(k, shape, dtype), np.zeros(shape[1], dtype))
            for k, draw, shape in zip(keys, (outward, up, down), ((w, w), (w, m), (m, w))))
        norms = (LayerNorm.init(w, eps=config.eps, dtype=dtype) for _ in range(2))
        return cls(next(norms), SelfAttention(Linear(projection, np.zeros(3 * w, dtype)), output, config.heads),
                   next(norms), MLP(rise, fall, config.activation), config.dropout)


class PreNorm(Block):
    """h = x + attention(norm x); y = h + mlp(norm h), both branches under dropout."""

    def __call__(self, x: Array, mask: Array | None = None, *, causal: bool = False, key: Array | None = None) -> Array:
        k1, k2 = split_key(key, 2)
        h = x + dropout(self.attention(self.attention_norm(x), mask, causal=causal), self.dropout, k1)
        return h + dropout(self.mlp(self.mlp_norm(h)), self.dropout, k2)


class PostNorm(Block):
    """h = norm(x + attention(x)); y = norm(h + mlp(h)), both branches under dropout."""

    def __call__(self, x: Array, mask: Array | None = None, *, causal: bool = False, key: Array | None = None) -> Array:
        k1, k2 = split_key(key, 2)
        h = self.attention_norm(x + dropout(self.attention(x, mask, causal=causal), self.dropout, k1))
        return self.mlp_norm(h + dropout(self.mlp(h), self.dropout, k2))


def apply(blocks: Sequence[Any], x: Array, mask: Array | None = None, *, causal: bool = False, key: Array | None = None) -> Array:
    """One block after another, each with a key of its own."""
    for block, k in zip(blocks, split_key(key, len(blocks))):
        x = block(x, mask, causal=causal, key=k)
    return x


def split_key(key: Array | None, count: int) -> Any:
    """`count` keys of one, or as many times None where there is none: no dropout."""
    return [None] * count if key is None else ng.random.split(key, count)


def attendable(mask: Array | None, ids: Array) -> Array | None:
    """A mask [..., time], 1 where there is a token and 0 where there is padding, as attention takes it: bool [..., 1, 1, time]."""
    if mask is None:
        return None
    if tuple(mask.shape) != tuple(ids.shape):
        raise TypeRuleError(f"a mask has the shape of the ids, {tuple(ids.shape)}, got {tuple(mask.shape)}")
    return (mask != 0)[..., None, None, :]


# -- Hugging Face folders ---------------------------------------------------------------------------------


def sizes(found: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """The sizes that a configuration names, under our names."""
    return {ours: hugging_face.size(dict(found), name) for ours, name in names.items()}


@contextlib.contextmanager
def describing(folder: Any, model: str) -> Iterator[None]:
    """Sizes that make no model are the configuration's fault here."""
    try:
        yield
    except CheckpointError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder}: config.json describes no {model}: {error}") from None


class Folder:
    """A folder gives its tensors as layers. Linear weights are stored [out, in], and turned here; what is missing `finish` names."""

    def __init__(self, path: str | pathlib.Path, dtype: Any, strip: str = ""):
        self.tensors, self.dtype = hugging_face.read_tensors(path, strip=strip), dtype
        self.finish = self.tensors.finish

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def array(self, name: str, *shape: int) -> Array:
        return self.tensors.take(name, shape, self.dtype)

    def rows(self, name: str) -> int:
        """First size of a tensor that the configuration need not name, such as the number of classes; 0 where there is none."""
        return int((*self.tensors[name].shape, 0)[0]) if name in self else 0

    def linear(self, names: str | Sequence[str], inputs: int, outputs: int, *, bias: bool = True) -> Linear:
        """The product of this name, or one product for several names, their outputs side by side."""
        names = [names] if isinstance(names, str) else names
        weight = self.joined([self.array(f"{n}.weight", outputs, inputs).T for n in names])
        return Linear(weight, self.joined([self.array(f"{n}.bias", outputs) for n in names]) if bias else None)

    def joined(self, parts: Sequence[Array]) -> Array:
        """Arrays side by side, copied row after row. What stands for missing ones takes no memory, whatever sizes are claimed."""
        shape = (*parts[0].shape[:-1], sum(p.shape[-1] for p in parts))
        if any(0 in p.strides for p in parts):
            return np.broadcast_to(np.zeros((), self.dtype), shape)
        return np.concatenate(parts, axis=-1, out=np.empty(shape, self.dtype))

    def norm(self, name: str, width: int, eps: float) -> LayerNorm:
        # Folders converted from TensorFlow have its names.
        weight, bias = ("gamma", "beta") if f"{name}.gamma" in self else ("weight", "bias")
        return LayerNorm(self.array(f"{name}.{weight}", width), self.array(f"{name}.{bias}", width), eps)

    def blocks(self, kind: Any, prefix: str, names: Mapping[str, str], config: EncoderConfig, *, bias: bool = True) -> tuple[Any, ...]:
        """All blocks; `names` has the name below `prefix.i` of each part; bias: whether queries, keys and values have one."""
        w, m = config.width, config.mlp_width

        def block(at: dict[str, str]) -> Any:
            projection = self.linear([at[part] for part in ("query", "key", "value")], w, w, bias=bias)
            return kind(self.norm(at["attention_norm"], w, config.eps),
                        SelfAttention(projection, self.linear(at["output"], w, w), config.heads),
                        self.norm(at["mlp_norm"], w, config.eps),
                        MLP(self.linear(at["up"], w, m), self.linear(at["down"], m, w), config.activation), config.dropout)

        return tuple(block({part: f"{prefix}.{i}.{name}" for part, name in names.items()}) for i in range(config.layers))
