"""A model here beside the same one of Hugging Face in PyTorch: random weights, a folder, outputs, gradients, losses of training."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch

import nagraph as ng

torch.set_num_threads(1)
Names = Mapping[str, tuple[str, ...]]


def randomised(model: Any) -> Any:
    """Norms and biases away from 1 and 0, so that each of them counts."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def saved(model: Any, folder: pathlib.Path, **saving: Any) -> Any:
    """The model with random weights, and written to a folder."""
    randomised(model).save_pretrained(folder, **saving)
    assert (len(list(folder.glob("*.safetensors"))) > 1) == bool(saving)
    return model


def close(found: Any, expected: Any, what: str = "") -> None:
    """Equal within 1e-5 of the largest output, or of 1; float32, as theirs."""
    wanted = expected.detach().numpy()
    assert found.dtype == wanted.dtype == np.float32 and found.shape == wanted.shape, (what, found.dtype, found.shape, wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()), err_msg=what)


def blocks(ours: str, theirs: str, layers: int, parts: Mapping[str, str], query: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Names of the tensors of all blocks; `query` has the three parts that are one projection here."""
    found: dict[str, tuple[str, ...]] = {}
    for i in range(layers):
        for x in ("weight", "bias"):
            found |= {f"{ours}.{i}.{a}.{x}": (f"{theirs}.{i}.{b}.{x}",) for a, b in parts.items()}
            found[f"{ours}.{i}.attention.projection.{x}"] = tuple(f"{theirs}.{i}.{q}.{x}" for q in query)
    return found


def modules(**names: str) -> dict[str, tuple[str, ...]]:
    """Weight and bias of modules; __ stands for the dot of a path."""
    return {f"{a.replace('__', '.')}.{x}": (f"{b}.{x}",) for a, b in names.items() for x in ("weight", "bias")}


def as_ours(path: str, parts: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Their tensors as the one here: weights of products turned, kernels of patches as rows, several as one."""
    if path.endswith("weight"):
        parts = [p.reshape(len(p), -1).T if p.ndim > 1 else p for p in parts]
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]


def check_gradients(grads: Any, theirs: Any, names: Names) -> None:
    """Equal gradients of every tensor, within 1e-4 of its largest entry; `names` leaves out no tensor on either side."""
    found = grads.named_arrays()
    assert found.keys() == names.keys()
    assert {n for group in names.values() for n in group} == {n for n, _ in theirs.named_parameters()}
    for path, group in names.items():
        wanted = as_ours(path, [theirs.get_parameter(n).grad.numpy() for n in group]).reshape(found[path].shape)
        largest = np.abs(wanted).max()
        assert largest > 0, path
        np.testing.assert_allclose(found[path], wanted, rtol=0, atol=1e-4 * largest, err_msg=path)


def check_curve(ours: Any, loss: Callable[..., Any], theirs: Any, their_loss: Callable[..., Any], batches: Callable[[int], tuple[Any, ...]],
                dtype: str, steps: int = 50, rate: float = 2e-3) -> None:
    """The first losses of training with AdamW are equal: within 1e-8 of each in float64, 1e-4 in float32, and they fall."""
    optimiser = ng.optim.AdamW(rate, weight_decay=0.01)

    def update(model: Any, state: Any, *batch: Any) -> Any:
        value, grads = ng.value_and_grad(loss)(model, *batch)
        return *optimiser.update(model, grads, state), value

    step, model, state = ng.jit(update), ours, optimiser.init(ours)
    theirs = theirs.to(getattr(torch, dtype)).eval()
    their_optimiser = torch.optim.AdamW(theirs.parameters(), lr=rate, weight_decay=0.01)
    found, expected = [], []
    for i in range(steps):
        batch = [x.astype(dtype) if x.dtype.kind == "f" else x for x in batches(i)]
        model, state, value = step(model, state, *batch)
        found.append(float(value))
        their_value = their_loss(theirs, *map(torch.tensor, batch))
        their_optimiser.zero_grad()
        their_value.backward()
        their_optimiser.step()
        expected.append(their_value.item())
    assert np.mean(expected[-5:]) < 0.9 * expected[0], f"the run learns nothing: {expected[0]} to {expected[-1]}"
    np.testing.assert_allclose(found, expected, rtol={"float64": 1e-8, "float32": 1e-4}[dtype])
