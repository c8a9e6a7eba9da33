"""The vision transformer beside Hugging Face's in PyTorch: features, pooler, scores, gradients of every tensor, losses of training."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification, ViTModel

import nagraph as ng
from nagraph.models.vit import ViT, classification_loss
from tests.oracles.encoders import blocks, check_curve, check_gradients, close, modules, saved

PARTS = {"attention.output": "attention.o_proj", "attention_norm": "layernorm_before", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
         "mlp_norm": "layernorm_after"}
QUERY = [f"attention.{x}_proj" for x in "qkv"]


def names(prefix: str = "vit.", **more: str) -> dict[str, tuple[str, ...]]:
    """The path of each tensor here, and Hugging Face's name of the same."""
    found = {"class_token": ("embeddings.cls_token",), "position": ("embeddings.position_embeddings",),
             **modules(patches__projection="embeddings.patch_embeddings.projection", norm="layernorm", **more),
             **blocks("blocks", "layers", 2, PARTS, QUERY)}
    return {ours: tuple(prefix + n for n in theirs) for ours, theirs in found.items()}


def hugging_face(**options: Any) -> ViTConfig:
    sizes = dict(image_size=12, patch_size=4, num_channels=3, hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                 intermediate_size=40)
    return ViTConfig(**{**sizes, **options})


def images(channels: int = 3) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(size=(5, channels, 12, 12)).astype(np.float32)


LABELS = np.array([1, 0, 4, 2, 2])


@pytest.mark.parametrize("options", [
    {}, {"num_channels": 1, "layer_norm_eps": 1e-3}, {"patch_size": 3}, {"pooler_output_size": 7},
], ids=["plain", "grey", "patch 3", "pooler"])
def test_the_model_without_a_head(options: dict[str, Any], tmp_path: pathlib.Path) -> None:
    theirs = saved(ViTModel(hugging_face(**options)), tmp_path)
    ours, x = ViT.from_pretrained(tmp_path), images(options.get("num_channels", 3))
    expected = theirs(torch.tensor(x))
    features, pooled = ng.jit(lambda m, x: (m.features(x), m(x)))(ours, x)
    close(features, expected.last_hidden_state, "features")
    close(pooled, expected.pooler_output, "pooled")
    weights = np.random.default_rng(1).normal(size=pooled.shape).astype(np.float32)
    (expected.pooler_output * torch.tensor(weights)).sum().backward()
    grads = ng.jit(ng.grad(lambda m, x: ng.numpy.sum(m(x) * weights)))(ours, x)
    check_gradients(grads, theirs, names("", pooler="pooler.dense"))


@pytest.mark.parametrize(("options", "saving"), [
    ({}, {}), ({}, {"max_shard_size": "10KB"}), ({"qkv_bias": False}, {}),
], ids=["whole", "shards", "no bias"])
def test_scores_and_gradients(options: dict[str, Any], saving: dict[str, Any], tmp_path: pathlib.Path) -> None:
    theirs = saved(ViTForImageClassification(hugging_face(num_labels=5, **options)), tmp_path, **saving)
    ours, x = ViT.from_pretrained(tmp_path), images()
    expected = theirs(torch.tensor(x), labels=torch.tensor(LABELS))
    close(ng.jit(lambda m, x: m(x))(ours, x), expected.logits)
    expected.loss.backward()
    loss, grads = ng.jit(ng.value_and_grad(classification_loss))(ours, x, LABELS)
    np.testing.assert_allclose(loss, expected.loss.item(), rtol=1e-5)
    mapped = {**names(), **modules(head="classifier")}
    if not options.get("qkv_bias", True):
        mapped = {a: b for a, b in mapped.items() if not a.endswith("projection.bias") or a.startswith("patches")}
    check_gradients(grads, theirs, mapped)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_loss_curve_of_50_steps(dtype: str, tmp_path: pathlib.Path) -> None:
    theirs = saved(ViTForImageClassification(hugging_face(num_labels=5, num_channels=1)), tmp_path)
    patterns = np.random.default_rng(9).normal(size=(5, 1, 12, 12))

    def batch(i: int) -> tuple[Any, ...]:
        rng = np.random.default_rng(i)
        labels = rng.integers(0, 5, 8)
        return patterns[labels] + rng.normal(size=(8, 1, 12, 12)), labels

    check_curve(ViT.from_pretrained(tmp_path, dtype), classification_loss, theirs, lambda m, x, y: m(x, labels=y).loss, batch, dtype)
