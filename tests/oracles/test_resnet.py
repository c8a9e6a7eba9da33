"""ResNet beside Hugging Face's in PyTorch: outputs, gradients, running statistics, and the curve of losses."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

import nagraph as ng
from nagraph.models.resnet import ResNet, classification_loss

torch.set_num_threads(1)

STEPS = 20
SMALL = dict(num_channels=2, embedding_size=4, hidden_sizes=[8, 12], depths=[2, 1], num_labels=5)
VARIANTS = {"bottleneck": {}, "basic": {"layer_type": "basic", "embedding_size": 8}, "halved at once": {"downsample_in_first_stage": True}}
#: What a part is called here: the first pattern that fits the name there.
RENAMED = ((r"classifier\.1", "head"), (r"embedder\.embedder", "stem"), (r"encoder\.stages\.(\d+)\.layers\.", r"stages.\1."),
           (r"\.layer\.", ".layers."), (r"normalization", "norm"))


def here(name: str) -> str:
    """The path here of a tensor there."""
    name = name.removeprefix("resnet.")
    for there, ours in RENAMED:
        name = re.sub(there, ours, name)
    return name


def randomised(options: dict[str, Any], kind: Any = ResNetForImageClassification) -> Any:
    """Norms, biases and running statistics away from 1 and 0, so that each of them counts."""
    torch.manual_seed(1)
    model = kind(ResNetConfig(**{**SMALL, **options}))
    with torch.no_grad():
        for x in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            x.add_(0.1 * torch.rand_like(x) if x.ndim == 1 else 0.1 * torch.randn_like(x))
    return model.eval()


def data(batch: int = 4, steps: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(steps):
        yield rng.normal(size=(batch, 2, 30, 35)).astype(np.float32), rng.integers(0, 5, batch)


def compare(arrays: dict[str, Any], theirs: Any, get: Callable[[Any], Any], tolerance: float) -> int:
    """Every array here beside the one there, within a share of its largest entry; how many there are."""
    tensors = {here(n): get(x).detach().numpy() for n, x in theirs if "num_batches" not in n}
    assert tensors.keys() == arrays.keys()
    for path, x in tensors.items():
        wanted = x.T if path == "head.weight" else x
        np.testing.assert_allclose(arrays[path], wanted, rtol=0, atol=tolerance * np.abs(wanted).max(), err_msg=path)
    return len(tensors)


@pytest.mark.parametrize(("variant", "training"), [("bottleneck", False), ("bottleneck", True), ("basic", True), ("halved at once", False)])
def test_logits_gradients_and_statistics(variant: str, training: bool, tmp_path: pathlib.Path) -> None:
    theirs = randomised(VARIANTS[variant])
    theirs.save_pretrained(tmp_path)
    ours = ResNet.from_pretrained(tmp_path)
    (images, labels), = data()
    logits = theirs.train(training)(torch.tensor(images)).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
    loss.backward()

    def run(model: ResNet, images: Any, labels: Any) -> Any:
        """The loss, and beside it the logits and the model after the step."""
        found = model(images, training=training)
        found, moved = found if training else (found, model)
        return ng.numpy.mean(ng.nn.functional.cross_entropy(found, labels)), (found, moved)

    (our_loss, (found, moved)), grads = ng.jit(ng.value_and_grad(run, has_aux=True))(ours, images, labels)
    expected = logits.detach().numpy()
    assert found.dtype == np.float32 and expected.std() > 0.05
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(our_loss, loss.item(), rtol=1e-5)
    gradients = {n: x for n, x in grads.named_arrays().items() if "running" not in n}
    assert compare(gradients, theirs.named_parameters(), lambda p: p.grad, 1e-4) == len(list(theirs.parameters()))
    assert compare(moved.named_arrays(), theirs.state_dict().items(), lambda x: x, 1e-5) > len(gradients), "with running statistics"


def test_the_model_without_a_head(tmp_path: pathlib.Path) -> None:
    """ResNetModel is saved without the prefix `resnet.`; what comes out are the means over the image."""
    theirs = randomised({}, ResNetModel)
    theirs.save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = ResNet.from_pretrained(tmp_path)
    (images, _), = data()
    expected = theirs(torch.tensor(images)).pooler_output[:, :, 0, 0].detach().numpy()
    assert ours.config.classes == 0
    np.testing.assert_allclose(ng.jit(lambda m, x: m(x))(ours, images), expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))


def their_losses(folder: pathlib.Path, dtype: torch.dtype, steps: int, nudge: bool = False) -> np.ndarray:
    """PyTorch's curve; with a nudge every weight starts at the next number above."""
    model = ResNetForImageClassification.from_pretrained(folder, dtype=dtype).train()
    if nudge:
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.nextafter(p, torch.full_like(p, torch.inf)))
    optimiser = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4)
    losses = []
    for images, labels in data(steps=steps):
        loss = torch.nn.functional.cross_entropy(model(torch.tensor(images, dtype=dtype)).logits, torch.tensor(labels))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return np.array(losses)


def our_losses(folder: pathlib.Path, dtype: str, steps: int) -> np.ndarray:
    model = ResNet.from_pretrained(folder, dtype)
    optimiser = ng.optim.SGD(0.05, momentum=0.9, weight_decay=1e-4)
    state = optimiser.init(model)

    @ng.jit
    def step(model: ResNet, state: Any, images: Any, labels: Any) -> Any:
        (loss, moved), grads = ng.value_and_grad(lambda m: classification_loss(m, images, labels, training=True), has_aux=True)(model)
        return *optimiser.update(moved, grads, state), loss

    losses = []
    for images, labels in data(steps=steps):
        model, state, loss = step(model, state, images.astype(dtype), labels)
        losses.append(float(loss))
    return np.array(losses)


@pytest.mark.parametrize("variant", ["bottleneck", "basic"])
def test_the_loss_curve(variant: str, tmp_path: pathlib.Path) -> None:
    """In float64 the same curve; in float32 as near PyTorch's as PyTorch's own curve from weights one unit in the last place away.

    Rectifiers near zero make the two part: a rounding decides on which side a number falls, and the steps after it add to that.
    """
    randomised({**VARIANTS[variant], "depths": [1, 1]}).save_pretrained(tmp_path)
    expected = their_losses(tmp_path, torch.float64, STEPS)
    assert np.ptp(expected) > 0.3, "the weights move"
    np.testing.assert_allclose(our_losses(tmp_path, "float64", STEPS), expected, rtol=1e-8)
    expected = their_losses(tmp_path, torch.float32, STEPS)
    spread = np.abs(their_losses(tmp_path, torch.float32, STEPS, nudge=True) - expected).max()
    difference = np.abs(our_losses(tmp_path, "float32", STEPS) - expected).max()
    assert 0 < spread < 0.1 and difference <= 10 * spread, (difference, spread)
