"""BERT: a post-norm transformer that sees both sides of every token, with heads for masked tokens, sentence pairs and classes.

Source: Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2018.
"""

from __future__ import annotations

import pathlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.models import hugging_face
from nagraph.models.encoder import EncoderConfig, Folder, PostNorm, apply, attendable, describing, sizes, split_key
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.layers import Embedding, Linear, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import LayerNorm

Array = Any

#: Options of a Hugging Face configuration that change the function, and the values that are BERT's; a missing one has the first.
PUBLISHED = {
    "hidden_act": ("gelu",), "position_embedding_type": ("absolute",), "is_decoder": (False,), "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}
#: Tensors that say nothing new: places as numbers, and the decoder of masked tokens, which is the embedding.
UNUSED = ("*.position_ids", "cls.predictions.decoder.*")
#: Each part of a block, and its name in a Hugging Face folder.
NAMES = {
    "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
    "output": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense", "down": "output.dense", "mlp_norm": "output.LayerNorm",
}
HEADS = ("pooler", "masked", "next_sentence", "classifier")


@dataclass(frozen=True, kw_only=True)
class BERTConfig(EncoderConfig):
    """Sizes of a BERT. The defaults are those of the published base model (110 million parameters). std: of the first weights."""

    vocabulary: int = 30522
    context: int = 512
    types: int = 2
    classes: int = 2
    std: float = 0.02


class MaskedHead(Module):
    """scores = norm(gelu(h W + b)) tableᵀ + c, with the table of the token embedding."""

    transform: Linear
    norm: LayerNorm
    bias: Array

    def __call__(self, h: Array, token: Embedding) -> Array:
        return token.attend(self.norm(F.gelu(self.transform(h)))) + self.bias


class BERT(Module):
    """h = blocks(norm(token[ids] + position + type[types])): a vector for every token, which heads read; heads may be absent."""

    Config: ClassVar[type[BERTConfig]] = BERTConfig

    token: Embedding
    position: Array
    type: Embedding
    norm: LayerNorm
    blocks: tuple[PostNorm, ...]
    pooler: Linear | None
    masked: MaskedHead | None
    next_sentence: Linear | None
    classifier: Linear | None
    config: BERTConfig

    @classmethod
    def init(cls, key: Array, config: BERTConfig, dtype: Any = np.float32, *, heads: Collection[str] = HEADS) -> BERT:
        """Random weights as BERT's: N(0, std²), biases 0. `heads` are those wanted, of HEADS; what reads the pooled needs a pooler."""
        if unknown := set(heads) - set(HEADS):
            raise ValueError(f"no head of BERT is called {', '.join(sorted(unknown))}; there are {', '.join(HEADS)}")
        small, w = initializers.normal(config.std), config.width
        keys = ng.random.split(key, 7 + config.layers)

        def linear(key: Array, outputs: int) -> Linear:
            return Linear(small(key, (w, outputs), dtype), np.zeros(outputs, dtype))

        def norm() -> LayerNorm:
            return LayerNorm.init(w, eps=config.eps, dtype=dtype)

        return cls(
            Embedding.init(keys[0], config.vocabulary, w, table_init=small, dtype=dtype),
            small(keys[1], (config.context, w), dtype), Embedding.init(keys[2], config.types, w, table_init=small, dtype=dtype), norm(),
            tuple(PostNorm.init(k, config, dtype, inward=small, outward=small, up=small, down=small) for k in keys[7:]),
            linear(keys[3], w) if set(heads) - {"masked"} else None,
            MaskedHead(linear(keys[4], w), norm(), np.zeros(config.vocabulary, dtype)) if "masked" in heads else None,
            linear(keys[5], 2) if "next_sentence" in heads else None,
            linear(keys[6], config.classes) if "classifier" in heads else None, config)

    def __call__(self, ids: Array, types: Array | None = None, mask: Array | None = None, *, key: Array | None = None) -> Array:
        """Vectors [..., time, width] of token ids [..., time]; a key turns dropout on.

        types [..., time]: which sentence a token is of, 0 for all unless given. mask [..., time]: 1 where there is a token, 0 where
        there is padding, which no token sees.
        """
        time = ids.shape[-1]
        if time > self.config.context:
            raise TypeRuleError(f"bert: {time} positions do not fit its context of {self.config.context}")
        k_embedding, k_blocks = split_key(key, 2)
        kind = self.type.table[0] if types is None else self.type(types)
        x = dropout(self.norm(self.token(ids) + kind + self.position[:time]), self.config.dropout, k_embedding)
        return apply(self.blocks, x, attendable(mask, ids), key=k_blocks)

    def pooled(self, h: Array) -> Array:
        """tanh(h₀ W + b): the first token's vector, for what is said of the whole text; [..., width] of h [..., time, width]."""
        return ng.numpy.tanh(self._head("pooler")(h[..., 0, :]))

    def token_scores(self, h: Array) -> Array:
        """Scores [..., time, vocabulary] of the token that stood at each position."""
        return self._head("masked")(h, self.token)

    def next_sentence_scores(self, h: Array) -> Array:
        """Scores [..., 2]: the second sentence follows the first, or is a random one."""
        return self._head("next_sentence")(self.pooled(h))

    def class_scores(self, h: Array, *, key: Array | None = None) -> Array:
        """Scores [..., classes] of the whole text; a key turns dropout on."""
        return self._head("classifier")(dropout(self.pooled(h), self.config.dropout, key))

    def _head(self, name: str) -> Any:
        head = getattr(self, name)
        if head is None:
            present = ", ".join(n for n in HEADS if getattr(self, n) is not None)
            raise TypeRuleError(f"bert: this model has no head {name}; it has {present or 'none'}")
        return head

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> BERT:
        """The model of a Hugging Face folder, with the heads it holds. CheckpointError if it is no BERT's."""
        found = hugging_face.read_config(folder, "bert")
        hugging_face.check_options(folder, found, PUBLISHED, "BERT")
        holds = Folder(folder, dtype, strip="bert.")
        with describing(folder, "BERT"):
            config = BERTConfig(
                **sizes(found, vocabulary="vocab_size", context="max_position_embeddings", types="type_vocab_size",
                        layers="num_hidden_layers", heads="num_attention_heads", width="hidden_size", inner="intermediate_size"),
                classes=holds.rows("classifier.weight") or 2,
                dropout=float(found.get("hidden_dropout_prob", 0.1)), eps=float(found.get("layer_norm_eps", 1e-12)))
        w, v, at = config.width, config.vocabulary, "cls.predictions"

        def head(name: str, outputs: int) -> Linear | None:
            return holds.linear(name, w, outputs) if f"{name}.weight" in holds else None

        masked = None
        if f"{at}.transform.dense.weight" in holds:
            bias = f"{at}.bias" if f"{at}.bias" in holds else f"{at}.decoder.bias"
            masked = MaskedHead(holds.linear(f"{at}.transform.dense", w, w), holds.norm(f"{at}.transform.LayerNorm", w, config.eps),
                                holds.array(bias, v))
        model = cls(
            Embedding(holds.array("embeddings.word_embeddings.weight", v, w)),
            holds.array("embeddings.position_embeddings.weight", config.context, w),
            Embedding(holds.array("embeddings.token_type_embeddings.weight", config.types, w)),
            holds.norm("embeddings.LayerNorm", w, config.eps), holds.blocks(PostNorm, "encoder.layer", NAMES, config),
            head("pooler.dense", w), masked, head("cls.seq_relationship", 2), head("classifier", config.classes), config)
        holds.finish(ignored=UNUSED)
        return model


def masked_loss(model: BERT, ids: Array, labels: Array, types: Array | None = None, mask: Array | None = None, *,
                key: Array | None = None) -> Array:
    """Mean cross entropy (nats a token) over the positions that count: labels [..., time] hold the true token there, -100 elsewhere."""
    losses = F.cross_entropy(model.token_scores(model(ids, types, mask, key=key)), labels)
    some = ng.numpy.maximum(ng.numpy.sum((labels != -100).astype(losses.dtype)), 1)
    return ng.numpy.sum(losses) / some


def classification_loss(model: BERT, ids: Array, labels: Array, types: Array | None = None, mask: Array | None = None, *,
                        key: Array | None = None) -> Array:
    """Mean cross entropy (nats a text) of classes, labels [...]."""
    k_model, k_head = split_key(key, 2)
    scores = model.class_scores(model(ids, types, mask, key=k_model), key=k_head)
    return ng.numpy.mean(F.cross_entropy(scores, labels, ignore_index=None))
