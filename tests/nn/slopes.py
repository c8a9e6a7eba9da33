"""Gradients of a function of a module against central differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import nagraph as ng


def check_slope(fn: Callable[..., Any], tree: Any, rtol: float = 1e-6, step: float = 1e-5) -> Any:
    """<grad fn(tree), t> against (fn(tree + h t) - fn(tree - h t)) / 2h for a random t; returns the gradient.

    Floating leaves in float64; leaves without a gradient don't move.
    """
    grads = ng.grad(fn)(tree)
    rng = np.random.default_rng(5)
    jitted = ng.jit(fn)
    tangent = ng.tree.map(lambda g: None if g is None else rng.normal(size=g.shape), grads)

    def moved(h: float) -> Any:
        return ng.tree.map(lambda x, t: x if t is None else x + h * t, tree, tangent)

    numeric = (float(jitted(moved(step))) - float(jitted(moved(-step)))) / (2 * step)
    pairs = zip(ng.tree.leaves(grads), ng.tree.leaves(tangent), strict=True)
    found = sum(float(np.vdot(g, t)) for g, t in pairs if g is not None)
    np.testing.assert_allclose(found, numeric, rtol=rtol, atol=rtol)
    return grads
