"""The benchmarks in JAX, jitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph.cli.peers.gpt2 import Start, logits, start
from nagraph.models.operations import CASES
from nagraph.models.workloads import operation


class Adapter:
    """An adapter gives the benchmarks: calls(name) is a function that does one call of it, None where there is none of that name.

    JAX has as many threads as the process has cores; the process is bound to as many as were asked for.
    """

    def __init__(self, threads: int):
        import jax

        jax.config.update("jax_platforms", "cpu")
        self.version: str = jax.__version__

    def calls(self, name: str) -> Callable[[], Any] | None:
        import jax
        import jax.numpy as jnp

        if name in ("gpt2_train", "gpt2_infer"):
            begin = start(dropout=0.0)
            return train(begin) if name == "gpt2_train" else infer(begin)
        if name not in CASES:
            return None
        functions: dict[str, Callable[..., Any]] = {
            "ew_chain": lambda x, a, b, c: jax.nn.gelu(x * a + b, approximate=True) + c,
            "softmax": jax.nn.softmax,
            "layernorm": _norm,
            "sgemm": lambda a, b: a @ b,
            "conv3x3": lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), ((1, 1), (1, 1))),
            "sum": lambda x: x.sum(),
        }
        run, arguments = jax.jit(functions[CASES[name][0]]), [jnp.asarray(a) for a in operation(name).arguments]
        return lambda: np.asarray(run(*arguments))


def _norm(x: Any, w: Any, b: Any) -> Any:
    import jax.numpy as jnp

    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / jnp.sqrt(var + 1e-5) * w + b


def _logits(p: dict[str, Any], ids: Any, begin: Start) -> Any:
    import jax
    import jax.numpy as jnp

    class Own:
        norm = staticmethod(_norm)
        gelu = staticmethod(lambda x: jax.nn.gelu(x, approximate=True))
        split = staticmethod(lambda x: jnp.split(x, 3, -1))

        @staticmethod
        def attention(q: Any, k: Any, v: Any) -> Any:
            scores = q @ k.swapaxes(-1, -2) / np.float32(np.sqrt(q.shape[-1]))
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
            return jax.nn.softmax(jnp.where(causal, scores, -jnp.inf)) @ v

    return logits(Own, p, ids, begin.recipe)


def infer(begin: Start) -> Callable[[], Any]:
    """The logits of the batch."""
    import jax
    import jax.numpy as jnp

    run = jax.jit(lambda p, ids: _logits(p, ids, begin))
    p, ids = {name: jnp.asarray(w) for name, w in begin.weights.items()}, jnp.asarray(begin.ids[:, :-1])
    return lambda: np.asarray(run(p, ids))


def train(begin: Start) -> Callable[[], float]:
    """One step of the recipe: forward, backward, clipping, AdamW, the average of the weights."""
    import jax
    import jax.numpy as jnp

    r = begin.recipe
    every = jax.tree.map

    def loss_of(p: Any, ids: Any) -> Any:
        scores = jax.nn.log_softmax(_logits(p, ids[:, :-1], begin))
        return -jnp.take_along_axis(scores, ids[:, 1:, None], -1).mean()

    def step(state: Any, ids: Any, rate: Any) -> Any:
        p, mean, square, average, count = state
        loss, g = jax.value_and_grad(loss_of)(p, ids)
        norm = jnp.sqrt(sum((x * x).sum() for x in jax.tree.leaves(g)))
        g = every(lambda x: x * jnp.minimum(r.clip / (norm + 1e-6), 1), g)
        count = count + 1
        mean = every(lambda m, x: r.b1 * m + (1 - r.b1) * x, mean, g)
        square = every(lambda v, x: r.b2 * v + (1 - r.b2) * x * x, square, g)
        first, second = 1 - r.b1 ** count, jnp.sqrt(1 - r.b2 ** count)
        decayed = every(lambda w: w * (1 - rate * r.weight_decay) if w.ndim >= 2 else w, p)
        moved = every(lambda w, m, v: w - rate / first * (m / (jnp.sqrt(v) / second + 1e-8)), decayed, mean, square)
        keep = jnp.minimum(r.average, (count + 1) / (count + 10))
        after = (moved, mean, square, every(lambda a, w: a * keep + w * (1 - keep), average, moved), count)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        return every(lambda new, old: jnp.where(finite, new, old), after, state), loss

    run = jax.jit(step, donate_argnums=0)
    p = {name: jnp.asarray(w) for name, w in begin.weights.items()}
    state = (p, every(jnp.zeros_like, p), every(jnp.zeros_like, p), every(jnp.copy, p), jnp.zeros((), jnp.float32))
    ids, done = jnp.asarray(begin.ids), 0

    def call() -> float:
        nonlocal state, done
        state, loss = run(state, ids, np.float32(begin.rate(done)))
        done += 1
        return float(loss)

    return call
