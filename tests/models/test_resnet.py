"""ResNet by itself: sizes, stems, statistics that move, its limits, and folders that are no ResNet's."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import CheckpointError, TypeRuleError
from nagraph.models.resnet import ResNet, ResNetConfig, classification_loss
from nagraph.storage import write_safetensors

SMALL = ResNetConfig(channels=1, classes=3, embedding=4, widths=(4, 8), depths=(1, 1), block="basic", stem="small")
#: What the benchmark against other frameworks trains: CIFAR's images, 0.42 million parameters.
BENCHMARK = ResNetConfig(channels=3, classes=10, embedding=32, widths=(32, 64, 128), depths=(3, 2, 1), block="basic", stem="small")


@pytest.fixture(scope="module")
def model() -> ResNet:
    return ResNet.init(ng.random.key(3), SMALL)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 1, 8, 10)).astype(np.float32)


forward = ng.jit(lambda model, images: model(images))
train = ng.jit(lambda model, images: model(images, training=True))


def test_published_sizes() -> None:
    """The numbers of parameters that the paper's networks have (torchvision counts the same)."""
    sizes = {(3, 4, 6, 3): 25_557_032, (3, 4, 23, 3): 44_549_160}
    for depths, expected in sizes.items():
        assert parameters(ResNetConfig(depths=depths)) == expected
    assert parameters(ResNetConfig(widths=(64, 128, 256, 512), depths=(2, 2, 2, 2), block="basic")) == 11_689_512
    assert parameters(BENCHMARK) == ResNet.init(ng.random.key(0), BENCHMARK).parameter_count == 419_754


def parameters(config: ResNetConfig) -> int:
    """Counted from shapes alone: of each convolution its kernel, of each norm a weight and a bias, and the head."""
    counts = []

    def count(place: str, inputs: int, outputs: int, kernel: int, stride: int) -> Any:
        counts.append(inputs * outputs * kernel ** 2 + 2 * outputs)

    def head(inputs: int, outputs: int) -> Any:
        counts.append((inputs + 1) * outputs)

    ResNet.build(config, count, head)
    return sum(counts)


def test_start() -> None:
    """N(0, 2 / inputs of a unit) and norms that change nothing; other keys, other weights."""
    config = ResNetConfig(classes=7, embedding=16, widths=(64, 128), depths=(1, 2))
    start = ResNet.init(ng.random.key(0), config).named_arrays()
    for name, x in start.items():
        assert x.dtype == np.float32
        if x.ndim == 4:
            np.testing.assert_allclose(x.std(), np.sqrt(2 / np.prod(x.shape[1:])), rtol=0.1, err_msg=name)
        elif name.startswith("head"):
            assert 0 < np.abs(x).max() <= 1 / np.sqrt(128)
        else:
            assert np.all(x == (1 if name.endswith(("norm.weight", "running_var")) else 0)), name
    kernels = [x.ravel()[:50].tobytes() for x in start.values() if x.ndim == 4]
    assert len(set(kernels)) == len(kernels) == 1 + 3 * 3 + 2
    assert ResNet.init(ng.random.key(0), config, np.float64).head.weight.dtype == np.float64
    assert not np.array_equal(ResNet.init(ng.random.key(1), config).stem.convolution.weight, start["stem.convolution.weight"])


@pytest.mark.parametrize("block, strided", [("basic", 0), ("bottleneck", 1)])
def test_where_images_are_halved(block: str, strided: int) -> None:
    """In the first 3×3 convolution of a stage and in its shortcut, in stages after the first."""
    model = ResNet.init(ng.random.key(0), ResNetConfig(embedding=8, widths=(8, 16), depths=(2, 2), block=block))
    strides = [[[layer.convolution.stride for layer in b.layers] for b in stage] for stage in model.stages]
    ones = [1] * len(strides[0][0])
    halving = [*ones]
    halving[strided] = 2
    assert strides == [[ones, ones], [halving, ones]]
    assert [[b.shortcut and b.shortcut.convolution.stride for b in stage] for stage in model.stages] == [[None, None], [2, None]]
    halved = ResNet.init(ng.random.key(0), ResNetConfig(embedding=8, widths=(8,), depths=(1,), block=block, halve_first=True))
    assert halved.stages[0][0].layers[strided].convolution.stride == 2 and halved.stages[0][0].shortcut is not None


@pytest.mark.parametrize("stem, size", [("small", 8), ("imagenet", 2)])
def test_stems(stem: str, size: int) -> None:
    """The small one keeps the image, the other one makes it four times smaller on each side: seen by how far a pixel reaches."""
    model = ResNet.init(ng.random.key(1), ResNetConfig(1, 0, 4, (4,), (1,), "basic", stem))
    images = np.random.default_rng(0).normal(size=(1, 1, 8, 8)).astype(np.float32)
    flat = model.map(lambda x: x * np.float32(0)).replace(stem=model.stem)  # blocks that add nothing: y = relu(stem) / size²
    y = forward(flat, images)
    kernel, (stride, pad) = model.stem.convolution.weight, ((1, 1) if stem == "small" else (2, 3))
    padded = np.pad(images[0, 0], pad)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:])[::stride, ::stride]
    x = np.maximum(np.einsum("hwij,oij->ohw", windows, kernel[:, 0]) / np.sqrt(1 + 1e-5), 0)
    if stem == "imagenet":
        x = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), (1, 2))[:, ::2, ::2].max(axis=(3, 4))
    assert x.shape == (4, size, size)
    np.testing.assert_allclose(y[0], x.mean(axis=(1, 2)), rtol=1e-5, atol=1e-6)


def test_any_batch_and_size_of_image(model: ResNet, images: np.ndarray) -> None:
    whole = forward(model, images)
    assert whole.shape == (5, 3) and whole.dtype == np.float32
    np.testing.assert_allclose(forward(model, images[1:2]), whole[1:2], rtol=0, atol=1e-5)
    assert forward(model, images[:, :, :5, :7]).shape == (5, 3)
    assert forward(ResNet.init(ng.random.key(3), ResNetConfig(1, 0, 4, (4, 8), (1, 1), "basic", "small")), images).shape == (5, 8)


def test_training_moves_running_statistics_and_nothing_else(model: ResNet, images: np.ndarray) -> None:
    logits, moved = train(model, images)
    before, after = model.named_arrays(), moved.named_arrays()
    assert before.keys() == after.keys()
    for name in before:
        assert ("running" in name) != np.array_equal(before[name], after[name]), name
    assert not np.allclose(logits, forward(model, images), atol=1e-3), "the batch's own statistics"
    mean = np.asarray(ng.jit(lambda m, x: m.stem.convolution(x))(model, images)).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(moved.stem.norm.running_mean, 0.1 * mean, rtol=1e-4, atol=1e-7)


def test_the_loss_is_the_mean_cross_entropy(model: ResNet, images: np.ndarray) -> None:
    labels = np.array([0, 2, 1, 1, 0])
    for training in (False, True):
        logits = np.float64(train(model, images)[0] if training else forward(model, images))
        expected = np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in zip(logits, labels)])
        found = ng.jit(lambda m, x, y: classification_loss(m, x, y, training=training))(model, images, labels)  # noqa: B023
        np.testing.assert_allclose(found[0] if training else found, expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 2, 8, 8), (1, 8, 8), (5, 1, 8)])
def test_images_of_another_kind(shape: tuple[int, ...], model: ResNet) -> None:
    with pytest.raises(TypeRuleError, match=r"resnet: images must be \[batch, 1, height, width\], got shape \[" + str(shape[0])):
        forward(model, np.zeros(shape, np.float32))


@pytest.mark.parametrize(("change", "message"), [
    ({"channels": 0}, "channels must be at least 1, got 0"), ({"embedding": -1}, "embedding must be at least 1"),
    ({"classes": -1}, "classes must be at least 0, got -1"), ({"block": "wide"}, "block must be one of basic, bottleneck, got 'wide'"),
    ({"stem": "large"}, "stem must be one of imagenet, small, got 'large'"), ({"widths": (4,)}, "must be one of each, at least 1"),
    ({"widths": (), "depths": ()}, "for every stage"), ({"depths": (1, 0)}, "at least 1"),
    ({"widths": (6, 8), "block": "bottleneck"}, "of bottleneck blocks must be multiples of 4"),
])
def test_sizes_that_make_no_model(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResNetConfig(**{"widths": (4, 8), "depths": (1, 1), **change})


# -- folders ------------------------------------------------------------------------------------------------

FACTS: dict[str, Any] = {"model_type": "resnet", "num_channels": 1, "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1],
                         "layer_type": "basic", "id2label": {"0": "a", "1": "b", "2": "c"}}


def write(folder: pathlib.Path, facts: Any = FACTS, **changes: Any) -> dict[str, np.ndarray]:
    """A folder with random numbers under Hugging Face's names; a change of None takes a tensor out."""
    rng, tensors = np.random.default_rng(0), {}

    def conv_norm(place: str, inputs: int, outputs: int, kernel: int, stride: int) -> Any:
        tensors[f"resnet.{place}.convolution.weight"] = rng.normal(size=(outputs, inputs, kernel, kernel))
        for name in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"resnet.{place}.normalization.{name}"] = rng.uniform(0.5, 1, outputs)
        tensors[f"resnet.{place}.normalization.num_batches_tracked"] = np.int64(7)

    def head(inputs: int, outputs: int) -> Any:
        tensors.update({"classifier.1.weight": rng.normal(size=(outputs, inputs)), "classifier.1.bias": rng.normal(size=outputs)})

    ResNet.build(ResNetConfig(1, 3, 4, (4, 8), (1, 1), "basic"), conv_norm, head)
    tensors |= changes
    kept = {n: np.asarray(x, np.float32) if "tracked" not in n else x for n, x in tensors.items() if x is not None}
    write_safetensors(folder / "model.safetensors", kept)
    (folder / "config.json").write_text(json.dumps(facts))
    return kept


def test_from_pretrained(tmp_path: pathlib.Path) -> None:
    tensors = write(tmp_path)
    model = ResNet.from_pretrained(tmp_path)
    assert model.config == ResNetConfig(1, 3, 4, (4, 8), (1, 1), "basic")
    shortcut = model.stages[1][0].shortcut
    assert np.array_equal(shortcut.norm.running_var, tensors["resnet.encoder.stages.1.layers.0.shortcut.normalization.running_var"])
    assert np.array_equal(model.head.weight, tensors["classifier.1.weight"].T)
    assert ResNet.from_pretrained(tmp_path, np.float64).stem.convolution.weight.dtype == np.float64


@pytest.mark.parametrize(("facts", "message"), [
    ({"model_type": "bert"}, "is for a model of type 'bert', not 'resnet'"),
    ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not what ResNet has, 'relu'"),
    ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck True is not what ResNet has, False"),
    ({"layer_type": "wide"}, "layer_type 'wide' is not what ResNet has"),
    ({"hidden_sizes": [4]}, "describes no ResNet: widths"), ({"depths": 3}, "describes no ResNet"),
    ({"embedding_size": "4"}, "describes no ResNet"), ({"id2label": None}, "describes no ResNet"),
    ({"depths": [2, 1]}, "holds no tensor encoder.stages.0.layers.1.layer.0.convolution.weight, "),
    ({"hidden_sizes": [4, 12]}, r"tensor encoder.*weight has shape \[8, 4, 3, 3\], the configuration asks for \[12, 4, 3, 3\]"),
    ({"architectures": ["ResNetModel"]}, "the model has no place for classifier.1.bias, classifier.1.weight"),
])
def test_configurations_of_something_else(facts: dict[str, Any], message: str, tmp_path: pathlib.Path) -> None:
    write(tmp_path, {**FACTS, **facts})
    with pytest.raises(CheckpointError, match=message) as caught:
        ResNet.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_and_unexpected_tensors(tmp_path: pathlib.Path) -> None:
    write(tmp_path, **{"resnet.embedder.embedder.normalization.running_mean": None, "classifier.1.bias": None, "extra": np.ones(2)})
    with pytest.raises(CheckpointError, match="holds no tensor embedder.embedder.normalization.running_mean, classifier.1.bias; "
                                              "the model has no place for extra$"):
        ResNet.from_pretrained(tmp_path)
