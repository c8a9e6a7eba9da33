"""ResNet: convolutions that learn what to add to their input, with batch normalisation after each.

Source: He et al., Deep Residual Learning for Image Recognition, 2015. As in version 1.5 of the widespread implementations, it is
the 3×3 convolution of a bottleneck that halves the image, not the 1×1 before it.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.models import hugging_face
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.conv import Conv2d
from nagraph.nn.layers import Linear
from nagraph.nn.module import Module
from nagraph.nn.norms import BatchNorm
from nagraph.nn.pooling import MaxPool2d, global_avg_pool

Array = Any

#: For each kind of block its convolutions: the kernel, how many times fewer channels than the block's, whether it has the stride.
BLOCKS = {"basic": ((3, 1, True), (3, 1, False)), "bottleneck": ((1, 4, False), (3, 4, True), (1, 1, False))}
#: For each stem the kernel and stride of its convolution, and the pooling after it.
STEMS = {"imagenet": (7, 2, MaxPool2d(3, 2, 1)), "small": (3, 1, None)}
#: Options of a Hugging Face configuration that change the function, and the values that are read; a missing one has the first.
PUBLISHED = {"hidden_act": ("relu",), "downsample_in_bottleneck": (False,), "layer_type": ("bottleneck", "basic"),
             "downsample_in_first_stage": (False, True)}


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a ResNet. The defaults are those of ResNet-50 (25.6 million parameters).

    stem "imagenet": 7×7 with stride 2, then 3×3 maximum with stride 2; "small", for small images: 3×3. classes 0: no head.
    Each stage but the first halves the image; the first does where `halve_first`.
    """

    channels: int = 3
    classes: int = 1000
    embedding: int = 64
    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    block: str = "bottleneck"
    stem: str = "imagenet"
    halve_first: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "embedding"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.classes < 0:
            raise ValueError(f"classes must be at least 0, got {self.classes}")
        for name, known in (("block", BLOCKS), ("stem", STEMS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        if not self.widths or len(self.widths) != len(self.depths) or min(*self.widths, *self.depths) < 1:
            raise ValueError(f"widths {self.widths} and depths {self.depths} must be one of each, at least 1, for every stage")
        share = max(fewer for _, fewer, _ in BLOCKS[self.block])
        if any(w % share for w in self.widths):
            raise ValueError(f"widths {self.widths} of {self.block} blocks must be multiples of {share}")

    def stages(self) -> list[list[tuple[int, int, int]]]:
        """For each block of each stage the channels that come, those that leave, and the stride."""
        found, inputs = [], self.embedding
        for i, (width, depth) in enumerate(zip(self.widths, self.depths)):
            first = (inputs, width, 2 if i or self.halve_first else 1)
            found.append([first] + [(width, width, 1)] * (depth - 1))
            inputs = width
        return found


class ConvNorm(Module):
    """y = norm(x * W): a convolution without bias, and batch normalisation. Also returns the layer with what it learnt of x."""

    convolution: Conv2d
    norm: BatchNorm

    def __call__(self, x: Array, training: bool) -> tuple[Array, ConvNorm]:
        y = self.convolution(x)
        if not training:
            return self.norm(y), self
        y, norm = self.norm(y, training=True)
        return y, self.replace(norm=norm)


class Block(Module):
    """y = relu(s(x) + f(x)): f are convolutions with relu between them, s is x, or a 1×1 convolution where the shape changes."""

    layers: tuple[ConvNorm, ...]
    shortcut: ConvNorm | None

    def __call__(self, x: Array, training: bool) -> tuple[Array, Block]:
        y, layers, shortcut = x, [], self.shortcut
        for i, layer in enumerate(self.layers):
            y, layer = layer(F.relu(y) if i else y, training)
            layers.append(layer)
        if shortcut is not None:
            x, shortcut = shortcut(x, training)
        return F.relu(y + x), self.replace(layers=tuple(layers), shortcut=shortcut)


#: Makes a convolution and its norm for a place, the channels that come, those that leave, a kernel and a stride.
ConvNorms = Callable[[str, int, int, int, int], ConvNorm]


class ResNet(Module):
    """logits = head(mean over the image of stages(stem(x)))."""

    Config: ClassVar[type[ResNetConfig]] = ResNetConfig

    stem: ConvNorm
    stages: tuple[tuple[Block, ...], ...]
    head: Linear | None
    config: ResNetConfig

    @classmethod
    def build(cls, config: ResNetConfig, conv_norm: ConvNorms, head: Callable[[int, int], Linear]) -> ResNet:
        """The model of parts that are made by place and size; the places have Hugging Face's names."""

        def block(at: str, inputs: int, outputs: int, stride: int) -> Block:
            layers, x = [], inputs
            for i, (kernel, fewer, strided) in enumerate(BLOCKS[config.block]):
                layers.append(conv_norm(f"{at}.layer.{i}", x, outputs // fewer, kernel, stride if strided else 1))
                x = outputs // fewer
            same = inputs == outputs and stride == 1
            return Block(tuple(layers), None if same else conv_norm(f"{at}.shortcut", inputs, outputs, 1, stride))

        kernel, stride, _ = STEMS[config.stem]
        stem = conv_norm("embedder.embedder", config.channels, config.embedding, kernel, stride)
        stages = tuple(tuple(block(f"encoder.stages.{i}.layers.{j}", *sizes) for j, sizes in enumerate(stage))
                       for i, stage in enumerate(config.stages()))
        return cls(stem, stages, head(config.widths[-1], config.classes) if config.classes else None, config)

    @classmethod
    def init(cls, key: Array, config: ResNetConfig, dtype: Any = np.float32) -> ResNet:
        """Random weights as He et al.'s: N(0, 2 / inputs of a unit); norms that change nothing."""
        k_head, k_convolutions = ng.random.split(key, 2)
        count = itertools.count()

        def conv_norm(place: str, inputs: int, outputs: int, kernel: int, stride: int) -> ConvNorm:
            k = ng.random.fold_in(k_convolutions, next(count))
            return ConvNorm(Conv2d.init(k, inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False,
                                        weight_init=initializers.he_normal, dtype=dtype), BatchNorm.init(outputs, dtype=dtype))

        return cls.build(config, conv_norm, lambda inputs, outputs: Linear.init(k_head, inputs, outputs, dtype=dtype))

    def __call__(self, images: Array, *, training: bool = False) -> Any:
        """Logits [batch, classes] of images [batch, channels, height, width]; without a head the means before it.

        training: standardised by the batch's statistics; (logits, model), in which the running ones have moved.
        """
        if len(images.shape) != 4 or images.shape[1] != self.config.channels:
            raise ng.errors.TypeRuleError(
                f"resnet: images must be [batch, {self.config.channels}, height, width], got shape {list(images.shape)}")
        pool = STEMS[self.config.stem][2]
        x, stem = self.stem(images, training)
        x = F.relu(x) if pool is None else pool(F.relu(x))
        stages = []
        for stage in self.stages:
            blocks = []
            for block in stage:
                x, moved = block(x, training)
                blocks.append(moved)
            stages.append(tuple(blocks))
        y = global_avg_pool(x)
        logits = y if self.head is None else self.head(y)
        return (logits, self.replace(stem=stem, stages=tuple(stages))) if training else logits

    @classmethod
    def from_pretrained(cls, folder: str | pathlib.Path, dtype: Any = np.float32) -> ResNet:
        """The model of a Hugging Face folder: config.json and safetensors. CheckpointError if it is no ResNet's.

        Weights that have this dtype already stay in the file, read-only, until they are used.
        """
        found = hugging_face.read_config(folder, "resnet")
        hugging_face.check_options(folder, found, PUBLISHED, "ResNet")
        basis = ResNetConfig()
        try:
            config = ResNetConfig(
                found.get("num_channels", basis.channels), _classes(found), found.get("embedding_size", basis.embedding),
                tuple(found.get("hidden_sizes", basis.widths)), tuple(found.get("depths", basis.depths)),
                found.get("layer_type", basis.block), "imagenet", found.get("downsample_in_first_stage", False))
        except (TypeError, ValueError) as error:
            raise ng.errors.CheckpointError(f"{folder}: config.json describes no ResNet: {error}") from None
        tensors = hugging_face.read_tensors(folder, strip="resnet.")

        def conv_norm(place: str, inputs: int, outputs: int, kernel: int, stride: int) -> ConvNorm:
            weight = tensors.take(f"{place}.convolution.weight", (outputs, inputs, kernel, kernel), dtype)
            names = ("weight", "bias", "running_mean", "running_var")
            norm: dict[str, Any] = {x: tensors.take(f"{place}.normalization.{x}", (outputs,), dtype) for x in names}
            return ConvNorm(Conv2d(weight, None, stride, kernel // 2), BatchNorm(**norm))

        def head(inputs: int, outputs: int) -> Linear:
            weight = tensors.take("classifier.1.weight", (outputs, inputs), dtype)
            return Linear(np.ascontiguousarray(weight.T), tensors.take("classifier.1.bias", (outputs,), dtype))

        model = cls.build(config, conv_norm, head)
        tensors.finish(ignored=("*.num_batches_tracked",))
        return model


def _classes(found: dict[str, Any]) -> int:
    """How many classes a configuration names: those with labels, two where it says nothing, none where it has no classifier."""
    if found.get("architectures") == ["ResNetModel"]:
        return 0
    return len(found["id2label"]) if "id2label" in found else int(found.get("num_labels", 2))


def classification_loss(model: ResNet, images: Array, labels: Array, *, training: bool = False) -> Any:
    """Mean cross entropy (nats) of the labels [batch]; when training, (loss, model), the model with new running statistics."""
    if not training:
        return ng.numpy.mean(F.cross_entropy(model(images), labels, ignore_index=None))
    logits, moved = model(images, training=True)
    return ng.numpy.mean(F.cross_entropy(logits, labels, ignore_index=None)), moved
