"""CLIP: one transformer reads images, another reads texts, and each is taught to say of the other which belongs to it.

Source: Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021; for several positives,
Khosla et al., Supervised Contrastive Learning, 2020.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models import hugging_face
from nagraph.models.encoder import EncoderConfig, Folder, PreNorm, apply, attendable, describing, sizes, split_key
from nagraph.models.vit import ConvStem, Patches, check_images, check_patches, read_patches, with_class
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.layers import Embedding, Linear, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import LayerNorm

Array = Any

#: Options of a Hugging Face tower that change the function, and the values that are CLIP's; a missing one has the first.
PUBLISHED = {"hidden_act": ("quick_gelu", "gelu")}
#: What the two towers have where a configuration is silent, for files name only what differs from it.
SIZES = {"num_hidden_layers": 12, "projection_dim": 512, "layer_norm_eps": 1e-5}
VISION = {**SIZES, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_channels": 3, "image_size": 224,
          "patch_size": 32}
TEXT = {**SIZES, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "vocab_size": 49408,
        "max_position_embeddings": 77, "eos_token_id": 49407}
#: Tensors of older files that say nothing new: places as numbers.
UNUSED = ("*.position_ids",)
#: Each part of a block, and its name in a Hugging Face folder.
NAMES = {
    "attention_norm": "layer_norm1", "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
    "output": "self_attn.out_proj", "mlp_norm": "layer_norm2", "up": "mlp.fc1", "down": "mlp.fc2",
}


@dataclass(frozen=True, kw_only=True)
class VisionConfig(EncoderConfig):
    """Sizes of the reader of images; stem: "patch", one map of each patch, or "conv", convolutions down to the grid of patches."""

    image: int = 224
    patch: int = 32
    channels: int = 3
    stem: str = "patch"
    activation: str = "quick_gelu"
    eps: float = 1e-5
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**EncoderConfig.choices, "stem": ("patch", "conv")}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patches(self.image, self.patch)


@dataclass(frozen=True, kw_only=True)
class TextConfig(EncoderConfig):
    """Sizes of the reader of texts. A text is read off at the first `end_of_text`, or, where that is None, at its largest id."""

    vocabulary: int = 49408
    context: int = 77
    heads: int = 8
    width: int = 512
    activation: str = "quick_gelu"
    eps: float = 1e-5
    end_of_text: int | None = 49407
    optional: ClassVar[tuple[str, ...]] = ("inner", "end_of_text")


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """The two readers, and the width of the space that they share. The defaults are the published ViT-B/32 (151 million parameters)."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projection: int = 512
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if self.projection < 1:
            raise ValueError(f"projection must be at least 1, got {self.projection}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be greater than 0, got {self.temperature}")


class VisionTower(Module):
    """y = norm(blocks(norm₀([class, stem(image)] + position))₀): [batch, width] of images [batch, channels, image, image]."""

    stem: Patches | ConvStem
    class_token: Array
    position: Array
    first_norm: LayerNorm
    blocks: tuple[PreNorm, ...]
    norm: LayerNorm
    config: VisionConfig

    @classmethod
    def init(cls, key: Array, config: VisionConfig, dtype: Any) -> VisionTower:
        c, w = config, config.width
        k_stem, k_class, k_position, *k_blocks = ng.random.split(key, 3 + c.layers)
        small, pixels = initializers.normal(w ** -0.5), c.channels * c.patch ** 2
        stem = (ConvStem.init(k_stem, c.channels, c.patch, w, dtype) if c.stem == "conv" else
                Patches(Linear(initializers.lecun_normal(k_stem, (pixels, w), dtype), None), c.patch))
        first, last = (LayerNorm.init(w, eps=c.eps, dtype=dtype) for _ in range(2))
        return cls(stem, small(k_class, (w,), dtype), small(k_position, (1 + (c.image // c.patch) ** 2, w), dtype), first,
                   init_blocks(k_blocks, c, dtype), last, c)

    def __call__(self, images: Array, *, key: Array | None = None) -> Array:
        check_images(images, self.config.channels, self.config.image)
        k_embedding, k_blocks = split_key(key, 2)
        x = self.first_norm(with_class(self.class_token, self.stem(images)) + self.position)
        return self.norm(apply(self.blocks, dropout(x, self.config.dropout, k_embedding), key=k_blocks)[:, 0])


class TextTower(Module):
    """y = norm(blocks(token[ids] + position))ₑ, each token seeing the past, e the text's end: [batch, width] of ids [batch, time]."""

    token: Embedding
    position: Array
    blocks: tuple[PreNorm, ...]
    norm: LayerNorm
    config: TextConfig

    @classmethod
    def init(cls, key: Array, config: TextConfig, dtype: Any) -> TextTower:
        k_token, k_position, *k_blocks = ng.random.split(key, 2 + config.layers)
        return cls(Embedding.init(k_token, config.vocabulary, config.width, table_init=initializers.normal(0.02), dtype=dtype),
                   initializers.normal(0.01)(k_position, (config.context, config.width), dtype),
                   init_blocks(k_blocks, config, dtype), LayerNorm.init(config.width, eps=config.eps, dtype=dtype), config)

    def __call__(self, ids: Array, mask: Array | None = None, *, key: Array | None = None) -> Array:
        time, c = ids.shape[-1], self.config
        if len(ids.shape) != 2 or time > c.context:
            raise TypeRuleError(f"clip: ids are [batch, time] with time at most the context of {c.context}, got {list(ids.shape)}")
        k_embedding, k_blocks = split_key(key, 2)
        x = dropout(self.token(ids) + self.position[:time], c.dropout, k_embedding)
        x = self.norm(apply(self.blocks, x, attendable(mask, ids), causal=True, key=k_blocks))
        end = ng.numpy.argmax(ids if c.end_of_text is None else ids == c.end_of_text, axis=-1)
        return ng.numpy.take_along_axis(x, end[:, None, None], axis=1)[:, 0]


class CLIP(Module):
    """logits = exp(scale) · image textᵀ, with image = unit(vision(images) Wv) and text = unit(text(ids) Wt)."""

    Config: ClassVar[type[CLIPConfig]] = CLIPConfig

    vision: VisionTower
    text: TextTower
    vision_projection: Linear
    text_projection: Linear
    scale: Array
    config: CLIPConfig

    @classmethod
    def init(cls, key: Array, config: CLIPConfig, dtype: Any = np.float32) -> CLIP:
        """Random weights as CLIP's: see `init_blocks`; projections N(0, 1 / width), scale -log temperature."""
        k_vision, k_text, *keys = ng.random.split(key, 4)
        image, text = (Linear(initializers.normal(w ** -0.5)(k, (w, config.projection), dtype), None)
                       for k, w in zip(keys, (config.vision.width, config.text.width)))
        return cls(VisionTower.init(k_vision, config.vision, dtype), TextTower.init(k_text, config.text, dtype), image, text,
                   np.asarray(-math.log(config.temperature), dtype), config)

    def images(self, images: Array, *, key: Array | None = None) -> Array:
        """Unit vectors [batch, projection] of images [batch, channels, image, image]; a key turns dropout on."""
        return unit(self.vision_projection(self.vision(images, key=key)))

    def texts(self, ids: Array, mask: Array | None = None, *, key: Array | None = None) -> Array:
        """Unit vectors [batch, projection] of ids [batch, time]. mask: 1 where there is a token, 0 where there is padding."""
        return unit(self.text_projection(self.text(ids, mask, key=key)))

    def __call__(self, images: Array, ids: Array, mask: Array | None = None, *, key: Array | None = None) -> Array:
        """Logits [images, texts]: how well each text fits each image."""
        k_vision, k_text = split_key(key, 2)
        seen, read = self.images(images, key=k_vision), self.texts(ids, mask, key=k_text)
        return ng.numpy.exp(self.scale) * ng.numpy.matmul(seen, ng.numpy.swapaxes(read, 0, 1))

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> CLIP:
        """The model of a Hugging Face folder. CheckpointError if it is no CLIP's."""
        config, holds = read_config(folder), Folder(folder, dtype)
        v, t, at_image, at_text = config.vision, config.text, "vision_model", "text_model"
        vision = VisionTower(
            read_patches(holds, f"{at_image}.embeddings.patch_embedding", v.channels, v.patch, v.width, bias=False),
            holds.array(f"{at_image}.embeddings.class_embedding", v.width),
            holds.array(f"{at_image}.embeddings.position_embedding.weight", 1 + (v.image // v.patch) ** 2, v.width),
            holds.norm(f"{at_image}.pre_layrnorm", v.width, v.eps), holds.blocks(PreNorm, f"{at_image}.encoder.layers", NAMES, v),
            holds.norm(f"{at_image}.post_layernorm", v.width, v.eps), v)
        text = TextTower(
            Embedding(holds.array(f"{at_text}.embeddings.token_embedding.weight", t.vocabulary, t.width)),
            holds.array(f"{at_text}.embeddings.position_embedding.weight", t.context, t.width),
            holds.blocks(PreNorm, f"{at_text}.encoder.layers", NAMES, t), holds.norm(f"{at_text}.final_layer_norm", t.width, t.eps), t)
        model = cls(vision, text, holds.linear("visual_projection", v.width, config.projection, bias=False),
                    holds.linear("text_projection", t.width, config.projection, bias=False), holds.array("logit_scale"), config)
        holds.finish(ignored=UNUSED)
        return model


def contrastive_loss(model: CLIP, images: Array, ids: Array, same: Array | None = None, *, mask: Array | None = None,
                     key: Array | None = None) -> Array:
    """Half the cross entropy of each image's texts, and half that of each text's images (nats a pair).

    same, bool [n, n]: which text (column) fits which image (row) beside its own; the target is uniform over all that fit.
    """
    logits = model(images, ids, mask, key=key)
    n = logits.shape[0]
    if tuple(logits.shape) != (n, n) or same is not None and tuple(same.shape) != (n, n):
        raise TypeRuleError(f"contrastive_loss: as many images as texts, and `same` [n, n]; got logits {list(logits.shape)}"
                            f"{'' if same is None else f' and same {list(same.shape)}'}")

    def one_way(logits: Array, same: Array) -> Array:
        target = (same | ng.numpy.eye(n, dtype=bool)).astype(logits.dtype)
        target = target / ng.numpy.sum(target, axis=-1, keepdims=True)
        return -ng.numpy.mean(ng.numpy.sum(target * F.log_softmax(logits, axis=-1), axis=-1))

    across = ng.numpy.swapaxes(logits, 0, 1)
    if same is None:
        rows, columns = (ng.numpy.mean(F.cross_entropy(x, ng.numpy.arange(n), ignore_index=None)) for x in (logits, across))
    else:
        rows, columns = one_way(logits, same), one_way(across, ng.numpy.swapaxes(same, 0, 1))
    return 0.5 * (rows + columns)


def unit(x: Array) -> Array:
    """Rows of length one."""
    return x / ng.numpy.sqrt(ng.numpy.sum(x * x, axis=-1, keepdims=True))


def init_blocks(keys: Array, config: EncoderConfig, dtype: Any) -> tuple[PreNorm, ...]:
    """N(0, 1 / width) into attention, N(0, 1 / (2 width)) into the perceptron, N(0, 1 / (2 layers width)) into the residual stream."""
    inward, up, out = (initializers.normal((n * config.width) ** -0.5) for n in (1, 2, 2 * config.layers))
    return tuple(PreNorm.init(k, config, dtype, inward=inward, outward=out, up=up, down=out) for k in keys)


def read_config(folder: str | pathlib.Path) -> CLIPConfig:
    """The sizes that a Hugging Face folder's config.json names, the rest as published."""
    found = hugging_face.read_config(folder, "clip")

    def tower(name: str, silent: Mapping[str, Any]) -> dict[str, Any]:
        # Older files have a second dictionary, which counts where there is one.
        given = found.get(f"{name}_dict") or found.get(name) or {}
        if not isinstance(given, dict):
            raise CheckpointError(f"{folder}: {name} must be a dictionary, it is {given!r}")
        hugging_face.check_options(folder, given, PUBLISHED, "CLIP")
        return {**silent, **given}

    def common(given: dict[str, Any]) -> dict[str, Any]:
        shared = sizes(given, layers="num_hidden_layers", heads="num_attention_heads", width="hidden_size", inner="intermediate_size")
        return {**shared, "activation": given.get("hidden_act", "quick_gelu"), "eps": float(given["layer_norm_eps"])}

    vision, text = tower("vision_config", VISION), tower("text_config", TEXT)
    # An end of 2 was a mistake in published files, whose texts end at the largest id.
    end = hugging_face.size(text, "eos_token_id")
    with describing(folder, "CLIP"):
        return CLIPConfig(
            vision=VisionConfig(**common(vision), **sizes(vision, image="image_size", patch="patch_size", channels="num_channels")),
            text=TextConfig(**common(text), **sizes(text, vocabulary="vocab_size", context="max_position_embeddings"),
                            end_of_text=None if end == 2 else end),
            projection=hugging_face.size({**SIZES, **found}, "projection_dim"))
