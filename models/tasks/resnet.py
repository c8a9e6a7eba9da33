"""ResNet on images: handwritten digits, or the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nagraph.models.resnet import ResNet, ResNetConfig
from nagraph.models.tasks.images import ImageRecipe, ImageTask
from nagraph.models.training.fields import maybe_whole, not_negative, pattern, positive, share, whole

Array = Any


@dataclass(frozen=True)
class ResNetRecipe(ImageRecipe):
    """ResNet's recipe is stages of basic blocks, each of twice the width and half the image of the one before."""

    batch: int = whole(64, 1, "Images in one batch.")
    learning_rate: float = positive(3e-3, "Peak learning rate.")
    horizon: int | None = maybe_whole(630, 2, "Let the learning rate fall along a half cosine until this step.")
    weight_decay: float = not_negative(0.05, "Decay of matrices; vectors (biases, norms) do not decay.")
    average: float = share(0.99, "Decay of the moving average of the weights, with which models are evaluated.")
    width: int = whole(32, 1, "Channels of the first stage.")
    depths: str = pattern("3,2,1", r"[1-9]\d*(,[1-9]\d*)*", "numbers such as 3,2,1", "Blocks of each stage.")


class ResNetTask(ImageTask):
    name: ClassVar[str] = "resnet"
    about: ClassVar[str] = ("images of handwritten digits that scikit-learn ships (--data: a folder with MNIST's IDX files, CIFAR-10's "
                            "binary batches, or a folder of images for each class)")
    Recipe: ClassVar[Any] = ResNetRecipe
    steps: ClassVar[int] = 630

    @property
    def config(self) -> ResNetConfig:
        r = self.recipe
        depths = tuple(map(int, r.depths.split(",")))
        widths = tuple(r.width << i for i in range(len(depths)))
        return ResNetConfig(self.channels, len(self.names), r.width, widths, depths, "basic", "small")

    def init(self, key: Array) -> ResNet:
        return ResNet.init(key, self.config, np.dtype(self.recipe.dtype))

    def loss(self, model: Any, *arrays: Array, key: Array) -> tuple[Array, Any]:
        pixels, labels = arrays
        logits, moved = model(pixels, training=True)
        return self.mean_loss(logits, labels), moved

    def logits(self, model: Any, images: Array) -> Array:
        return model(images)
