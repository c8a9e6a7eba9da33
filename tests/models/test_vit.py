"""The vision transformer by itself: patches, pooling, shapes, dropout, slopes, its limits, and folders that are no ViT's."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.vit import ConvStem, Patches, ViT, ViTConfig, classification_loss
from nagraph.nn.layers import Linear
from nagraph.storage import write_safetensors

CONFIG = ViTConfig(image=8, patch=4, channels=1, layers=2, heads=2, width=6, inner=10, classes=3)
MEAN = dataclasses.replace(CONFIG, pool="mean", position_std=0.5, channels=2)
FACTS = {"model_type": "vit", "image_size": 8, "patch_size": 4, "num_channels": 1, "num_hidden_layers": 2, "num_attention_heads": 2,
         "hidden_size": 6, "intermediate_size": 10, "hidden_dropout_prob": 0.25}


def moved(config: ViTConfig) -> ViT:
    """Norms and biases away from 1 and 0."""
    return ViT.init(ng.random.key(3), config).map(lambda x: x + 0.1 * np.random.default_rng(x.size).normal(size=x.shape).astype(x.dtype))


@pytest.fixture(scope="module")
def model() -> ViT:
    return moved(CONFIG)


def images(channels: int = 1, batch: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(batch, channels, 8, 8)).astype(np.float32)


run = ng.jit(lambda model, images, key=None: model(images, key=key))


def test_start() -> None:
    """Blocks after Glorot, patches N(0, 1 / pixels), positions N(0, position_std²), the rest N(0, 0.02²), biases 0."""
    config = ViTConfig(image=32, patch=4, channels=3, layers=2, heads=4, width=96, classes=80, position_std=0.5)
    start = ViT.init(ng.random.key(0), config).named_arrays()
    deviations = {"patches.projection.weight": 48 ** -0.5, "position": 0.5, "head.weight": 0.02, "attention.projection.weight": 96 ** -0.5,
                  "attention.output.weight": 96 ** -0.5, "mlp.up.weight": (2 / (5 * 96)) ** 0.5, "mlp.down.weight": (2 / (5 * 96)) ** 0.5}
    for name, x in start.items():
        if x.ndim == 2:
            wanted = next(d for end, d in deviations.items() if name.endswith(end))
            np.testing.assert_allclose(x.std(), wanted, rtol=0.05, err_msg=name)
        elif name != "class_token":
            assert np.all(x == (1 if name.endswith("norm.weight") else 0)), name
    np.testing.assert_allclose(start["class_token"].std(), 0.02, rtol=0.3)
    matrices = [x.ravel()[:50].tobytes() for x in start.values() if x.ndim == 2]
    assert len(set(matrices)) == len(matrices)
    assert ViT.init(ng.random.key(0), config, np.float64).position.dtype == np.float64


def test_patches_are_a_convolution_with_stride_its_kernel() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 3, 8, 12)).astype(np.float32), rng.normal(size=(5, 3, 4, 4)).astype(np.float32)
    layer = Patches(Linear(kernel.reshape(5, -1).T, None), 4)
    found = ng.jit(layer)(x)
    expected = np.einsum("bcijkl,wcjl->bikw", x.reshape(2, 3, 2, 4, 3, 4), kernel).reshape(2, 6, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_stem_of_convolutions_comes_down_to_the_grid_of_patches() -> None:
    stem = ConvStem.init(ng.random.key(0), 1, 4, 12, np.float32)
    assert [c.weight.shape for c in stem.convolutions] == [(6, 1, 3, 3), (12, 6, 3, 3)]
    assert ng.jit(lambda s, x: s(x))(stem, images()).shape == (3, 4, 12)
    for patch, width in ((6, 12), (1, 12), (8, 6)):
        with pytest.raises(ValueError, match=f"patch must be 2, 4, 8, ... and width a multiple of patch / 2, got {patch} and {width}"):
            ConvStem.init(ng.random.key(0), 1, patch, width, np.float32)


def test_shapes_and_pooling(model: ViT) -> None:
    features, scores = ng.jit(lambda m, x: (m.features(x), m(x)))(model, images())
    assert features.shape == (3, 1 + 4, 6) and scores.shape == (3, 3)
    np.testing.assert_allclose(scores, features[:, 0] @ model.head.weight + model.head.bias, rtol=1e-4, atol=1e-5)
    mean = moved(MEAN)
    assert mean.class_token is None
    features, scores = ng.jit(lambda m, x: (m.features(x), m(x)))(mean, images(2))
    assert features.shape == (3, 4, 6) and scores.shape == (3, 3)
    np.testing.assert_allclose(scores, features.mean(axis=1) @ mean.head.weight + mean.head.bias, rtol=1e-4, atol=1e-5)
    headless = model.replace(head=None)
    np.testing.assert_allclose(run(headless, images()), ng.jit(lambda m, x: m.features(x))(model, images())[:, 0], rtol=0, atol=1e-6)
    assert ViT.init(ng.random.key(0), dataclasses.replace(CONFIG, classes=0)).head is None


@pytest.mark.parametrize("config", [CONFIG, MEAN], ids=["class", "mean"])
def test_every_patch_and_its_place_count(config: ViTConfig) -> None:
    model, x = moved(config), images(config.channels)
    before = run(model, x)
    for i, j in ((0, 0), (3, 5), (7, 1), (6, 6)):
        changed = x.copy()
        changed[:, :, i, j] += 1
        assert np.all(np.abs(run(model, changed) - before).max(axis=-1) > 1e-5)
    turned = np.roll(x, 4, axis=3)
    assert np.all(np.abs(run(model, turned) - before).max(axis=-1) > 1e-4), "patches in other places"
    nowhere = model.replace(position=np.zeros_like(model.position))
    np.testing.assert_allclose(run(nowhere, turned), run(nowhere, x), rtol=0, atol=1e-5, err_msg="without positions a set of patches")


def test_images_of_a_batch_do_not_meet(model: ViT) -> None:
    x = images()
    np.testing.assert_allclose(run(model, x[1:2]), run(model, x)[1:2], rtol=0, atol=1e-5)


def test_dropout_needs_a_rate_and_a_key(model: ViT) -> None:
    x, key, other = images(), ng.random.key(1), ng.random.key(2)
    np.testing.assert_allclose(run(model, x, key), run(model, x), rtol=0, atol=1e-6, err_msg="at rate 0 the key changes nothing")
    dropping = moved(dataclasses.replace(CONFIG, dropout=0.5))
    dropped = run(dropping, x, key)
    assert np.array_equal(run(dropping, x), run(model, x)), "without a key nothing is dropped"
    assert np.array_equal(run(dropping, x, key), dropped)
    assert not np.array_equal(dropped, run(model, x)) and not np.array_equal(run(dropping, x, other), dropped)


def test_dropout_falls_on_the_embedding_and_each_block(model: ViT) -> None:
    x, key, plain = images(), ng.random.key(5), run(model, images())
    first = model.blocks[0].replace(dropout=0.5)
    for place in (model.replace(config=dataclasses.replace(CONFIG, dropout=0.5)), model.replace(blocks=(first, model.blocks[1])),
                  model.replace(blocks=(model.blocks[0], first))):
        assert not np.allclose(ng.jit(lambda m: m(x, key=key))(place), plain, atol=1e-3)


@pytest.mark.parametrize("config", [CONFIG, MEAN], ids=["class", "mean"])
def test_the_loss_and_a_slope_of_every_array(config: ViTConfig) -> None:
    model, x, labels = moved(config), images(config.channels), np.array([2, 0, 1])
    value, grads = ng.jit(ng.value_and_grad(classification_loss))(model, x, labels)
    scores = run(model, x).astype(np.float64)
    expected = np.log(np.exp(scores).sum(-1)) - scores[np.arange(3), labels]
    np.testing.assert_allclose(value, expected.mean(), rtol=1e-5)
    for name, g in grads.named_arrays().items():
        assert np.isfinite(g).all() and np.abs(g).max() > 1e-6, name


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (3, 1, 8, 12), (1, 8, 8)])
def test_images_that_do_not_fit(shape: tuple[int, ...], model: ViT) -> None:
    with pytest.raises(TypeRuleError, match=r"images are \[batch, 1, 8, 8\] here, got \[" + ", ".join(map(str, shape))):
        run(model, np.zeros(shape, np.float32))


@pytest.mark.parametrize(("change", "message"), [
    ({"patch": 3}, "image 8 must be a multiple of patch 3"), ({"pool": "max"}, "pool must be 'class' or 'mean', got 'max'"),
    ({"channels": 0}, "channels must be at least 1"), ({"classes": -1}, "classes must be at least 0"), ({"width": 7}, "multiple of heads"),
    ({"position_std": -1.0}, "position_std must be at least 0"), ({"dropout": -0.1}, "dropout must lie in"),
])
def test_sizes_that_make_no_model(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


# -- folders ------------------------------------------------------------------------------------------------

PARTS = {"attention.output.dense": "attention.output", "layernorm_before": "attention_norm", "intermediate.dense": "mlp.up",
         "output.dense": "mlp.down", "layernorm_after": "mlp_norm"}


def write(folder: pathlib.Path, model: ViT, facts: Any = None, drop: str = "", **changes: np.ndarray) -> pathlib.Path:
    """The model's arrays under Hugging Face's names."""
    arrays, c = model.named_arrays(), model.config
    kernel = arrays["patches.projection.weight"].T.reshape(c.width, c.channels, c.patch, c.patch)
    tensors = {"vit.embeddings.cls_token": arrays["class_token"][None, None],
               "vit.embeddings.position_embeddings": arrays["position"][None],
               "vit.embeddings.patch_embeddings.projection.weight": kernel,
               "vit.embeddings.patch_embeddings.projection.bias": arrays["patches.projection.bias"]}
    layers = {f"vit.encoder.layer.{i}.{a}": f"blocks.{i}.{b}" for i in range(c.layers) for a, b in PARTS.items()}
    for theirs, ours in {"vit.layernorm": "norm", "classifier": "head", **layers}.items():
        tensors |= {f"{theirs}.weight": arrays[f"{ours}.weight"].T, f"{theirs}.bias": arrays[f"{ours}.bias"]}
    for i in range(c.layers):
        for x in ("weight", "bias"):
            parts = np.split(arrays[f"blocks.{i}.attention.projection.{x}"], 3, axis=-1)
            tensors |= {f"vit.encoder.layer.{i}.attention.attention.{n}.{x}": p.T for n, p in zip(("query", "key", "value"), parts)}
    named = {n: np.ascontiguousarray(x) for n, x in tensors.items()}
    write_safetensors(folder / "model.safetensors", {n: x for n, x in {**named, **changes}.items() if n != drop})
    (folder / "config.json").write_text(json.dumps(FACTS if facts is None else facts))
    return folder


def test_from_pretrained(model: ViT, tmp_path: pathlib.Path) -> None:
    folder = write(tmp_path, model, **{"vit.embeddings.mask_token": np.zeros((1, 1, 6))})
    found = ViT.from_pretrained(folder)
    x, y = found.named_arrays(), model.named_arrays()
    assert x.keys() == y.keys() and all(np.array_equal(x[n], y[n]) for n in x)
    assert found.config == dataclasses.replace(CONFIG, dropout=0.25)
    assert all(a.dtype == np.float64 for a in ViT.from_pretrained(folder, np.float64).named_arrays().values())


@pytest.mark.parametrize(("facts", "message"), [
    ({"model_type": "deit"}, "is for a model of type 'deit', not 'vit'"),
    ({"image_size": [8, 8]}, r"must name image_size, a whole number of at least 1; it says \[8, 8\]"),
    ({"patch_size": 3}, "describes no ViT: image 8 must be a multiple of patch 3"),
    ({"hidden_act": "relu"}, "hidden_act 'relu' is not what ViT has, 'gelu'"),
    ({"pooler_act": "relu"}, "pooler_act 'relu' is not what ViT has, 'tanh'"),
    ({"layer_norm_eps": "small"}, "describes no ViT"),
    ({"num_channels": 3}, r"projection.weight has shape \[6, 1, 4, 4\], the configuration asks for \[6, 3, 4, 4\]"),
    ({"image_size": 12}, r"position_embeddings has shape \[1, 5, 6\], the configuration asks for \[1, 10, 6\]"),
    ({"hidden_size": 2 * 10**6, "intermediate_size": 3 * 10**6}, "the configuration asks for"),
    ({"qkv_bias": False}, "has no place for encoder.layer.0.attention.attention.key.bias"),
])
def test_configurations_of_something_else(facts: Any, message: str, model: ViT, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        ViT.from_pretrained(write(tmp_path, model, {**FACTS, **facts}))
    assert "\n" not in str(caught.value)


def test_tensors_that_are_missing_or_unknown(model: ViT, tmp_path: pathlib.Path) -> None:
    with pytest.raises(CheckpointError, match="holds no tensor embeddings.cls_token"):
        ViT.from_pretrained(write(tmp_path, model, drop="vit.embeddings.cls_token"))
    with pytest.raises(CheckpointError, match="no place for decoder.weight"):
        ViT.from_pretrained(write(tmp_path, model, **{"decoder.weight": np.ones((2, 6))}))
