"""The vision transformer: an image as a sequence of patches, read by a pre-norm transformer.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2020; Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022
(pooling by the mean); Xiao et al., Early Convolutions Help Transformers See Better, 2021 (a stem of convolutions).
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.models import hugging_face
from nagraph.models.encoder import EncoderConfig, Folder, PreNorm, apply, describing, sizes, split_key
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.conv import Conv2d
from nagraph.nn.layers import Linear, dropout
from nagraph.nn.module import Module
from nagraph.nn.norms import LayerNorm

Array = Any

#: Options of a Hugging Face configuration that change the function, and the values that are ViT's; a missing one has the first.
PUBLISHED = {"hidden_act": ("gelu",), "pooler_act": ("tanh",), "qkv_bias": (True, False)}
#: Tensors that no call here uses: what stands for a hidden patch in training by reconstruction.
UNUSED = ("embeddings.mask_token",)
#: Each part of a block, and its name in a Hugging Face folder.
NAMES = {
    "attention_norm": "layernorm_before", "query": "attention.attention.query", "key": "attention.attention.key",
    "value": "attention.attention.value", "output": "attention.output.dense",
    "mlp_norm": "layernorm_after", "up": "intermediate.dense", "down": "output.dense",
}


@dataclass(frozen=True, kw_only=True)
class ViTConfig(EncoderConfig):
    """Sizes of a vision transformer. The defaults are those of the published ViT-B/16 (87 million parameters).

    pool: what the head reads, the class token ("class") or the mean of all patches ("mean"; then there is no class token).
    position_std: deviation of the first positions. classes: 0 for no head.
    """

    image: int = 224
    patch: int = 16
    channels: int = 3
    classes: int = 1000
    pool: str = "class"
    position_std: float = 0.02
    optional: ClassVar[tuple[str, ...]] = ("inner", "classes")
    choices: ClassVar[dict[str, tuple[str, ...]]] = {**EncoderConfig.choices, "pool": ("class", "mean")}

    def __post_init__(self) -> None:
        super().__post_init__()
        check_patches(self.image, self.patch)
        if not self.position_std >= 0:
            raise ValueError(f"position_std must be at least 0, got {self.position_std}")

    @property
    def positions(self) -> int:
        """Vectors that the blocks see: one for each patch, and the class token."""
        return (self.image // self.patch) ** 2 + (self.pool == "class")


class Patches(Module):
    """y = x E + b for the pixels x of each patch, row after row: [batch, channels, h, w] -> [batch, patches, width]."""

    projection: Linear
    size: int

    def __call__(self, images: Array) -> Array:
        batch, channels, height, width = images.shape
        p, rows, columns = self.size, height // self.size, width // self.size
        x = ng.numpy.reshape(images, (batch, channels, rows, p, columns, p))
        x = ng.numpy.transpose(x, (0, 2, 4, 1, 3, 5))
        return self.projection(ng.numpy.reshape(x, (batch, rows * columns, channels * p * p)))


class ConvStem(Module):
    """x = relu(conv(x)), 3 × 3 with stride 2, until a pixel is a patch, and a linear map of each: [batch, patches, width]."""

    convolutions: tuple[Conv2d, ...]
    projection: Linear

    @classmethod
    def init(cls, key: Array, channels: int, patch: int, width: int, dtype: Any) -> ConvStem:
        """As many convolutions as halve a patch to one pixel, the last with `width` channels, each other with half the next one's."""
        count = patch.bit_length() - 1
        if patch != 2 ** count or patch < 2 or width % 2 ** (count - 1):
            raise ValueError(f"a stem of convolutions halves a patch and doubles its channels: patch must be 2, 4, 8, ... and width a "
                             f"multiple of patch / 2, got {patch} and {width}")
        counts = [channels, *(width >> i for i in reversed(range(count)))]
        k_last, *keys = ng.random.split(key, 1 + count)
        return cls(tuple(Conv2d.init(k, a, b, 3, stride=2, padding=1, weight_init=initializers.he_normal, dtype=dtype)
                         for k, a, b in zip(keys, counts, counts[1:])),
                   Linear(initializers.lecun_normal(k_last, (width, width), dtype), None))

    def __call__(self, images: Array) -> Array:
        x = images
        for conv in self.convolutions:
            x = F.relu(conv(x))
        batch, width, rows, columns = x.shape
        return self.projection(ng.numpy.swapaxes(ng.numpy.reshape(x, (batch, width, rows * columns)), 1, 2))


class ViT(Module):
    """scores = head(pool(norm(blocks([class, patches(image)] + position)))).

    Without a head the call gives what is pooled. A pooler, which some published models have, is tanh(x W + b) before the head.
    """

    Config: ClassVar[type[ViTConfig]] = ViTConfig

    patches: Patches
    class_token: Array | None
    position: Array
    blocks: tuple[PreNorm, ...]
    norm: LayerNorm
    pooler: Linear | None
    head: Linear | None
    config: ViTConfig

    @classmethod
    def init(cls, key: Array, config: ViTConfig, dtype: Any = np.float32) -> ViT:
        """Random weights as the paper's: blocks after Glorot, patches N(0, 1 / pixels), positions N(0, position_std²), the rest
        N(0, 0.02²), biases 0."""
        glorot, small, w = initializers.glorot_uniform, initializers.normal(0.02), config.width
        k_patch, k_class, k_position, k_head, *k_blocks = ng.random.split(key, 4 + config.layers)
        pixels = config.channels * config.patch ** 2

        def linear(key: Array, inputs: int, outputs: int, draw: Any) -> Linear:
            return Linear(draw(key, (inputs, outputs), dtype), np.zeros(outputs, dtype))

        return cls(
            Patches(linear(k_patch, pixels, w, initializers.lecun_normal), config.patch),
            small(k_class, (w,), dtype) if config.pool == "class" else None,
            initializers.normal(config.position_std)(k_position, (config.positions, w), dtype),
            tuple(PreNorm.init(k, config, dtype, inward=glorot, outward=glorot, up=glorot, down=glorot) for k in k_blocks),
            LayerNorm.init(w, eps=config.eps, dtype=dtype), None,
            linear(k_head, w, config.classes, small) if config.classes else None, config)

    def features(self, images: Array, *, key: Array | None = None) -> Array:
        """Vectors [batch, positions, width] of images [batch, channels, image, image], the class token's first."""
        check_images(images, self.config.channels, self.config.image)
        k_embedding, k_blocks = split_key(key, 2)
        x = with_class(self.class_token, self.patches(images)) + self.position
        return self.norm(apply(self.blocks, dropout(x, self.config.dropout, k_embedding), key=k_blocks))

    def __call__(self, images: Array, *, key: Array | None = None) -> Array:
        """Scores [batch, classes] of images [batch, channels, image, image]; a key turns dropout on."""
        x = self.features(images, key=key)
        x = x[:, 0] if self.config.pool == "class" else ng.numpy.mean(x, axis=1)
        if self.pooler is not None:
            x = ng.numpy.tanh(self.pooler(x))
        return x if self.head is None else self.head(x)

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> ViT:
        """The model of a Hugging Face folder, with the head it holds. CheckpointError if it is no ViT's."""
        found = hugging_face.read_config(folder, "vit")
        hugging_face.check_options(folder, found, PUBLISHED, "ViT")
        holds = Folder(folder, dtype, strip="vit.")
        with describing(folder, "ViT"):
            config = ViTConfig(
                **sizes(found, image="image_size", patch="patch_size", channels="num_channels", layers="num_hidden_layers",
                        heads="num_attention_heads", width="hidden_size", inner="intermediate_size"),
                classes=holds.rows("classifier.weight"),
                dropout=float(found.get("hidden_dropout_prob", 0.0)), eps=float(found.get("layer_norm_eps", 1e-12)))
        w, p, c = config.width, config.patch, config.channels
        pooled = found.get("pooler_output_size") or w
        model = cls(
            read_patches(holds, "embeddings.patch_embeddings.projection", c, p, w), holds.array("embeddings.cls_token", 1, 1, w)[0, 0],
            holds.array("embeddings.position_embeddings", 1, config.positions, w)[0],
            holds.blocks(PreNorm, "encoder.layer", NAMES, config, bias=found.get("qkv_bias", True)),
            holds.norm("layernorm", w, config.eps),
            holds.linear("pooler.dense", w, pooled) if "pooler.dense.weight" in holds else None,
            holds.linear("classifier", w, config.classes) if config.classes else None, config)
        holds.finish(ignored=UNUSED)
        return model


def with_class(token: Array | None, x: Array) -> Array:
    """The class token [width] in front of each row of patches x [batch, patches, width]."""
    if token is None:
        return x
    return ng.numpy.concatenate([ng.numpy.broadcast_to(token, (x.shape[0], 1, x.shape[2])), x], axis=1)


def check_patches(image: int, patch: int) -> None:
    if image % patch:
        raise ValueError(f"image {image} must be a multiple of patch {patch}")


def check_images(images: Array, channels: int, size: int) -> None:
    if len(images.shape) != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise TypeRuleError(f"images are [batch, {channels}, {size}, {size}] here, got {list(images.shape)}")


def read_patches(holds: Folder, name: str, channels: int, size: int, width: int, *, bias: bool = True) -> Patches:
    """A convolution whose stride is its kernel is a product with each patch."""
    kernel = holds.array(f"{name}.weight", width, channels, size, size)
    weight = holds.joined([kernel.reshape(width, -1).T])
    return Patches(Linear(weight, holds.array(f"{name}.bias", width) if bias else None), size)


def classification_loss(model: ViT, images: Array, labels: Array, *, key: Array | None = None) -> Array:
    """Mean cross entropy (nats an image) of labels [batch]."""
    return ng.numpy.mean(F.cross_entropy(model(images, key=key), labels, ignore_index=None))
