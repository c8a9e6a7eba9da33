"""ViT on images: handwritten digits, or the user's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import DataError
from nagraph.models.tasks.images import ImageRecipe, ImageTask
from nagraph.models.training.fields import maybe_whole, not_negative, one_of, positive, share, whole
from nagraph.models.vit import ViT, ViTConfig

Array = Any


@dataclass(frozen=True)
class ViTRecipe(ImageRecipe):
    """ViT's recipe is a small transformer for small images, and 120 epochs of the digits."""

    batch: int = whole(64, 1, "Images in one batch.")
    learning_rate: float = positive(1e-3, "Peak learning rate.")
    horizon: int | None = maybe_whole(2520, 2, "Let the learning rate fall along a half cosine until this step.")
    weight_decay: float = not_negative(0.05, "Decay of matrices; vectors (biases, norms) do not decay.")
    layers: int = whole(3, 1, "Transformer blocks.")
    heads: int = whole(4, 1, "Attention heads.")
    width: int = whole(128, 1, "Width of a patch's vector.")
    patch: int = whole(2, 1, "Side of a patch, in pixels.")
    pool: str = one_of("mean", ("mean", "class"), "What the head reads: the mean of all patches, or a class token.")
    position_std: float = not_negative(0.5, "Deviation of the first positions: large, since small data teach them slowly.")
    dropout: float = share(0.1, "Share of activations that a step leaves out.")


class ViTTask(ImageTask):
    name: ClassVar[str] = "vit"
    about: ClassVar[str] = ("images of handwritten digits that scikit-learn ships (--data: a folder with MNIST's IDX files, CIFAR-10's "
                            "binary batches, or a folder of images for each class)")
    Recipe: ClassVar[Any] = ViTRecipe
    steps: ClassVar[int] = 2520

    @property
    def config(self) -> ViTConfig:
        r = self.recipe
        if self.height != self.width:
            raise DataError(f"vit takes square images, these are {self.height} x {self.width}")
        try:
            return ViTConfig(layers=r.layers, heads=r.heads, width=r.width, dropout=r.dropout, image=self.height, patch=r.patch,
                             channels=self.channels, classes=len(self.names), pool=r.pool, position_std=r.position_std)
        except ValueError as error:
            raise DataError(str(error)) from None

    def init(self, key: Array) -> ViT:
        return ViT.init(key, self.config, np.dtype(self.recipe.dtype))

    def loss(self, model: Any, *arrays: Array, key: Array) -> tuple[Array, Any]:
        pixels, labels = arrays
        return self.mean_loss(model(pixels, key=key if self.recipe.dropout else None), labels), model

    def logits(self, model: Any, images: Array) -> Array:
        return model(images)
