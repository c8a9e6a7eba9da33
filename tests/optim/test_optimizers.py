"""Optimisers against their equations in NumPy; what they leave alone; dtypes; jit with donation; errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import nn, optim
from nagraph.errors import TreeError

RATE = 0.1
SLOT_NAMES = {"m": "mean", "v": "square", "u": "velocity"}


def sgd(p, g, s, t):
    return p - RATE * g


def momentum(p, g, s, t):
    s["u"] = g if t == 1 else 0.9 * s["u"] + 0.8 * g
    return p - RATE * s["u"]


def nesterov(p, g, s, t):
    g = g + 0.1 * p
    s["u"] = 0.9 * s.get("u", 0) + g
    return p - RATE * (g + 0.9 * s["u"])


def adam(p, g, s, t, decay=0.0):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * g**2
    p = p - RATE * decay * p
    return p - RATE * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.99**t)) + 1e-8)


def lion(p, g, s, t):
    m = s.get("m", 0)
    s["m"] = 0.99 * m + 0.01 * g
    return p - RATE * (np.sign(0.9 * m + 0.1 * g) + 0.2 * p)


def adagrad(p, g, s, t):
    s["v"] = s.get("v", 0.5) + g**2
    return p - RATE / (1 + (t - 1) * 0.1) * g / (np.sqrt(s["v"]) + 1e-10)


def rmsprop(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    return p - RATE * g / (np.sqrt(s["v"]) + 1e-8)


def centered(p, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + 0.1 * g**2
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["u"] = 0.8 * s.get("u", 0) + g / (np.sqrt(s["v"] - s["m"] ** 2) + 1e-3)
    return p - RATE * s["u"]


CASES: dict[str, tuple[optim.Optimizer, Callable[..., Any]]] = {
    "sgd": (optim.SGD(RATE), sgd),
    "momentum": (optim.SGD(RATE, momentum=0.9, dampening=0.2), momentum),
    "nesterov": (optim.SGD(RATE, momentum=0.9, nesterov=True, weight_decay=0.1), nesterov),
    "adam": (optim.Adam(RATE, b2=0.99), adam),
    "adam with decay": (optim.Adam(RATE, b2=0.99, weight_decay=0.3), lambda p, g, s, t: adam(p, g + 0.3 * p, s, t)),
    "adamw": (optim.AdamW(RATE, b2=0.99, weight_decay=0.3), lambda p, g, s, t: adam(p, g, s, t, 0.3)),
    "lion": (optim.Lion(RATE, weight_decay=0.2), lion),
    "adagrad": (optim.Adagrad(RATE, rate_decay=0.1, initial=0.5), adagrad),
    "adagrad with decay": (optim.Adagrad(RATE, rate_decay=0.1, initial=0.5, weight_decay=0.3),
                           lambda p, g, s, t: adagrad(p, g + 0.3 * p, s, t)),
    "rmsprop with decay": (optim.RMSprop(RATE, decay=0.9, weight_decay=0.3), lambda p, g, s, t: rmsprop(p, g + 0.3 * p, s, t)),
    "rmsprop": (optim.RMSprop(RATE, decay=0.9), rmsprop),
    "centered": (optim.RMSprop(RATE, decay=0.9, eps=1e-3, momentum=0.8, centered=True), centered),
}


class Model(nn.Module):
    """A matrix, a vector, and every kind of leaf that optimisers leave alone."""

    weight: Any
    bias: Any
    missing: Any
    count: Any
    flags: Any
    seen: Any = nn.buffer()
    note: str = "note"


def model(dtype: Any = np.float64) -> Model:
    rng = np.random.default_rng(0)
    return Model(rng.normal(size=(3, 2)).astype(dtype), rng.normal(size=2).astype(dtype), None, np.arange(4),
                 np.array([True, False]), np.ones(2, dtype))


def gradients(steps: int, dtype: Any = np.float64) -> list[Model]:
    rng = np.random.default_rng(1)
    return [Model(rng.normal(size=(3, 2)).astype(dtype), rng.normal(size=2).astype(dtype), None, None, None, None)
            for _ in range(steps)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("jitted", [False, True])
def test_equation(name: str, jitted: bool) -> None:
    opt, equation = CASES[name]
    m, slots = model(), ({}, {})
    state = opt.init(m)
    update = ng.jit(opt.update) if jitted else opt.update
    weight, bias = m.weight, m.bias
    for t, grads in enumerate(gradients(20), 1):
        m, state = update(m, grads, state)
        weight, bias = equation(weight, grads.weight, slots[0], t), equation(bias, grads.bias, slots[1], t)
        np.testing.assert_allclose(m.weight, weight, rtol=1e-11, err_msg=f"step {t}")
        np.testing.assert_allclose(m.bias, bias, rtol=1e-11, err_msg=f"step {t}")
    assert int(state.step) == 20
    for k, expected in slots[0].items():
        np.testing.assert_allclose(state.slots[SLOT_NAMES[k]].weight, expected, rtol=1e-11, err_msg=k)


@pytest.mark.parametrize("name", CASES)
def test_leaves_that_are_no_parameters_stay(name: str) -> None:
    opt, m = CASES[name][0], model()
    state = opt.init(m)
    for tree in state.slots.values():
        assert isinstance(tree, Model) and tree.note == "note"
        assert tree.missing is tree.count is tree.flags is tree.seen is None
        assert tree.weight.shape == (3, 2)
    new, after = opt.update(m, gradients(1)[0], state)
    assert new.count is m.count and new.flags is m.flags and new.seen is m.seen and new.missing is None and new.note == "note"
    assert ng.tree.structure(after) == ng.tree.structure(state) and ng.tree.structure(new) == ng.tree.structure(m)


@pytest.mark.parametrize("name", CASES)
def test_update_is_pure(name: str) -> None:
    opt, m = CASES[name][0], model()
    state = opt.init(m)
    m, state = opt.update(m, gradients(1)[0], state)
    before = [np.copy(x) for x in ng.tree.leaves((m, state)) if x is not None]
    first, second = opt.update(m, gradients(1)[0], state), opt.update(m, gradients(1)[0], state)
    for x, old in zip([x for x in ng.tree.leaves((m, state)) if x is not None], before, strict=True):
        np.testing.assert_array_equal(x, old)
    for a, b in zip(ng.tree.leaves(first), ng.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.float16, ng.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.01, optim.warm_up(optim.cosine(0.01, 100), 3)])
@pytest.mark.parametrize("name", CASES)
def test_dtype_is_kept(name: str, rate: Any, dtype: Any) -> None:
    """No array and no node of a narrower model's update is float64."""
    opt = dataclasses.replace(CASES[name][0], learning_rate=rate)
    m, grads = model().astype(dtype), gradients(1)[0].astype(dtype)
    state = opt.init(m)
    new, after = ng.jit(opt.update)(m, grads, state)
    assert new.weight.dtype == new.bias.dtype == dtype
    assert all(x.dtype == dtype for s in after.slots.values() for x in ng.tree.leaves(s) if x is not None)
    assert after.step.dtype == np.int64
    if dtype != np.float64:
        text = str(ng.jit(opt.update).lower(m, grads, state).graph)
        assert "f64" not in text, text


def test_float64_models_compute_everything_in_float64() -> None:
    """1 - 0.999 and a rate of 1/3 would be off by 1e-8 if a scalar were float32."""
    opt = optim.Adam(optim.constant(1 / 3), eps=0.0)
    new, _ = ng.jit(opt.update)([np.zeros(1)], [np.ones(1)], opt.init([np.zeros(1)]))
    np.testing.assert_allclose(new[0], -1 / 3, rtol=1e-14)


def test_bias_correction_is_accurate_in_float32() -> None:
    """The first update of Adam is the rate itself, whatever the gradient; 1 - b2 in float32 would be off by 3e-5."""
    opt = optim.Adam(1.0, b2=0.9999, eps=0.0)
    new, _ = opt.update([np.zeros(1, np.float32)], [np.full(1, 7, np.float32)], opt.init([np.zeros(1, np.float32)]))
    np.testing.assert_allclose(new[0], -1, rtol=5e-7)


def test_models_of_mixed_dtypes() -> None:
    m = {"narrow": np.ones(2, np.float32), "wide": np.ones(2)}
    opt = optim.AdamW(0.1)
    new, state = ng.jit(opt.update)(m, {"narrow": np.ones(2, np.float32), "wide": np.ones(2)}, opt.init(m))
    assert (new["narrow"].dtype, new["wide"].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(new["narrow"], new["wide"], rtol=1e-6)


def test_a_step_inside_jit_with_donation() -> None:
    """Donated arrays are written in place and come back as the same objects; the numbers are those without donation."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 4)).astype(np.float32), rng.normal(size=(16, 2)).astype(np.float32)
    opt = optim.AdamW(optim.warm_up(0.05, 4))

    def step(m, state, x, y):
        loss, grads = ng.value_and_grad(lambda m: np.mean((m(x) - y) ** 2))(m)
        grads, _ = optim.clip_by_global_norm(grads, 1.0)
        return *opt.update(m, grads, state), loss

    start = nn.Linear.init(ng.random.key(0), 4, 2)
    plain, given = ng.jit(step), ng.jit(step, donate_argnames=("m", "state"))
    a, sa = start, opt.init(start)
    b, sb = start.map(np.copy), opt.init(start)
    weight, mean = b.weight, sb.slots["mean"].weight
    losses = []
    for _ in range(30):
        a, sa, loss = plain(a, sa, x, y)
        b, sb, _ = given(b, sb, x, y)
        losses.append(float(loss))
    assert b.weight is weight and sb.slots["mean"].weight is mean
    for u, v in zip(ng.tree.leaves((a, sa)), ng.tree.leaves((b, sb)), strict=True):
        np.testing.assert_array_equal(u, v)
    assert losses[-1] < 0.8 * losses[0] and given.cache_info().size == 1


@pytest.mark.parametrize("kind", [optim.AdamW, optim.Lion])
def test_decay_can_spare_vectors(kind: Any) -> None:
    m = {"matrix": np.ones((2, 2)), "vector": np.ones(2), "scalar": np.ones(())}
    grads = ng.tree.map(np.zeros_like, m)
    opt = kind(0.1, weight_decay=0.5, decay_min_rank=2)
    new, _ = opt.update(m, grads, opt.init(m))
    np.testing.assert_allclose(new["matrix"], 0.95)
    np.testing.assert_array_equal(new["vector"], 1)
    opt = kind(0.1, weight_decay=0.5)
    assert all((x == 0.95).all() for x in ng.tree.leaves(opt.update(m, grads, opt.init(m))[0]))


def test_missing_gradient_leaves_parameter_and_moments() -> None:
    opt, m = optim.Adam(0.1), {"a": np.ones(2), "b": np.ones(2)}
    state = opt.init(m)
    m, state = opt.update(m, {"a": np.ones(2), "b": np.ones(2)}, state)
    new, after = ng.jit(opt.update)(m, {"a": np.ones(2), "b": None}, state)
    np.testing.assert_array_equal(new["b"], m["b"])
    np.testing.assert_array_equal(after.slots["mean"]["b"], state.slots["mean"]["b"])
    assert (new["a"] != m["a"]).all()


def test_rate_as_a_function_of_the_step() -> None:
    def rate(step):
        assert step.dtype == np.int64
        return np.where(step < 1, 1.0, 0.25)

    opt, p = optim.SGD(rate), [np.zeros(1, np.float32)]
    state = opt.init(p)
    for expected in (-1, -1.25, -1.5):
        p, state = ng.jit(opt.update)(p, [np.ones(1, np.float32)], state)
        assert p[0] == expected and p[0].dtype == np.float32


def test_init_inside_jit() -> None:
    opt = optim.Adagrad(0.1, initial=0.5)
    state = ng.jit(opt.init)(model())
    np.testing.assert_array_equal(state.slots["square"].weight, np.full((3, 2), 0.5))
    assert state.step.dtype == np.int64 and state.slots["square"].count is None


def test_vmap_over_an_update_is_an_ensemble() -> None:
    opt = optim.Adam(0.1)
    ps, gs = np.arange(6.0).reshape(3, 2), np.arange(6.0).reshape(3, 2) - 2.5
    state = opt.init([ps[0]])
    many = ng.vmap(lambda p, g: opt.update([p], [g], state)[0][0])(ps, gs)
    for k in range(3):
        np.testing.assert_allclose(many[k], opt.update([ps[k]], [gs[k]], state)[0][0], rtol=1e-14)


def test_other_structure_is_an_error() -> None:
    opt, m = optim.Adam(0.1), {"a": np.ones(2), "b": np.ones(2)}
    with pytest.raises(TreeError, match="grads must have the structure of the model"):
        opt.update(m, {"a": np.ones(2)}, opt.init(m))
    with pytest.raises(TreeError, match=r"state.slots\['mean'\] must have the structure of the model"):
        opt.update(m, m, opt.init({"a": np.ones(2)}))
    with pytest.raises(TreeError, match=r"b has shape \(2,\), its gradient \(3,\)"):
        opt.update(m, {"a": np.ones(2), "b": np.ones(3)}, opt.init(m))
    with pytest.raises(TreeError, match="b has a gradient but was no parameter at init"):
        opt.update(m, m, opt.init({"a": np.ones(2), "b": None}))


def test_adam_without_momentum_has_no_bias_to_correct() -> None:
    """The first step is then rate · g / |g|."""
    opt, p = optim.Adam(0.5, b1=0.0, eps=0.0), [np.zeros(3)]
    new, _ = opt.update(p, [np.array([3.0, -0.1, 20.0])], opt.init(p))
    np.testing.assert_allclose(new[0], [-0.5, 0.5, -0.5], rtol=1e-12)


def test_an_optimiser_of_ones_own() -> None:
    class Signs(optim.Optimizer):
        """p = p - rate · sign g."""

        def step(self, p: Any, g: Any, slots: Any, clock: Any) -> Any:
            return p - clock.rate * np.sign(g), {}

    p = [np.zeros(2)]
    new, state = ng.jit(Signs(0.5).update)(p, [np.array([2.0, -3.0])], Signs(0.5).init(p))
    np.testing.assert_array_equal(new[0], [-0.5, 0.5])
    assert state.slots == {}
    with pytest.raises(NotImplementedError, match=r"Optimizer must define step"):
        optim.Optimizer(0.5).update(p, p, state)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match="nesterov needs a momentum above 0 and no dampening"):
        optim.SGD(0.1, nesterov=True)


def test_optimisers_are_values() -> None:
    assert optim.AdamW(0.1) == optim.AdamW(0.1) != optim.AdamW(0.2)
    assert hash(optim.Lion(optim.cosine(0.1, 10))) == hash(optim.Lion(optim.cosine(0.1, 10)))
