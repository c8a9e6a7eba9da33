"""The six models, tiny: forward with any batch, train steps with gradients, optimiser and masks, generation with a cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.ir.interpret import interpret
from nagraph.models.workloads import workload
from nagraph.testing.oracle import as_float64
from tests.gpu.cases import TINY
from tests.oracles.sampling import Compare

MODELS = ("gpt2", "llama", "bert", "vit", "clip", "resnet")
WRITERS = ("gpt2", "llama")
CHECKS = tuple(f"{model}-{what}" for model in MODELS for what in ("forward", "train")) + tuple(f"{model}-writes" for model in WRITERS)
CUT = ("vit-forward", "gpt2-train")
#: The largest error of a result, as a part of its largest element.
TOLERANCE = 2e-5


def samples(what: str) -> Iterator[tuple[str, Compare]]:
    model, _, kind = what.partition("-")
    yield what, partial({"forward": _forward, "train": _train, "writes": _writes}[kind], model)


def _forward(model: str) -> str | None:
    """A batch of a size that is known later, tried with three."""
    from tests.models.test_symbolic_sizes import ARGUMENTS, FUNCTIONS, MODELS
    from tests.oracles.onnx_export.checks import different

    kind, config = MODELS[model]
    weights, rng = kind.init(ng.random.key(0), config), np.random.default_rng(0)
    types = ARGUMENTS[model]
    specs = ng.eval_shape(lambda x: x, weights)
    opened = ng.trace(FUNCTIONS[model], specs, *types)
    for batch, time in ((1, 8), (2, 5), (5, 2)):
        given = [_drawn(rng, t.with_shape(tuple({"batch": batch, "time": time}.get(str(n), n) for n in t.shape))) for t in types]
        arrays = [np.asarray(x) for x in ng.tree.leaves((weights, *given)) if x is not None]
        known = opened.specialise({d.name: {"batch": batch, "time": time}[d.name] for d in opened.dims})
        wrong = different(known, arrays, TOLERANCE, what=opened)
        if wrong:
            return f"batch {batch}: {wrong}"
    return None


def _drawn(rng: np.random.Generator, type: Any) -> Any:
    if type.dtype == bool:
        return rng.random(type.shape) < 0.8
    if type.dtype.kind == "i":
        return rng.integers(0, 11, type.shape).astype(type.dtype)
    return rng.normal(size=type.shape).astype(type.dtype)


def _train(model: str) -> str | None:
    """Two steps, the second on what the first one made, by ONNX Runtime."""
    from nagraph.models.tasks import task_class
    from tests.oracles.onnx_export.checks import written

    known = {f.name for f in dataclasses.fields(task_class(model).Recipe)}
    work = workload(model, "train", **{k: v for k, v in TINY.items() if k in known})
    graph, arrays = work.graph(), work.arrays()
    exe, state = ng.compile(graph), len([x for x in ng.tree.leaves(work.arguments[0]) if x is not None])
    for step in range(2):
        found = written(graph, arrays)
        wrong = _apart(found, interpret(graph, arrays), exe(*(x.copy() for x in arrays)))
        if wrong:
            return f"step {step}: {wrong}"
        arrays = [*found[:state], *arrays[state:-1], np.int32(step + 1)]
    return None


def _apart(found: Any, expected: Any, other: Any) -> str | None:
    """What is wrong, by the tolerance, or by four times what another backend is off: where rounding decides, as in gradients that are 0."""
    for i, (a, b, c) in enumerate(zip(found, expected, other, strict=True)):
        if a.dtype != b.dtype or a.shape != b.shape:
            return f"output {i} is {a.dtype}{list(a.shape)}, not {b.dtype}{list(b.shape)}"
        a, b, c = as_float64(a), as_float64(b), as_float64(c)
        allowed = max(TOLERANCE * np.abs(b).max(initial=0), 4 * np.abs(c - b).max(initial=0)) if b.dtype.kind == "f" else 0
        if b.size and not np.abs(a - b).max() <= allowed:
            return f"output {i} is off by {np.abs(a - b).max():.1e}, {allowed:.1e} is allowed"
    return None


def _writes(model: str) -> str | None:
    from tests.oracles.onnx_export.checks import different

    return different(*writing(model), TOLERANCE)


def writing(model: str) -> tuple[Any, list[Any]]:
    """A graph with arguments: five symbols, the likeliest one after another, with a cache that is updated at a place which is data."""
    from tests.models.test_symbolic_sizes import MODELS

    kind, config = MODELS[model]
    weights = kind.init(ng.random.key(1), config)

    def generate(weights: Any, prompt: Any) -> Any:
        def likeliest(logits: Any) -> Any:
            return ng.numpy.argmax(logits[:, -1], -1).astype("i32")

        def step(carry: Any, _: Any) -> Any:
            symbol, cache, start = carry
            logits, cache = weights.extend(symbol[:, None], cache, start)
            return (likeliest(logits), cache, start + 1), symbol

        logits, cache = weights.extend(prompt, weights.empty_cache(prompt.shape[0]), 0)
        return ng.scan(step, (likeliest(logits), cache, prompt.shape[1]), None, length=5)[1], logits

    prompt = np.array([[1, 2, 3], [4, 5, 6]], np.int32)
    return ng.trace(generate, weights, prompt), [np.asarray(x) for x in ng.tree.leaves((weights, prompt)) if x is not None]
