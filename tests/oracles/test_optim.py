"""Optimisers and schedules beside PyTorch's, over 100 steps on a small regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nagraph as ng
from nagraph import optim
from tests.oracles.compare import DTYPES, close

STEPS, RATE = 100, 0.03

PAIRS: dict[str, tuple[Any, Any]] = {
    "sgd": (optim.SGD(RATE), lambda p: torch.optim.SGD(p, RATE)),
    "sgd momentum": (optim.SGD(RATE, momentum=0.9), lambda p: torch.optim.SGD(p, RATE, 0.9)),
    "sgd all": (optim.SGD(RATE, momentum=0.9, dampening=0.3, weight_decay=0.1),
                lambda p: torch.optim.SGD(p, RATE, 0.9, dampening=0.3, weight_decay=0.1)),
    "sgd nesterov": (optim.SGD(RATE, momentum=0.9, nesterov=True, weight_decay=0.1),
                     lambda p: torch.optim.SGD(p, RATE, 0.9, nesterov=True, weight_decay=0.1)),
    "adam": (optim.Adam(RATE), lambda p: torch.optim.Adam(p, RATE)),
    "adam all": (optim.Adam(RATE, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.1),
                 lambda p: torch.optim.Adam(p, RATE, (0.8, 0.9), 1e-3, 0.1)),
    "adam without momentum": (optim.Adam(RATE, b1=0.0), lambda p: torch.optim.Adam(p, RATE, (0.0, 0.999))),
    "adamw": (optim.AdamW(RATE), lambda p: torch.optim.AdamW(p, RATE)),
    "adamw all": (optim.AdamW(RATE, b1=0.8, b2=0.99, eps=1e-6, weight_decay=0.3),
                  lambda p: torch.optim.AdamW(p, RATE, (0.8, 0.99), 1e-6, 0.3)),
    "adamw matrices": (optim.AdamW(RATE, weight_decay=0.3, decay_min_rank=2), lambda p: torch.optim.AdamW(
        [{"params": [x for x in p if x.ndim >= 2], "weight_decay": 0.3}, {"params": [x for x in p if x.ndim < 2], "weight_decay": 0.0}],
        RATE)),
    "adagrad": (optim.Adagrad(RATE), lambda p: torch.optim.Adagrad(p, RATE)),
    "adagrad all": (optim.Adagrad(RATE, rate_decay=0.1, weight_decay=0.1, initial=0.2, eps=1e-4),
                    lambda p: torch.optim.Adagrad(p, RATE, 0.1, 0.1, 0.2, 1e-4)),
    "rmsprop": (optim.RMSprop(RATE), lambda p: torch.optim.RMSprop(p, RATE)),
    "rmsprop all": (optim.RMSprop(RATE, decay=0.9, eps=1e-3, weight_decay=0.1, momentum=0.8, centered=True),
                    lambda p: torch.optim.RMSprop(p, RATE, 0.9, 1e-3, 0.1, 0.8, True)),
}


def problem(dtype: str) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Weights of a small network, and 100 batches of inputs and targets."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=s) for s in ((4, 8), (8,), (8, 3), (3,))]
    xs = rng.normal(size=(STEPS, 10, 4))
    ys = np.sin(xs @ rng.normal(size=(4, 3)))
    return [w.astype(dtype) for w in weights], xs.astype(dtype), ys.astype(dtype)


def forward(np_: Any, ws: list[Any], x: Any, y: Any) -> Any:
    return (((np_.tanh(x @ ws[0] + ws[1]) @ ws[2] + ws[3] - y)) ** 2).mean()


def run_ours(opt: optim.Optimizer, dtype: str, limit: float | None = None) -> tuple[list[np.ndarray], list[float]]:
    weights, xs, ys = problem(dtype)
    state = opt.init(weights)

    @ng.jit
    def step(weights, state, x, y):
        loss, grads = ng.value_and_grad(lambda ws: forward(np, ws, x, y))(weights)
        if limit is not None:
            grads, _ = optim.clip_by_global_norm(grads, limit)
        return *opt.update(weights, grads, state), loss

    curve = []
    for x, y in zip(xs, ys):
        weights, state, loss = step(weights, state, x, y)
        curve.append(float(loss))
    return weights, curve


def run_theirs(make: Any, dtype: str, limit: float | None = None, schedule: Any = None) -> tuple[list[torch.Tensor], list[float]]:
    weights, xs, ys = problem(dtype)
    tensors = [torch.tensor(w, requires_grad=True) for w in weights]
    opt = make(tensors)
    scheduler = schedule(opt) if schedule else None
    curve = []
    for x, y in zip(xs, ys):
        opt.zero_grad()
        loss = forward(torch, tensors, torch.tensor(x), torch.tensor(y))
        loss.backward()
        if limit is not None:
            torch.nn.utils.clip_grad_norm_(tensors, limit)
        opt.step()
        if scheduler is not None:
            scheduler.step()
        curve.append(loss.item())
    return tensors, curve


def agree(ours: Any, theirs: Any, dtype: str, what: str) -> None:
    for w, t in zip(ours[0], theirs[0], strict=True):
        close(w, t, dtype, what)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5 if dtype == "float32" else 1e-10, err_msg=what)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_optimiser(name: str, dtype: str) -> None:
    opt, make = PAIRS[name]
    agree(run_ours(opt, dtype), run_theirs(make, dtype), dtype, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_clipping(dtype: str) -> None:
    agree(run_ours(optim.AdamW(RATE), dtype, limit=0.3),
          run_theirs(lambda p: torch.optim.AdamW(p, RATE), dtype, limit=0.3), dtype, "clipped")


S = torch.optim.lr_scheduler
SCHEDULES: dict[str, tuple[Any, Any]] = {
    "step": (optim.step(RATE, 7, 0.5), lambda o: S.StepLR(o, 7, 0.5)),
    "exponential": (optim.exponential(RATE, 0.97), lambda o: S.ExponentialLR(o, 0.97)),
    "cosine": (optim.cosine(RATE, STEPS, final=0.001), lambda o: S.CosineAnnealingLR(o, STEPS, 0.001)),
    "linear": (optim.linear(RATE, 40, final=0.3 * RATE), lambda o: S.LinearLR(o, 1.0, 0.3, 40)),
    "polynomial": (optim.polynomial(RATE, 60, power=2.0), lambda o: S.PolynomialLR(o, 60, 2.0)),
    "one_cycle": (optim.one_cycle(RATE, STEPS + 1), lambda o: S.OneCycleLR(o, RATE, STEPS + 1, cycle_momentum=False)),
    "warm_up": (optim.warm_up(RATE, 10), lambda o: S.LambdaLR(o, lambda t: min((t + 1) / 10, 1))),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    """The rates of 100 steps, and a run with them."""
    ours, theirs = SCHEDULES[name]
    parameter = torch.zeros(1, requires_grad=True)
    opt = torch.optim.SGD([parameter], RATE)
    scheduler = theirs(opt)
    expected = []
    for _ in range(STEPS):
        expected.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    np.testing.assert_allclose([ours(np.float64(t)) for t in range(STEPS)], expected, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose([ours(t) for t in range(STEPS)], expected, rtol=2e-5, atol=1e-8)
    agree(run_ours(optim.AdamW(ours), "float64"), run_theirs(lambda p: torch.optim.AdamW(p, RATE), "float64", schedule=theirs),
          "float64", name)
